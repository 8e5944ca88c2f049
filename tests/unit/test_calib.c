/* SPDX-License-Identifier: Apache-2.0
 *
 * The algebra of calibrated methods against sums in double, and the sweep against each grid's own calls. */
#include "calib/linalg.h"
#include "calib/sweep.h"
#include "calib/target.h"
#include "core/rng.h"
#include "core/threads.h"
#include "harness.h"

#include <math.h>

static float *normal(size_t n, uint64_t seed) {
    float *x = malloc(n * sizeof *x);
    pare_rng rng;
    pare_rng_seed(&rng, seed);
    for (size_t i = 0; i < n; i++) x[i] = pare_rng_normal(&rng);
    return x;
}

/* Inputs whose columns depend on one another, and their second moments. */
static float *correlated(size_t tokens, size_t n, uint64_t seed) {
    float *x = normal(tokens * n, seed), *common = normal(tokens, seed + 1);
    for (size_t t = 0; t < tokens; t++)
        for (size_t j = 0; j < n; j++) x[t * n + j] = x[t * n + j] * (0.2f + (float)(j % 5)) + 2 * common[t];
    free(common);
    return x;
}

static void sums_are_right(void **state) {
    const size_t n = 300, m = 70, tokens = 41; /* more than one panel */
    float *x = correlated(tokens, n, 1), *a = normal(tokens * m, 3), *h = calloc(n * n, 4), *c = calloc(m * n, 4);
    for (int twice = 0; twice < 2; twice++) pare_gram_add(n, tokens, x, h), pare_cross_add(m, n, tokens, a, x, c);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++) {
            double s = 0, mass = 0;
            for (size_t t = 0; t < tokens; t++)
                s += (double)x[t * n + i] * x[t * n + j], mass += fabs((double)x[t * n + i] * x[t * n + j]);
            assert_true(fabs(h[i * n + j] - 2 * s) <= 4e-6 * mass);
        }
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            double s = 0, mass = 0;
            for (size_t t = 0; t < tokens; t++)
                s += (double)a[t * m + i] * x[t * n + j], mass += fabs((double)a[t * m + i] * x[t * n + j]);
            assert_true(fabs(c[i * n + j] - 2 * s) <= 4e-6 * mass);
        }
    float *e = normal(5 * n, 7);
    double form, expected = 0;
    assert_int_equal(pare_quadratic_form(5, n, e, h, &form, NULL), PARE_OK);
    for (size_t t = 0; t < tokens; t++)
        for (size_t r = 0; r < 5; r++) {
            double y = 0;
            for (size_t j = 0; j < n; j++) y += (double)e[r * n + j] * x[t * n + j];
            expected += 2 * y * y;
        }
    assert_true(fabs(form - expected) <= 1e-5 * expected);
    free(x), free(a), free(h), free(c), free(e);
}

static void factor_inverts(void **state) {
    static const size_t sizes[] = {1, 7, 128, 129, 300};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        size_t n = sizes[k];
        float *x = correlated(2 * n + 3, n, 5), *h = calloc(n * n, 4), *u = malloc(n * n * 4);
        double *inverse = calloc(n * n, sizeof *inverse), used = 0, mean = 0;
        pare_gram_add(n, 2 * n + 3, x, h);
        assert_int_equal(pare_inverse_factor(n, h, 0.01, u, &used, NULL), PARE_OK);
        assert_true(used == 0.01);
        for (size_t i = 0; i < n; i++) {
            mean += h[i * n + i] / (double)n;
            assert_true(u[i * n + i] > 0);
            for (size_t j = 0; j < i; j++) assert_true(u[i * n + j] == 0);
        }
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++)
                for (size_t r = 0; r <= (i < j ? i : j); r++) inverse[i * n + j] += (double)u[r * n + i] * u[r * n + j];
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++) { /* (H + lambda I) inverse = I */
                double s = 0;
                for (size_t q = 0; q < n; q++) {
                    double v = i >= q ? h[i * n + q] : h[q * n + i];
                    s += (v + (i == q ? 0.01 * mean : 0)) * inverse[q * n + j];
                }
                assert_true(fabs(s - (i == j)) < 2e-3);
            }
        free(x), free(h), free(u), free(inverse);
    }
}

