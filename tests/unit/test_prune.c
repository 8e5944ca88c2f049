/* SPDX-License-Identifier: Apache-2.0
 *
 * Pruning against brute force in double: scores, masks by sorting, the limit over all layers, the sweep against a
 * column-by-column SparseGPT written straight from the paper; zeros through integer grids; threads; failing memory. */
#include "harness.h"

#include "calib/linalg.h"
#include "core/rng.h"
#include "core/threads.h"
#include "prune/solve.h"

#include <math.h>

static float gauss(pare_rng *r) { return (float)pare_rng_normal(r); }

/* ---- masks, by sorting ---- */
typedef struct item {
    double score;
    size_t at;
} item;

static int by_score(const void *a, const void *b) {
    const item *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? -1 : 1;
    return x->at < y->at ? -1 : 1;
}

static void sort_mask(const double *score, size_t n, size_t zeros, uint8_t *zero) {
    item *v = malloc(n * sizeof *v);
    for (size_t i = 0; i < n; i++) v[i] = (item){score[i], i};
    qsort(v, n, sizeof *v, by_score);
    for (size_t i = 0; i < n; i++) zero[v[i].at] = i < zeros;
    free(v);
}

/* Rows x cols with many equal scores, and some zero. */
static void fill_scores(float *s, size_t n, uint64_t seed) {
    pare_rng r;
    pare_rng_seed(&r, seed);
    for (size_t i = 0; i < n; i++) s[i] = (float)(pare_rng_below(&r, 23)) * 0.25f;
}

static void run_mask(const char *pattern, double sparsity, bool by_row, size_t rows, size_t cols, size_t first,
                     const float *score, uint8_t *zero) {
    pare_pattern_spec spec;
    assert_int_equal(pare_pattern_parse(pattern, &spec, NULL), PARE_OK);
    float *scratch = malloc(rows * cols * sizeof *scratch);
    memset(zero, 0, rows * cols);
    pare_mask_in m = {&spec, sparsity, by_row, rows, cols, first, score, scratch, zero};
    spec.kind->mask(&m);
    free(scratch);
}

static void unstructured_masks_are_the_sorted_ones(void **state) {
    enum { R = 13, C = 37 };
    float score[R * C];
    double exact[R * C];
    uint8_t zero[R * C], want[R * C];
    fill_scores(score, R * C, 1);
    for (int i = 0; i < R * C; i++) exact[i] = score[i];
    for (int p = 0; p < 100; p += 7) {
        double s = p / 100.0;
        run_mask("unstructured", s, false, R, C, 0, score, zero);
        sort_mask(exact, R * C, (size_t)floor(s * R * C + 1e-6), want);
        assert_memory_equal(zero, want, sizeof want);
        run_mask("unstructured", s, true, R, C, 0, score, zero);
        for (size_t r = 0; r < R; r++) sort_mask(exact + r * C, C, (size_t)floor(s * C + 1e-6), want + r * C);
        assert_memory_equal(zero, want, sizeof want);
    }
}

static void slices_add_up(void **state) {
    enum { R = 6, C = 100, STEP = 32 };
    float score[R * STEP];
    uint8_t zero[R * STEP];
    fill_scores(score, R * STEP, 2);
    for (int by_row = 0; by_row < 2; by_row++) {
        size_t sum = 0;
        for (size_t first = 0; first < C; first += STEP) {
            size_t n = C - first < STEP ? C - first : STEP;
            run_mask("unstructured", 0.37, by_row, R, n, first, score, zero);
            for (size_t i = 0; i < R * n; i++) sum += zero[i];
        }
        assert_int_equal(sum, by_row ? R * 37 : 222);
    }
}

