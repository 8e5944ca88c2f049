/* SPDX-License-Identifier: Apache-2.0
 *
 * Metrics against closed forms and against slow direct sums; with a folder as argument, writes inputs and the report of
 * one case there for tests/py/verify_metrics.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/cpu_features.h"
#include "core/rng.h"
#include "verify/diff.h"
#include "verify/dot_rows.h"
#include "verify/encoder_metrics.h"
#include "verify/layer_metrics.h"
#include "verify/lm_metrics.h"
#include "verify/logit_row.h"
#include "verify/stats.h"

#define NEAR(a, b, eps)                                                                                                \
    do {                                                                                                               \
        double near_a = (a), near_b = (b);                                                                             \
        if (!(fabs(near_a - near_b) <= (eps))) fail_msg("%s = %.17g, expected %.17g", #a, near_a, near_b);             \
    } while (0)

static double got(const pare_verify_report *r, const char *key, int column) {
    const pare_metric *m = pare_report_find(r, key);
    if (!m || !m->at[column].has) fail_msg("no metric %s", key);
    return m->at[column].value;
}

/* ---- kernels ---- */

static void kernels_agree(void **state) {
    static const struct {
        pare_logit_row_fn *fn;
        uint32_t mask;
        const char *name;
    } v[] = {
#define PARE_KERNEL(op, isa, mask) {pare_##op##_##isa, mask, #isa},
#include "verify/logit_row.def"
#undef PARE_KERNEL
    };
    static const size_t sizes[] = {1, 2, 7, 8, 9, 31, 32, 33, 100, 511, 512, 1003, 32001};
    pare_rng rng;
    pare_rng_seed(&rng, 1);
    float *p = malloc(32010 * sizeof *p), *q = malloc(32010 * sizeof *q);
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int shift = 0; shift < 3; shift++) {
            size_t n = sizes[s];
            float wide = shift == 2 ? 400.f : 8.f; /* 400: some terms fall below exp(-700) */
            for (size_t i = 0; i < n; i++)
                p[shift + i] = wide * pare_rng_normal(&rng), q[shift + i] = p[shift + i] + pare_rng_normal(&rng);
            pare_logit_sums ref, x;
            pare_logit_row_ref(p + shift, q + shift, n, &ref);
            long double zp = 0, zq = 0, cross = 0, pp = 0, diff2 = 0;
            for (size_t i = 0; i < n; i++) {
                long double a = (long double)p[shift + i] - ref.max_p, b = (long double)q[shift + i] - ref.max_q;
                zp += expl(a), zq += expl(b), cross += expl(a) * (a - b);
                pp += (long double)p[shift + i] * p[shift + i],
                    diff2 += powl((long double)p[shift + i] - q[shift + i], 2);
            }
            NEAR(ref.z_p, zp, 1e-13 * zp);
            NEAR(ref.z_q, zq, 1e-13 * zq);
            NEAR(ref.cross, cross, 1e-12 * (fabsl(cross) + zp));
            NEAR(ref.pp, pp, 1e-13 * pp);
            NEAR(ref.diff2, diff2, 1e-13 * diff2);
            for (size_t k = 1; k < sizeof v / sizeof *v; k++) {
                if ((pare_cpu_mask() & v[k].mask) != v[k].mask) continue;
                v[k].fn(p + shift, q + shift, n, &x);
                if (memcmp(&x, &ref, sizeof x) != 0) fail_msg("%s differs from ref at n = %zu", v[k].name, n);
            }
        }
    for (size_t k = 0; k < sizeof v / sizeof *v; k++) { /* what is not finite shows */
        if ((pare_cpu_mask() & v[k].mask) != v[k].mask) continue;
        for (int where = 0; where < 20; where++)
            for (int what = 0; what < 3; what++) {
                for (int i = 0; i < 20; i++) p[i] = q[i] = (float)i;
                (where & 1 ? p : q)[where] = what == 0 ? NAN : what == 1 ? INFINITY : -INFINITY;
                pare_logit_sums x;
                v[k].fn(p, q, 20, &x);
                assert_false(isfinite(x.pp) && isfinite(x.pq) && isfinite(x.diff2));
            }
    }
    free(p);
    free(q);
}

