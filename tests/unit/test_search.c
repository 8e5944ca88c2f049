/* SPDX-License-Identifier: Apache-2.0
 *
 * The search for the largest amount within a limit, on costs of many shapes; shares against the equation that they
 * solve.
 */
#include "harness.h"

#include "api/search.h"
#include "core/rng.h"

#include <math.h>

typedef struct curve {
    int kind;
    int64_t calls, lowest, highest;
    double scale;
} curve;

static double cost_of(const curve *c, int64_t x) {
    switch (c->kind) {
    case 0: return c->scale * (double)(x * x);
    case 1: return c->scale * exp(0.1 * (double)x);
    case 2: return x < 37 ? 0.0 : c->scale * 1e6;                                    /* a cliff after nothing at all */
    case 3: return -c->scale * 1000 + c->scale * (double)x;                          /* negative: sizes */
    default: return c->scale * ((double)(x * x) + 0.4 * (double)x * sin((double)x)); /* noisy, nearly rising */
    }
}

static pare_status measure(void *ctx, int64_t x, double *cost, pare_diag *d) {
    curve *c = ctx;
    c->calls++;
    if (x < c->lowest) c->lowest = x;
    if (x > c->highest) c->highest = x;
    *cost = cost_of(c, x);
    return PARE_OK;
}

static void largest(void **state) {
    pare_rng rng;
    pare_rng_seed(&rng, 7);
    for (int turn = 0; turn < 400; turn++) {
        int64_t n = 1 + (int64_t)pare_rng_below(&rng, 100), brute = 0;
        curve c = {turn % 4, 0, 1 << 20, -1, 0.01};
        double limit = c.kind == 3 ? -10 + pare_rng_normal(&rng) : fabs((double)pare_rng_normal(&rng)) * 20;
        for (int64_t x = 1; x <= n; x++)
            if (cost_of(&c, x) <= limit) brute = x;
        const pare_search s = {1, n, limit, 64, measure, &c};
        pare_search_result r;
        assert_int_equal(pare_search_run(&s, &r, NULL), PARE_OK);
        assert_int_equal(r.found, brute > 0);
        assert_int_equal(r.evaluations, c.calls);
        assert_true(c.lowest >= 1 && c.highest <= n);
        if (brute) assert_int_equal(r.x, brute);
        else assert_int_equal(r.x, 1); /* the smallest was tried, and is reported */
        assert_true(r.cost == cost_of(&c, r.x));
    }
}

/* Few evaluations: what is given was measured and is within the limit, and something is found where 1 is. */
static void bounded(void **state) {
    double together = 0, best = 0;
    for (int most = 1; most <= 8; most++)
        for (int64_t limit = 2; limit < 90; limit += 7) {
            curve c = {4, 0, 1 << 20, -1, 1};
            const pare_search s = {1, 90, (double)(limit * limit), most, measure, &c};
            pare_search_result r;
            assert_int_equal(pare_search_run(&s, &r, NULL), PARE_OK);
            assert_true(r.evaluations <= most);
            assert_true(r.found && r.cost <= s.limit && r.cost == cost_of(&c, r.x));
            if (most == 7) together += (double)r.x, best += (double)limit;
        }
    assert_true(together > 0.95 * best);
}

static void shares(void **state) {
    enum { N = 5, M = 3 };
    static const double a[M] = {0.25, 0.5, 0.75}, c[N] = {1, 1.2, 0.8, 1.5, 1}, weight[N] = {100, 100, 100, 100, 250};
    double cost[N * M], share[N], mean = 0, all = 0, slope[N];
    for (size_t i = 0; i < N; i++)
        for (size_t k = 0; k < M; k++) cost[i * M + k] = c[i] * pow(a[k], 3);
    pare_search_shares(N, M, a, cost, weight, share);
    for (size_t i = 0; i < N; i++) {
        mean += share[i] * weight[i], all += weight[i];
        slope[i] = 3 * c[i] * share[i] * share[i] / weight[i];
        assert_true(share[i] >= 0.5 && share[i] <= 1.6);
    }
    assert_true(fabs(mean / all - 1) < 1e-6);
    for (size_t i = 1; i < N - 1; i++) /* the last one is at its end: it would take more */
        if (fabs(slope[i] / slope[0] - 1) > 1e-6) fail_msg("part %zu: %g, part 0: %g", i, slope[i], slope[0]);
    assert_true(share[2] > share[0] && share[0] > share[1] && share[1] > share[3]);
    for (size_t k = 0; k < M; k++) cost[2 * M + k] = 0; /* costs nothing: takes the most */
    pare_search_shares(N, M, a, cost, weight, share);
    assert_true(share[2] > 1.599);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(largest), cmocka_unit_test(bounded), cmocka_unit_test(shares)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
