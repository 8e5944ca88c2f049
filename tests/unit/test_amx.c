/* SPDX-License-Identifier: Apache-2.0
 *
 * The AMX kernels, run in emulation: the same sources as the native ones, with cpu/amx_tile.h's plain C in place of the
 * instructions. The emulation is held against cases worked out by hand from Intel's definitions; the kernels against
 * the scalar one, the AVX-512 level (the same bits) and sums in double. */
#include "core/alloc.h"
#include "core/cpu_features.h"
#include "core/rng.h"
#include "cpu/matmul.h"
#include "cpu/matmul_kernels.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#if defined(__x86_64__)
pare_gemm_i8_tall_fn pare_gemm_i8_tall_emulated;
pare_terms_fn pare_terms_emulated;
pare_gemm_terms_fn pare_gemm_terms_emulated;
pare_gemm_bf16_tiles_fn pare_gemm_bf16_tiles_emulated;
#define PARE_AMX_EMULATE
#define pare_gemm_i8_tall_amx    pare_gemm_i8_tall_emulated
#define pare_terms_amx           pare_terms_emulated
#define pare_gemm_terms_amx      pare_gemm_terms_emulated
#define pare_gemm_bf16_tiles_amx pare_gemm_bf16_tiles_emulated
#pragma GCC push_options
#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")
#include "cpu/gemm_i8_amx.c"
#undef W_LD
#undef X_LD
#include "cpu/gemm_terms_amx.c"
#undef INLINE
#include "cpu/sgemm_amx.c"
#pragma GCC pop_options

static pare_rng rng;
static float some(void) { return pare_rng_normal(&rng); }
static float from_bits(uint32_t b) {
    float f;
    memcpy(&f, &b, 4);
    return f;
}

static void skip_without_avx512(void) {
    if (!(pare_cpu_mask() & PARE_CPU_AVX512)) skip(); /* scales and stores are AVX-512 */
}

/* ---- the emulation ---- */

/* One row, one output, two pairs of columns: c + chains (a0 b0, a2 b2) and (a1 b1, a3 b3). */
static float dot_bf16(float c, const float a[4], const float b[4]) {
    static const pare_tile_config cfg = {.palette = 1, .colsb = {4, 8, 4}, .rows = {1, 1, 2}};
    uint16_t at[4], bt[4];
    for (int i = 0; i < 4; i++) at[i] = pare_f32_to_bf16(a[i]), bt[i] = pare_f32_to_bf16(b[i]);
    pare_tile_configure(&cfg);
    PARE_TILE_LOAD(0, &c, 4);
    PARE_TILE_LOAD(1, at, 8);
    PARE_TILE_LOAD(2, bt, 4); /* rows of a tile are pairs: b0 b1, then b2 b3 */
    PARE_TILE_DPBF16(0, 1, 2);
    PARE_TILE_STORE(0, &c, 4);
    pare_tile_release();
    return c;
}

static void bf16_by_hand(void **state) {
    const float ones[4] = {1, 1, 1, 1}, big = 0x1p24f;
    assert_true(dot_bf16(0.5f, (float[]){1, 2, 3, 4}, (float[]){5, 6, 7, 8}) == 70.5f);
    /* 2^24 + 1 is a tie and goes to 2^24; the two ones of the other chain make 2 first */
    assert_true(dot_bf16(0, (float[]){big, 1, 1, 1}, ones) == big + 2);
    assert_true(dot_bf16(0, (float[]){big, 1, 1, 0}, ones) == big);
    assert_true(dot_bf16(1, (float[]){big, 0, -big, 0}, ones) == 1); /* c comes last: nothing is lost */
    /* fused: 2^128 never stands alone */
    assert_true(dot_bf16(0, (float[]){-0x1p127f, 0, 0x1p127f, 0}, (float[]){1, 0, 2, 0}) == 0x1p127f);
    /* denormals are zeros: operands, products, sums, c */
    assert_true(dot_bf16(0, (float[]){0x1p-127f, 0, 0, 0}, (float[]){0x1p100f, 0, 0, 0}) == 0);
    assert_true(dot_bf16(0, (float[]){0x1p-100f, 0, 0, 0}, (float[]){0x1p-27f, 0, 0, 0}) == 0);
    assert_true(dot_bf16(0, (float[]){0x1p-100f, 0, 0, 0}, (float[]){0x1p-26f, 0, 0, 0}) == 0x1p-126f);
    assert_true(dot_bf16(0x1p-127f, (float[]){0, 0, 0, 0}, ones) == 0);
}