static void dot_kernels_agree(void **state) {
    static const struct {
        pare_dot_rows_fn *fn;
        uint32_t mask;
        const char *name;
    } v[] = {
#define PARE_KERNEL(op, isa, mask) {pare_##op##_##isa, mask, #isa},
#include "verify/dot_rows.def"
#undef PARE_KERNEL
    };
    static const size_t dims[] = {1, 15, 16, 17, 384, 391};
    static float x[391], rows[19 * 391];
    pare_rng rng;
    pare_rng_seed(&rng, 2);
    for (size_t i = 0; i < 391; i++) x[i] = pare_rng_normal(&rng);
    for (size_t i = 0; i < 19 * 391; i++) rows[i] = pare_rng_normal(&rng);
    for (size_t d = 0; d < sizeof dims / sizeof *dims; d++)
        for (size_t n = 1; n < 20; n += 3) {
            float want[20], out[20];
            pare_dot_rows_ref(x, rows, n, dims[d], want);
            for (size_t r = 0; r < n; r++) {
                double sum = 0, size = 0;
                for (size_t j = 0; j < dims[d]; j++)
                    sum += (double)x[j] * rows[r * dims[d] + j], size += fabs((double)x[j] * rows[r * dims[d] + j]);
                NEAR(want[r], sum, size * 30 * 0x1p-24); /* each lane adds at most 25 products, then 4 levels */
            }
            for (size_t k = 1; k < sizeof v / sizeof *v; k++) {
                if ((pare_cpu_mask() & v[k].mask) != v[k].mask) continue;
                out[n] = 77;
                v[k].fn(x, rows, n, dims[d], out);
                if (memcmp(out, want, n * sizeof *out) != 0)
                    fail_msg("%s differs from ref at n = %zu", v[k].name, dims[d]);
                assert_true(out[n] == 77);
            }
        }
}

/* ---- order statistics ---- */

static void percentiles(void **state) {
    pare_tagged v[] = {{1, 0}, {2, 1}, {4, 2}, {8, 3}, {16, 4}};
    double at[] = {0, 0.25, 0.5, 0.6, 0.99, 1}, out[6];
    pare_tagged_percentiles(v, 5, NULL, at, 6, out);
    NEAR(out[0], 1, 0);
    NEAR(out[1], 2, 0);
    NEAR(out[2], 4, 0);
    NEAR(out[3], 4 + 0.4 * 4, 1e-12);
    NEAR(out[4], 8 + 0.96 * 8, 1e-12);
    NEAR(out[5], 16, 0);
    uint32_t count[] = {0, 2, 0, 3, 0}; /* 2 2 8 8 8 */
    pare_tagged_percentiles(v, 5, count, at, 6, out);
    NEAR(out[0], 2, 0);
    NEAR(out[1], 2, 0);
    NEAR(out[2], 8, 0);
    NEAR(out[5], 8, 0);
    double third = 0.375; /* rank 1.5: between the last 2 and the first 8 */
    pare_tagged_percentiles(v, 5, count, &third, 1, out);
    NEAR(out[0], 5, 1e-12);
    uint32_t none[5] = {0};
    pare_tagged_percentiles(v, 5, none, at, 1, out);
    assert_true(isnan(out[0]));
}

static double spearman_of(const double *x, const double *y, size_t n, const uint32_t *count) {
    pare_tagged a[16], b[16];
    double ra[16], rb[16];
    for (size_t i = 0; i < n; i++) a[i] = (pare_tagged){x[i], (uint32_t)i}, b[i] = (pare_tagged){y[i], (uint32_t)i};
    pare_tagged_sort(a, n);
    pare_tagged_sort(b, n);
    return pare_spearman(a, b, n, count, ra, rb);
}

static void spearman(void **state) {
    double x[] = {1, 2, 2, 3}, y[] = {1, 3, 2, 4}, down[] = {9, 7, 5, 1}, up[] = {0.1, 0.2, 30, 31},
           flat[] = {5, 5, 5, 5};
    NEAR(spearman_of(x, y, 4, NULL), 4.5 / sqrt(4.5 * 5), 1e-15); /* ranks 1 2.5 2.5 4 and 1 3 2 4 */
    NEAR(spearman_of(up, down, 4, NULL), -1, 1e-15);
    assert_true(isnan(spearman_of(x, flat, 4, NULL)));
    double x6[] = {3, 1, 1, 4, 4, 4}, y6[] = {2, 5, 5, 1, 1, 1}, x3[] = {3, 1, 4}, y3[] = {2, 5, 1};
    uint32_t count[] = {1, 2, 3};
    NEAR(spearman_of(x3, y3, 3, count), spearman_of(x6, y6, 6, NULL), 1e-15);
}

