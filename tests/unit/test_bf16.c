/* SPDX-License-Identifier: Apache-2.0
 *
 * Products in bf16 (pare_sgemm_bf16, the bf16 of a call): rounding against the scalar conversion; products, at every
 * processor level and on two threads, against pare_sgemm over operands rounded beforehand (the same bits), those of
 * pairs against sums in double and AVX512-BF16 against the scalar kernel (the same bits); which operands and operators
 * a call rounds; gradients of a small graph beside those in f32. */
#include "core/alloc.h"
#include "core/cpu_features.h"
#include "core/rng.h"
#include "core/threads.h"
#include "cpu/matmul.h"
#include "cpu/matmul_kernels.h"
#include "graph/exec.h"
#include "graph/grad.h"
#include "grad_cases.h"
#include "harness.h"

#include <math.h>

static const uint32_t masks[] = {0, 1, 3, 39, 47, 63};
#define N_MASKS (sizeof masks / sizeof *masks)
static pare_rng rng;

static float *numbers(int64_t n) {
    float *p = pare_malloc((size_t)n * sizeof *p);
    for (int64_t i = 0; i < n; i++) p[i] = pare_rng_normal(&rng);
    return p;
}
static float *rounded(const float *x, int64_t n) {
    float *p = pare_malloc((size_t)n * sizeof *p);
    for (int64_t i = 0; i < n; i++) p[i] = pare_bf16_to_f32(pare_f32_to_bf16(x[i]));
    return p;
}

static int restore(void **state) {
    pare_cpu_limit(UINT32_MAX);
    pare_set_threads(0);
    return 0;
}

/* What packs pairs: the scalar one's words, at every length; subnormal numbers are zeros. */
static void packing(void **state) {
    enum { N = 100 };
    float *x = numbers(2 * N), words[2][N + 32];
    uint16_t along[2][N + 32];
    for (size_t l = 0; l < N_MASKS; l++)
        for (int n = 0; n <= N; n++)
            for (int odd = 0; odd < 2; odd++) {
                pare_cpu_limit(masks[l]);
                memset(words, 0x5A, sizeof words), memset(along, 0x5A, sizeof along);
                pare_bf16_across_ref(x, odd ? NULL : x + N, n, words[0]);
                pare_mm_kernels()->bf16_across(x, odd ? NULL : x + N, n, words[1]);
                assert_memory_equal(words[0], words[1], sizeof words[0]);
                pare_bf16_along_ref(x, n, along[0]);
                pare_mm_kernels()->bf16_along(x, n, along[1]);
                assert_memory_equal(along[0], along[1], sizeof along[0]);
            }
    pare_free(x);
}

/* The largest, subnormal and odd numbers through the products of pairs. */
static void odd_numbers(void **state) {
    static const float some[] = {INFINITY, -INFINITY, NAN, 0x1p-130f, 0x1p-100f, -0x1p-60f, 0x1.fp127f, 1, -3, 0};
    enum { N = sizeof some / sizeof *some };
    float got[N * N], want[N * N];
    for (int l = 0; l < 2; l++) {
        pare_cpu_limit(l ? 47 : 0);
        if (l && !(pare_cpu_mask() & PARE_CPU_BF16)) break;
        _Alignas(64) float pa[16 * N], panel[PARE_F32_COLS];
        memset(panel, 0, sizeof panel);
        for (int i = 0; i < N; i++) {
            pare_bf16_across_ref(&some[i], &some[(i * 7 + 3) % N], 1, pa + 16 * i);
            float word[16];
            pare_bf16_across_ref(&some[(i * 3 + 1) % N], &some[i], 1, word);
            panel[i] = word[0];
        }
        pare_mm_kernels()->gemm_bf16(1, pa, 16, 1, N, panel, 1, l ? got : want, N, N, false);
    }
    if (pare_cpu_mask() & PARE_CPU_BF16)
        for (int i = 0; i < N * N; i++) assert_true(isnan(want[i]) ? isnan(got[i]) : memcmp(&got[i], &want[i], 4) == 0);
}

