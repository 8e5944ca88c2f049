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

typedef struct work {
    float *hkk, *hc, *wk, *e, *t, *u;
} work;

static void release(work *x) {
    void *all[] = {x->hkk, x->hc, x->wk, x->e, x->t, x->u};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) pare_free(all[i]);
}

pare_status pare_heal_fit(const pare_heal *k, float *out, pare_diag *d) {
    size_t rows = k->rows, n = k->n, nk = k->nk;
    work x = {pare_malloc(nk * nk * 4),   pare_malloc(n * nk * 4),    pare_malloc(rows * nk * 4),
              pare_malloc(rows * nk * 4), pare_malloc(rows * nk * 4), pare_malloc(nk * nk * 4)};
    pare_status s = PARE_OK;
    double used;
    if (!x.hkk || !x.hc || !x.wk || !x.e || !x.t || !x.u)
        s = pare_fail(d, PARE_ERR_NOMEM, NULL, "healing", "no memory to refit %zu x %zu weights", rows, n);
    if (s == PARE_OK) {
        for (size_t i = 0; i < nk; i++)
            for (size_t j = 0; j < nk; j++) x.hkk[i * nk + j] = at(k->h, n, k->keep[i], k->keep[j]);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < nk; j++)
                x.hc[i * nk + j] = at(k->h, n, i, k->keep[j]) + (k->c ? k->c[i * n + k->keep[j]] : 0);
        pick_columns(k->w, rows, n, k->keep, nk, x.wk);
        if (k->r) pick_columns(k->r, rows, n, k->keep, nk, x.e);
        pare_gemm_add(rows, nk, n, false, 1, k->w, x.hc, k->r ? 1 : 0, x.e);
        pare_gemm_add(rows, nk, nk, false, -1, x.wk, x.hkk, 1, x.e);
        s = pare_inverse_factor(nk, x.hkk, k->damping, x.u, &used, d);
    }
    if (s == PARE_OK) { /* e u^T u */
        pare_gemm_add(rows, nk, nk, true, 1, x.e, x.u, 0, x.t);
        memcpy(out, x.wk, rows * nk * sizeof *out);
        pare_gemm_add(rows, nk, nk, false, 1, x.t, x.u, 1, out);
    }
    release(&x);
    return s;
}