typedef struct sample {
    size_t n;
    const double *x;
} sample;
static void mean_of(const void *ctx, const uint32_t *count, double *out) {
    const sample *s = ctx;
    double sum = 0, n = 0;
    for (size_t i = 0; i < s->n; i++) sum += count[i] * s->x[i], n += count[i];
    out[0] = sum / n;
}

static void bootstrap(void **state) {
    enum { N = 400 };
    double x[N], lo[3], hi[3], mean = 0, var = 0;
    pare_rng rng;
    pare_rng_seed(&rng, 7);
    for (int i = 0; i < N; i++) mean += (x[i] = pare_rng_normal(&rng)) / N;
    for (int i = 0; i < N; i++) var += (x[i] - mean) * (x[i] - mean) / N;
    sample s = {N, x};
    for (int t = 0; t < 3; t++) {
        pare_set_threads(t + 1);
        assert_int_equal(pare_bootstrap(N, 1, mean_of, &s, PARE_BOOTSTRAP_SEED, &lo[t], &hi[t], NULL), PARE_OK);
    }
    pare_set_threads(0);
    assert_true(lo[0] == lo[1] && lo[1] == lo[2] && hi[0] == hi[1] && hi[1] == hi[2]);
    double half = 1.96 * sqrt(var / N); /* the normal interval; 1000 resamples fix its ends to about 7 % */
    NEAR(lo[0], mean - half, 0.15 * half);
    NEAR(hi[0], mean + half, 0.15 * half);
}

/* ---- language models ---- */

static void two_tokens(void **state) { /* p = (a, 1 - a), q = (b, 1 - b): everything is known */
    static const double a[] = {0.9, 0.6, 0.3}, b[] = {0.8, 0.4, 0.3};
    static const int64_t next[] = {0, 0, 1};
    float p[6], q[6];
    for (int i = 0; i < 3; i++) {
        p[2 * i] = (float)log(a[i]) + 3, p[2 * i + 1] = (float)log(1 - a[i]) + 3; /* a shift changes nothing */
        q[2 * i] = (float)log(b[i]) - 1, q[2 * i + 1] = (float)log(1 - b[i]) - 1;
    }
    pare_lm_metrics *m = pare_lm_metrics_new(2);
    pare_lm_bad bad;
    assert_int_equal(pare_lm_metrics_window(m, p, q, next, 2, &bad, NULL), PARE_OK);
    assert_int_equal(pare_lm_metrics_window(m, p + 4, q + 4, next + 2, 1, &bad, NULL), PARE_OK);
    pare_verify_report *r = pare_report_new(PARE_VERIFY_LM);
    r->n_columns = 2;
    assert_int_equal(pare_lm_metrics_finish(m, PARE_BOOTSTRAP_SEED, 1, r, NULL), PARE_OK);
    double kl[3], sum = 0;
    for (int i = 0; i < 3; i++) sum += kl[i] = a[i] * log(a[i] / b[i]) + (1 - a[i]) * log((1 - a[i]) / (1 - b[i]));
    NEAR(got(r, "ppl", 0), pow(0.9 * 0.6 * 0.7, -1.0 / 3), 1e-6);
    NEAR(got(r, "ppl", 1), pow(0.8 * 0.4 * 0.7, -1.0 / 3), 1e-6);
    NEAR(got(r, "ppl_ratio", 1), pow(0.9 * 0.6 / (0.8 * 0.4), 1.0 / 3), 1e-6);
    NEAR(got(r, "kl_mean", 1), sum / 3, 1e-6);
    NEAR(got(r, "kl_max", 1), kl[1], 1e-6);
    NEAR(got(r, "kl_median", 1), kl[0], 1e-6);
    NEAR(got(r, "kl_p90", 1), kl[0] + 0.8 * (kl[1] - kl[0]), 1e-6); /* kl[2] < kl[0] < kl[1]; rank 1.8 */
    NEAR(got(r, "top1", 1), 2.0 / 3, 1e-12);
    NEAR(got(r, "accuracy", 0), 1, 1e-12);
    NEAR(got(r, "accuracy", 1), 2.0 / 3, 1e-12);
    NEAR(got(r, "dp_mean", 1), -0.1, 1e-6);
    NEAR(got(r, "dp_rms", 1), sqrt(0.05 / 3), 1e-6);
    uint64_t counted = 0;
    for (int i = 0; i < PARE_VERIFY_BINS; i++) counted += r->kl_histogram[i];
    assert_int_equal(counted, 3);
    pare_report_free(&r);
    pare_lm_metrics_free(&m);
}