static void groups_of_m_keep_n(void **state) {
    static const struct {
        const char *text;
        size_t n, m;
    } cases[] = {{"2:4", 2, 4}, {"4:8", 4, 8}, {"1:4", 1, 4}, {"3:4", 3, 4}, {"1:16", 1, 16}};
    enum { R = 5, C = 48 };
    float score[R * C];
    uint8_t zero[R * C], want[R * C];
    fill_scores(score, R * C, 3);
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        size_t n = cases[k].n, m = cases[k].m;
        run_mask(cases[k].text, 1 - (double)n / (double)m, true, R, C, 0, score, zero);
        for (size_t g = 0; g < R * C / m; g++) {
            double v[16];
            for (size_t j = 0; j < m; j++) v[j] = score[g * m + j];
            sort_mask(v, m, m - n, want + g * m);
        }
        assert_memory_equal(zero, want, sizeof want);
    }
}

static void blocks_go_whole(void **state) {
    enum { R = 12, C = 40, H = 3, W = 5, DOWN = R / H, ACROSS = C / W };
    float score[R * C];
    double sum[DOWN * ACROSS] = {0};
    uint8_t zero[R * C], want[DOWN * ACROSS];
    fill_scores(score, R * C, 4);
    for (size_t i = 0; i < R * C; i++) sum[i / C / H * ACROSS + i % C / W] += score[i];
    for (int by_row = 0; by_row < 2; by_row++) {
        run_mask("block:3x5", 0.6, by_row, R, C, 0, score, zero);
        if (!by_row) sort_mask(sum, DOWN * ACROSS, 19, want);
        for (size_t b = 0; by_row && b < DOWN; b++) sort_mask(sum + b * ACROSS, ACROSS, 4, want + b * ACROSS);
        for (size_t i = 0; i < R * C; i++) assert_int_equal(zero[i], want[i / C / H * ACROSS + i % C / W]);
    }
}

static void bad_patterns_are_refused(void **state) {
    static const char *const bad[] = {"",          "2:",        ":4",       "4:4",         "0:4",        "5:4",
                                      "2:4x",      "2:257",     "-2:4",     "block:",      "block:4",    "block:4x",
                                      "block:0x4", "block:1x1", "block4x4", "block:4x129", "structured", "2;4"};
    pare_pattern_spec s;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        pare_diag d = {0};
        assert_int_equal(pare_pattern_parse(bad[i], &s, &d), PARE_ERR_USAGE);
        assert_string_equal(d.where, "--pattern");
    }
    pare_diag d = {0};
    assert_int_equal(pare_pattern_parse("2:4", &s, NULL), PARE_OK);
    assert_int_equal(pare_pattern_check(&s, 3, 64, 0.5, true, "w", NULL), PARE_OK);
    assert_int_equal(pare_pattern_check(&s, 3, 66, 0.5, true, "blk.0.w", &d), PARE_ERR_USAGE);
    assert_string_equal(d.where, "blk.0.w");
    assert_int_equal(pare_pattern_parse("block:4x2", &s, NULL), PARE_OK);
    assert_int_equal(pare_pattern_check(&s, 6, 64, 0.5, true, "w", NULL), PARE_ERR_USAGE);
    assert_int_equal(pare_pattern_parse("unstructured", &s, NULL), PARE_OK);
    assert_int_equal(pare_pattern_check(&s, 4, 10, 0.9, true, "w", NULL), PARE_OK);
    assert_int_equal(pare_pattern_check(&s, 4, 10, 0.91, true, "w", NULL), PARE_ERR_USAGE);
    assert_int_equal(pare_pattern_check(&s, 4, 10, 0.91, false, "w", NULL), PARE_OK);
}