/* Ties, the largest numbers, infinities, NaNs, denormals, and any other bits. */
static void rounding(void **state) {
    static const uint32_t special[] = {0x3F808000, 0x3F818000, 0x3F808001, 0x3F80FFFF, 0x7F7FFFFF, 0xFF7F8000,
                                       0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001, 0xFFFFFFFF, 0x00000001,
                                       0x80008000, 0x00018000, 0x80000000, 0};
    enum { N = 16 * 9 + 5 };
    uint32_t x[N], y[N + 1];
    for (size_t i = 0; i < N; i++) x[i] = i < 16 ? special[i] : (uint32_t)pare_rng_u64(&rng);
    for (size_t l = 0; l < N_MASKS; l++)
        for (size_t n = 0; n <= N; n++) {
            pare_cpu_limit(masks[l]);
            y[n] = 0x5A5A5A5A;
            pare_mm_kernels()->round_bf16((const float *)x, n, (float *)y);
            assert_int_equal(y[n], 0x5A5A5A5A);
            for (size_t i = 0; i < n; i++) {
                float f;
                memcpy(&f, &x[i], 4);
                assert_int_equal(y[i], (uint32_t)pare_f32_to_bf16(f) << 16);
            }
        }
}

typedef struct product {
    int64_t m, n, k, lda, ldb, ldc, na, nb, nc;
    bool ta, tb;
    float alpha, beta, *a, *b, *ra, *rb, *c0; /* operands as they are and rounded; c before */
} product;

static void product_make(product *q, int64_t m, int64_t n, int64_t k, int variant) {
    *q = (product){.m = m, .n = n, .k = k, .ta = variant & 1, .tb = variant & 2};
    q->beta = variant & 4 ? 0.5f : variant & 8 ? 1.0f : 0.0f, q->alpha = variant & 4 ? -1.5f : 1.0f;
    q->lda = (q->ta ? m : k) + 3, q->ldb = (q->tb ? k : n) + 1, q->ldc = n + 2;
    q->na = (q->ta ? k : m) * q->lda, q->nb = (q->tb ? n : k) * q->ldb, q->nc = m * q->ldc;
    q->a = numbers(q->na), q->b = numbers(q->nb), q->c0 = numbers(q->nc);
    q->ra = rounded(q->a, q->na), q->rb = rounded(q->b, q->nb);
}
static void product_free(product *q) {
    pare_free(q->a), pare_free(q->b), pare_free(q->ra), pare_free(q->rb), pare_free(q->c0);
}

static void run_bf16(const product *q, int threads, float *c) {
    pare_set_threads(threads);
    memcpy(c, q->c0, (size_t)q->nc * 4);
    if (q->beta == 0)
        for (int64_t i = 0; i < q->m * q->n; i++) c[i / q->n * q->ldc + i % q->n] = NAN; /* must not be read */
    pare_sgemm_bf16(q->ta, q->tb, q->m, q->n, q->k, q->alpha, q->a, q->lda, q->b, q->ldb, q->beta, c, q->ldc);
}

/* Within the bound of the sum in double of rounded operands; what lies between the rows of c is as it was. */
static void check_sums(const product *q, const float *c, const char *what) {
    for (int64_t i = 0; i < q->m; i++) {
        for (int64_t j = 0; j < q->n; j++) {
            double s = 0, mag = 0;
            for (int64_t p = 0; p < q->k; p++) {
                double v = (double)q->alpha * (double)q->ra[q->ta ? p * q->lda + i : i * q->lda + p] *
                           (double)q->rb[q->tb ? j * q->ldb + p : p * q->ldb + j];
                s += v, mag += fabs(v);
            }
            double was = (double)(q->beta * q->c0[i * q->ldc + j]);
            if (fabs((double)c[i * q->ldc + j] - s - was) > 2e-6 * (mag + fabs(was)))
                fail_msg("%s [%lld x %lld x %lld]: %g, not %g", what, (long long)q->m, (long long)q->n, (long long)q->k,
                         (double)c[i * q->ldc + j], s + was);
        }
        assert_memory_equal(c + i * q->ldc + q->n, q->c0 + i * q->ldc + q->n, 8);
    }
}

