/* SPDX-License-Identifier: Apache-2.0
 *
 * Grids of the GGUF formats with blocks of 32 columns and one scale: q4_0, q5_0, q8_0 (symmetric), q4_1, q5_1 (with an
 * offset), iq4_nl (codebook). iq4_nl, and with importance all but q8_0, search; else the scale follows from the range,
 * as in llama.cpp: q8_0 from the largest magnitude, q4_0 and q5_0 so that the value of largest magnitude is the lowest
 * code, q4_1 and q5_1 from minimum and maximum. Codes are nearest under the stored, rounded parameters. */
#include "quant/block_grid.h"
#include "quant/blocks.h"

#include <string.h>

#define BATCH 32

/* Of the values x[0..31] the first of magnitude top, as llama.cpp chooses. */
static float first_of(const float *x, float top) {
    while (*x != top && *x != -top) x++;
    return *x;
}

static void fit_range(const pare_block_format *f, const float *w, size_t w_ld, size_t rows, pare_block_params *params) {
    float lo[BATCH], hi[BATCH];
    bool offset = f->offset;
    for (size_t r0 = 0; r0 < rows; r0 += BATCH) {
        size_t n = rows - r0 < BATCH ? rows - r0 : BATCH;
        pare_qops_get()->minmax(w + r0 * w_ld, w_ld, n, 32, lo, hi);
        for (size_t r = 0; r < n; r++) {
            pare_block_params p = {0};
            float d, top = -lo[r] > hi[r] ? lo[r] : hi[r];
            if (-lo[r] == hi[r] && hi[r] > 0) top = first_of(w + (r0 + r) * w_ld, hi[r]);
            if (offset) d = (hi[r] - lo[r]) / (float)f->hi;
            else if (f->lo == -f->hi) d = (top < 0 ? -top : top) / (float)f->hi;
            else d = top / (float)f->lo;
            p.d = pare_f16_scale(d);
            if (offset) p.m = pare_f16_scale(lo[r]);
            params[r0 + r] = p;
        }
    }
}

static void affine_scale(const pare_block_params *p, float *a, float *b) {
    a[0] = pare_f16_to_f32(p->d);
    b[0] = 0;
}
static void affine_offset(const pare_block_params *p, float *a, float *b) {
    a[0] = pare_f16_to_f32(p->d);
    b[0] = -pare_f16_to_f32(p->m);
}

static void pack_q8_0(const pare_block_params *p, const int8_t *codes, uint8_t *out) {
    memcpy(out, &p->d, 2);
    memcpy(out + 2, codes, 32);
}
static void unpack_q8_0(const uint8_t *in, pare_block_params *p, int8_t *codes) {
    memcpy(&p->d, in, 2);
    memcpy(codes, in + 2, 32);
}

static inline void put_nibbles(const int8_t *codes, int bias, uint8_t *q) {
    for (int i = 0; i < 16; i++) q[i] = (uint8_t)(((codes[i] + bias) & 15) | (codes[i + 16] + bias) << 4);
}
static inline void get_nibbles(const uint8_t *q, int bias, int8_t *codes) {
    for (int i = 0; i < 16; i++) {
        codes[i] = (int8_t)((q[i] & 15) - bias);
        codes[i + 16] = (int8_t)((q[i] >> 4) - bias);
    }
}
static inline void put_fifth(const int8_t *codes, int bias, uint8_t *q) {
    uint32_t h = 0;
    for (int i = 0; i < 32; i++) h |= (uint32_t)((codes[i] + bias) >> 4 & 1) << i;
    memcpy(q, &h, 4);
}
static inline void add_fifth(const uint8_t *q, int8_t *codes) {
    uint32_t h = pare_le32(q);
    for (int i = 0; i < 32; i++) codes[i] = (int8_t)(codes[i] + (int)(h >> i & 1) * 16);
}