static void steps_suit_pattern_and_grid(void **state) {
    static const struct {
        const char *pattern;
        size_t group, n, step;
    } cases[] = {{"unstructured", 0, 576, 128},
                 {"unstructured", 32, 576, 128},
                 {"unstructured", 256, 576, 256},
                 {"2:4", 0, 576, 4},
                 {"2:4", 32, 576, 4},
                 {"4:12", 32, 576, 96},
                 {"block:4x4", 0, 576, 128},
                 {"block:4x3", 0, 576, 126},
                 {"block:1x127", 64, 8128, 0},
                 {"2:4", 576, 576, 4},
                 {"1:64", 32, 576, 64}};
    pare_pattern_spec s;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(pare_pattern_parse(cases[i].pattern, &s, NULL), PARE_OK);
        assert_int_equal(pare_prune_step(&s, cases[i].group, cases[i].n), cases[i].step);
    }
}

static void limit_over_all_layers_is_the_sorted_one(void **state) {
    enum { N = 5000 };
    static float v[N];
    static double exact[N];
    static uint8_t want[N];
    pare_rng r;
    pare_rng_seed(&r, 5);
    for (int i = 0; i < N; i++) exact[i] = v[i] = i % 3 ? fabsf(gauss(&r)) : (float)(i % 5) * 0.25f;
    for (size_t k = 1; k < N; k += 911) {
        pare_prune_rank *rank = pare_prune_rank_new();
        for (int turn = 0; turn < 2; turn++) {
            for (size_t at = 0; at < N; at += 1250) pare_prune_rank_add(rank, v + at, 1250);
            if (!turn) pare_prune_rank_turn(rank, k);
        }
        pare_prune_limit l = pare_prune_rank_limit(rank);
        pare_prune_rank_free(&rank);
        sort_mask(exact, N, k, want);
        for (size_t i = 0; i < N; i++) {
            bool tie = v[i] == l.below && l.ties;
            l.ties -= tie;
            assert_int_equal(want[i], v[i] < l.below || tie);
        }
        assert_int_equal(l.ties, 0);
    }
}

/* ---- layers ---- */
typedef struct layer {
    size_t rows, n, tokens;
    float *w, *x, *h, *u, *gradient;
    pare_stats s;
} layer;

static layer make_layer(size_t rows, size_t n, uint64_t seed) {
    layer l = {.rows = rows, .n = n, .tokens = 3 * n};
    pare_rng r;
    pare_rng_seed(&r, seed);
    l.w = malloc(rows * n * sizeof(float));
    l.x = malloc(l.tokens * n * sizeof(float));
    l.h = calloc(n * n, sizeof(float));
    l.u = calloc(n * n, sizeof(float));
    for (size_t i = 0; i < rows * n; i++) l.w[i] = gauss(&r);
    for (size_t t = 0; t < l.tokens; t++) { /* inputs of different sizes that hang together */
        float common = gauss(&r);
        for (size_t j = 0; j < n; j++)
            l.x[t * n + j] = (common + 2 * gauss(&r)) * (j == 3 ? 0 : 0.2f + (float)(j * 7 % 11) / 5);
    }
    l.gradient = malloc(rows * n * sizeof(float));
    for (size_t i = 0; i < rows * n; i++) l.gradient[i] = (float)pow(gauss(&r), 2);
    pare_gram_add(n, l.tokens, l.x, l.h);
    l.s = (pare_stats){.n = n, .tokens = l.tokens, .h = l.h};
    return l;
}

static void free_layer(layer *l) {
    free(l->w);
    free(l->x);
    free(l->h);
    free(l->u);
    free(l->gradient);
}

static pare_prune_layer problem(const layer *l, const char *criterion, const pare_pattern_spec *spec, double sparsity,
                                float *w) {
    memcpy(w, l->w, l->rows * l->n * sizeof *w);
    const pare_criterion *c = pare_criterion_by_name(criterion);
    return (pare_prune_layer){.name = "w",
                              .rows = l->rows,
                              .n = l->n,
                              .criterion = c,
                              .spec = spec,
                              .scope = c->scope,
                              .sparsity = sparsity,
                              .s = &l->s,
                              .u = l->u,
                              .gradient = l->gradient,
                              .w = w};
}