static void equal_models(void **state) {
    enum { V = 1000, N = 5 };
    float x[V * N];
    int64_t next[N] = {1, 2, 3, 4, 999};
    for (int i = 0; i < V * N; i++) x[i] = 2.5f; /* uniform: perplexity V */
    pare_lm_metrics *m = pare_lm_metrics_new(V);
    pare_lm_bad bad;
    assert_int_equal(pare_lm_metrics_window(m, x, x, next, N, &bad, NULL), PARE_OK);
    pare_verify_report *r = pare_report_new(PARE_VERIFY_LM);
    r->n_columns = 2;
    assert_int_equal(pare_lm_metrics_finish(m, 1, 1, r, NULL), PARE_OK);
    NEAR(got(r, "ppl", 0), V, 1e-9);
    NEAR(got(r, "kl_max", 1), 0, 0);
    NEAR(got(r, "ppl_ratio", 1), 1, 0);
    NEAR(got(r, "top1", 1), 1, 0);
    NEAR(got(r, "cosine_mean", 1), 1, 0);
    assert_true(isinf(got(r, "sqnr", 1)));
    assert_false(pare_report_find(r, "kl_mean")->at[1].has_range); /* one window has no interval */
    pare_report_free(&r);
    x[V + 7] = NAN;
    pare_diag d = {0};
    float *y = malloc(sizeof x);
    for (int i = 0; i < V * N; i++) y[i] = 1;
    assert_int_equal(pare_lm_metrics_window(m, y, x, next, N, &bad, &d), PARE_ERR_INPUT);
    assert_int_equal(bad.model, 1);
    assert_int_equal(bad.position, 1);
    assert_int_equal(pare_lm_metrics_window(m, x, y, next, N, &bad, NULL), PARE_ERR_INPUT);
    assert_int_equal(bad.model, 0);
    free(y);
    pare_lm_metrics_free(&m);
}

/* ---- encoders, differences, layers ---- */