/* So that the frame takes pairs where the processor has nothing for them. */
static void gemm_by_reference(int64_t pairs, const float *a, int64_t a_row, int64_t a_col, int64_t m,
                              const float *panel, float alpha, float *c, int64_t ldc, int n, bool accumulate) {
    pare_gemm_bf16_ref(pairs, a, a_row, a_col, m, panel, alpha, c, ldc, n, accumulate);
}
static void pairs_by_reference(bool on) {
    pare_cpu_limit(0);
    ((pare_mm_table *)pare_mm_kernels())->gemm_bf16 = on ? gemm_by_reference : pare_gemm_bf16_ref;
}

static void product_at_all_levels(int64_t m, int64_t n, int64_t k, int variant) {
    product q;
    product_make(&q, m, n, k, variant);
    size_t bytes = (size_t)q.nc * 4;
    float *want = pare_malloc(bytes), *c = pare_malloc(bytes), *pairs = pare_malloc(bytes);
    pairs_by_reference(true);
    run_bf16(&q, 1, pairs);
    check_sums(&q, pairs, "pairs");
    pairs_by_reference(false);
    for (size_t l = 0; l < N_MASKS; l++) {
        pare_cpu_limit(masks[l]);
        uint32_t have = pare_cpu_mask();
        bool as_pairs = have & (PARE_CPU_BF16 | PARE_CPU_AMX);
        memcpy(want, q.c0, bytes);
        if (!as_pairs) pare_sgemm(q.ta, q.tb, m, n, k, q.alpha, q.ra, q.lda, q.rb, q.ldb, q.beta, want, q.ldc);
        else if (have & PARE_CPU_AMX) run_bf16(&q, 1, want), check_sums(&q, want, "tiles");
        else memcpy(want, pairs, bytes);
        for (int threads = 1; threads <= 3; threads++) {
            run_bf16(&q, threads, c);
            if (memcmp(c, want, bytes) != 0)
                fail_msg("cpu %s, %d threads, variant %d [%lld x %lld x %lld]: other bits", pare_cpu_name(masks[l]),
                         threads, variant, (long long)m, (long long)n, (long long)k);
        }
    }
    product_free(&q);
    pare_free(want), pare_free(c), pare_free(pairs);
}

static void products(void **state) {
    static const int64_t dims[][3] = {{1, 1, 1},      {7, 65, 300}, {6, 64, 256},   {5, 130, 31},
                                      {100, 17, 257}, {3, 48, 512}, {390, 70, 264}, {200, 330, 41}};
    for (size_t d = 0; d < sizeof dims / sizeof *dims; d++)
        for (int v = 0; v < 12; v++) product_at_all_levels(dims[d][0], dims[d][1], dims[d][2], v);
}

/* One call of MatMul or Gemm, as the executor makes it. */
static void call(pare_op op, const void *attr, const pare_tensor *a, const pare_tensor *b, bool bf16, float *y) {
    const int64_t shape[2] = {a->shape[0], b->transposed ? b->shape[0] : b->shape[1]};
    pare_tensor out = pare_tensor_make(&pare_qtype_f32, 2, shape, y);
    pare_op_call c = {.op = op, .attr = attr, .n_in = 2, .n_out = 1, .in = {a, b}, .out = {&out}, .bf16 = bf16};
    void *dev = NULL;
    pare_diag d = {0};
    assert_int_equal(pare_backend_cpu.open(&dev, &d), PARE_OK);
    c.workspace_bytes = pare_backend_cpu.workspace_bytes(dev, &c);
    c.workspace = pare_malloc_aligned(c.workspace_bytes + 64);
    assert_int_equal(pare_backend_cpu.run(dev, &c, &d), PARE_OK);
    pare_free(c.workspace);
    pare_backend_cpu.close(dev);
}