static void pack_q4_0(const pare_block_params *p, const int8_t *codes, uint8_t *out) {
    memcpy(out, &p->d, 2);
    put_nibbles(codes, 8, out + 2);
}
static void unpack_q4_0(const uint8_t *in, pare_block_params *p, int8_t *codes) {
    memcpy(&p->d, in, 2);
    get_nibbles(in + 2, 8, codes);
}
static void pack_iq4_nl(const pare_block_params *p, const int8_t *codes, uint8_t *out) {
    memcpy(out, &p->d, 2);
    put_nibbles(codes, 0, out + 2);
}
static void unpack_iq4_nl(const uint8_t *in, pare_block_params *p, int8_t *codes) {
    memcpy(&p->d, in, 2);
    get_nibbles(in + 2, 0, codes);
}
static void pack_q4_1(const pare_block_params *p, const int8_t *codes, uint8_t *out) {
    memcpy(out, &p->d, 2);
    memcpy(out + 2, &p->m, 2);
    put_nibbles(codes, 0, out + 4);
}
static void unpack_q4_1(const uint8_t *in, pare_block_params *p, int8_t *codes) {
    memcpy(&p->d, in, 2);
    memcpy(&p->m, in + 2, 2);
    get_nibbles(in + 4, 0, codes);
}
static void pack_q5_0(const pare_block_params *p, const int8_t *codes, uint8_t *out) {
    memcpy(out, &p->d, 2);
    put_fifth(codes, 16, out + 2);
    put_nibbles(codes, 16, out + 6);
}
static void unpack_q5_0(const uint8_t *in, pare_block_params *p, int8_t *codes) {
    memcpy(&p->d, in, 2);
    get_nibbles(in + 6, 16, codes);
    add_fifth(in + 2, codes);
}
static void pack_q5_1(const pare_block_params *p, const int8_t *codes, uint8_t *out) {
    memcpy(out, &p->d, 2);
    memcpy(out + 2, &p->m, 2);
    put_fifth(codes, 0, out + 4);
    put_nibbles(codes, 0, out + 8);
}
static void unpack_q5_1(const uint8_t *in, pare_block_params *p, int8_t *codes) {
    memcpy(&p->d, in, 2);
    memcpy(&p->m, in + 2, 2);
    get_nibbles(in + 8, 0, codes);
    add_fifth(in + 4, codes);
}

static void fit_plain(const pare_block_format *f, const float *w, size_t w_ld, const float *importance,
                      const float *row_energy, size_t rows, pare_block_params *params) {
    fit_range(f, w, w_ld, rows, params);
}
static void fit_either(const pare_block_format *f, const float *w, size_t w_ld, const float *importance,
                       const float *row_energy, size_t rows, pare_block_params *params) {
    if (importance) pare_block_search_fit(f, w, w_ld, importance, row_energy, rows, params);
    else fit_range(f, w, w_ld, rows, params);
}

#define FORMAT(id, nm, ggml, block, low, high, with_offset, book, fit_fn, affine_fn, ...)                              \
    static const pare_block_format id##_format = {.grid = PARE_BLOCK_GRID(32),                                         \
                                                  .elems = 32,                                                         \
                                                  .bytes = block,                                                      \
                                                  .run = 32,                                                           \
                                                  .subs = 1,                                                           \
                                                  .lo = low,                                                           \
                                                  .hi = high,                                                          \
                                                  .offset = with_offset,                                               \
                                                  .codebook = book,                                                    \
                                                  .search = {__VA_ARGS__},                                             \
                                                  .fit = fit_fn,                                                       \
                                                  .affine = affine_fn,                                                 \
                                                  .pack = pack_##id,                                                   \
                                                  .unpack = unpack_##id};                                              \
    static void decode_##id(const pare_qtype *qt, const void *src, float *dst, size_t n) {                             \
        pare_qops_get()->decode_##id(src, dst, n / 32);                                                                \
    }                                                                                                                  \
    const pare_qtype pare_qtype_##id = {.name = nm,                                                                    \
                                        .kind = PARE_QK_BLOCK,                                                         \
                                        .ggml_type = ggml,                                                             \
                                        .block_elems = 32,                                                             \
                                        .block_bytes = block,                                                          \
                                        .decode = decode_##id,                                                         \
                                        .grid = &id##_format.grid};

#define SYM  PARE_W_SQUARE, PARE_W_IMPORTANCE, 0, 1, true, 0, 0, 9
#define ASYM PARE_W_SQUARE, PARE_W_IMPORTANCE, 0, 1, true, 0, 0, 0, -0.9f, 0.05f, 36
FORMAT(q4_0, "q4_0", 2, 18, -8, 7, false, false, fit_either, affine_scale, SYM)
FORMAT(q4_1, "q4_1", 3, 20, 0, 15, true, false, fit_either, affine_offset, ASYM)
FORMAT(q5_0, "q5_0", 6, 22, -16, 15, false, false, fit_either, affine_scale, SYM)
FORMAT(q5_1, "q5_1", 7, 24, 0, 31, true, false, fit_either, affine_offset, ASYM)
FORMAT(q8_0, "q8_0", 8, 34, -127, 127, false, false, fit_plain, affine_scale, 0)
FORMAT(iq4_nl, "iq4_nl", 20, 18, 0, 15, false, true, pare_block_search_fit, affine_scale, PARE_W_SQUARE,
       PARE_W_IMPORTANCE, 0, 2, false, 0, 0, 7)