static void encoders(void **state) {
    enum { N = 40, D = 24 };
    float p[N * D], q[N * D];
    pare_rng rng;
    pare_rng_seed(&rng, 3);
    for (int i = 0; i < N * D; i++) p[i] = pare_rng_normal(&rng);
    for (int i = 0; i < N * D; i++) q[i] = 2 * p[i]; /* a scale leaves cosines alone */
    pare_scored_pair pairs[N / 2];
    for (uint32_t i = 0; i < N / 2; i++) pairs[i] = (pare_scored_pair){2 * i, 2 * i + 1, i};
    pare_encoder_data e = {p, q, N, D, N / 2, pairs, 10, 0};
    pare_encoder_bad bad;
    pare_verify_report *r = pare_report_new(PARE_VERIFY_ENCODER);
    r->n_columns = 2;
    assert_int_equal(pare_encoder_metrics(&e, 1, 1, r, &bad, NULL), PARE_OK);
    NEAR(got(r, "cosine_mean", 1), 1, 1e-12);
    NEAR(got(r, "sqnr", 1), 0, 1e-9); /* the difference is as large as the original */
    NEAR(got(r, "overlap", 1), 1, 0);
    NEAR(got(r, "spearman_models", 1), 1, 1e-12);
    assert_true(got(r, "spearman", 0) == got(r, "spearman", 1));
    pare_report_free(&r);

    for (int i = 0; i < N * D; i++) q[i] = i < D ? -p[i] : p[i]; /* one sentence upside down */
    r = pare_report_new(PARE_VERIFY_ENCODER);
    r->n_columns = 2;
    assert_int_equal(pare_encoder_metrics(&e, 1, 1, r, &bad, NULL), PARE_OK);
    NEAR(got(r, "cosine_mean", 1), 1 - 2.0 / N, 1e-12);
    NEAR(got(r, "cosine_min", 1), -1, 1e-12);
    assert_true(got(r, "overlap", 1) < 1);
    pare_report_free(&r);

    float wide[N * (D + 8)] = {0}; /* another width, the same cosines of pairs */
    for (int i = 0; i < N * D; i++) wide[i / D * (D + 8) + i % D + 3] = p[i];
    pare_encoder_data other = {p, wide, N, D, N / 2, pairs, 10, D + 8};
    r = pare_report_new(PARE_VERIFY_ENCODER);
    r->n_columns = 2;
    assert_int_equal(pare_encoder_metrics(&other, 1, 1, r, &bad, NULL), PARE_OK);
    NEAR(got(r, "overlap", 1), 1, 0);
    NEAR(got(r, "spearman_models", 1), 1, 1e-12);
    assert_true(!pare_report_find(r, "cosine_mean") && !pare_report_find(r, "sqnr"));
    pare_report_free(&r);

    q[5 * D + 1] = INFINITY;
    r = pare_report_new(PARE_VERIFY_ENCODER);
    assert_int_equal(pare_encoder_metrics(&e, 1, 1, r, &bad, NULL), PARE_ERR_INPUT);
    assert_true(bad.model == 1 && bad.sentence == 5);
    pare_report_free(&r);
}

static void differences(void **state) {
    float p[19], q[19];
    double pp = 0, pq = 0, qq = 0;
    for (int i = 0; i < 19; i++)
        p[i] = (float)(i - 6), q[i] = p[i] + (i & 1 ? 0.5f : -0.25f), pp += p[i] * p[i], pq += p[i] * q[i],
        qq += q[i] * q[i];
    pare_diff whole, a, b;
    pare_diff_init(&whole);
    pare_diff_init(&a);
    pare_diff_init(&b);
    pare_diff_add(&whole, p, q, 19);
    NEAR(whole.diff2, 9 * 0.25 + 10 * 0.0625, 0);
    NEAR(whole.max_error, 0.5, 0);
    NEAR(pare_diff_cosine(&whole), pq / sqrt(pp * qq), 1e-14);
    NEAR(pare_diff_sqnr_db(&whole), 10 * log10(pp / whole.diff2), 1e-12);
    pare_diff_add(&a, p, q, 11);
    pare_diff_add(&b, p + 11, q + 11, 8);
    pare_diff_merge(&a, &b);
    NEAR(a.diff2, whole.diff2, 0);
    assert_int_equal(a.n, 19);
    q[18] = NAN;
    pare_diff_add(&a, p, q, 19);
    assert_int_equal(a.bad, 1);
    pare_diff_init(&b);
    pare_diff_add(&b, p, p, 19);
    assert_true(isinf(pare_diff_sqnr_db(&b)) && pare_diff_cosine(&b) == 1);
}

static void layer_view(void **state) {
    enum { N = 5000, NODES = 6 };
    static float x[NODES][N], y[NODES][N];
    pare_rng rng;
    pare_rng_seed(&rng, 5);
    for (int k = 0; k < NODES; k++)
        for (int i = 0; i < N; i++) {
            x[k][i] = pare_rng_normal(&rng);
            y[k][i] = x[k][i] + (k == 0 ? 0 : k == 4 ? 0.1f : 0.01f) * pare_rng_normal(&rng);
        }
    for (int small = 0; small < 2; small++) {
        pare_layers *l = pare_layers_new(small ? 1024 * 4 * NODES : 1 << 20);
        for (int phase = 0; phase < 3; phase++) {
            assert_int_equal(pare_layers_start(l, (pare_layers_phase)phase, NULL), PARE_OK);
            for (int k = 0; k < NODES; k++) {
                char name[16];
                snprintf(name, sizeof name, "layer%d.ffn", k);
                int64_t shape[] = {10, N / 10};
                pare_tensor t = pare_tensor_make(&pare_qtype_f32, 2, shape, phase == 2 ? y[k] : x[k]);
                pare_layers_hook(l, k, name, PARE_OP_MatMul, &t);
            }
        }
        pare_verify_report *r = pare_report_new(PARE_VERIFY_LM);
        assert_int_equal(pare_layers_finish(l, r, NULL), PARE_OK);
        assert_int_equal(r->n_layers, NODES);
        assert_string_equal(r->first_differing, "layer1.ffn");
        assert_true(isinf(r->layers[0].sqnr_db));
        NEAR(r->layers[1].sqnr_db, 40, small ? 0.7 : 0.4);
        NEAR(r->layers[4].sqnr_db, 20, small ? 0.7 : 0.4);
        for (int k = 0; k < NODES; k++) assert_int_equal(r->layers[k].flagged, k == 4);
        pare_report_free(&r);
        pare_layers_free(&l);
    }
}