static void damping_grows_and_gives_up(void **state) {
    float u[4];
    double used;
    pare_diag d = {0};
    float dead[4] = {4, 0, 0, 0}; /* a column without input is independent */
    assert_int_equal(pare_inverse_factor(2, dead, 0.01, u, &used, &d), PARE_OK);
    assert_true(u[3] == 1.0f && u[1] == 0.0f);
    float indefinite[4] = {1, 0, 1.05f, 1}; /* eigenvalues 2.05 and -0.05 */
    assert_int_equal(pare_inverse_factor(2, indefinite, 0.01, u, &used, &d), PARE_OK);
    assert_true(fabs(used - 0.1) < 1e-12);
    float hopeless[4] = {1, 0, 10, 1};
    assert_int_equal(pare_inverse_factor(2, hopeless, 0.01, u, &used, &d), PARE_ERR_INPUT);
    assert_non_null(strstr(d.text, "positive definite"));
    for (int k = 0; k < 2; k++) {
        float bad[4] = {1, 0, k ? 0.1f : NAN, k ? INFINITY : 1};
        d = (pare_diag){0};
        assert_int_equal(pare_inverse_factor(2, bad, 0.01, u, &used, &d), PARE_ERR_INPUT);
        assert_non_null(strstr(d.text, "NaN"));
    }
}

/* Rank 3 in 200 columns: singular, and still usable. */
static void singular_moments_are_damped(void **state) {
    const size_t n = 200;
    float *x = normal(3 * n, 9), *h = calloc(n * n, 4), *u = malloc(n * n * 4);
    double used;
    pare_gram_add(n, 3, x, h);
    assert_int_equal(pare_inverse_factor(n, h, 0.01, u, &used, NULL), PARE_OK);
    for (size_t i = 0; i < n * n; i++) assert_true(isfinite(u[i]));
    free(x), free(h), free(u);
}

static size_t width(const pare_qtype *qt) {
    size_t g = qt->grid->group;
    return g ? 2 * (g > 64 ? g : 64) : 96;
}

/* What fit, snap and pack make of whole rows, all columns alike. */
static void three_calls(const pare_qtype *qt, const float *w, size_t rows, size_t n, void *out) {
    size_t g = qt->grid->group ? qt->grid->group : n;
    float *ones = malloc(g * 4);
    char *params = malloc(rows * qt->grid->param_bytes);
    int8_t *codes = malloc(rows * g);
    for (size_t j = 0; j < g; j++) ones[j] = 1;
    for (size_t c = 0; c < n; c += g) {
        qt->grid->fit(qt, w + c, n, ones, NULL, rows, g, params);
        qt->grid->snap(qt, params, g, w + c, n, rows, 0, g, codes, g, NULL, 0);
        qt->grid->pack(qt, params, codes, g, rows, g, (char *)out + (c ? pare_row_bytes(qt, c) : 0),
                       pare_row_bytes(qt, n));
    }
    free(ones), free(params), free(codes);
}

static void sweep(const pare_qtype *qt, const float *w, size_t rows, size_t n, const float *u, float *done, void *out) {
    memcpy(done, w, rows * n * 4);
    const pare_sweep s = {.rows = rows, .n = n, .u = u, .type = qt, .w = done, .out = out};
    assert_int_equal(pare_sweep_run(&s, NULL), PARE_OK);
}

static void every_grid(void **state) {
    const size_t rows = 70; /* more than one chunk */
    for (size_t i = 0; i < pare_qtype_count(); i++) {
        const pare_qtype *qt = pare_qtype_at(i);
        if (!qt->grid) continue;
        size_t n = width(qt), bytes = rows * pare_row_bytes(qt, n);
        float *w = normal(rows * n, 11), *x = correlated(4 * n, n, 13), *h = calloc(n * n, 4), *u = calloc(n * n, 4),
              *done = malloc(rows * n * 4), *e = malloc(rows * n * 4);
        char *plain = calloc(1, bytes), *swept = calloc(1, bytes), *again = calloc(1, bytes);
        for (size_t j = 0; j < n; j++) u[j * n + j] = 1;
        three_calls(qt, w, rows, n, plain);
        sweep(qt, w, rows, n, u, done, swept);
        if (memcmp(plain, swept, bytes) != 0) fail_msg("%s: independent columns, other bytes", qt->name);
        /* done is what the rows decode to */
        for (size_t r = 0; r < rows; r++) {
            qt->decode(qt, swept + r * pare_row_bytes(qt, n), e, n);
            for (size_t j = 0; j < n; j++)
                if (e[j] != done[r * n + j]) fail_msg("%s: row %zu, column %zu decodes otherwise", qt->name, r, j);
        }
        double used, before, after;
        for (size_t k = 0; k < rows * n; k++) e[k] = w[k] - done[k];
        pare_gram_add(n, 4 * n, x, h);
        assert_int_equal(pare_quadratic_form(rows, n, e, h, &before, NULL), PARE_OK);
        assert_int_equal(pare_inverse_factor(n, h, 0.01, u, &used, NULL), PARE_OK);
        sweep(qt, w, rows, n, u, done, swept);
        for (size_t k = 0; k < rows * n; k++) e[k] = w[k] - done[k];
        assert_int_equal(pare_quadratic_form(rows, n, e, h, &after, NULL), PARE_OK);
        if (!(after < 0.8 * before)) fail_msg("%s: output error %g after, %g before", qt->name, after, before);
        int threads = pare_threads();
        pare_set_threads(1);
        sweep(qt, w, rows, n, u, done, again);
        pare_set_threads(threads);
        if (memcmp(again, swept, bytes) != 0) fail_msg("%s: other bytes with one thread", qt->name);
        free(w), free(x), free(h), free(u), free(done), free(e), free(plain), free(swept), free(again);
    }
}