/* Both operands f32: rounded, however the right one lies. One that is stored as something else: nothing is. */
static void which_operands(void **state) {
    enum { M = 20, N = 24, K = 40 };
    static const pare_attr_gemm plain = {1, 1, false, false};
    static const int64_t sa[2] = {M, K}, kn[2] = {K, N}, nk[2] = {N, K};
    float *x = numbers(M * K), *w = numbers(N * K), *rx = rounded(x, M * K), *rw = rounded(w, N * K);
    float got[M * N], want[M * N];
    uint16_t w16[N * K];
    pare_f32_to_f16_n(w, w16, N * K);
    const pare_tensor a = pare_tensor_make(&pare_qtype_f32, 2, sa, x),
                      ra = pare_tensor_make(&pare_qtype_f32, 2, sa, rx);
    for (int gemm = 0; gemm < 2; gemm++)
        for (int stored = 0; stored < 2; stored++) {
            pare_op op = gemm ? PARE_OP_Gemm : PARE_OP_MatMul;
            pare_tensor b = pare_tensor_make(&pare_qtype_f32, 2, stored ? nk : kn, w), rb = b, h = b;
            b.transposed = rb.transposed = h.transposed = stored;
            rb.data = rw, h.data = w16, h.type = &pare_qtype_f16;
            pare_cpu_limit(39);
            call(op, gemm ? &plain : NULL, &a, &b, true, got);
            call(op, gemm ? &plain : NULL, &ra, &rb, false, want);
            for (int i = 0; i < M * N; i++) assert_true(fabsf(got[i] - want[i]) <= 1e-4f);
            call(op, gemm ? &plain : NULL, &a, &b, false, want);
            assert_true(memcmp(got, want, sizeof got) != 0);
            call(op, gemm ? &plain : NULL, &a, &h, true, got);
            call(op, gemm ? &plain : NULL, &a, &h, false, want);
            assert_memory_equal(got, want, sizeof got);
        }
    pare_free(x), pare_free(w), pare_free(rx), pare_free(rw);
}

/* A graph's result; the caller frees it. */
static float *forward(size_t which, uint64_t seed, bool bf16, size_t *bytes) {
    static const int64_t sym[PARE_SYM_COUNT] = {1, 1, 1};
    const pare_exec_opts opts = {.bf16 = bf16};
    gc c;
    pare_diag d = {0};
    pare_exec *e = NULL;
    pare_value y = gc_make(&c, which, seed);
    pare_graph_mark_output(c.g, y);
    if (pare_exec_open(c.g, &opts, &e, &d) != PARE_OK || pare_exec_shape(e, sym, &d) != PARE_OK ||
        pare_exec_run(e, -1, NULL, 0, &d) != PARE_OK)
        fail_msg("%s: %s", gc_cases[which].name, d.text);
    const pare_tensor *t = pare_exec_value(e, y);
    *bytes = pare_tensor_bytes(t);
    float *out = pare_malloc(*bytes);
    memcpy(out, t->data, *bytes);
    pare_exec_close(&e);
    pare_graph_free(&c.g);
    return out;
}

/* Products of matrices, and nothing else: not norms, softmax, attention. */
static void which_operators(void **state) {
    for (size_t which = 0; which < GC_COUNT; which++) {
        bool rounds = strcmp(gc_cases[which].name, "MatMul") == 0 || strcmp(gc_cases[which].name, "Gemm") == 0 ||
                      strcmp(gc_cases[which].name, "Tied") == 0;
        for (uint64_t seed = 1; seed <= 3; seed++) {
            size_t n, m;
            float *f32 = forward(which, seed, false, &n), *bf16 = forward(which, seed, true, &m);
            assert_int_equal(n, m);
            if ((memcmp(f32, bf16, n) != 0) != rounds)
                fail_msg("%s, seed %d: %s", gc_cases[which].name, (int)seed, rounds ? "not rounded" : "rounded");
            pare_free(f32), pare_free(bf16);
        }
    }
}