static void wanda_and_magnitude_in_double(void **state) {
    layer l = make_layer(70, 48, 6);
    size_t n = l.n, all = l.rows * n;
    float *w = malloc(all * sizeof *w);
    double *score = malloc(all * sizeof *score);
    uint8_t *want = malloc(all);
    pare_pattern_spec spec;
    assert_int_equal(pare_pattern_parse("unstructured", &spec, NULL), PARE_OK);
    for (int wanda = 0; wanda < 2; wanda++) {
        for (size_t i = 0; i < all; i++) {
            double sum = 0;
            for (size_t t = 0; t < l.tokens; t++) sum += (double)l.x[t * n + i % n] * l.x[t * n + i % n];
            score[i] = fabs((double)l.w[i]) * (wanda ? sqrt(sum / (double)l.tokens) : 1);
        }
        pare_prune_layer p = problem(&l, wanda ? "wanda" : "magnitude", &spec, 0.4, w);
        assert_int_equal(pare_prune_solve(&p, NULL), PARE_OK);
        if (!wanda) sort_mask(score, all, (size_t)(0.4 * (double)all + 1e-6), want);
        for (size_t r = 0; wanda && r < l.rows; r++) sort_mask(score + r * n, n, 19, want + r * n);
        for (size_t i = 0; i < all; i++) assert_true(w[i] == (want[i] ? 0.0f : l.w[i]));
    }
    free(w);
    free(score);
    free(want);
    free_layer(&l);
}

/* inverse(h + damping * mean I) = u^T u in double: Gauss-Jordan, then an upper factor from the last row up. */
static double *factor_in_double(const layer *l, double damping) {
    size_t n = l->n;
    double *a = calloc(n * n * 2, sizeof *a), *u = calloc(n * n, sizeof *u), mean = 0;
    for (size_t i = 0; i < n; i++) mean += l->h[i * n + i] / (double)n;
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < n; j++) a[i * 2 * n + j] = i >= j ? l->h[i * n + j] : l->h[j * n + i];
        a[i * 2 * n + i] = a[i * 2 * n + i] > 0 ? a[i * 2 * n + i] + damping * mean : 1;
        a[i * 2 * n + n + i] = 1;
    }
    for (size_t k = 0; k < n; k++) {
        double p = a[k * 2 * n + k];
        for (size_t j = 0; j < 2 * n; j++) a[k * 2 * n + j] /= p;
        for (size_t i = 0; i < n; i++) {
            double f = a[i * 2 * n + k];
            if (i != k)
                for (size_t j = 0; j < 2 * n; j++) a[i * 2 * n + j] -= f * a[k * 2 * n + j];
        }
    }
    for (size_t i = 0; i < n; i++) /* inverse = u^T u: row i of u from what the rows above leave */
        for (size_t j = i; j < n; j++) {
            double s = a[i * 2 * n + n + j];
            for (size_t k = 0; k < i; k++) s -= u[k * n + i] * u[k * n + j];
            u[i * n + j] = i == j ? sqrt(s) : s / u[i * n + i];
        }
    free(a);
    return u;
}

