/* SPDX-License-Identifier: Apache-2.0
 *
 * Sparse storage formats (core/sparse.h) and their kernels: rows packed from dense ones come back bit for bit; every
 * level of the processor gives the scalar kernels' slabs and the products of the dense rows, on odd shapes, from
 * unaligned rows between guard bytes; rows whose masks lie read nothing outside. */
#include "harness.h"

#include "core/cpu_features.h"
#include "core/rng.h"
#include "core/sparse.h"
#include "cpu/matmul.h"
#include "cpu/matmul_kernels.h"

#include <math.h>
#include <sys/mman.h>

static const uint32_t masks[] = {0, 1, 3, 7, 39, 63};
#define N_MASKS (sizeof masks / sizeof *masks)
static pare_rng rng;

static const char *const dense_names[] = {"f32",      "f16",           "bf16",     "int8",          "int8:f32",
                                          "int8:g32", "int8:g64:bf16", "int4:g32", "int4:g128:f32", "int4:bf16"};
#define N_DENSE (sizeof dense_names / sizeof *dense_names)

/* What stays: 2 (or fewer) of every 4, or a share of the runs. */
static void prune(float *w, size_t n, unsigned run, unsigned keep) {
    if (!keep) {
        for (size_t c = 0; c < n; c += 4)
            for (unsigned gone = 0; gone < 2;) {
                float *v = w + c + pare_rng_below(&rng, 4);
                gone += *v != 0;
                *v = 0;
            }
        return;
    }
    size_t runs = n / run, left = runs * keep / 16;
    for (size_t dead = runs - left; dead;) {
        size_t r = pare_rng_below(&rng, (uint32_t)runs);
        dead -= w[r * run] != 0;
        memset(w + r * run, 0, run * sizeof *w);
    }
}

/* A dense row of that format whose zeros allow it to be packed. */
static void dense_row(const pare_qtype *q, size_t n, unsigned run, unsigned keep, uint8_t *out) {
    float *w = pare_malloc(n * sizeof *w);
    for (size_t c = 0; c < n; c++) w[c] = pare_rng_normal(&rng) + (pare_rng_below(&rng, 2) ? 0.5f : -0.5f);
    for (size_t c = 0; c < n; c++) w[c] = w[c] == 0 ? 1 : w[c];
    prune(w, n, run, keep);
    if (q == &pare_qtype_f32) memcpy(out, w, n * 4);
    else if (q == &pare_qtype_f16) pare_f32_to_f16_n(w, (uint16_t *)(void *)out, n);
    else if (q == &pare_qtype_bf16) pare_f32_to_bf16_n(w, (uint16_t *)(void *)out, n);
    else q->grid->encode(q, w, n, NULL, 1, n, out, 0);
    pare_free(w);
}

static void pack(const pare_qtype *qt, const uint8_t *dense, size_t n, uint8_t *row) {
    const pare_sparse_format *f = qt->sparse;
    pare_sparse_row at = pare_sparse_row_of(qt, n);
    uint8_t *mask = pare_malloc(at.place_bytes), *values = pare_malloc(n * 4), *scales = pare_malloc(n * 4);
    unsigned run = f->keep ? f->run : 0;
    assert_true(pare_sparse_places(f->dense, run, dense, n, mask) * f->run <= at.values);
    size_t bytes = pare_sparse_values(f->dense, run, dense, n, mask, values);
    if (!run) assert_true(pare_sparse_indexes_ok(mask, n));
    assert_int_equal(pare_sparse_scales(f->dense, dense, n, scales), at.table_at);
    pare_sparse_join(qt, n, scales, mask, values, bytes, row);
    pare_free(mask), pare_free(values), pare_free(scales);
}

static size_t some_columns(const pare_qtype *d, unsigned run, unsigned keep, size_t i) {
    static const size_t base[] = {4, 36, 96, 252, 260, 512, 532, 1100};
    size_t unit = d->block_elems > 1 ? d->block_elems : keep ? run : 4, n = base[i % 8];
    return (n + unit - 1) / unit * unit;
}

