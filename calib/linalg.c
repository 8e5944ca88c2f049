/* SPDX-License-Identifier: Apache-2.0
 *
 * Second moments and their factors (calib/linalg.h). */
#include "calib/linalg.h"

#include "core/alloc.h"
#include "core/status.h"
#include "core/threads.h"
#include "cpu/matmul.h"

#include <math.h>
#include <string.h>

#define PANEL  256 /* columns of a triangular update at a time */
#define GRAM   192 /* order of the gram matrix's diagonal blocks */
#define TURNED 512 /* tokens turned round at a time: a multiple of pare_sgemm's slab, for the same sums */
#define BLOCK  128 /* of the Cholesky factorisation */

/* Lower triangle of h += x x^T by halves, x [n, k] (rows ldx apart): the square below the diagonal is one large
 * product, and only blocks of GRAM on the diagonal compute what lies above it (5 % of the work at n = 4096). */
static void gram_part(bool rows, size_t n, size_t k, const float *x, size_t ldx, float *h, size_t ldh) {
    size_t half = n <= GRAM ? n : (n / 2 + GRAM - 1) / GRAM * GRAM, rest = n - half, step = rows ? ldx : 1;
    if (!rest) {
        pare_sgemm(!rows, rows, (int64_t)n, (int64_t)n, (int64_t)k, 1.0f, x, (int64_t)ldx, x, (int64_t)ldx, 1.0f, h,
                   (int64_t)ldh);
        return;
    }
    gram_part(rows, half, k, x, ldx, h, ldh);
    gram_part(rows, rest, k, x + half * step, ldx, h + half * (ldh + 1), ldh);
    pare_sgemm(!rows, rows, (int64_t)rest, (int64_t)half, (int64_t)k, 1.0f, x + half * step, (int64_t)ldx, x,
               (int64_t)ldx, 1.0f, h + half * ldh, (int64_t)ldh);
}

typedef struct turn_job {
    const float *x;
    float *out;
    size_t n, k;
} turn_job;

static void turn_item(void *ctx, size_t item) {
    const turn_job *g = ctx;
    size_t i0 = item * 16, m = g->n - i0 < 16 ? g->n - i0 : 16;
    for (size_t k = 0; k < g->k; k++)
        for (size_t i = 0; i < m; i++) g->out[(i0 + i) * g->k + k] = g->x[k * g->n + i0 + i];
}

/* Channels become rows, TURNED tokens at a time: read in place, a tile of the product takes 24 bytes of each line, and
 * lines a power of two apart share a few sets of every cache. Without memory for that, in place: the same sums. */
void pare_gram_add(size_t n, size_t tokens, const float *x, float *h) {
    size_t most = tokens < TURNED ? tokens : TURNED;
    float *turned = pare_malloc_aligned(n * most * sizeof *turned);
    for (size_t t = 0; t < tokens && turned; t += most) {
        turn_job g = {x + t * n, turned, n, tokens - t < most ? tokens - t : most};
        pare_parallel((n + 15) / 16, 1, turn_item, &g);
        gram_part(true, n, g.k, turned, g.k, h, n);
    }
    if (!turned) gram_part(false, n, tokens, x, n, h, n);
    pare_free(turned);
}

void pare_cross_add(size_t m, size_t n, size_t tokens, const float *a, const float *b, float *c) {
    pare_sgemm(true, false, (int64_t)m, (int64_t)n, (int64_t)tokens, 1.0f, a, (int64_t)m, b, (int64_t)n, 1.0f, c,
               (int64_t)n);
}

void pare_gemm_add(size_t m, size_t n, size_t k, bool trans_b, float alpha, const float *a, const float *b, float beta,
                   float *c) {
    pare_sgemm(false, trans_b, (int64_t)m, (int64_t)n, (int64_t)k, alpha, a, (int64_t)k, b, (int64_t)(trans_b ? k : n),
               beta, c, (int64_t)n);
}

