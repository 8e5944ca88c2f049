/* SPDX-License-Identifier: Apache-2.0
 *
 * Words of compressed-tensors, GPTQ and AWQ: golden values of the original tools, then random tensors against a packer
 * that sets one code at a time. */
#include "harness.h"

#include "core/rng.h"
#include "formats/int_pack.h"

/* A tensor as plain numbers. */
typedef struct plain {
    size_t n, k, groups;
    int *q;
    unsigned *zero;
    uint16_t *scale;
} plain; /* q, zero: unsigned code units */

static void set_code(uint32_t *words, size_t code, unsigned bits, uint32_t v) {
    size_t per = 32 / bits;
    words[code / per] |= v << (bits * (code % per));
}

static plain plain_random(const pare_qtype *qt, size_t n, size_t k, uint64_t seed) {
    pare_rng r;
    pare_rng_seed(&r, seed);
    unsigned top = 1u << qt->int_format->bits;
    plain p = {n, k, pare_int_groups(qt, k), NULL, NULL, NULL};
    p.q = calloc(n * k, sizeof *p.q);
    p.zero = calloc(n * p.groups, sizeof *p.zero);
    p.scale = calloc(n * p.groups, sizeof *p.scale);
    for (size_t i = 0; i < n * k; i++) p.q[i] = (int)pare_rng_below(&r, top);
    for (size_t i = 0; i < n * p.groups; i++)
        p.zero[i] = qt->int_format->asym ? 1 + (unsigned)pare_rng_below(&r, top - 1) : top / 2;
    for (size_t i = 0; i < n * p.groups; i++) p.scale[i] = pare_f32_to_f16((float)(0.01 + 0.1 * pare_rng_unit(&r)));
    return p;
}
static void plain_free(plain *p) { free(p->q), free(p->zero), free(p->scale); }

/* Rows decode to (q - zero) * scale, rounded to f16. */
static void check_values(const pare_qtype *qt, const plain *p, const void *rows, size_t row0, size_t n_rows) {
    float *w = calloc(p->k, sizeof *w);
    for (size_t r = 0; r < n_rows; r++) {
        qt->decode(qt, (const char *)rows + r * pare_row_bytes(qt, p->k), w, p->k);
        for (size_t i = 0; i < p->k; i++) {
            size_t g = (row0 + r) * p->groups + i / (p->k / p->groups);
            float want = (float)(p->q[(row0 + r) * p->k + i] - (int)p->zero[g]) * pare_f16_to_f32(p->scale[g]);
            assert_true(w[i] == pare_f16_to_f32(pare_f32_to_f16(want)));
        }
    }
    free(w);
}

static void check_layouts(const pare_qtype *qt, size_t n, size_t k) {
    unsigned bits = qt->int_format->bits;
    plain p = plain_random(qt, n, k, n * 1000 + k + bits);
    size_t wk = pare_int_words(qt, k), wn = pare_int_words(qt, n), rb = pare_row_bytes(qt, k), g = p.groups;
    uint32_t *ct = calloc(n * wk, 4), *gp = calloc(wk * n, 4), *ctz = calloc(wn * g, 4), *gz = calloc(g * wn, 4),
             *back = calloc(n * wk + wn * g + 9, 4);
    uint16_t *gs = calloc(n * g, 2), *back16 = calloc(n * g, 2);
    unsigned char *rows = calloc(n, rb), *other = calloc(n, rb);
    for (size_t r = 0; r < n; r++)
        for (size_t i = 0; i < k; i++) {
            set_code(ct + r * wk, i, bits, (uint32_t)p.q[r * k + i]);
            gp[i / (32 / bits) * n + r] |= (uint32_t)p.q[r * k + i] << (bits * (i % (32 / bits)));
        }
    for (size_t r = 0; r < n; r++)
        for (size_t j = 0; j < g; j++) {
            ctz[r / (32 / bits) * g + j] |= p.zero[r * g + j] << (bits * (r % (32 / bits)));
            set_code(gz + j * wn, r, bits, p.zero[r * g + j] - 1);
            gs[j * n + r] = p.scale[r * g + j];
        }
    pare_int_from_ct(qt, ct, p.scale, ctz, k, 0, n, rows);
    check_values(qt, &p, rows, 0, n);
    pare_int_to_ct_packed(qt, rows, n, k, back);
    assert_memory_equal(back, ct, n * wk * 4);
    pare_int_to_ct_zero(qt, rows, n, k, back);
    assert_memory_equal(back, ctz, wn * g * 4);
    pare_int_to_ct_scale(qt, rows, n, k, back16);
    assert_memory_equal(back16, p.scale, n * g * 2);

    pare_int_from_gptq(qt, gp, gs, gz, true, n, k, 0, n, other);
    assert_memory_equal(other, rows, n * rb);
    memset(other, 0, n * rb);
    pare_int_from_gptq(qt, gp, gs, gz, true, n, k, 3, n - 5, other); /* a piece */
    assert_memory_equal(other, rows + 3 * rb, (n - 5) * rb);
    pare_int_to_gptq_qweight(qt, rows, 8, k, back, n); /* in two pieces */
    pare_int_to_gptq_qweight(qt, rows + 8 * rb, n - 8, k, back + 8, n);
    assert_memory_equal(back, gp, wk * n * 4);
    pare_int_to_gptq_qzeros(qt, rows, n, k, back, wn, true);
    assert_memory_equal(back, gz, g * wn * 4);
    pare_int_to_gptq_scales(qt, rows, n, k, back16, n);
    assert_memory_equal(back16, gs, n * g * 2);
    free(ct), free(gp), free(ctz), free(gz), free(back), free(gs), free(back16), free(rows), free(other);
    plain_free(&p);
}

