/* SPDX-License-Identifier: Apache-2.0
 *
 * cpu/matmul.h, as checkasm does it: the processor mask grows through the real dispatch, every storage format meets
 * every activation rule, at sizes around the tiles, from unaligned weights, against sums in double of the decoded
 * weights and rounded activations; outputs sit between guard bytes. */
#include "core/alloc.h"
#include "core/cpu_features.h"
#include "core/rng.h"
#include "cpu/act_quant.h"
#include "cpu/matmul.h"
#include "cpu/matmul_kernels.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static const uint32_t masks[] = {0, 1, 3, 7, 15, 63};
#define N_MASKS     (sizeof masks / sizeof *masks)
#define GUARD       0x5A
#define GUARD_BYTES 64
static pare_rng rng;

/* Where a block format keeps f16 numbers; the other bytes may be anything. */
static const struct {
    const char *name;
    int at[2];
} halves[] = {{"q4_0", {0, -1}}, {"q4_1", {0, 2}},    {"q5_0", {0, -1}},   {"q5_1", {0, 2}},
              {"q8_0", {0, -1}}, {"q2_k", {80, 82}},  {"q3_k", {108, -1}}, {"q4_k", {0, 2}},
              {"q5_k", {0, 2}},  {"q6_k", {208, -1}}, {"iq4_nl", {0, -1}}, {"iq4_xs", {0, -1}}};

static float some(void) { return pare_rng_normal(&rng); }

static void put_float(uint8_t *p, const pare_qtype *qt, float v) {
    uint16_t h = qt == &pare_qtype_bf16 ? pare_f32_to_bf16(v) : pare_f32_to_f16(v);
    if (qt == &pare_qtype_f32) memcpy(p, &v, 4);
    else memcpy(p, &h, 2);
}

/* Rows of valid random storage: any code, any zero point, scales around 0.02. False: this test knows no such format.
 * extreme: all code bytes 0x00, 0xFF, 0x80 or 0x7F by row. */
static bool fill_rows(const pare_qtype *qt, uint8_t *p, size_t rows, size_t k, bool extreme) {
    size_t bytes = pare_row_bytes(qt, k), block = qt->block_bytes ? qt->block_bytes : bytes;
    const pare_int_format *f = qt->int_format;
    int known = -1;
    for (size_t i = 0; i < sizeof halves / sizeof *halves; i++)
        if (strcasecmp(halves[i].name, qt->name) == 0) known = (int)i;
    if (qt->kind == PARE_QK_FLOAT) {
        if (qt != &pare_qtype_f32 && qt != &pare_qtype_f16 && qt != &pare_qtype_bf16) return false;
        for (size_t i = 0; i < rows * k; i++) put_float(p + i * qt->block_bytes, qt, some());
        return true;
    }
    if (!f && known < 0) return false;
    static const uint8_t extremes[] = {0x00, 0xFF, 0x80, 0x7F};
    for (size_t r = 0; r < rows; r++)
        for (size_t b = 0; b < bytes; b += block) {
            uint8_t *q = p + r * bytes + b;
            for (size_t i = 0; i < block; i++) q[i] = extreme ? extremes[r % 4] : (uint8_t)pare_rng_u64(&rng);
            if (f) {
                put_float(q, f->scale_type, 0.02f * some());
                size_t at = f->scale_type == &pare_qtype_f32 ? 4 : 2;
                if (f->asym && f->bits == 4) q[at] &= 15;
            } else
                for (int i = 0; i < 2; i++)
                    if (halves[known].at[i] >= 0) put_float(q + halves[known].at[i], NULL, 0.02f * some());
        }
    return true;
}

static bool guarded(const uint8_t *p, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (p[i] != GUARD) return false;
    return true;
}

typedef struct problem {
    const pare_qtype *qt;
    int64_t m, n, k;
    pare_act_round act;
    bool extreme;
} problem;

/* Sums in double of what the contract says is multiplied; mag = sum of magnitudes. */
static void identity(const problem *q, const pare_tensor *w, const float *x, double *want, double *mag) {
    float *row = pare_malloc((size_t)q->k * 4), *xr = pare_malloc((size_t)(q->k * q->m) * 4);
    pare_act_rule rule = pare_act_rule_for(q->qt, q->act);
    for (int64_t i = 0; i < q->m; i++) pare_act_round_row(rule, x + i * q->k, (size_t)q->k, xr + i * q->k);
    size_t rb = pare_row_bytes(q->qt, (size_t)q->k);
    double largest = 0;
    for (int64_t j = 0; j < q->n; j++) {
        q->qt->decode(q->qt, (const uint8_t *)w->data + (size_t)j * rb, row, (size_t)q->k);
        for (int64_t c = 0; c < q->k; c++) largest = fmax(largest, fabs((double)row[c]));
        for (int64_t i = 0; i < q->m; i++) {
            double s = 0, a = 0;
            for (int64_t c = 0; c < q->k; c++) {
                double v = (double)row[c] * (double)xr[i * q->k + c];
                s += v;
                a += fabs(v);
            }
            want[i * q->n + j] = s;
            mag[i * q->n + j] = a;
        }
    }
    /* code and minimum (or zero point) are multiplied apart: their magnitudes count, however small their sum */
    pare_i8_source source;
    if (pare_i8_source_of(w, &source) && source.minima)
        for (int64_t i = 0; i < q->m; i++) {
            double a = 0;
            for (int64_t c = 0; c < q->k; c++) a += fabs((double)xr[i * q->k + c]);
            for (int64_t j = 0; j < q->n; j++) mag[i * q->n + j] += largest * a;
        }
    pare_free(row);
    pare_free(xr);
}

