/* SPDX-License-Identifier: Apache-2.0
 *
 * Row kernels of cpu/vec.def: every variant against the scalar one under a growing CPU mask (lengths around the vector
 * width, odd addresses, guard bytes), all of them against the same formula in double, and what NaN and infinity do. */
#include "harness.h"

#include <float.h>
#include <math.h>

#include "core/cpu_features.h"
#include "core/rng.h"
#include "cpu/vec.h"

static const uint32_t levels[] = {0, PARE_CPU_AVX2, PARE_CPU_AVX2 | PARE_CPU_AVX512};
#define N_LEVELS 3

static const pare_vec_table *level(int i) {
    pare_cpu_limit(levels[i]);
    const pare_vec_table *t = pare_vec();
    pare_cpu_limit(UINT32_MAX);
    return t;
}

/* Small ones, then around one and two and four vectors, then long. */
static size_t length(int i) {
    static const size_t far[] = {127, 128, 129, 576, 1000, 4099};
    return i < 70 ? (size_t)i : far[i - 70];
}
#define N_LENGTHS 76

static uint64_t state = 88172645463325252u;
static float uniform(float lo, float hi) { /* xorshift64: the same numbers on every run */
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return lo + (hi - lo) * (float)(state >> 40) * 0x1p-24f;
}
static float *random_buf(harness_buf *b, size_t n, size_t shift, float lo, float hi) {
    *b = harness_buf_new(n * sizeof(float), shift * sizeof(float));
    float *p = (float *)b->p;
    for (size_t i = 0; i < n; i++) p[i] = uniform(lo, hi);
    return p;
}

static void assert_close(const char *what, size_t n, size_t i, double got, double want, double rel, double abs) {
    if (isnan(want) ? isnan(got) : isinf(want) ? got == want : fabs(got - want) <= abs + rel * fabs(want)) return;
    fail_msg("%s, n = %zu, element %zu: %.9g, expected %.9g", what, n, i, got, want);
}

/* ---- elementwise functions: against double, everywhere ---- */

#define UNARY 9

