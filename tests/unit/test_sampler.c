/* SPDX-License-Identifier: Apache-2.0
 *
 * api/sampler: what may be chosen, how often, ties, seeds, and a logit that is not a number. */
#include "harness.h"

#include <math.h>

#include "api/sampler.h"

static void greedy(void **s) {
    pare_sampler p;
    float logits[] = {1, 3, 3, -2};
    assert_int_equal(pare_sampler_open(&p, 4, 0, 40, 0.9, 1), PARE_OK);
    for (int i = 0; i < 5; i++) assert_int_equal(pare_sampler_next(&p, logits), 1); /* the lower id among equals */
    logits[2] = NAN;
    assert_int_equal(pare_sampler_next(&p, logits), -1);
    pare_sampler_close(&p);
}

/* Draws against the probabilities by definition: at a temperature, among the k best, within p of what they hold. */
static void frequencies(void **s) {
    enum { N = 50, DRAWS = 40000 };
    float logits[N];
    for (int i = 0; i < N; i++) logits[i] = 3 * sinf((float)(i * i));
    static const struct {
        double temp;
        int64_t k;
        double p;
    } cases[] = {{1, 0, 1}, {0.7, 5, 1}, {1.5, 0, 0.6}, {0.8, 20, 0.9}, {1, 1, 1}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        double w[N], total = 0, kept = 0;
        int order[N], count[N] = {0};
        for (int i = 0; i < N; i++) order[i] = i;
        for (int i = 0; i < N; i++)
            for (int j = i + 1; j < N; j++)
                if (logits[order[j]] > logits[order[i]]) {
                    int t = order[i];
                    order[i] = order[j], order[j] = t;
                }
        int k = cases[c].k ? (int)cases[c].k : N, n = 0;
        for (int i = 0; i < k; i++) total += w[i] = exp((double)logits[order[i]] / cases[c].temp);
        while (n < k && kept < cases[c].p * total) kept += w[n++];
        pare_sampler p;
        assert_int_equal(pare_sampler_open(&p, N, cases[c].temp, cases[c].k, cases[c].p, 9), PARE_OK);
        for (int i = 0; i < DRAWS; i++) count[pare_sampler_next(&p, logits)]++;
        pare_sampler_close(&p);
        for (int i = 0; i < N; i++) {
            double expected = i < n ? w[i] / kept : 0, sd = sqrt(expected * (1 - expected) / DRAWS);
            assert_true(fabs((double)count[order[i]] / DRAWS - expected) <= 5 * sd);
        }
    }
}

static void seeds(void **s) {
    float logits[64];
    int64_t first[32];
    for (int i = 0; i < 64; i++) logits[i] = (float)(i % 7);
    for (uint64_t seed = 0; seed < 3; seed++) {
        pare_sampler a, b;
        int differs = 0;
        pare_sampler_open(&a, 64, 1, 40, 0.95, seed);
        pare_sampler_open(&b, 64, 1, 40, 0.95, seed);
        for (int i = 0; i < 32; i++) {
            int64_t id = pare_sampler_next(&a, logits);
            assert_int_equal(id, pare_sampler_next(&b, logits));
            if (!seed) first[i] = id;
            differs += id != first[i];
        }
        assert_true(!seed || differs > 4);
        pare_sampler_close(&a);
        pare_sampler_close(&b);
    }
}

static pare_status open_close(void *ctx) {
    pare_sampler p;
    pare_status st = pare_sampler_open(&p, 100, 1, 10, 1, 0);
    if (st == PARE_OK) pare_sampler_close(&p);
    return st;
}
static void failing_allocations(void **s) { harness_fail_every_alloc(open_close, NULL); }

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(greedy), cmocka_unit_test(frequencies), cmocka_unit_test(seeds),
                                       cmocka_unit_test(failing_allocations)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