/* Shapes below the largest, against sums in 64 bits; what surrounds the stored tile stays as it is. */
static void int8_by_definition(void **state) {
    for (int round = 0; round < 40; round++) {
        int m = 1 + (int)pare_rng_below(&rng, 16), n = 1 + (int)pare_rng_below(&rng, 16),
            q = 1 + (int)pare_rng_below(&rng, 16);
        pare_tile_config cfg = {.palette = 1};
        cfg.rows[0] = (uint8_t)m, cfg.colsb[0] = (uint16_t)(4 * n);
        cfg.rows[4] = (uint8_t)m, cfg.colsb[4] = (uint16_t)(4 * q);
        cfg.rows[6] = (uint8_t)q, cfg.colsb[6] = (uint16_t)(4 * n);
        int8_t a[16][64];
        uint8_t b[16][80];
        uint32_t c[16][20], was[16][20];
        for (int i = 0; i < 16; i++) {
            for (int j = 0; j < 64; j++) a[i][j] = round % 3 ? (int8_t)pare_rng_u64(&rng) : round % 2 ? -128 : 127;
            for (int j = 0; j < 80; j++) b[i][j] = round % 3 ? (uint8_t)pare_rng_u64(&rng) : 255;
            for (int j = 0; j < 20; j++)
                c[i][j] = round % 4 ? (uint32_t)pare_rng_u64(&rng) : 0x7FFFFFFFu; /* INT32_MAX wraps */
        }
        memcpy(was, c, sizeof c);
        pare_tile_configure(&cfg);
        PARE_TILE_LOAD(0, c, 80);
        PARE_TILE_LOAD(4, a, 64);
        PARE_TILE_LOAD(6, b, 80);
        PARE_TILE_DPBSUD(0, 4, 6);
        PARE_TILE_STORE(0, c, 80);
        pare_tile_release();
        for (int i = 0; i < 16; i++)
            for (int j = 0; j < 20; j++) {
                int64_t s = was[i][j];
                for (int k = 0; k < 4 * q && i < m && j < n; k++) s += (int64_t)a[i][k] * b[k / 4][4 * j + k % 4];
                assert_int_equal(c[i][j], (uint32_t)s);
            }
    }
}

/* ---- integer kernels ---- */

/* Numbers whose every sum is exact in f32, so that any order gives the scalar kernel's bits. */
static void tall_against_ref(void **state) {
    skip_without_avx512();
    pare_i8_panel *w = pare_malloc_aligned(sizeof *w);
    pare_i8_tall *tall = pare_malloc_aligned(3 * sizeof *tall);
    pare_i8_tile *tile = pare_malloc_aligned(sizeof *tile);
    _Alignas(64) float c[48 * PARE_I8_ROWS], want[PARE_I8_TOKENS * PARE_I8_ROWS];
    for (int at = 0; at < 160; at++) {
        static const int groups[] = {16, 32, 32, 256};
        pare_i8_shape s = {.group = groups[at % 4], .blocks = at % 3 ? 8 : 1 + at / 3 % 8, .by_slab = at % 4 != 1};
        s.minima = at / 4 % 2, s.wide = true;
        bool extreme = at / 8 % 2, add = at / 16 % 2;
        const int tokens = (int[]){1, 16, 17, 33, 48}[at % 5];
        for (int i = 0; i < PARE_I8_SLAB * PARE_I8_ROWS; i++)
            w->codes[i] = i / PARE_I8_ROWS >= 32 * s.blocks ? 0 : extreme ? 255 : (uint8_t)pare_rng_u64(&rng);
        for (int i = 0; i < 16 * PARE_I8_ROWS; i++) /* small scales keep 24 bits enough */
            w->scale[i / PARE_I8_ROWS][i % PARE_I8_ROWS] = extreme || i % 3 ? 1 : -1,
                                           w->minimum[i / PARE_I8_ROWS][i % PARE_I8_ROWS] = (float)(i % 7 - 3);
        for (int t = 0; t < 48; t++) {
            pare_i8_tall *x = &tall[t / 16];
            for (int i = 0; i < PARE_I8_SLAB; i++)
                x->codes[t % 16][i] = extreme ? (t % 2 ? 127 : -128) : (int8_t)pare_rng_u64(&rng);
            for (int i = 0; i < 8; i++) x->scale[i][t % 16] = t % 3 ? 1 : 2;
            for (int i = 0; i < 16; i++) x->start[i][t % 16] = t * i - 40, x->extra[i][t % 16] = (float)(i - t);
        }
        for (int i = 0; i < 48 * PARE_I8_ROWS; i++) c[i] = (float)(i % 100);
        pare_gemm_i8_tall_emulated(&s, w, tall, tokens, c, add);
        for (int t = 0; t < tokens; t++) {
            const pare_i8_tall *x = &tall[t / 16];
            memset(tile, 0, sizeof *tile);
            for (int b = 0; b < 8; b++) {
                memcpy(tile->codes[b][0], x->codes[t % 16] + 32 * b, 32);
                tile->scale[b][0] = x->scale[b][t % 16];
            }
            for (int i = 0; i < 16; i++)
                tile->start[i][0] = x->start[i][t % 16], tile->extra[i][0] = x->extra[i][t % 16];
            for (int r = 0; r < PARE_I8_ROWS; r++) want[r] = (float)((t * PARE_I8_ROWS + r) % 100);
            pare_gemm_i8_ref(&s, w, tile, 1, want, add);
            assert_memory_equal(c + t * PARE_I8_ROWS, want, PARE_I8_ROWS * sizeof(float));
        }
    }
    pare_free(w), pare_free(tall), pare_free(tile);
}

