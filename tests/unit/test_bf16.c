/* SPDX-License-Identifier: Apache-2.0
 *
 * Products in bf16 (pare_sgemm_bf16, the bf16 of a call): rounding against the scalar conversion, products against
 * pare_sgemm over operands rounded beforehand (the same bits), at every processor level and on two threads; which
 * operands a call rounds; gradients of a small graph beside those in f32. */
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

static const uint32_t masks[] = {0, 1, 3, 39};
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

static void product(int64_t m, int64_t n, int64_t k, int variant) {
    bool ta = variant & 1, tb = variant & 2;
    float beta = variant & 4 ? 0.5f : variant & 8 ? 1.0f : 0.0f, alpha = variant & 4 ? -1.5f : 1.0f;
    int64_t lda = (ta ? m : k) + 3, ldb = (tb ? k : n) + 1, ldc = n + 2;
    int64_t na = (ta ? k : m) * lda, nb = (tb ? n : k) * ldb;
    float *a = numbers(na), *b = numbers(nb), *ra = rounded(a, na), *rb = rounded(b, nb);
    float *c0 = numbers(m * ldc), *want = pare_malloc((size_t)(m * ldc) * 4), *c = pare_malloc((size_t)(m * ldc) * 4);
    for (size_t l = 0; l < N_MASKS; l++) {
        pare_cpu_limit(masks[l]);
        memcpy(want, c0, (size_t)(m * ldc) * 4);
        pare_sgemm(ta, tb, m, n, k, alpha, ra, lda, rb, ldb, beta, want, ldc);
        for (int threads = 1; threads <= 2; threads++) {
            pare_set_threads(threads);
            memcpy(c, c0, (size_t)(m * ldc) * 4);
            if (beta == 0)
                for (int64_t i = 0; i < m * n; i++) c[i / n * ldc + i % n] = NAN; /* must not be read */
            pare_sgemm_bf16(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
            if (memcmp(c, want, (size_t)(m * ldc) * 4) != 0)
                fail_msg("cpu %s, %d threads, variant %d [%lld x %lld x %lld]: not the bits of rounded operands",
                         pare_cpu_name(masks[l]), threads, variant, (long long)m, (long long)n, (long long)k);
        }
    }
    pare_free(a), pare_free(b), pare_free(ra), pare_free(rb), pare_free(c0), pare_free(want), pare_free(c);
}

static void products(void **state) {
    static const int64_t dims[][3] = {{1, 1, 1},      {7, 65, 300}, {6, 64, 256},   {5, 130, 31},
                                      {100, 17, 257}, {3, 48, 512}, {390, 70, 264}, {200, 600, 40}};
    for (size_t d = 0; d < sizeof dims / sizeof *dims; d++)
        for (int v = 0; v < 12; v++) product(dims[d][0], dims[d][1], dims[d][2], v);
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
        bool product = strcmp(gc_cases[which].name, "MatMul") == 0 || strcmp(gc_cases[which].name, "Gemm") == 0 ||
                       strcmp(gc_cases[which].name, "Tied") == 0;
        for (uint64_t seed = 1; seed <= 3; seed++) {
            size_t n, m;
            float *f32 = forward(which, seed, false, &n), *bf16 = forward(which, seed, true, &m);
            assert_int_equal(n, m);
            if ((memcmp(f32, bf16, n) != 0) != product)
                fail_msg("%s, seed %d: %s", gc_cases[which].name, (int)seed, product ? "not rounded" : "rounded");
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
        cmocka_unit_test_teardown(products, restore),
        cmocka_unit_test_teardown(which_operands, restore),
        cmocka_unit_test_teardown(which_operators, restore),
        cmocka_unit_test_teardown(gradients_are_close, restore),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