/* SparseGPT, column by column, every correction at once, as the paper writes it. */
static void sparsegpt_in_double(const layer *l, const double *u, size_t step, size_t group, double sparsity,
                                bool by_row, double *w) {
    size_t n = l->n, rows = l->rows;
    uint8_t *zero = calloc(rows * n, 1), *part = malloc(rows * step);
    double *score = malloc(rows * step * sizeof *score);
    for (size_t i = 0; i < rows * n; i++) w[i] = l->w[i];
    for (size_t j = 0; j < n; j++) {
        size_t c = n - j < step ? n - j : step;
        for (size_t i = 0; j % step == 0 && i < rows * c; i++) {
            size_t col = j + i % c;
            score[i] = w[i / c * n + col] * w[i / c * n + col] / (u[col * n + col] * u[col * n + col]);
        }
        if (j % step == 0) {
            size_t k = by_row ? 1 : rows, zeros = (size_t)floor(sparsity * (double)((j + c) * k) + 1e-6) -
                                                  (size_t)floor(sparsity * (double)(j * k) + 1e-6);
            if (group) zeros = group / 2, k = 0;
            for (size_t r = 0; r < rows && (group || by_row); r++) sort_mask(score + r * c, c, zeros, part + r * c);
            if (k == rows) sort_mask(score, rows * c, zeros, part);
            for (size_t i = 0; i < rows * c; i++) zero[i / c * n + j + i % c] = part[i];
        }
        for (size_t r = 0; r < rows; r++) {
            double e = zero[r * n + j] ? w[r * n + j] / u[j * n + j] : 0;
            for (size_t k = j + 1; k < n; k++) w[r * n + k] -= e * u[j * n + k];
            if (zero[r * n + j]) w[r * n + j] = 0;
        }
    }
    free(zero);
    free(part);
    free(score);
}

static void sparsegpt_is_the_papers(void **state) {
    static const struct {
        size_t rows, n;
        const char *pattern;
        size_t step, group;
        pare_prune_scope scope;
    } cases[] = {{70, 52, "unstructured", 128, 0, PARE_SCOPE_LAYER},
                 {70, 172, "unstructured", 128, 0, PARE_SCOPE_LAYER},
                 {70, 172, "unstructured", 128, 0, PARE_SCOPE_ROW},
                 {70, 172, "2:4", 4, 4, PARE_SCOPE_ROW},
                 {9, 264, "6:12", 12, 12, PARE_SCOPE_ROW}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        layer l = make_layer(cases[c].rows, cases[c].n, 7 + c);
        size_t all = l.rows * l.n, zeros = 0;
        double used = 0, *u = factor_in_double(&l, 0.01), *want = malloc(all * sizeof *want), worst = 0;
        float *w = malloc(all * sizeof *w);
        pare_pattern_spec spec;
        assert_int_equal(pare_pattern_parse(cases[c].pattern, &spec, NULL), PARE_OK);
        assert_int_equal(pare_inverse_factor(l.n, l.h, 0.01, l.u, &used, NULL), PARE_OK);
        assert_true(used == 0.01);
        pare_prune_layer p = problem(&l, "sparsegpt", &spec, 0.5, w);
        p.scope = cases[c].scope;
        assert_int_equal(pare_prune_solve(&p, NULL), PARE_OK);
        sparsegpt_in_double(&l, u, cases[c].step, cases[c].group, 0.5, p.scope == PARE_SCOPE_ROW, want);
        for (size_t i = 0; i < all; i++) {
            assert_int_equal(w[i] == 0, want[i] == 0);
            zeros += w[i] == 0;
            worst = fmax(worst, fabs(w[i] - want[i]));
        }
        assert_int_equal(zeros, all / 2);
        if (worst > 2e-4) fail_msg("case %zu: weights are off by %g", c, worst);
        free(u);
        free(want);
        free(w);
        free_layer(&l);
    }
}

