/* SPDX-License-Identifier: Apache-2.0
 *
 * Parity of two devices: what diverges and what is noise, and two runs in step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "core/rng.h"
#include "verify/parity.h"

#define NEAR(a, b, eps)                                                                                                \
    do {                                                                                                               \
        double near_a = (a), near_b = (b);                                                                             \
        if (!(fabs(near_a - near_b) <= (eps))) fail_msg("%s = %.17g, expected %.17g", #a, near_a, near_b);             \
    } while (0)

enum { ROWS = 64, COLS = 48 };
static pare_parity_node judged(const float *p, const float *q, size_t rows, size_t cols) {
    double scratch[3 * COLS];
    pare_parity_node n = {0};
    int bad;
    pare_parity_compare(p, q, rows, cols, scratch, &n, &bad);
    assert_int_equal(bad, -1);
    return n;
}

static void parity_rule(void **state) {
    static float p[ROWS * COLS], q[ROWS * COLS];
    pare_rng rng;
    pare_rng_seed(&rng, 9);
    for (int i = 0; i < ROWS * COLS; i++) p[i] = pare_rng_normal(&rng);
    pare_parity_node n = judged(p, p, ROWS, COLS);
    assert_true(isinf(n.sqnr_db) && n.channel == -1 && !n.diverges);
    static const struct {
        double noise, step; /* of all; of column 7 alone */
        bool diverges;
    } t[] = {{1e-6, 0, false},      /* sums in another order */
             {1.8e-4, 0, false},    /* one more rounding to f16 */
             {2e-3, 0, true},       /* bf16 */
             {1e-6, 1e-3, true},    /* f32 kernels, a wrong scale in one row of weights */
             {1e-6, 6e-5, true},    /* the same, in its last bit and one group of 256 */
             {1.8e-4, 1e-2, true},  /* found behind f16's noise */
             {1.8e-4, 6e-5, false}, /* not to be found there */
             {0, 3e-6, false}};     /* equal but for noise in one row */
    for (size_t k = 0; k < sizeof t / sizeof *t; k++) {
        for (int i = 0; i < ROWS * COLS; i++)
            q[i] = p[i] * (float)(1 + (i % COLS == 7 ? t[k].step : 0)) + (float)t[k].noise * pare_rng_normal(&rng);
        n = judged(p, q, ROWS, COLS);
        if (n.diverges != t[k].diverges) fail_msg("case %zu: %g dB, channel %g dB", k, n.sqnr_db, n.channel_db);
        if (t[k].diverges && t[k].step > 0) assert_int_equal(n.channel, 7);
    }
    /* By hand: column 1 of two is 1/2 off, energy 1/4 of 4 in all, of 2 in that channel. */
    float a[] = {1, 1, 1, 1}, b[] = {1, 1.5f, 1, 1};
    n = judged(a, b, 2, 2);
    NEAR(n.sqnr_db, 10 * log10(16), 1e-12);
    NEAR(n.channel_db, 10 * log10(8), 1e-12);
    NEAR(n.max_error, 0.5, 0);
    assert_int_equal(n.channel, 1);
    float silent[] = {0, 1, 0, 1}, hum[] = {0.5f, 1, 0, 1}; /* a silent channel is held against the mean of all */
    NEAR(judged(silent, hum, 2, 2).channel_db, 10 * log10(4), 1e-12);
}

/* Two threads in step: the second's outputs become the first's, and one that ends early does not hold up the other. */
typedef struct walker {
    pare_parity_view *v;
    int device, nodes;
    float x[5][16];
} walker;

static void *walk(void *arg) {
    walker *w = arg;
    int64_t shape[] = {2, 8};
    for (int i = 0; i < w->nodes; i++) {
        pare_tensor t = pare_tensor_make(&pare_qtype_f32, 2, shape, w->x[i]);
        char name[16];
        snprintf(name, sizeof name, "n%d", i);
        (w->device ? pare_parity_second : pare_parity_first)(w->v, i, name, PARE_OP_Add, &t);
    }
    pare_parity_end(w->v, w->device);
    return NULL;
}

static void parity_in_step(void **state) {
    for (int shorter = 0; shorter < 3; shorter++) {
        walker w[2] = {{.device = 0, .nodes = 5}, {.device = 1, .nodes = 5}};
        w[0].v = w[1].v = pare_parity_new();
        if (shorter) w[shorter - 1].nodes = 2;
        for (int i = 0; i < 5; i++)
            for (int k = 0; k < 16; k++)
                w[0].x[i][k] = (float)(i + k + 1), w[1].x[i][k] = (float)(i + k + 1 + (i == 3));
        pthread_t th;
        assert_int_equal(pthread_create(&th, NULL, walk, &w[1]), 0);
        walk(&w[0]);
        pthread_join(th, NULL);
        pare_verify_report *r = pare_report_new(PARE_VERIFY_LM);
        assert_int_equal(pare_parity_finish(w[0].v, 1, r, NULL), PARE_OK);
        assert_int_equal(r->parity[1].n_nodes, shorter ? 2 : 5);
        if (!shorter) {
            assert_string_equal(r->parity[1].first_diverging->name, "n3");
            assert_int_equal(memcmp(w[0].x, w[1].x, sizeof w[0].x), 0);
        }
        pare_report_free(&r);
        pare_parity_free(&w[0].v);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parity_rule),
        cmocka_unit_test(parity_in_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