/* x_q = x_f + noise: the corrected target serves x_f W^T better than W does. */
static void target_is_corrected(void **state) {
    const size_t n = 48, rows = 9, tokens = 400;
    float *f = correlated(tokens, n, 17), *q = normal(tokens * n, 19), *w = normal(rows * n, 21),
          *delta = malloc(tokens * n * 4), *h = calloc(n * n, 4), *c = calloc(n * n, 4), *u = malloc(n * n * 4),
          *target = malloc(rows * n * 4);
    for (size_t i = 0; i < tokens * n; i++) q[i] = f[i] * 0.9f + 0.3f * q[i], delta[i] = f[i] - q[i];
    pare_gram_add(n, tokens, q, h);
    pare_cross_add(n, n, tokens, delta, q, c);
    double used, error[2] = {0};
    assert_int_equal(pare_inverse_factor(n, h, 1e-4, u, &used, NULL), PARE_OK);
    const pare_stats all = {.n = n, .tokens = tokens, .h = h, .c = c};
    assert_int_equal(pare_target_for(rows, n, w, &all, u, NULL, target, NULL, NULL), PARE_OK);
    for (int k = 0; k < 2; k++)
        for (size_t t = 0; t < tokens; t++)
            for (size_t r = 0; r < rows; r++) {
                double y = 0;
                for (size_t j = 0; j < n; j++)
                    y += (double)w[r * n + j] * f[t * n + j] - (double)(k ? target : w)[r * n + j] * q[t * n + j];
                error[k] += y * y;
            }
    assert_true(error[1] < 0.7 * error[0]);
    free(f), free(q), free(w), free(delta), free(h), free(c), free(u), free(target);
}

/* Two halves of tokens: what they agree about is taken over, what is noise is not. */
static void noise_is_not_corrected(void **state) {
    enum { N = 64, ROWS = 20, TOKENS = 256 };
    float *w = normal(ROWS * N, 31), *target = malloc(ROWS * N * 4), *u = malloc(N * N * 4);
    double share[3];
    for (int k = 0; k < 3; k++) { /* 0: noise alone; 1: the original is 1.2 times the reduced; 2: both */
        float *h = calloc(N * N, 4), *h2 = calloc(N * N, 4), *c[2] = {calloc(N * N, 4), calloc(N * N, 4)};
        for (uint64_t half = 0; half < 2; half++) {
            float *x = correlated(TOKENS, N, 33 + 4 * half), *delta = normal(TOKENS * N, 35 + 4 * half);
            for (size_t i = 0; i < TOKENS * N; i++) delta[i] = (k == 1 ? 0 : delta[i]) + (k ? 0.2f * x[i] : 0);
            pare_gram_add(N, TOKENS, x, h);
            if (half) pare_gram_add(N, TOKENS, x, h2);
            pare_cross_add(N, N, TOKENS, delta, x, c[half]);
            free(x), free(delta);
        }
        double used;
        pare_stats held = {.n = N, .tokens = TOKENS, .h = h2, .c = c[1]}, s = {N, 2 * TOKENS, h, c[0], .held = &held};
        assert_int_equal(pare_inverse_factor(N, h, 1e-6, u, &used, NULL), PARE_OK);
        assert_int_equal(pare_target_for(ROWS, N, w, &s, u, NULL, target, &share[k], NULL), PARE_OK);
        for (size_t i = 0; k == 1 && i < ROWS * N; i++) assert_true(fabsf(target[i] - 1.2f * w[i]) < 0.02f);
        free(h), free(h2), free(c[0]), free(c[1]);
    }
    assert_true(share[0] < 0.35 && share[1] > 0.99 && share[2] > share[0] + 0.3 && share[2] < 1);
    free(w), free(target), free(u);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_right),
        cmocka_unit_test(factor_inverts),
        cmocka_unit_test(damping_grows_and_gives_up),
        cmocka_unit_test(singular_moments_are_damped),
        cmocka_unit_test(every_grid),
        cmocka_unit_test(target_is_corrected),
        cmocka_unit_test(noise_is_not_corrected),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