static void check_problem(const problem *q) {
    size_t rb = pare_row_bytes(q->qt, (size_t)q->k), wb = rb * (size_t)q->n, yb = (size_t)(q->m * q->n) * 4;
    uint8_t *wmem = pare_malloc_aligned(wb + 64), *ymem = pare_malloc_aligned(yb + 2 * GUARD_BYTES);
    float *x = pare_malloc_aligned((size_t)(q->m * q->k) * 4 + 64);
    double *want = pare_malloc((size_t)(q->m * q->n) * 8), *mag = pare_malloc((size_t)(q->m * q->n) * 8);
    int64_t shape[2] = {q->n, q->k};
    pare_tensor w =
        pare_tensor_make(q->qt, 2, shape, wmem + 1 + pare_rng_below(&rng, 63)); /* mapped files align nothing */
    w.transposed = true;
    assert_true(fill_rows(q->qt, w.data, (size_t)q->n, (size_t)q->k, q->extreme));
    for (int64_t i = 0; i < q->m * q->k; i++) x[i] = q->extreme ? (i / q->k & 1 ? -1.0f : 1.0f) : some();
    if (q->m > 2) memset(x + q->k, 0, (size_t)q->k * 4); /* a row of zeros */
    identity(q, &w, x, want, mag);
    size_t ws_bytes = pare_matmul_stored_workspace(&w, q->m, q->act);
    uint8_t *ws = pare_malloc_aligned(ws_bytes + GUARD_BYTES);
    /* f16 and bf16 formats round each product of code and scale when decoded; integer kernels do not */
    bool rounds = q->act != PARE_ACT_NONE && q->qt->int_format && q->qt->int_format->scale_type != &pare_qtype_f32;
    double tol = rounds ? (q->qt->int_format->scale_type == &pare_qtype_f16 ? 6e-4 : 5e-3) : 4e-6;
    if (pare_act_rule_for(q->qt, q->act) == PARE_RULE_Q8_1) tol = 1e-3; /* s is rounded to f16 */
    for (size_t l = 0; l < N_MASKS; l++) {
        pare_cpu_limit(masks[l]);
        for (int threads = 1; threads <= 2; threads++) {
            pare_set_threads(threads);
            memset(ymem, GUARD, yb + 2 * GUARD_BYTES);
            memset(ws, GUARD, ws_bytes + GUARD_BYTES);
            float *y = (float *)(void *)(ymem + GUARD_BYTES);
            pare_matmul_stored(&w, x, y, q->m, q->act, ws);
            assert_true(guarded(ymem, GUARD_BYTES) && guarded(ymem + GUARD_BYTES + yb, GUARD_BYTES));
            assert_true(guarded(ws + ws_bytes, GUARD_BYTES));
            for (int64_t i = 0; i < q->m * q->n; i++)
                if (!(fabs((double)y[i] - want[i]) <= tol * mag[i] + 1e-30))
                    fail_msg("%s act %s cpu %s threads %d [%lld x %lld x %lld] at %lld: %g, wanted %g (+- %g)",
                             q->qt->name, (const char *[]){"none", "token", "block"}[q->act], pare_cpu_name(masks[l]),
                             threads, (long long)q->m, (long long)q->n, (long long)q->k, (long long)i, (double)y[i],
                             want[i], tol * mag[i]);
        }
    }
    pare_cpu_limit(UINT32_MAX);
    pare_set_threads(0);
    void *all[] = {wmem, ymem, x, want, mag, ws};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) pare_free(all[i]);
}

/* Every format x rule; the 48 grouped integers take turns with half of the token counts each; shapes rotate so that
 * each format meets each m and each kind of edge. */
static void formats_and_rules(void **state) {
    static const int64_t ms[] = {1, 2, 3, 5, 8, 16, 17, 33}, ns[] = {1, 15, 16, 31, 33, 63, 70};
    size_t formats = 0, at = 0;
    for (size_t f = 0; f < pare_qtype_count(); f++) {
        const pare_qtype *qt = pare_qtype_at(f);
        uint8_t probe[4096];
        size_t step = qt->block_elems ? qt->block_elems : 1;
        if (!qt->decode || !fill_rows(qt, probe, 1, step, false)) continue;
        formats++;
        for (int act = PARE_ACT_NONE; act <= PARE_ACT_INT8_BLOCK; act++)
            for (size_t i = qt->int_format ? f % 2 : 0; i < sizeof ms / sizeof *ms; i += qt->int_format ? 2 : 1, at++) {
                int64_t base = (int64_t[]){1, 256, 288, 512, 544}[at % 5],
                        k = (base + (int64_t)step - 1) / (int64_t)step * (int64_t)step;
                if (step == 1 && base > 1) k += (int64_t[]){0, -1, 7}[at % 3];
                check_problem(&(problem){.qt = qt,
                                         .m = ms[i],
                                         .n = ns[at % 7],
                                         .k = k,
                                         .act = (pare_act_round)act,
                                         .extreme = i == 5});
            }
    }
    print_message("%zu formats\n", formats);
}