/* ---- terms ---- */

static void terms_are_exact(void **state) {
    skip_without_avx512();
    uint16_t out[3][320];
    float x[300];
    for (int round = 0; round < 200; round++) {
        int n = 1 + (int)pare_rng_below(&rng, 300);
        for (int i = 0; i < n; i++) { /* any sign and digits, exponents that leave room for the third term */
            uint32_t exponent = 24 + (uint32_t)pare_rng_below(&rng, 231);
            x[i] = from_bits(((uint32_t)pare_rng_u64(&rng) & 0x807FFFFFu) | exponent << 23);
        }
        memset(out, 0x5A, sizeof out);
        pare_terms_emulated(x, n, 3, out[0], 320);
        for (int i = 0; i < (n + 31) / 32 * 32; i++) {
            float t[3];
            for (int j = 0; j < 3; j++) t[j] = from_bits((uint32_t)out[j][i] << 16);
            if (i >= n) assert_true(t[0] == 0 && t[1] == 0 && t[2] == 0);
            else assert_true(t[0] + (t[1] + t[2]) == x[i]);
        }
    }
}

/* ---- whole products, through the frames ---- */

static int tall_calls, terms_calls; /* so that the frames cannot pass by not using them */
static void counted_tall(const pare_i8_shape *s, const pare_i8_panel *w, const pare_i8_tall *x, int tokens, float *c,
                         bool accumulate) {
    __atomic_fetch_add(&tall_calls, 1, __ATOMIC_RELAXED);
    pare_gemm_i8_tall_emulated(s, w, x, tokens, c, accumulate);
}
static void counted_terms(int64_t kc, const float *x, int64_t ldx, int64_t m, int x_terms, const pare_terms_panel *w,
                          int w_terms, float *c, int64_t ldc, int n, bool accumulate) {
    __atomic_fetch_add(&terms_calls, 1, __ATOMIC_RELAXED);
    pare_gemm_terms_emulated(kc, x, ldx, m, x_terms, w, w_terms, c, ldc, n, accumulate);
}

static void emulate(bool on) {
    pare_cpu_limit(PARE_CPU_AVX2 | PARE_CPU_AVX512 | PARE_CPU_VNNI | PARE_CPU_BF16);
    pare_mm_table *t = (pare_mm_table *)pare_mm_kernels();
    t->gemm_i8_tall = on ? counted_tall : NULL;
    t->terms = on ? pare_terms_emulated : NULL;
    t->gemm_terms = on ? counted_terms : NULL;
}

typedef struct product {
    const pare_qtype *qt;
    int64_t m, n, k;
    pare_act_round act;
    bool worst; /* all digits of x and w at their most expensive */
} product;