static void names(void **state) {
    const pare_qtype *q = pare_qtype_by_name("int8:2of4");
    assert_non_null(q);
    assert_ptr_equal(q, pare_qtype_sparse(pare_qtype_by_name("int8"), 1, 0));
    assert_ptr_equal(pare_qtype_by_name("INT4:g64:bf16:MASK4.9"),
                     pare_qtype_sparse(pare_qtype_by_name("int4:g64:bf16"), 4, 9));
    static const char *const bad[] = {"int8:2of3",   "q4_0:2of4",    "int8:asym:2of4", "f16:mask2.8",  "f16:mask1.16",
                                      "f16:mask1.0", "f16:mask1.8x", ":2of4",          "f16:2of4:2of4"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_null(pare_qtype_by_name(bad[i]));
    /* bytes: what a mask bit per column and half of the codes are */
    assert_int_equal(pare_row_bytes(q, 4096), 2 + 4096 / 8 + 2048);
    assert_int_equal(pare_row_bytes(pare_qtype_by_name("f16:2of4"), 64), 8 + 64);
    assert_int_equal(pare_row_bytes(pare_qtype_by_name("f32:mask16.4"), 64), 2 + 1 + 64);
    assert_false(pare_qtype_fits(q, 6));
    assert_false(pare_qtype_fits(pare_qtype_by_name("f32:mask16.4"), 40));
    assert_false(pare_qtype_fits(pare_qtype_by_name("f32:mask1.4"), 65536));
    assert_true(pare_qtype_fits(pare_qtype_by_name("f32:mask4.4"), 65536));
}

/* Written out by hand: columns 1 and 3, then 4 and 5 of eight. */
static void by_hand(void **state) {
    const pare_qtype *q = pare_qtype_by_name("f32:2of4"), *r = pare_qtype_by_name("f32:mask4.8");
    const float w[8] = {0, 1, 0, 2, 3, 0, 0, 0}, blocks[8] = {0, 0, 0, 0, 1, 0, -0.0f, 4};
    const float four[4] = {1, 2, 3, 0}, run[4] = {1, 0, -0.0f, 4};
    uint8_t row[64], want[64] = {0x4D}, again[64] = {0, 0, 0x02};
    memcpy(want + 1, four, 16);
    pack(q, (const uint8_t *)w, 8, row);
    assert_int_equal(pare_row_bytes(q, 8), 17);
    assert_memory_equal(row, want, 17);
    memcpy(again + 3, run, 16);
    pack(r, (const uint8_t *)blocks, 8, row);
    assert_int_equal(pare_row_bytes(r, 8), 19);
    assert_memory_equal(row, again, 19);
    float back[8];
    r->decode(r, row, back, 8);
    assert_memory_equal(back, blocks, sizeof back); /* the sign of a stored zero, too */
}

static void check_row(const pare_qtype *qt, size_t n, size_t shift) {
    const pare_qtype *d = qt->sparse->dense;
    size_t db = pare_row_bytes(d, n), rb = pare_row_bytes(qt, n), size = d->int_format ? 1 : d->block_bytes;
    harness_buf dense = harness_buf_new(db, 0), back = harness_buf_new(db, 3), row = harness_buf_new(rb, shift);
    dense_row(d, n, qt->sparse->run, qt->sparse->keep, dense.p);
    pack(qt, dense.p, n, row.p);
    pare_sparse_to_dense(qt, row.p, n, back.p);
    assert_memory_equal(dense.p, back.p, db);
    float *a = pare_malloc(n * 4 + 4), *b = pare_malloc(n * 4 + 4);
    d->decode(d, dense.p, a, n);
    qt->decode(qt, row.p, b, n);
    assert_memory_equal(a, b, n * 4);
    pare_sparse_view v = pare_sparse_view_of(qt, n);
    _Alignas(64) uint8_t want[PARE_SPARSE_SLAB * 4], got[PARE_SPARSE_SLAB * 4 + 64];
    for (size_t l = 0; l < N_MASKS; l++) {
        pare_cpu_limit(masks[l]);
        for (size_t c = 0; c < n; c += PARE_SPARSE_SLAB) {
            size_t k = n - c < PARE_SPARSE_SLAB ? n - c : PARE_SPARSE_SLAB;
            memset(got, 0xA5, sizeof got);
            pare_sparse_slab_ref(&v, row.p, c, k, want);
            pare_mm_kernels()->sparse_slab(&v, row.p, c, k, got);
            assert_memory_equal(want, got, k * size);
            for (size_t i = 0; i < 64; i++) assert_int_equal(got[PARE_SPARSE_SLAB * size + i], 0xA5);
        }
    }
    pare_cpu_limit(UINT32_MAX);
    pare_free(a), pare_free(b);
    harness_buf_free(&dense), harness_buf_free(&back), harness_buf_free(&row);
}

static void rows(void **state) {
    static const unsigned shapes[][2] = {{1, 0}, {1, 8}, {1, 3}, {4, 8}, {4, 15}, {16, 8}, {16, 1}};
    for (size_t d = 0; d < N_DENSE; d++)
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
            for (size_t i = 0; i < 8; i++) {
                const pare_qtype *q = pare_qtype_by_name(dense_names[d]);
                check_row(pare_qtype_sparse(q, shapes[s][0], shapes[s][1]),
                          some_columns(q, shapes[s][0], shapes[s][1], i), i * 5 % 7);
            }
}

typedef struct product {
    const pare_qtype *qt;
    int64_t m, n, k;
    pare_act_round act;
} product;

/* The same product with the rows in the dense format, at the same level: the reference is another kernel's. Rows end
 * where an unmapped page begins. */
static void check_product(const product *q) {
    const pare_qtype *d = q->qt->sparse->dense;
    size_t k = (size_t)q->k, rb = pare_row_bytes(q->qt, k), db = pare_row_bytes(d, k), n = (size_t)q->n;
    size_t page = 4096, span = (rb * n + page - 1) / page * page, yn = (size_t)(q->m * q->n);
    uint8_t *map = mmap(NULL, span + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(map != MAP_FAILED && mprotect(map + span, page, PROT_NONE) == 0);
    uint8_t *sparse = map + span - rb * n, *dense = pare_malloc(db * n);
    float *x = pare_malloc((size_t)q->m * k * 4), *row = pare_malloc(k * 4), *xr = pare_malloc(k * 4);
    for (size_t r = 0; r < n; r++) {
        dense_row(d, k, q->qt->sparse->run, q->qt->sparse->keep, dense + r * db);
        pack(q->qt, dense + r * db, k, sparse + r * rb);
    }
    for (size_t i = 0; i < (size_t)q->m * k; i++) x[i] = pare_rng_normal(&rng);
    int64_t shape[2] = {q->n, q->k};
    pare_tensor w = pare_tensor_make(q->qt, 2, shape, sparse), dw = pare_tensor_make(d, 2, shape, dense);
    w.transposed = dw.transposed = true;
    assert_int_equal(pare_act_rule_for(q->qt, q->act), pare_act_rule_for(d, q->act));
    size_t ws_bytes = pare_matmul_stored_workspace(&w, q->m, q->act);
    harness_buf ws = harness_buf_new(ws_bytes, 0), y = harness_buf_new(yn * 4, 4);
    float *want = pare_malloc(yn * 4), *yf = (float *)(void *)y.p;
    void *dws = pare_malloc_aligned(pare_matmul_stored_workspace(&dw, q->m, q->act) + 64);
    for (size_t l = 0; l < N_MASKS; l++) {
        pare_cpu_limit(masks[l]);
        pare_set_threads(1 + (int)(l % 2));
        pare_matmul_stored(&dw, x, want, q->m, q->act, dws);
        memset(y.p, 0x5A, yn * 4);
        pare_matmul_stored(&w, x, yf, q->m, q->act, ws.p);
        harness_buf_check(&y), harness_buf_check(&ws);
        for (size_t i = 0; i < yn; i++) {
            d->decode(d, dense + i % n * db, row, k);
            pare_act_round_row(pare_act_rule_for(d, q->act), x + i / n * k, k, xr);
            double mag = 0;
            for (size_t c = 0; c < k; c++) mag += fabs((double)row[c] * (double)xr[c]);
            if (!(fabs((double)yf[i] - (double)want[i]) <= 4e-6 * mag + 1e-30))
                fail_msg("%s act %d cpu %s [%lld x %lld x %lld] at %zu: %g, dense %g", q->qt->name, (int)q->act,
                         pare_cpu_name(masks[l]), (long long)q->m, (long long)q->n, (long long)q->k, i, (double)yf[i],
                         (double)want[i]);
        }
    }
    pare_cpu_limit(UINT32_MAX), pare_set_threads(0);
    harness_buf_free(&ws), harness_buf_free(&y);
    void *all[] = {dense, x, row, xr, want, dws};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) pare_free(all[i]);
    munmap(map, span + page);
}

static void products(void **state) {
    static const int64_t ms[] = {1, 2, 4, 5, 17}, ns[] = {1, 15, 33, 70};
    static const unsigned shapes[][2] = {{1, 0}, {1, 7}, {4, 8}, {16, 9}};
    size_t at = 0;
    for (size_t d = 0; d < N_DENSE; d++)
        for (size_t s = 0; s < 4; s++)
            for (int act = PARE_ACT_NONE; act <= PARE_ACT_INT8_BLOCK; act++)
                for (size_t i = 0; i < 3; i++, at++) {
                    const pare_qtype *q = pare_qtype_by_name(dense_names[d]);
                    product p = {.qt = pare_qtype_sparse(q, shapes[s][0], shapes[s][1]),
                                 .m = ms[at % 5],
                                 .n = ns[at % 4],
                                 .k = (int64_t)some_columns(q, shapes[s][0], shapes[s][1], at),
                                 .act = (pare_act_round)act};
                    check_product(&p);
                }
}

/* Masks, tables and codes that are noise: values may be anything, reads stay inside (an unmapped page follows). */
static void noise(void **state) {
    static const unsigned shapes[][2] = {{1, 0}, {1, 2}, {4, 5}, {16, 3}};
    size_t page = 4096, span = 16 * page, k = 544;
    uint8_t *map = mmap(NULL, span + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(map != MAP_FAILED && mprotect(map + span, page, PROT_NONE) == 0);
    float x[3 * 544], y[3 * 5];
    for (size_t i = 0; i < 3 * k; i++) x[i] = 1;
    for (size_t d = 0; d < N_DENSE; d++)
        for (size_t s = 0; s < 4; s++) {
            const pare_qtype *q = pare_qtype_sparse(pare_qtype_by_name(dense_names[d]), shapes[s][0], shapes[s][1]);
            if (!pare_qtype_fits(q, k)) continue; /* 544 columns are no whole groups of 128 */
            size_t rb = pare_row_bytes(q, k);
            pare_tensor w = pare_tensor_make(q, 2, (int64_t[]){5, (int64_t)k}, map + span - 5 * rb);
            for (size_t i = 0; i < 5 * rb; i++) map[span - 1 - i] = i % 3 ? 0xFF : (uint8_t)pare_rng_u64(&rng);
            for (size_t l = 0; l < N_MASKS; l++)
                for (int act = PARE_ACT_NONE; act <= PARE_ACT_INT8_BLOCK; act++) {
                    pare_cpu_limit(masks[l]);
                    void *ws = pare_malloc_aligned(pare_matmul_stored_workspace(&w, 3, (pare_act_round)act) + 64);
                    pare_matmul_stored(&w, x, y, 3, (pare_act_round)act, ws);
                    pare_free(ws);
                }
        }
    pare_cpu_limit(UINT32_MAX);
    munmap(map, span + page);
}

int main(void) {
    pare_rng_seed(&rng, 20261125);
    const struct CMUnitTest tests[] = {cmocka_unit_test(names), cmocka_unit_test(by_hand), cmocka_unit_test(rows),
                                       cmocka_unit_test(products), cmocka_unit_test(noise)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