static void test_layouts(void **state) {
    static const unsigned groups[] = {0, 32, 64, 128};
    for (int bits = 4; bits <= 8; bits += 4)
        for (int asym = 0; asym < 2; asym++)
            for (size_t i = 0; i < 4; i++) {
                const pare_qtype *qt = pare_qtype_int(bits, groups[i], asym, &pare_qtype_f16);
                assert_non_null(qt);
                check_layouts(qt, 72, 256);
                check_layouts(qt, 130, 128);
                if (groups[i] == 0) check_layouts(qt, 33, 172), check_layouts(qt, 17, 7), check_layouts(qt, 9, 33);
            }
}

static void test_awq(void **state) {
    static const uint8_t nibble[8] = {0, 4, 1, 5, 2, 6, 3, 7};
    static const unsigned groups[] = {32, 128, 0};
    for (size_t t = 0; t < 3; t++) {
        const pare_qtype *qt = pare_qtype_int(4, groups[t], true, &pare_qtype_f16);
        size_t n = 152, k = groups[t] ? 256 : 43, rb = pare_row_bytes(qt, k);
        plain p = plain_random(qt, n, k, 7 + t);
        uint32_t *q = calloc(k * n / 8, 4), *z = calloc(p.groups * n / 8, 4);
        uint16_t *s = calloc(p.groups * n, 2);
        unsigned char *rows = calloc(n, rb), *piece = calloc(n, rb);
        for (size_t r = 0; r < n; r++) {
            for (size_t i = 0; i < k; i++) q[i * (n / 8) + r / 8] |= (uint32_t)p.q[r * k + i] << 4 * nibble[r % 8];
            for (size_t g = 0; g < p.groups; g++) {
                z[g * (n / 8) + r / 8] |= p.zero[r * p.groups + g] << 4 * nibble[r % 8];
                s[g * n + r] = p.scale[r * p.groups + g];
            }
        }
        pare_int_from_awq(qt, q, s, z, n, k, 0, n, rows);
        check_values(qt, &p, rows, 0, n);
        pare_int_from_awq(qt, q, s, z, n, k, 5, 90, piece);
        assert_memory_equal(piece, rows + 5 * rb, 90 * rb);
        free(q), free(z), free(s), free(rows), free(piece);
        plain_free(&p);
    }
}

static void from_codes(const pare_qtype *qt, const int *codes, size_t n, size_t k,
                       unsigned char *rows) { /* signed codes, scale 1 */
    uint32_t words[64] = {0}, zero[64] = {0};
    uint16_t one[16];
    unsigned bits = qt->int_format->bits;
    for (size_t i = 0; i < 16; i++) one[i] = 0x3C00;
    for (size_t r = 0; r < n; r++)
        for (size_t i = 0; i < k; i++)
            set_code(words + r * pare_int_words(qt, k), i, bits, (uint32_t)(codes[r * k + i] + (1 << (bits - 1))));
    pare_int_from_ct(qt, words, one, zero, k, 0, n, rows);
}

static void test_golden_ct(void **state) {
    static const int rows4[3][8] = {{-8, -7, -6, -5, -4, -3, -2, -1},
                                    {0, 1, 2, 3, 4, 5, 6, 7},
                                    {7, -8, 0, -1, 3, -4, 1, -2}};
    static const uint32_t want4[3] = {0x76543210, 0xFEDCBA98, 0x694B780F};
    static const int row8[4] = {-128, -1, 0, 127};
    const pare_qtype *q4 = pare_qtype_int(4, 0, false, &pare_qtype_f16),
                     *q8 = pare_qtype_int(8, 0, false, &pare_qtype_f16);
    unsigned char rows[256];
    uint32_t got[3];
    int8_t i8[4];
    from_codes(q4, rows4[0], 3, 8, rows);
    pare_int_to_ct_packed(q4, rows, 3, 8, got);
    assert_memory_equal(got, want4, 12);
    from_codes(q8, row8, 1, 4, rows);
    pare_int_to_ct_packed(q8, rows, 1, 4, got);
    assert_int_equal(got[0], 0xFF807F00);
    pare_int_to_i8(q8, rows, 1, 4, i8);
    for (int i = 0; i < 4; i++) assert_int_equal(i8[i], row8[i]);
    /* zero points of 8 rows, -8..-1 */
    const pare_qtype *a4 = pare_qtype_int(4, 0, true, &pare_qtype_f16);
    uint32_t packed[8] = {0}, zero = 0x76543210, back;
    uint16_t one[8] = {0x3C00, 0x3C00, 0x3C00, 0x3C00, 0x3C00, 0x3C00, 0x3C00, 0x3C00};
    pare_int_from_ct(a4, packed, one, &zero, 8, 0, 8, rows);
    for (int r = 0; r < 8; r++) { /* code 0 is q = -8: value = -8 - zp = -8 - (r - 8) */
        float w[8];
        a4->decode(a4, rows + (size_t)r * pare_row_bytes(a4, 8), w, 8);
        assert_true(w[0] == (float)-r);
    }
    pare_int_to_ct_zero(a4, rows, 8, 8, &back);
    assert_int_equal(back, zero);
}

