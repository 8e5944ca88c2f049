/* SPDX-License-Identifier: Apache-2.0
 *
 * Closed-form healing (prune/heal.h). The inverse comes as u^T u from calib/linalg.h. */
#include "prune/heal.h"

#include "calib/linalg.h"
#include "core/alloc.h"
#include "core/status.h"

#include <string.h>

/* The kept columns of a [rows, n] into out [rows, nk]. */
static void pick_columns(const float *a, size_t rows, size_t n, const uint32_t *keep, size_t nk, float *out) {
    for (size_t r = 0; r < rows; r++)
        for (size_t k = 0; k < nk; k++) out[r * nk + k] = a[r * n + keep[k]];
}

/* Element (i, j) of the symmetric matrix whose lower triangle is h. */
static float at(const float *h, size_t n, size_t i, size_t j) { return i >= j ? h[i * n + j] : h[j * n + i]; }

static const double dampings[] = {0.01, 0.1, 1};

/* H_KK and T - W_K H_KK, for the tokens to fit (0) and to judge by (1). */
typedef struct work {
    float *hkk[2], *e[2], *hc, *wk, *t, *u, *delta;
} work;

static void release(work *x) {
    void *all[] = {x->hkk[0], x->hkk[1], x->e[0], x->e[1], x->hc, x->wk, x->t, x->u, x->delta};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) pare_free(all[i]);
}

static bool take(const pare_heal *k, work *x) {
    size_t rows = k->rows, n = k->n, nk = k->nk;
    *x = (work){{pare_malloc(nk * nk * 4), pare_malloc(nk * nk * 4)},
                {pare_malloc(rows * nk * 4), pare_malloc(rows * nk * 4)},
                pare_malloc(n * nk * 4),
                pare_malloc(rows * nk * 4),
                pare_malloc(rows * nk * 4),
                pare_malloc(nk * nk * 4),
                pare_malloc(rows * nk * 4)};
    return x->hkk[0] && x->hkk[1] && x->e[0] && x->e[1] && x->hc && x->wk && x->t && x->u && x->delta;
}

static void normal_equations(const pare_heal *k, const pare_heal_sums *s, work *x, float *hkk, float *e) {
    size_t rows = k->rows, n = k->n, nk = k->nk;
    for (size_t i = 0; i < nk; i++)
        for (size_t j = 0; j < nk; j++) hkk[i * nk + j] = at(s->h, n, k->keep[i], k->keep[j]);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < nk; j++)
            x->hc[i * nk + j] = at(s->h, n, i, k->keep[j]) + (s->c ? s->c[i * n + k->keep[j]] : 0);
    if (s->r) pick_columns(s->r, rows, n, k->keep, nk, e);
    pare_gemm_add(rows, nk, n, false, 1, k->w, x->hc, s->r ? 1 : 0, e);
    pare_gemm_add(rows, nk, nk, false, -1, x->wk, hkk, 1, e);
}

/* delta = e inverse(H + lambda I), the inverse as u^T u */
static pare_status solve(const pare_heal *k, work *x, double damping, pare_diag *d) {
    double used;
    PARE_TRY(pare_inverse_factor(k->nk, x->hkk[0], damping, x->u, &used, d));
    pare_gemm_add(k->rows, k->nk, k->nk, true, 1, x->e[0], x->u, 0, x->t);
    pare_gemm_add(k->rows, k->nk, k->nk, false, 1, x->t, x->u, 0, x->delta);
    return PARE_OK;
}

/* With W_K + s delta the judges' error changes by s^2 delta H delta^T - 2 s delta e^T, summed over the rows: the best s
 * and what it gains. */
static double judge(const pare_heal *k, work *x, double *step) {
    double along = 0, bend = 0;
    pare_gemm_add(k->rows, k->nk, k->nk, false, 1, x->delta, x->hkk[1], 0, x->t);
    for (size_t i = 0; i < k->rows * k->nk; i++) {
        along += (double)x->delta[i] * x->e[1][i];
        bend += (double)x->delta[i] * x->t[i];
    }
    *step = bend > 0 && along > 0 ? along / bend : 0;
    if (*step > 1) *step = 1;
    return *step * (2 * along - *step * bend);
}

static pare_status choose(const pare_heal *k, work *x, double *damping, double *step, pare_diag *d) {
    double best = 0;
    *damping = *step = 0;
    for (size_t i = 0; i < sizeof dampings / sizeof *dampings; i++) {
        double s, gain;
        PARE_TRY(solve(k, x, dampings[i], d));
        gain = judge(k, x, &s);
        if (gain > best) best = gain, *damping = dampings[i], *step = s;
    }
    return PARE_OK;
}

pare_status pare_heal_fit(const pare_heal *k, float *out, double *damping, double *step, pare_diag *d) {
    size_t rows = k->rows, nk = k->nk;
    work x;
    double lambda = 0, length = 0;
    pare_status s =
        take(k, &x) ? PARE_OK
                    : pare_fail(d, PARE_ERR_NOMEM, NULL, "healing", "no memory to refit %zu x %zu weights", rows, k->n);
    if (s == PARE_OK) {
        pick_columns(k->w, rows, k->n, k->keep, nk, x.wk);
        normal_equations(k, &k->fit, &x, x.hkk[0], x.e[0]);
        normal_equations(k, &k->judge, &x, x.hkk[1], x.e[1]);
        s = choose(k, &x, &lambda, &length, d);
    }
    if (s == PARE_OK) memcpy(out, x.wk, rows * nk * sizeof *out);
    if (s == PARE_OK && length > 0) { /* now on all tokens */
        for (size_t i = 0; i < nk * nk; i++) x.hkk[0][i] += x.hkk[1][i];
        for (size_t i = 0; i < rows * nk; i++) x.e[0][i] += x.e[1][i];
        s = solve(k, &x, lambda, d);
        for (size_t i = 0; s == PARE_OK && i < rows * nk; i++) out[i] += (float)length * x.delta[i];
    }
    release(&x);
    if (damping) *damping = lambda;
    if (step) *step = length;
    return s;
}