static void fill(const product *q, float *plain, float *x) {
    for (int64_t i = 0; i < q->n * q->k; i++) plain[i] = q->worst ? from_bits(0x3F80FFFF) : some();
    for (int64_t i = 0; i < q->m * q->k; i++) x[i] = q->worst ? from_bits(0x3F80FFFF) : some();
}

/* The largest |y - sum in double| / sum |x w|. */
static double worst_error(const product *q, const void *stored, const float *x, const float *y) {
    size_t k = (size_t)q->k, rb = pare_row_bytes(q->qt, k);
    float *row = pare_malloc(k * 4), *xr = pare_malloc((size_t)q->m * k * 4);
    pare_act_rule rule = pare_act_rule_for(q->qt, q->act);
    for (int64_t i = 0; i < q->m; i++) pare_act_round_row(rule, x + i * q->k, k, xr + i * q->k);
    double worst = 0;
    for (int64_t j = 0; j < q->n; j++) {
        q->qt->decode(q->qt, (const uint8_t *)stored + (size_t)j * rb, row, k);
        for (int64_t i = 0; i < q->m; i++) {
            double s = 0, mag = 0;
            for (size_t c = 0; c < k; c++) {
                double v = (double)row[c] * (double)xr[(size_t)i * k + c];
                s += v, mag += fabs(v);
            }
            if (mag > 0) worst = fmax(worst, fabs((double)y[i * q->n + j] - s) / mag);
        }
    }
    pare_free(row), pare_free(xr);
    return worst;
}

static void store(const pare_qtype *qt, const float *x, int64_t n, int64_t k, uint8_t *out) {
    if (qt->grid) {
        qt->grid->encode(qt, x, (size_t)k, NULL, (size_t)n, (size_t)k, out, pare_row_bytes(qt, (size_t)k));
        return;
    }
    for (int64_t i = 0; i < n * k; i++) {
        uint16_t h = qt == &pare_qtype_bf16 ? pare_f32_to_bf16(x[i]) : pare_f32_to_f16(x[i]);
        if (qt == &pare_qtype_f32) memcpy(out + 4 * i, &x[i], 4);
        else memcpy(out + 2 * i, &h, 2);
    }
}

/* Integer rules: the bits of the AVX-512 level. The rest: the bound of cpu/matmul.h, and its error is returned. */
static double check_product(const product *q) {
    size_t rb = pare_row_bytes(q->qt, (size_t)q->k), y_bytes = (size_t)(q->m * q->n) * 4;
    float *plain = pare_malloc((size_t)(q->n * q->k) * 4), *x = pare_malloc((size_t)(q->m * q->k) * 4);
    uint8_t *mem = pare_malloc(rb * (size_t)q->n + 1);
    float *y[3];
    for (int v = 0; v < 3; v++) y[v] = pare_malloc(y_bytes + 4);
    int64_t shape[2] = {q->n, q->k};
    pare_tensor w = pare_tensor_make(q->qt, 2, shape, mem + 1); /* mapped files align nothing */
    w.transposed = true;
    fill(q, plain, x);
    store(q->qt, plain, q->n, q->k, w.data);
    size_t ws_bytes = pare_matmul_stored_workspace(&w, q->m, q->act);
    uint8_t *ws = pare_malloc_aligned(ws_bytes + 64);
    tall_calls = terms_calls = 0;
    for (int v = 0; v < 3; v++) { /* AVX-512; tiles on one thread and on two */
        emulate(v > 0);
        pare_set_threads(v == 2 ? 2 : 1);
        memset(y[v], 0x5A, y_bytes + 4);
        memset(ws, 0x5A, ws_bytes + 64);
        pare_matmul_stored(&w, x, y[v], q->m, q->act, ws);
        assert_int_equal(((uint8_t *)y[v])[y_bytes], 0x5A);
        assert_int_equal(ws[ws_bytes], 0x5A);
        assert_int_equal(pare_tiles.config.palette, 0); /* no state is left behind */
    }
    assert_memory_equal(y[1], y[2], y_bytes);
    pare_i8_source source;
    double error = 0;
    bool integer = pare_i8_source_of(&w, &source) && pare_act_block(pare_act_rule_for(q->qt, q->act), 1);
    assert_true(q->m >= 16 ? (integer ? tall_calls : terms_calls) > 0 : !tall_calls && !terms_calls);
    if (integer) assert_memory_equal(y[0], y[1], y_bytes);
    else error = worst_error(q, w.data, x, y[1]);
    if (error > 2e-6)
        fail_msg("%s act %d [%lld x %lld x %lld]: %g", q->qt->name, (int)q->act, (long long)q->m, (long long)q->n,
                 (long long)q->k, error);
    pare_free(plain), pare_free(x), pare_free(mem), pare_free(ws);
    for (int v = 0; v < 3; v++) pare_free(y[v]);
    return error;
}