static void test_golden_gptq(void **state) {
    const pare_qtype *q4 = pare_qtype_int(4, 0, false, &pare_qtype_f16);
    int codes[16];
    unsigned char rows[256];
    uint32_t got[2], zero[1];
    int32_t g_idx[130];
    for (int n = 0; n < 2; n++)
        for (int k = 0; k < 8; k++) codes[n * 8 + k] = (k + n) % 16 - 8;
    from_codes(q4, codes, 2, 8, rows);
    pare_int_to_gptq_qweight(q4, rows, 2, 8, got, 2);
    assert_int_equal(got[0], 0x76543210);
    assert_int_equal(got[1], 0x87654321);
    int eight[64] = {0};
    from_codes(q4, eight, 8, 8, rows);
    pare_int_to_gptq_qzeros(q4, rows, 8, 8, zero, 1, true);
    assert_int_equal(zero[0], 0x77777777);
    pare_int_to_gptq_qzeros(q4, rows, 8, 8, zero, 1, false);
    assert_int_equal(zero[0], 0x88888888);
    const pare_qtype *q8 = pare_qtype_int(8, 0, false, &pare_qtype_f16);
    int c8[4] = {0, 1, 2, 3};
    from_codes(q8, c8, 1, 4, rows);
    pare_int_to_gptq_qweight(q8, rows, 1, 4, got, 1);
    assert_int_equal(got[0], 0x83828180);
    pare_int_gptq_g_idx(pare_qtype_int(4, 64, false, &pare_qtype_f16), 130, g_idx);
    assert_int_equal(g_idx[63], 0);
    assert_int_equal(g_idx[64], 1);
    assert_int_equal(g_idx[129], 2);
    /* the hazard of version 1: zeros 0..7 are stored as 0x654320FF after the borrow; per code that is 16 16 1 3 4 5 6 7
     */
    uint32_t v1 = 0x654320FF;
    static const unsigned want[8] = {16, 16, 1, 3, 4, 5, 6, 7};
    for (size_t n = 0; n < 8; n++) assert_int_equal(pare_int_gptq_zero(&v1, 4, 8, 0, n, true), want[n]);
}

static void test_golden_awq(void **state) {
    const pare_qtype *qt = pare_qtype_int(4, 0, true, &pare_qtype_f16);
    uint32_t codes = 0x75316420, zeros = 0x68978888;
    static const unsigned zero[8] = {8, 7, 8, 9, 8, 8, 8, 6};
    uint16_t one[8] = {0x3C00, 0x3C00, 0x3C00, 0x3C00, 0x3C00, 0x3C00, 0x3C00, 0x3C00};
    unsigned char rows[256];
    pare_int_from_awq(qt, &codes, one, &zeros, 8, 1, 0, 8, rows);
    for (size_t n = 0; n < 8; n++) {
        float w;
        qt->decode(qt, rows + n * pare_row_bytes(qt, 1), &w, 1);
        assert_true(w == (float)((int)n - (int)zero[n]));
        assert_int_equal(pare_int_awq_zero(&zeros, 8, 0, n), zero[n]);
    }
}

static void test_i8(void **state) {
    const pare_qtype *qt = pare_qtype_int(8, 0, true, &pare_qtype_f16);
    int8_t w[2][3] = {{-128, 0, 127}, {1, 2, 3}}, zero[2] = {-128, 5};
    uint16_t scale[2] = {0x3C00, 0x4000}; /* 1, 2 */
    unsigned char rows[64];
    float v[3];
    pare_int_from_i8(qt, w, scale, zero, true, 3, 0, 2, rows);
    qt->decode(qt, rows, v, 3);
    assert_true(v[0] == 0 && v[1] == 128 && v[2] == 255);
    qt->decode(qt, rows + pare_row_bytes(qt, 3), v, 3);
    assert_true(v[0] == -8 && v[1] == -6 && v[2] == -4);
    qt = pare_qtype_int(8, 0, false, &pare_qtype_f16);
    pare_int_from_i8(qt, w, scale + 1, NULL, false, 3, 1, 1, rows); /* one scale for all */
    qt->decode(qt, rows, v, 3);
    assert_true(v[0] == 2 && v[1] == 4 && v[2] == 6);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_layouts),    cmocka_unit_test(test_awq),
                                       cmocka_unit_test(test_golden_ct),  cmocka_unit_test(test_golden_gptq),
                                       cmocka_unit_test(test_golden_awq), cmocka_unit_test(test_i8)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
