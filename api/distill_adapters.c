/* SPDX-License-Identifier: Apache-2.0
 *
 * Products with an adapter's two thin matrices (api/distill_adapters.h). Each row of W and of db, and each run of
 * columns of da, is one thread's. */
#include "api/distill_adapters.h"

#include "core/alloc.h"
#include "core/rng.h"
#include "core/status.h"
#include "core/threads.h"

#include <math.h>
#include <string.h>

#define SPARSE 0.01 /* a matrix with this share of zeros was pruned */
#define RUN    256  /* columns */

pare_status pare_adapter_open(const float *w, size_t rows, size_t cols, size_t rank, double alpha, uint64_t seed,
                              pare_adapter *a, pare_diag *d) {
    *a = (pare_adapter){.rows = rows, .cols = cols, .rank = rank, .scale = (float)(alpha / (double)rank)};
    size_t zeros = 0;
    a->w0 = pare_malloc(rows * cols * sizeof *a->w0);
    a->a = pare_malloc(rank * cols * sizeof *a->a);
    a->b = pare_calloc(rows * rank, sizeof *a->b);
    a->grad_a = pare_calloc(rank * cols, sizeof *a->grad_a);
    a->grad_b = pare_calloc(rows * rank, sizeof *a->grad_b);
    if (!a->w0 || !a->a || !a->b || !a->grad_a || !a->grad_b)
        return pare_fail(d, PARE_ERR_NOMEM, NULL, "student", "no memory for a matrix and its adapter");
    memcpy(a->w0, w, rows * cols * sizeof *w);
    for (size_t i = 0; i < rows * cols; i++) zeros += w[i] == 0;
    a->sparse = (double)zeros >= SPARSE * (double)(rows * cols);
    pare_rng r;
    pare_rng_seed(&r, seed);
    for (size_t i = 0; i < rank * cols; i++) a->a[i] = pare_rng_normal(&r) / sqrtf((float)cols);
    return PARE_OK;
}

void pare_adapter_close(pare_adapter *a) {
    pare_free(a->w0);
    pare_free(a->a);
    pare_free(a->b);
    pare_free(a->grad_a);
    pare_free(a->grad_b);
}

typedef struct adapter_job {
    const pare_adapter *a;
    const float *dw;
    float *w;
} adapter_job;

static bool kept(const pare_adapter *a, size_t i) { return !a->sparse || a->w0[i] != 0; }

static void b_item(void *ctx, size_t r) {
    const adapter_job *j = ctx;
    const pare_adapter *a = j->a;
    for (size_t k = 0; k < a->rank; k++) {
        double sum = 0;
        for (size_t c = 0; c < a->cols; c++)
            if (kept(a, r * a->cols + c)) sum += (double)j->dw[r * a->cols + c] * (double)a->a[k * a->cols + c];
        a->grad_b[r * a->rank + k] = a->scale * (float)sum;
    }
}

static void a_item(void *ctx, size_t run) {
    const adapter_job *j = ctx;
    const pare_adapter *a = j->a;
    size_t first = run * RUN, end = a->cols - first < RUN ? a->cols : first + RUN;
    for (size_t k = 0; k < a->rank; k++) {
        float *out = a->grad_a + k * a->cols;
        for (size_t c = first; c < end; c++) out[c] = 0;
        for (size_t r = 0; r < a->rows; r++) {
            float b = a->scale * a->b[r * a->rank + k];
            for (size_t c = first; c < end; c++)
                if (kept(a, r * a->cols + c)) out[c] += b * j->dw[r * a->cols + c];
        }
    }
}

static void w_item(void *ctx, size_t r) {
    const adapter_job *j = ctx;
    const pare_adapter *a = j->a;
    float *w = j->w + r * a->cols;
    memcpy(w, a->w0 + r * a->cols, a->cols * sizeof *w);
    for (size_t k = 0; k < a->rank; k++) {
        float b = a->scale * a->b[r * a->rank + k];
        for (size_t c = 0; c < a->cols; c++)
            if (kept(a, r * a->cols + c)) w[c] += b * a->a[k * a->cols + c];
    }
}

void pare_adapter_gradient(pare_adapter *a, const float *dw) {
    adapter_job j = {.a = a, .dw = dw};
    pare_parallel(a->rows, 16, b_item, &j);
    pare_parallel((a->cols + RUN - 1) / RUN, 1, a_item, &j);
}

void pare_adapter_values(const pare_adapter *a, float *w) {
    adapter_job j = {.a = a, .w = w};
    pare_parallel(a->rows, 16, w_item, &j);
}