/* ---- a random case for the comparison with numpy ---- */

static void put(const char *dir, const char *name, const void *p, size_t bytes) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(p, 1, bytes, f) != bytes || fclose(f) != 0) exit(2);
}

static int dump(const char *dir) {
    enum { V = 777, N = 60, W = 6, S = 50, D = 32 };
    static float p[W * N * V], q[W * N * V], e[S * D], f[S * D];
    static int64_t next[W * N];
    pare_rng rng;
    pare_rng_seed(&rng, 11);
    for (size_t i = 0; i < W * N * V; i++) p[i] = 3 * pare_rng_normal(&rng), q[i] = p[i] + 0.3f * pare_rng_normal(&rng);
    for (size_t i = 0; i < W * N; i++) next[i] = (int64_t)pare_rng_below(&rng, V);
    pare_lm_metrics *m = pare_lm_metrics_new(V);
    pare_lm_bad bad;
    for (size_t w = 0; w < W; w++)
        if (pare_lm_metrics_window(m, p + w * N * V, q + w * N * V, next + w * N, N, &bad, NULL) != PARE_OK) return 1;
    pare_verify_report *r = pare_report_new(PARE_VERIFY_LM);
    r->n_columns = 2;
    if (pare_lm_metrics_finish(m, PARE_BOOTSTRAP_SEED, 1, r, NULL) != PARE_OK) return 1;
    const char *text;
    size_t n;
    if (pare_report_render(r, PARE_VERIFY_JSON, &text, &n, NULL) != PARE_OK) return 1;
    put(dir, "lm.json", text, n);
    put(dir, "p.f32", p, sizeof p);
    put(dir, "q.f32", q, sizeof q);
    put(dir, "next.i64", next, sizeof next);
    pare_report_free(&r);
    pare_lm_metrics_free(&m);

    pare_scored_pair pairs[S / 2];
    double scores[S / 2];
    for (size_t i = 0; i < S * D; i++) e[i] = pare_rng_normal(&rng), f[i] = e[i] + 0.4f * pare_rng_normal(&rng);
    for (uint32_t i = 0; i < S / 2; i++)
        pairs[i] = (pare_scored_pair){i, S - 1 - i, scores[i] = (double)pare_rng_below(&rng, 6)};
    pare_encoder_data data = {e, f, S, D, S / 2, pairs, 5, 0};
    pare_encoder_bad no;
    r = pare_report_new(PARE_VERIFY_ENCODER);
    r->n_columns = 2;
    if (pare_encoder_metrics(&data, PARE_BOOTSTRAP_SEED, 1, r, &no, NULL) != PARE_OK) return 1;
    if (pare_report_render(r, PARE_VERIFY_JSON, &text, &n, NULL) != PARE_OK) return 1;
    put(dir, "encoder.json", text, n);
    put(dir, "e.f32", e, sizeof e);
    put(dir, "f.f32", f, sizeof f);
    put(dir, "scores.f64", scores, sizeof scores);
    pare_report_free(&r);
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 2) return dump(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kernels_agree), cmocka_unit_test(dot_kernels_agree), cmocka_unit_test(percentiles),
        cmocka_unit_test(spearman),      cmocka_unit_test(bootstrap),         cmocka_unit_test(two_tokens),
        cmocka_unit_test(equal_models),  cmocka_unit_test(encoders),          cmocka_unit_test(differences),
        cmocka_unit_test(layer_view),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