static void zeros_survive_grids(void **state) {
    static const char *const grids[] = {"q8_0",          "q4_0", "q5_0", "int8", "int4:g32",
                                        "int4:g32:asym", "int4", "q6_k", "q3_k"};
    static const char *const patterns[] = {"unstructured", "2:4", "block:4x4"};
    layer l = make_layer(68, 256, 20);
    size_t all = l.rows * l.n;
    double used;
    float *w = malloc(all * sizeof *w), *decoded = malloc(all * sizeof *decoded);
    assert_int_equal(pare_inverse_factor(l.n, l.h, 0.01, l.u, &used, NULL), PARE_OK);
    for (size_t g = 0; g < sizeof grids / sizeof *grids; g++)
        for (size_t k = 0; k < 3; k++) {
            const pare_qtype *q = pare_qtype_by_name(grids[g]);
            size_t stride = pare_row_bytes(q, l.n), zeros = 0;
            uint8_t *out = malloc(l.rows * stride);
            pare_pattern_spec spec;
            assert_int_equal(pare_pattern_parse(patterns[k], &spec, NULL), PARE_OK);
            pare_prune_layer p = problem(&l, "sparsegpt", &spec, 0.5, w);
            p.type = q, p.out = out;
            assert_int_equal(pare_prune_solve(&p, NULL), PARE_OK);
            for (size_t r = 0; r < l.rows; r++) q->decode(q, out + r * stride, decoded + r * l.n, l.n);
            for (size_t i = 0; i < all; i++) {
                assert_true(decoded[i] == w[i]);
                zeros += decoded[i] == 0;
            }
            assert_true(zeros >= all / 2);
            for (size_t i = 0; k == 1 && i < all; i += 4)
                assert_true((decoded[i] == 0) + (decoded[i + 1] == 0) + (decoded[i + 2] == 0) + (decoded[i + 3] == 0) >=
                            2);
            free(out);
        }
    free(w);
    free(decoded);
    free_layer(&l);
}

static void same_bytes_at_every_thread_count(void **state) {
    static const char *const patterns[] = {"unstructured", "2:4", "block:2x4"};
    layer l = make_layer(200, 172, 21);
    size_t all = l.rows * l.n;
    double used;
    float *w[2] = {malloc(all * sizeof(float)), malloc(all * sizeof(float))};
    assert_int_equal(pare_inverse_factor(l.n, l.h, 0.01, l.u, &used, NULL), PARE_OK);
    for (size_t c = 0; pare_criterion_at(c); c++)
        for (size_t k = 0; k < 3; k++)
            for (int scope = 0; scope < 2; scope++) {
                pare_pattern_spec spec;
                assert_int_equal(pare_pattern_parse(patterns[k], &spec, NULL), PARE_OK);
                for (int t = 0; t < 2; t++) {
                    pare_prune_layer p = problem(&l, pare_criterion_at(c)->name, &spec, 0.5, w[t]);
                    p.scope = (pare_prune_scope)scope;
                    pare_set_threads(t + 1);
                    assert_int_equal(pare_prune_solve(&p, NULL), PARE_OK);
                }
                assert_memory_equal(w[0], w[1], all * sizeof(float));
            }
    pare_set_threads(0);
    free(w[0]);
    free(w[1]);
    free_layer(&l);
}

static pare_status solve_once(void *ctx) { return pare_prune_solve(ctx, NULL); }

static void memory_may_fail(void **state) {
    layer l = make_layer(8, 24, 22);
    double used;
    float w[8 * 24];
    pare_pattern_spec spec;
    assert_int_equal(pare_pattern_parse("2:4", &spec, NULL), PARE_OK);
    assert_int_equal(pare_inverse_factor(l.n, l.h, 0.01, l.u, &used, NULL), PARE_OK);
    pare_set_threads(1);
    for (size_t c = 0; pare_criterion_at(c); c++) {
        pare_prune_layer p = problem(&l, pare_criterion_at(c)->name, &spec, 0.5, w);
        harness_fail_every_alloc(solve_once, &p);
    }
    pare_set_threads(0);
    free_layer(&l);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unstructured_masks_are_the_sorted_ones),
        cmocka_unit_test(slices_add_up),
        cmocka_unit_test(groups_of_m_keep_n),
        cmocka_unit_test(blocks_go_whole),
        cmocka_unit_test(bad_patterns_are_refused),
        cmocka_unit_test(steps_suit_pattern_and_grid),
        cmocka_unit_test(limit_over_all_layers_is_the_sorted_one),
        cmocka_unit_test(wanda_and_magnitude_in_double),
        cmocka_unit_test(sparsegpt_is_the_papers),
        cmocka_unit_test(zeros_survive_grids),
        cmocka_unit_test(same_bytes_at_every_thread_count),
        cmocka_unit_test(memory_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