/* Lower Cholesky factor of the block at a (order m, leading dimension n), in place; false when not positive. */
static bool factor_block(float *a, size_t n, size_t m) {
    for (size_t j = 0; j < m; j++) {
        for (size_t i = j; i < m; i++) {
            double s = a[i * n + j];
            for (size_t k = 0; k < j; k++) s -= (double)a[i * n + k] * a[j * n + k];
            if (i == j) {
                if (!(s > 0)) return false;
                a[j * n + j] = (float)sqrt(s);
            } else a[i * n + j] = (float)(s / a[j * n + j]);
        }
    }
    return true;
}

/* inv [m, m] (leading dimension m) = inverse of the lower triangular block at l. */
static void invert_block(const float *l, size_t n, size_t m, float *inv) {
    memset(inv, 0, m * m * sizeof *inv);
    for (size_t j = 0; j < m; j++) {
        inv[j * m + j] = 1.0f / l[j * n + j];
        for (size_t i = j + 1; i < m; i++) {
            double s = 0;
            for (size_t k = j; k < i; k++) s += (double)l[i * n + k] * inv[k * m + j];
            inv[i * m + j] = (float)(-s / l[i * n + i]);
        }
    }
}

static bool cholesky(float *a, size_t n, float *scratch, float *inv) {
    for (size_t k = 0; k < n; k += BLOCK) {
        size_t m = n - k < BLOCK ? n - k : BLOCK, rest = n - k - m;
        float *diag = a + k * n + k, *below = a + (k + m) * n + k;
        if (!factor_block(diag, n, m)) return false;
        if (!rest) break;
        invert_block(diag, n, m, inv);
        for (size_t i = 0; i < rest; i++) memcpy(scratch + i * m, below + i * n, m * sizeof *scratch);
        pare_sgemm(false, true, (int64_t)rest, (int64_t)m, (int64_t)m, 1.0f, scratch, (int64_t)m, inv, (int64_t)m, 0.0f,
                   below, (int64_t)n);
        for (size_t p = 0; p < rest; p += PANEL) { /* lower part of what is left */
            size_t w = rest - p < PANEL ? rest - p : PANEL;
            pare_sgemm(false, true, (int64_t)(rest - p), (int64_t)w, (int64_t)m, -1.0f, below + p * n, (int64_t)n,
                       below + p * n, (int64_t)n, 1.0f, a + (k + m + p) * n + k + m + p, (int64_t)n);
        }
    }
    return true;
}

/* inverse [n, n] of the lower triangular l; block rows from the top. */
static void invert(const float *l, size_t n, float *inverse, float *scratch, float *inv) {
    memset(inverse, 0, n * n * sizeof *inverse);
    for (size_t k = 0; k < n; k += BLOCK) {
        size_t m = n - k < BLOCK ? n - k : BLOCK;
        invert_block(l + k * n + k, n, m, inv);
        if (k) {
            pare_sgemm(false, false, (int64_t)m, (int64_t)k, (int64_t)k, 1.0f, l + k * n, (int64_t)n, inverse,
                       (int64_t)n, 0.0f, scratch, (int64_t)k);
            pare_sgemm(false, false, (int64_t)m, (int64_t)k, (int64_t)m, -1.0f, inv, (int64_t)m, scratch, (int64_t)k,
                       0.0f, inverse + k * n, (int64_t)n);
        }
        for (size_t i = 0; i < m; i++) memcpy(inverse + (k + i) * n + k, inv + i * m, m * sizeof *inv);
    }
}

/* a = h + lambda I with rows and columns in reverse order; false when h holds no finite numbers. */
static bool reversed(size_t n, const float *h, const uint32_t *order, double damping, float *a) {
    double mean = 0;
    for (size_t i = 0; i < n; i++) mean += h[i * n + i];
    mean /= (double)n;
    if (!isfinite(mean) || mean < 0) return false;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++) {
            size_t p = order ? order[i] : i, q = order ? order[j] : j;
            float v = p > q ? h[p * n + q] : h[q * n + p];
            if (i == j) v = v > 0 ? (float)(v + damping * mean) : 1.0f;
            if (!isfinite(v)) return false;
            a[(n - 1 - j) * n + (n - 1 - i)] = v; /* element (i, j) of the lower triangle lands in the lower triangle */
        }
    return true;
}

