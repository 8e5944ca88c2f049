/* SPDX-License-Identifier: Apache-2.0
 *
 * Corrected targets (calib/target.h). */
#include "calib/target.h"

#include "calib/linalg.h"
#include "core/alloc.h"
#include "core/status.h"
#include "cpu/matmul.h"

#include <string.h>

#define DAMPING 0.01 /* of a half's moments, as the whole's */

typedef struct work {
    size_t rows, n;
    const float *w;
    float *b[2], *d[2], *t; /* [rows, n]: sums and corrections of two parts; scratch */
    float *h, *u;           /* [n, n] of one half; NULL with one part */
} work;

static void product(const work *k, bool transposed, const float *a, const float *m, float beta, float *out) {
    int64_t rows = (int64_t)k->rows, n = (int64_t)k->n;
    pare_sgemm(false, transposed, rows, n, n, 1.0f, a, n, m, n, beta, out, n);
}

/* b = w c + r */
static void sums(const work *k, const pare_stats *s, float *b) {
    bool residual = s->r && s->r_rows == k->rows;
    if (residual) memcpy(b, s->r, k->rows * k->n * sizeof *b);
    product(k, false, k->w, s->c, residual ? 1.0f : 0.0f, b);
}

/* d = b u^T u; b and d in the order of u's columns (NULL: of the file). */
static void correct(const work *k, const float *b, const float *u, const uint32_t *order, float *d) {
    for (size_t i = 0; order && i < k->rows; i++)
        for (size_t j = 0; j < k->n; j++) d[i * k->n + j] = b[i * k->n + order[j]];
    product(k, true, order ? d : b, u, 0.0f, k->t);
    product(k, false, k->t, u, 0.0f, d);
}

/* Second moments of a half, both triangles. */
static void moments(const work *k, const pare_stats *s, int half) {
    for (size_t i = 0; i < k->n; i++)
        for (size_t j = 0; j <= i; j++) {
            float second = s->held->h[i * k->n + j], v = half ? second : s->h[i * k->n + j] - second;
            k->h[i * k->n + j] = k->h[j * k->n + i] = v;
        }
}

static double dot(const float *a, const float *b, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)a[i] * b[i];
    return sum;
}

/* Per row into share: how much of the correction is more than noise. */
static pare_status confirm(const work *k, const pare_stats *s, double *share, pare_diag *d) {
    size_t rows = k->rows, n = k->n;
    double used;
    double *own = share + rows;
    for (int i = 0; i < 2; i++) {
        moments(k, s, i);
        PARE_TRY(pare_inverse_factor(n, k->h, DAMPING, k->u, &used, d));
        correct(k, k->b[i], k->u, NULL, k->d[i]);
    }
    for (size_t r = 0; r < rows; r++) {
        share[r] = dot(k->d[0] + r * n, k->b[1] + r * n, n) + dot(k->d[1] + r * n, k->b[0] + r * n, n);
        own[r] = 0;
    }
    for (int i = 0; i < 2; i++) { /* h is the second half's after the loop above */
        if (i) moments(k, s, 0);
        product(k, false, k->d[i], k->h, 0.0f, k->t);
        for (size_t r = 0; r < rows; r++) own[r] += dot(k->t + r * n, k->d[i] + r * n, n);
    }
    for (size_t r = 0; r < rows; r++) {
        double c = own[r] > 0 ? share[r] / own[r] : 0;
        share[r] = c <= 0 ? 0 : c >= 1 ? 1 : 2 * c / (1 + c);
    }
    return PARE_OK;
}

static pare_status aim(const work *k, const pare_stats *s, const float *u, const uint32_t *order, float *target,
                       double *share, pare_diag *d) {
    size_t rows = k->rows, n = k->n;
    sums(k, s, k->b[0]);
    for (size_t r = 0; r < rows; r++) share[r] = 1;
    if (s->held) {
        sums(k, s->held, k->b[1]);
        PARE_TRY(confirm(k, s, share, d));
        for (size_t i = 0; i < rows * n; i++) k->b[0][i] += k->b[1][i];
    }
    correct(k, k->b[0], u, order, k->d[0]);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < n; j++) {
            size_t at = i * n + (order ? order[j] : j);
            target[at] = k->w[at] + (float)share[i] * k->d[0][i * n + j];
        }
    return PARE_OK;
}

pare_status pare_target_for(size_t rows, size_t n, const float *w, const pare_stats *s, const float *u,
                            const uint32_t *order, float *target, double *mean_share, pare_diag *d) {
    bool halves = s->held != NULL;
    size_t matrix = rows * n, square = halves ? n * n : 0;
    float *mem = pare_malloc(((halves ? 5 : 3) * matrix + 2 * square) * sizeof *mem);
    double *share = pare_malloc(2 * rows * sizeof *share), sum = 0;
    pare_status st = PARE_OK;
    if (!mem || !share)
        st =
            pare_fail(d, PARE_ERR_NOMEM, NULL, "calibration", "no memory for the target of %zu x %zu weights", rows, n);
    if (st == PARE_OK) {
        work k = {rows, n, w, {mem, mem + 3 * matrix}, {mem + matrix, mem + 4 * matrix}, mem + 2 * matrix, NULL, NULL};
        if (halves) k.h = mem + 5 * matrix, k.u = k.h + square;
        st = aim(&k, s, u, order, target, share, d);
    }
    for (size_t r = 0; st == PARE_OK && r < rows; r++) sum += share[r];
    if (mean_share) *mean_share = sum / (double)rows;
    pare_free(mem);
    pare_free(share);
    return st;
}