static bool drawn(const pare_qtype *qt) {
    return qt->decode &&
           (qt == &pare_qtype_f32 || qt == &pare_qtype_f16 || qt == &pare_qtype_bf16 || (qt->grid && qt->grid->encode));
}

/* Every format under every rule, at sizes around the tiles; below 16 tokens the tiles are not taken. */
static void formats_and_rules(void **state) {
    skip_without_avx512();
    static const int64_t ms[] = {15, 16, 17, 31, 32, 33, 1}, ns[] = {1, 16, 17, 33, 48, 64, 70};
    static const int64_t ks[] = {32, 96, 256, 287, 320, 600};
    size_t formats = 0, at = 0;
    double worst = 0;
    for (size_t f = 0; f < pare_qtype_count(); f++) {
        const pare_qtype *qt = pare_qtype_at(f);
        if (!drawn(qt)) continue;
        formats++;
        for (int act = PARE_ACT_NONE; act <= PARE_ACT_INT8_BLOCK; act++)
            for (int i = 0; i < 4; i++, at++) {
                int64_t block = qt->block_elems ? (int64_t)qt->block_elems : 1;
                int64_t k = (ks[at % 6] + block - 1) / block * block;
                double e =
                    check_product(&(product){qt, ms[at % 7], ns[(at / 7 + at) % 7], k, (pare_act_round)act, false});
                worst = fmax(worst, e);
            }
    }
    print_message("%zu formats; terms: worst error %.2g of sum |x w|\n", formats, worst);
}

/* Every digit set: the products left out weigh the most, and all with one sign. More than two panels of rows, more
 * tokens than an item's part, odd columns. */
static void worst_digits(void **state) {
    skip_without_avx512();
    const pare_qtype *types[] = {&pare_qtype_f32, &pare_qtype_f16, &pare_qtype_bf16};
    for (int i = 0; i < 3; i++) {
        double e = check_product(&(product){types[i], 33, 70, 513, PARE_ACT_NONE, true});
        double r = check_product(&(product){types[i], 40, 150, 257, PARE_ACT_NONE, false});
        print_message("%s: %.2g at the worst digits, %.2g at random\n", types[i]->name, e, r);
    }
    check_product(&(product){&pare_qtype_bf16, 130, 33, 64, PARE_ACT_NONE, false});
    check_product(&(product){pare_qtype_by_name("q4_0"), 130, 33, 64, PARE_ACT_INT8_BLOCK, false});
    check_product(&(product){pare_qtype_by_name("q8_0"), 600, 33, 32, PARE_ACT_INT8_BLOCK, false});
    check_product(&(product){pare_qtype_by_name("int8"), 600, 33, 300, PARE_ACT_INT8_TOKEN, false});
}

static int restore(void **state) {
    pare_cpu_limit(0); /* a change of mask refills the table */
    (void)pare_mm_kernels();
    pare_cpu_limit(UINT32_MAX);
    pare_set_threads(0);
    return 0;
}

/* ---- products of two f32 matrices in bf16 ---- */

static int mixed_calls;
static pare_gemm_bf16_tiles_fn *mixed_tiles_fn; /* emulated, or the machine's */
static void counted_mixed(int64_t pairs, const float *a, int64_t a_row, int64_t a_col, int64_t m, const float *panel,
                          float alpha, float *c, int64_t ldc, int n, bool accumulate) {
    __atomic_fetch_add(&mixed_calls, 1, __ATOMIC_RELAXED);
    assert_int_equal(a_col, 1);
    mixed_tiles_fn(pairs, a, a_row, a_col, m, panel, alpha, c, ldc, n, accumulate);
}

static double rounded(float x) { return (double)pare_bf16_to_f32(pare_f32_to_bf16(x)); }

/* Against sums in double of rounded operands; one thread and three give the same bits. alpha and beta, every way that
 * the operands lie. Returns the worst error. */