static double in_double(int fn, double x, double alpha) {
    switch (fn) {
    case 0: return sqrt(x);
    case 1: return erf(x);
    case 2: return 1 / (1 + exp(-x));
    case 3: return tanh(x);
    case 4: return x < 0 ? 0 : x;
    case 5: return 0.5 * x * erfc(-x * M_SQRT1_2);
    case 8: return exp(x) > FLT_MAX ? INFINITY : exp(x);
    case 6: return x / (1 + exp(-2 * sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    default: return x / (1 + exp(-alpha * x));
    }
}
static pare_unary_f32_fn *unary(const pare_vec_table *t, int fn) {
    pare_unary_f32_fn *const all[] = {t->sqrt_f32, t->erf_f32,       t->sigmoid_f32, t->tanh_f32, t->relu_f32,
                                      t->gelu_f32, t->gelu_tanh_f32, t->swish_f32,   t->exp_f32};
    return all[fn];
}
/* Relative errors; Gelu's 1 + erf cancels for negative x, so its bound there is absolute, of the size of x * 2^-24. */
static const double rel_bound[UNARY] = {1e-7, 2.5e-7, 3e-7, 3e-7, 0, 5e-7, 1e-6, 4e-7, 3e-7};
static const double abs_bound[UNARY] = {0, 0, 1e-38, 0, 0, 3e-7, 3e-7, 2e-36, 0};

static void unary_is_the_function(void **state_) {
    enum { N = 20000 };
    harness_buf bx, by;
    float *x = random_buf(&bx, N, 1, -12, 12), *y = random_buf(&by, N, 3, 0, 1);
    for (size_t i = 0; i < 2000; i++) x[i] = uniform(-1, 1) * powf(10, uniform(-30, 0));
    for (size_t i = 2000; i < 4000; i++) x[i] = uniform(-110, 110);
    for (int l = 0; l < N_LEVELS; l++)
        for (int fn = 0; fn < UNARY; fn++) {
            unary(level(l), fn)(x, y, N, 1.7f);
            for (size_t i = 0; i < N; i++) {
                double want = in_double(fn, x[i], 1.7f);
                if (fabs(want) < 1e-37 && fn != 4) want = 0, y[i] = fabsf(y[i]) < 2e-37f ? 0 : y[i]; /* subnormal */
                double grow = fn == 7 ? 1 + fabs(x[i]) : 1; /* Swish rounds alpha * x before it is exponentiated */
                assert_close("unary", (size_t)fn, i, y[i], want, rel_bound[fn] * grow,
                             abs_bound[fn] * (fn == 5 || fn == 6 ? fabs(x[i]) : 1));
            }
        }
    harness_buf_free(&bx);
    harness_buf_free(&by);
}

static void unary_edges(void **state_) {
    const float inf = INFINITY, x[] = {NAN, inf, -inf, 0.0f, -0.0f, 1e-40f, 3e38f, -3e38f};
    const float want[UNARY][8] = {
        {NAN, inf, NAN, 0, -0.0f, 0, 1.7320508e19f, NAN},
        {NAN, 1, -1, 0, -0.0f, 0, 1, -1},
        {NAN, 1, 0, 0.5f, 0.5f, 0.5f, 1, 0},
        {NAN, 1, -1, 0, -0.0f, 0, 1, -1},
        {NAN, inf, 0, 0, 0, 0, 3e38f, 0},
        {NAN, inf, NAN, 0, 0, 0, 3e38f, 0},
        {NAN, inf, NAN, 0, 0, 0, 3e38f, 0},
        {NAN, inf, NAN, 0, 0, 0, 3e38f, 0},
        {NAN, inf, 0, 1, 1, 1, inf, 0},
    };
    for (int l = 0; l < N_LEVELS; l++)
        for (int fn = 0; fn < UNARY; fn++) {
            float y[8];
            unary(level(l), fn)(x, y, 8, 1.0f);
            for (size_t i = 0; i < 8; i++) {
                if (fn >= 5 && fn < 8 && i == 2) continue; /* -inf * 0: NaN or 0, by the order of the formula */
                assert_close("edge", (size_t)fn, i, y[i], want[fn][i], 1e-6, 1e-19);
            }
        }
}

static void unary_lengths(void **state_) {
    for (int k = 0; k < N_LENGTHS; k++) {
        size_t n = length(k), shift = (size_t)k % 5;
        harness_buf bx, by, br;
        float *x = random_buf(&bx, n, shift, -6, 6), *y = random_buf(&by, n, 1, 0, 1), *r = random_buf(&br, n, 0, 0, 1);
        for (int l = 1; l < N_LEVELS; l++)
            for (int fn = 0; fn < UNARY; fn++) {
                unary(level(0), fn)(x, r, n, 1.0f);
                unary(level(l), fn)(x, y, n, 1.0f);
                for (size_t i = 0; i < n; i++) assert_close("variant", n, i, y[i], r[i], 2e-6, 2e-6);
            }
        harness_buf_free(&bx), harness_buf_free(&by), harness_buf_free(&br);
    }
}

/* ---- arithmetic: bit for bit ---- */

static void binary_is_exact(void **state_) {
    for (int k = 0; k < N_LENGTHS; k++)
        for (int mode = PARE_VEC_AB; mode <= PARE_VEC_A1; mode++) {
            size_t n = length(k);
            harness_buf ba, bb, by, br;
            float *a = random_buf(&ba, mode == PARE_VEC_A1 ? 1 : n, 1, -3, 3),
                  *b = random_buf(&bb, mode == PARE_VEC_B1 ? 1 : n, 2, -3, 3);
            float *y = random_buf(&by, n, 3, 0, 1), *r = random_buf(&br, n, 0, 0, 1);
            for (int op = 0; op < 4; op++) {
                const pare_vec_table *ref = level(0);
                pare_binary_f32_fn *want[] = {ref->add_f32, ref->sub_f32, ref->mul_f32, ref->div_f32};
                want[op](a, b, r, n, mode);
                for (int l = 1; l < N_LEVELS; l++) {
                    const pare_vec_table *t = level(l);
                    pare_binary_f32_fn *got[] = {t->add_f32, t->sub_f32, t->mul_f32, t->div_f32};
                    got[op](a, b, y, n, mode);
                    if (n) assert_memory_equal(y, r, n * sizeof(float));
                }
                for (size_t i = 0; i < n; i++) {
                    float p = a[mode == PARE_VEC_A1 ? 0 : i], q = b[mode == PARE_VEC_B1 ? 0 : i];
                    assert_true(r[i] == (op == 0 ? p + q : op == 1 ? p - q : op == 2 ? p * q : p / q));
                }
            }
            harness_buf_free(&ba), harness_buf_free(&bb), harness_buf_free(&by), harness_buf_free(&br);
        }
}

/* ---- rows, against double ---- */

static void softmax_rows(void **state_) {
    for (int k = 1; k < N_LENGTHS; k++) {
        size_t n = length(k);
        harness_buf bx, by;
        float *x = random_buf(&bx, n, 1, -30, 30), *y = random_buf(&by, n, 2, 0, 1);
        double max = x[0], sum = 0;
        for (size_t i = 0; i < n; i++) max = fmax(max, x[i]);
        for (size_t i = 0; i < n; i++) sum += exp(x[i] - max);
        for (int l = 0; l < N_LEVELS; l++) {
            level(l)->softmax_f32(x, y, n);
            for (size_t i = 0; i < n; i++) assert_close("softmax", n, i, y[i], exp(x[i] - max) / sum, 3e-6, 1e-37);
        }
        x[n / 2] = NAN;
        for (int l = 0; l < N_LEVELS; l++) {
            level(l)->softmax_f32(x, y, n);
            for (size_t i = 0; i < n; i++) assert_true(isnan(y[i]));
        }
        harness_buf_free(&bx), harness_buf_free(&by);
    }
}

static void norm_rows(void **state_) {
    for (int k = 1; k < N_LENGTHS; k++) {
        size_t n = length(k);
        harness_buf bx, by, bg, bb;
        float *x = random_buf(&bx, n, 1, -3, 5), *y = random_buf(&by, n, 2, 0, 1), *g = random_buf(&bg, n, 3, -2, 2),
              *b = random_buf(&bb, n, 1, -1, 1);
        double sum = 0, squares = 0, var = 0;
        for (size_t i = 0; i < n; i++) sum += x[i], squares += (double)x[i] * x[i];
        double mean = sum / (double)n;
        for (size_t i = 0; i < n; i++) var += (x[i] - mean) * (x[i] - mean);
        double rms = 1 / sqrt(squares / (double)n + 1e-5), inv = 1 / sqrt(var / (double)n + 1e-5);
        for (int l = 0; l < N_LEVELS; l++)
            for (int with = 0; with < 2; with++) {
                float stats[2];
                level(l)->rms_norm_f32(x, with ? g : NULL, y, n, 1e-5f);
                for (size_t i = 0; i < n; i++) assert_close("rms", n, i, y[i], x[i] * rms * (with ? g[i] : 1), 1e-6, 0);
                level(l)->layer_norm_f32(x, with ? g : NULL, with ? b : NULL, y, n, 1e-5f, stats);
                assert_close("mean", n, 0, stats[0], mean, 1e-6, 1e-6);
                assert_close("inv", n, 0, stats[1], inv, n == 1 ? 1e-3 : 2e-6, 0);
                for (size_t i = 0; i < n; i++)
                    assert_close("layer", n, i, y[i], (x[i] - mean) * inv * (with ? g[i] : 1) + (with ? b[i] : 0), 2e-6,
                                 n == 1 ? 1e-3 : 1e-5);
            }
        harness_buf_free(&bx), harness_buf_free(&by), harness_buf_free(&bg), harness_buf_free(&bb);
    }
}

static void rotary_rows(void **state_) {
    for (size_t half = 1; half < 70; half++)
        for (int l = 0; l < N_LEVELS; l++)
            for (int inter = 0; inter < 2; inter++) {
                harness_buf bx, by, bc, bs;
                float *x = random_buf(&bx, 2 * half, 1, -3, 3), *y = random_buf(&by, 2 * half, 3, 0, 1);
                float *c = random_buf(&bc, half, 2, -1, 1), *s = random_buf(&bs, half, 1, -1, 1);
                level(l)->rotary_f32(x, c, s, y, half, inter);
                for (size_t i = 0; i < half; i++) {
                    size_t p = inter ? 2 * i : i, q = inter ? 2 * i + 1 : i + half;
                    assert_close("rotary", half, i, y[p], (double)c[i] * x[p] - (double)s[i] * x[q], 0, 1e-6);
                    assert_close("rotary", half, i, y[q], (double)s[i] * x[p] + (double)c[i] * x[q], 0, 1e-6);
                }
                level(l)->rotary_f32(x, c, s, x, half, inter); /* in place: the same bytes */
                assert_memory_equal(x, y, 2 * half * sizeof(float));
                harness_buf_free(&bx), harness_buf_free(&by), harness_buf_free(&bc), harness_buf_free(&bs);
            }
}

static void dot_and_axpy(void **state_) {
    for (int k = 0; k < N_LENGTHS; k++)
        for (int l = 0; l < N_LEVELS; l++) {
            size_t n = length(k);
            harness_buf ba, bb;
            float *a = random_buf(&ba, n, 1, -1, 1), *b = random_buf(&bb, n, 2, -1, 1);
            double sum = 0, size = 0;
            for (size_t i = 0; i < n; i++) sum += (double)a[i] * b[i], size += fabs((double)a[i] * b[i]);
            assert_close("dot", n, 0, level(l)->row_dot_f32(a, b, n), sum, 1e-7, 2e-6 * size);
            float *want = malloc(n * sizeof(float) + 1);
            for (size_t i = 0; i < n; i++) want[i] = (float)(b[i] + 0.3f * (double)a[i]);
            level(l)->row_axpy_f32(0.3f, a, b, n);
            for (size_t i = 0; i < n; i++) assert_close("axpy", n, i, b[i], want[i], 1e-6, 2e-7);
            free(want);
            harness_buf_free(&ba), harness_buf_free(&bb);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unary_is_the_function), cmocka_unit_test(unary_edges),  cmocka_unit_test(unary_lengths),
        cmocka_unit_test(binary_is_exact),       cmocka_unit_test(softmax_rows), cmocka_unit_test(norm_rows),
        cmocka_unit_test(rotary_rows),           cmocka_unit_test(dot_and_axpy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