/* Two layers with a nonlinearity and a norm between: the gradients of x, w1, scale, w2 one after the other. */
enum { ROWS = 48, WIDE = 96, IN = 64, OUT = 32, ALL = ROWS * IN + WIDE * IN + WIDE + OUT * WIDE };
static void gradients(bool bf16, int threads, float *out) {
    static const int64_t sym[PARE_SYM_COUNT] = {1, 1, 1};
    gc c = {.g = pare_graph_new()};
    pare_diag d = {0};
    pare_value grad[4];
    pare_rng_seed(&c.rng, 7);
    pare_value x = gc_var(&c, GC_DIMS(ROWS, IN)), w1 = gc_operand(&c, true, GC_DIMS(WIDE, IN), -0.2f, 0.2f, true);
    pare_value scale = gc_operand(&c, true, GC_DIMS(WIDE), 0.5f, 1.5f, false);
    pare_value w2 = gc_operand(&c, true, GC_DIMS(OUT, WIDE), -0.2f, 0.2f, true);
    pare_value h = gc_1(&c, PARE_OP_Gelu, gc_2(&c, PARE_OP_MatMul, x, w1));
    pare_attr_norm at = {.axis = -1, .epsilon = 1e-5f};
    h = gc_node(&c, PARE_OP_RMSNormalization, &at, sizeof at, 2, (pare_value[]){h, scale});
    pare_value y = gc_2(&c, PARE_OP_MatMul, h, w2), loss = gc_1(&c, PARE_OP_ReduceSum, gc_2(&c, PARE_OP_Mul, y, y));
    const pare_exec_opts opts = {.bf16 = bf16};
    const pare_value wanted[4] = {x, w1, scale, w2};
    pare_exec *e = NULL;
    pare_set_threads(threads);
    if (pare_grad_build(c.g, loss, 4, wanted, NULL, grad, &d) != PARE_OK) fail_msg("%s", d.text);
    for (int i = 0; i < 4; i++) pare_graph_mark_output(c.g, grad[i]);
    if (pare_exec_open(c.g, &opts, &e, &d) != PARE_OK || pare_exec_shape(e, sym, &d) != PARE_OK ||
        pare_exec_run(e, -1, NULL, 0, &d) != PARE_OK)
        fail_msg("%s", d.text);
    for (int i = 0; i < 4; i++) {
        const pare_tensor *t = pare_exec_value(e, grad[i]);
        memcpy(out, t->data, pare_tensor_bytes(t));
        out += pare_tensor_elems(t);
    }
    pare_exec_close(&e);
    pare_graph_free(&c.g);
}

static void gradients_are_close(void **state) {
    static float f32[ALL], bf16[ALL], again[ALL];
    static const int parts[] = {ROWS * IN, WIDE * IN, WIDE, OUT * WIDE};
    pare_cpu_limit(UINT32_MAX);
    gradients(false, 1, f32);
    gradients(true, 1, bf16);
    gradients(true, 2, again);
    assert_memory_equal(bf16, again, sizeof bf16);
    for (int p = 0, at = 0; p < 4; at += parts[p++]) {
        double off = 0, all = 0;
        for (int i = at; i < at + parts[p]; i++) {
            off += pow((double)bf16[i] - (double)f32[i], 2);
            all += pow((double)f32[i], 2);
        }
        print_message("gradient %d: off by %.2g of its length\n", p, sqrt(off / all));
        assert_true(off > 0 && sqrt(off / all) < 0.01); /* a bf16 number is off by 2^-9 at most */
    }
}

int main(void) {
    pare_rng_seed(&rng, 20261126);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(rounding, restore),
        cmocka_unit_test_teardown(packing, restore),
        cmocka_unit_test_teardown(odd_numbers, restore),
        cmocka_unit_test_teardown(products, restore),
        cmocka_unit_test_teardown(which_operands, restore),
        cmocka_unit_test_teardown(which_operators, restore),
        cmocka_unit_test_teardown(gradients_are_close, restore),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