static void sgemm_shapes(void **state) {
    static const int64_t dims[][3] = {{1, 1, 1},    {7, 65, 300},   {6, 64, 256},
                                      {5, 130, 31}, {100, 17, 257}, {3, 48, 512}};
    for (size_t d = 0; d < sizeof dims / sizeof *dims; d++)
        for (int v = 0; v < 8; v++) {
            int64_t m = dims[d][0], n = dims[d][1], k = dims[d][2];
            bool ta = v & 1, tb = v & 2;
            float beta = v & 4 ? 0.5f : 0.0f, alpha = v & 4 ? -1.5f : 1.0f;
            int64_t lda = (ta ? m : k) + 3, ldb = (tb ? k : n) + 1, ldc = n + 2;
            float *a = pare_malloc((size_t)((ta ? k : m) * lda) * 4),
                  *b = pare_malloc((size_t)((tb ? n : k) * ldb) * 4);
            float *c = pare_malloc((size_t)(m * ldc) * 4), *c0 = pare_malloc((size_t)(m * ldc) * 4);
            for (int64_t i = 0; i < (ta ? k : m) * lda; i++) a[i] = some();
            for (int64_t i = 0; i < (tb ? n : k) * ldb; i++) b[i] = some();
            for (int64_t i = 0; i < m * ldc; i++) c0[i] = some();
            for (size_t l = 0; l < N_MASKS; l++) {
                pare_cpu_limit(masks[l]);
                memcpy(c, c0, (size_t)(m * ldc) * 4);
                if (beta == 0)
                    for (int64_t i = 0; i < m * n; i++) c[i / n * ldc + i % n] = NAN; /* must not be read */
                pare_sgemm(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
                for (int64_t i = 0; i < m; i++) {
                    for (int64_t j = 0; j < n; j++) {
                        double s = 0, mag = 0;
                        for (int64_t q = 0; q < k; q++) {
                            double p = (double)alpha * (double)a[ta ? q * lda + i : i * lda + q] *
                                       (double)b[tb ? j * ldb + q : q * ldb + j];
                            s += p;
                            mag += fabs(p);
                        }
                        if (beta != 0) s += (double)(beta * c0[i * ldc + j]), mag += fabs((double)c0[i * ldc + j]);
                        assert_true(fabs((double)c[i * ldc + j] - s) <= 2e-6 * mag);
                    }
                    assert_memory_equal(c + i * ldc + n, c0 + i * ldc + n, 8);
                }
            }
            pare_cpu_limit(UINT32_MAX);
            pare_free(a), pare_free(b), pare_free(c), pare_free(c0);
        }
}

/* Rules against numbers worked out by hand from llama.cpp's formulas. */
static void rules_by_hand(void **state) {
    float x[256], scale[8];
    int8_t codes[256];
    for (int i = 0; i < 256; i++) x[i] = (float)(i % 5 - 2) * 0.25f;
    x[3] = -2.0f, x[9] = 2.0f; /* equal magnitudes: the first decides the sign for Q8_K */
    pare_act_quant_ref(PARE_RULE_Q8_K, x, 256, codes, scale);
    assert_true(scale[0] == 1.0f / 63.5f && codes[3] == -127 && codes[9] == 127);
    pare_act_quant_ref(PARE_RULE_Q8_0, x, 256, codes, scale);
    assert_true(scale[0] == pare_f16_to_f32(pare_f32_to_f16(2.0f / 127.0f)) && codes[3] == -127 && codes[9] == 127);
    assert_true(scale[1] == pare_f16_to_f32(pare_f32_to_f16(0.5f / 127.0f)));
    assert_int_equal(codes[0], -32); /* -0.5 * 63.5 = -31.75 */
    float half[2] = {127.0f, 0.5f}, inf[2] = {1.0f, INFINITY}, zero[2] = {0, -0.0f};
    pare_act_quant_ref(PARE_RULE_TOKEN, half, 2, codes, scale);
    assert_true(scale[0] == 1.0f && codes[0] == 127 && codes[1] == 0); /* ties go to even */
    pare_act_quant_ref(PARE_RULE_TOKEN, inf, 2, codes, scale);
    assert_true(isnan(scale[0]) && codes[1] == 0);
    pare_act_quant_ref(PARE_RULE_TOKEN, zero, 2, codes, scale);
    assert_true(scale[0] == 0 && codes[0] == 0);
}

int main(void) {
    pare_rng_seed(&rng, 20260601);
    const struct CMUnitTest tests[] = {cmocka_unit_test(rules_by_hand), cmocka_unit_test(sgemm_shapes),
                                       cmocka_unit_test(formats_and_rules)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