pare_status pare_inverse_factor(size_t n, const float *h, double damping, float *u, double *used, pare_diag *d) {
    return pare_inverse_factor_ordered(n, h, NULL, damping, u, used, d);
}

pare_status pare_inverse_factor_ordered(size_t n, const float *h, const uint32_t *order, double damping, float *u,
                                        double *used, pare_diag *d) {
    float *a = pare_malloc(n * n * sizeof *a), *scratch = pare_malloc((n + BLOCK) * BLOCK * sizeof *scratch),
          *inv = pare_malloc(BLOCK * BLOCK * sizeof *inv);
    pare_status s = a && scratch && inv
                        ? PARE_OK
                        : pare_fail(d, PARE_ERR_NOMEM, NULL, "calibration", "no memory for a factor of %zu columns", n);
    bool ok = false;
    for (double lambda = damping; s == PARE_OK && !ok; lambda = lambda > 0 ? 10 * lambda : 1e-6) {
        if (lambda > 1 && lambda > damping) {
            s = pare_fail(d, PARE_ERR_INPUT, NULL, "calibration",
                          "the second moments are not positive definite, even damped by their mean");
            break;
        }
        if (!reversed(n, h, order, lambda, a)) {
            s = pare_fail(d, PARE_ERR_INPUT, NULL, "calibration", "the second moments hold NaN or infinite numbers");
            break;
        }
        ok = cholesky(a, n, scratch, inv);
        *used = lambda;
    }
    if (s == PARE_OK) { /* the inverse of L, reversed back, is upper triangular */
        for (size_t i = 0; i < n; i++) memset(a + i * n + i + 1, 0, (n - 1 - i) * sizeof *a);
        invert(a, n, u, scratch, inv);
        for (size_t i = 0; i < n * n / 2; i++) { /* reversing rows and columns reverses the whole array */
            float t = u[i];
            u[i] = u[n * n - 1 - i];
            u[n * n - 1 - i] = t;
        }
    }
    pare_free(a);
    pare_free(scratch);
    pare_free(inv);
    return s;
}

pare_status pare_quadratic_form(size_t rows, size_t n, const float *e, const float *h, double *out, pare_diag *d) {
    size_t most = n < PANEL ? n : PANEL;
    float *panel = pare_malloc(n * most * sizeof *panel), *t = pare_malloc(rows * most * sizeof *t);
    *out = 0;
    for (size_t p = 0; panel && t && p < n;
         p += PANEL) { /* e H e^T = 2 e L e^T, L the lower triangle, diagonal halved */
        size_t w = n - p < PANEL ? n - p : PANEL, below = n - p;
        for (size_t i = 0; i < below; i++)
            for (size_t j = 0; j < w; j++)
                panel[i * w + j] = i < j ? 0 : h[(p + i) * n + p + j] * (i == j ? 0.5f : 1.0f);
        pare_sgemm(false, false, (int64_t)rows, (int64_t)w, (int64_t)below, 1.0f, e + p, (int64_t)n, panel, (int64_t)w,
                   0.0f, t, (int64_t)w);
        for (size_t r = 0; r < rows; r++) {
            double sum = 0;
            for (size_t j = 0; j < w; j++) sum += (double)t[r * w + j] * e[r * n + p + j];
            *out += 2 * sum;
        }
    }
    bool ok = panel && t;
    pare_free(panel);
    pare_free(t);
    return ok ? PARE_OK
              : pare_fail(d, PARE_ERR_NOMEM, NULL, "calibration", "no memory for the error of %zu x %zu weights", rows,
                          n);
}
