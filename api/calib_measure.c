/* SPDX-License-Identifier: Apache-2.0
 *
 * What a calibrated method bought for one matrix: errors of the weights and, under the second moments of the inputs, of
 * the outputs; and what rounding to nearest would have cost. */
#include "api/calibrate.h"
#include "calib/linalg.h"

#include "core/status.h"
#include "core/threads.h"
#include "quant/rtn.h"

#include <string.h>

#define CHUNK 16 /* rows of a work item */

typedef struct work {
    const pare_method_layer *l;
    uint8_t *rtn;           /* rows of w rounded to nearest; NULL: of l->out */
    const float *reference; /* what the decoded rows are subtracted from */
    float *e;
    _Atomic bool failed;
} work;

static void item(void *ctx, size_t i) {
    work *k = ctx;
    const pare_method_layer *l = k->l;
    size_t n = l->n, r0 = i * CHUNK, m = l->rows - r0 < CHUNK ? l->rows - r0 : CHUNK,
           stride = pare_row_bytes(l->type, n);
    const uint8_t *rows = (const uint8_t *)(k->rtn ? k->rtn : l->out) + r0 * stride;
    if (k->rtn) {
        void *scratch = pare_malloc_aligned(pare_rtn_scratch_bytes(l->type, m, n) + 64);
        if (scratch) pare_rtn_encode(l->type, l->w + r0 * n, n, NULL, m, n, k->rtn + r0 * stride, stride, scratch);
        else k->failed = true;
        pare_free(scratch);
    }
    for (size_t r = 0; r < m && !k->failed; r++) {
        float *e = k->e + (r0 + r) * n;
        l->type->decode(l->type, rows + r * stride, e, n);
        for (size_t j = 0; j < n; j++) e[j] = k->reference[(r0 + r) * n + j] - e[j];
    }
}

static bool errors(work *k) {
    pare_parallel((k->l->rows + CHUNK - 1) / CHUNK, 1, item, k);
    return !k->failed;
}

static double energy(const float *x, size_t n) {
    double s = 0;
    for (size_t i = 0; i < n; i++) s += (double)x[i] * x[i];
    return s;
}

static double share(double a, double b) { return b > 0 ? a / b : 0; }

pare_status pare_calib_measure(const pare_method_layer *l, pare_job_quality *out, pare_diag *d) {
    size_t n = l->rows * l->n;
    float *e = pare_malloc(n * sizeof *e);
    uint8_t *rtn = pare_malloc(l->rows * pare_row_bytes(l->type, l->n));
    work stored = {l, NULL, l->target, e, false}, rounded = {l, rtn, l->target, e, false},
         weights = {l, NULL, l->w, e, false};
    double whole = 0, left = 0, nearest = 0;
    pare_status s = PARE_OK;
    bool ok = e && rtn && errors(&weights);
    if (ok) {
        out->weight_error = share(energy(e, n), energy(l->w, n));
        s = pare_quadratic_form(l->rows, l->n, l->w, l->s->h, &whole, d);
        ok = errors(&stored);
    }
    if (ok && s == PARE_OK) s = pare_quadratic_form(l->rows, l->n, e, l->s->h, &left, d);
    ok = ok && errors(&rounded);
    if (ok && s == PARE_OK) s = pare_quadratic_form(l->rows, l->n, e, l->s->h, &nearest, d);
    out->output_error = share(left, whole);
    out->rtn_output = share(nearest, whole);
    pare_free(e);
    pare_free(rtn);
    return ok ? s : pare_fail(d, PARE_ERR_NOMEM, NULL, "calibration", "no memory for the errors of a layer");
}