static double check_mixed(int64_t m, int64_t n, int64_t k, int variant) {
    bool ta = variant & 1, tb = variant & 2;
    float alpha = variant & 4 ? -1.5f : 1, beta = variant & 8 ? 1 : variant & 4 ? 0.5f : 0;
    int64_t lda = (ta ? m : k) + 1, ldb = (tb ? k : n) + 3, ldc = n + 1, na = (ta ? k : m) * lda,
            nb = (tb ? n : k) * ldb;
    size_t bytes = (size_t)(m * ldc) * 4;
    float *a = pare_malloc((size_t)na * 4), *b = pare_malloc((size_t)nb * 4), *c0 = pare_malloc(bytes), *c[2];
    for (int64_t i = 0; i < na; i++) a[i] = some();
    for (int64_t i = 0; i < nb; i++) b[i] = some();
    for (int64_t i = 0; i < m * ldc; i++) c0[i] = some();
    for (int v = 0; v < 2; v++) {
        c[v] = pare_malloc(bytes);
        memcpy(c[v], c0, bytes);
        if (beta == 0)
            for (int64_t i = 0; i < m * n; i++) c[v][i / n * ldc + i % n] = NAN;
        pare_set_threads(v ? 3 : 1);
        mixed_calls = 0;
        pare_sgemm_bf16(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c[v], ldc);
        assert_true(mixed_calls > 0);
        assert_int_equal(pare_tiles.config.palette, 0);
    }
    assert_memory_equal(c[0], c[1], bytes);
    double worst = 0;
    for (int64_t i = 0; i < m; i++) {
        assert_memory_equal(c[0] + i * ldc + n, c0 + i * ldc + n, 4);
        for (int64_t j = 0; j < n; j++) {
            double s = (double)(beta * c0[i * ldc + j]), mag = fabs(s);
            for (int64_t p = 0; p < k; p++) {
                double x = (double)alpha * rounded(a[ta ? p * lda + i : i * lda + p]) *
                           rounded(b[tb ? j * ldb + p : p * ldb + j]);
                s += x, mag += fabs(x);
            }
            double error = fabs((double)c[0][i * ldc + j] - s) / mag;
            assert_true(error <= 2e-6);
            worst = fmax(worst, error);
        }
    }
    pare_free(a), pare_free(b), pare_free(c0), pare_free(c[0]), pare_free(c[1]);
    return worst;
}

/* Sizes around blocks of 16 and 32, slabs of 256, items of rows; also what is smaller than a tile. */
static void mixed_products(void **state) {
    static const int64_t dims[][3] = {{1, 1, 1},    {16, 16, 32},  {17, 33, 31},  {32, 32, 64}, {33, 64, 257},
                                      {64, 70, 96}, {50, 48, 520}, {390, 40, 33}, {70, 300, 40}};
    skip_without_avx512();
    (void)restore(NULL);
    bool has_tiles = pare_cpu_mask() & PARE_CPU_AMX;
    pare_gemm_bf16_tiles_fn *own = pare_mm_kernels()->gemm_bf16_tiles;
    for (int native = 0; native <= has_tiles; native++) {
        double worst = 0;
        emulate(true);
        mixed_tiles_fn = native ? own : pare_gemm_bf16_tiles_emulated;
        ((pare_mm_table *)pare_mm_kernels())->gemm_bf16_tiles = counted_mixed;
        for (size_t d = 0; d < sizeof dims / sizeof *dims; d++)
            for (int v = 0; v < 16; v++) worst = fmax(worst, check_mixed(dims[d][0], dims[d][1], dims[d][2], v));
        ((pare_mm_table *)pare_mm_kernels())->gemm_bf16_tiles = NULL;
        print_message("products in bf16, %s: worst error %.2g of sum |a b|\n", native ? "natively" : "emulated", worst);
    }
}

int main(void) {
    pare_rng_seed(&rng, 20260611);
    const struct CMUnitTest tests[] = {cmocka_unit_test(bf16_by_hand),     cmocka_unit_test(int8_by_definition),
                                       cmocka_unit_test(tall_against_ref), cmocka_unit_test(terms_are_exact),
                                       cmocka_unit_test(mixed_products),   cmocka_unit_test(worst_digits),
                                       cmocka_unit_test(formats_and_rules)};
    return cmocka_run_group_tests(tests, NULL, restore);
}
#else
int main(void) { return 0; }
#endif
