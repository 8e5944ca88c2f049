/* SPDX-License-Identifier: Apache-2.0
 *
 * Grids of the GGUF formats with blocks of 256 columns, sub-blocks of 16 or 32 and integer sub-block scales: q2_k,
 * q4_k, q5_k (with offsets), q3_k, q6_k, iq4_xs (symmetric). Byte layouts: quant/blocks.h. The search weights are those
 * of llama-quantize for each format, so that the two can be compared under one measure. */
#include "quant/block_grid.h"
#include "quant/blocks.h"

#include <string.h>

static void affine_offsets(const pare_block_params *p, float *a, float *b, int subs) {
    float d = pare_f16_to_f32(p->d), dmin = pare_f16_to_f32(p->m);
    for (int j = 0; j < subs; j++) {
        a[j] = d * (float)p->sc[j];
        b[j] = dmin * (float)p->mn[j];
    }
}
static void affine_scales(const pare_block_params *p, float *a, float *b, int subs) {
    float d = pare_f16_to_f32(p->d);
    for (int j = 0; j < subs; j++) {
        a[j] = d * (float)p->sc[j];
        b[j] = 0;
    }
}
static void affine_q2_k(const pare_block_params *p, float *a, float *b) { affine_offsets(p, a, b, 16); }
static void affine_q4_k(const pare_block_params *p, float *a, float *b) { affine_offsets(p, a, b, 8); }
static void affine_q5_k(const pare_block_params *p, float *a, float *b) { affine_offsets(p, a, b, 8); }
static void affine_q3_k(const pare_block_params *p, float *a, float *b) { affine_scales(p, a, b, 16); }
static void affine_q6_k(const pare_block_params *p, float *a, float *b) { affine_scales(p, a, b, 16); }
static void affine_iq4_xs(const pare_block_params *p, float *a, float *b) { affine_scales(p, a, b, 8); }

/* Bit pairs of 256 codes, 0..3: byte 32 h + i holds columns 128 h + i, + 32, + 64, + 96. */
static void put_pairs(const int8_t *codes, int bias, uint8_t *q) {
    for (int h = 0; h < 2; h++, codes += 128, q += 32)
        for (int i = 0; i < 32; i++)
            q[i] = (uint8_t)(((codes[i] + bias) & 3) | ((codes[i + 32] + bias) & 3) << 2 |
                             ((codes[i + 64] + bias) & 3) << 4 | ((codes[i + 96] + bias) & 3) << 6);
}
static void get_pairs(const uint8_t *q, int bias, int8_t *codes) {
    for (int h = 0; h < 2; h++, codes += 128, q += 32)
        for (int k = 0; k < 4; k++)
            for (int i = 0; i < 32; i++) codes[32 * k + i] = (int8_t)((q[i] >> (2 * k) & 3) - bias);
}

static void pack_q2_k(const pare_block_params *p, const int8_t *codes, uint8_t *out) {
    for (int j = 0; j < 16; j++) out[j] = (uint8_t)(p->sc[j] | p->mn[j] << 4);
    put_pairs(codes, 0, out + 16);
    memcpy(out + 80, &p->d, 2);
    memcpy(out + 82, &p->m, 2);
}
static void unpack_q2_k(const uint8_t *in, pare_block_params *p, int8_t *codes) {
    for (int j = 0; j < 16; j++) {
        p->sc[j] = in[j] & 15;
        p->mn[j] = in[j] >> 4;
    }
    get_pairs(in + 16, 0, codes);
    memcpy(&p->d, in + 80, 2);
    memcpy(&p->m, in + 82, 2);
}

static void pack_q3_k(const pare_block_params *p, const int8_t *codes, uint8_t *out) {
    for (int i = 0; i < 32; i++) {
        int high = 0;
        for (int k = 0; k < 8; k++) high |= (codes[32 * k + i] >= 0) << k;
        out[i] = (uint8_t)high;
    }
    put_pairs(codes, 4, out + 32);
    uint8_t *sc = out + 96;
    memset(sc, 0, 12);
    for (int j = 0; j < 16; j++) {
        int v = p->sc[j] + 32;
        sc[j % 8] |= (uint8_t)((v & 15) << (j < 8 ? 0 : 4));
        sc[8 + j % 4] |= (uint8_t)((v >> 4) << (2 * (j / 4)));
    }
    memcpy(out + 108, &p->d, 2);
}
static void unpack_q3_k(const uint8_t *in, pare_block_params *p, int8_t *codes) {
    get_pairs(in + 32, 4, codes);
    for (int k = 0; k < 8; k++)
        for (int i = 0; i < 32; i++) codes[32 * k + i] = (int8_t)(codes[32 * k + i] + (in[i] >> k & 1) * 4);
    pare_q3_k_scales(in + 96, p->sc);
    memcpy(&p->d, in + 108, 2);
}

static void put_k_scales(const pare_block_params *p, uint8_t *out) {
    for (int j = 0; j < 4; j++) {
        out[j] = (uint8_t)(p->sc[j] | (p->sc[j + 4] >> 4) << 6);
        out[j + 4] = (uint8_t)(p->mn[j] | (p->mn[j + 4] >> 4) << 6);
        out[j + 8] = (uint8_t)((p->sc[j + 4] & 15) | (p->mn[j + 4] & 15) << 4);
    }
}

/* Low nibbles of 256 codes: 32 bytes hold 64 columns, the first 32 low. */
static void put_nibbles(const int8_t *codes, uint8_t *q) {
    for (int h = 0; h < 4; h++, codes += 64, q += 32)
        for (int i = 0; i < 32; i++) q[i] = (uint8_t)((codes[i] & 15) | (codes[i + 32] & 15) << 4);
}
static void get_nibbles(const uint8_t *q, int8_t *codes) {
    for (int h = 0; h < 4; h++, codes += 64, q += 32)
        for (int i = 0; i < 32; i++) {
            codes[i] = (int8_t)(q[i] & 15);
            codes[i + 32] = (int8_t)(q[i] >> 4);
        }
}

static void pack_q4_k(const pare_block_params *p, const int8_t *codes, uint8_t *out) {
    memcpy(out, &p->d, 2);
    memcpy(out + 2, &p->m, 2);
    put_k_scales(p, out + 4);
    put_nibbles(codes, out + 16);
}
static void unpack_q4_k(const uint8_t *in, pare_block_params *p, int8_t *codes) {
    memcpy(&p->d, in, 2);
    memcpy(&p->m, in + 2, 2);
    pare_k_scales(in + 4, (uint8_t *)p->sc, p->mn);
    get_nibbles(in + 16, codes);
}

static void pack_q5_k(const pare_block_params *p, const int8_t *codes, uint8_t *out) {
    memcpy(out, &p->d, 2);
    memcpy(out + 2, &p->m, 2);
    put_k_scales(p, out + 4);
    for (int i = 0; i < 32; i++) {
        int high = 0;
        for (int k = 0; k < 8; k++) high |= (codes[32 * k + i] >> 4) << k;
        out[16 + i] = (uint8_t)high;
    }
    put_nibbles(codes, out + 48);
}
static void unpack_q5_k(const uint8_t *in, pare_block_params *p, int8_t *codes) {
    memcpy(&p->d, in, 2);
    memcpy(&p->m, in + 2, 2);
    pare_k_scales(in + 4, (uint8_t *)p->sc, p->mn);
    get_nibbles(in + 48, codes);
    for (int k = 0; k < 8; k++)
        for (int i = 0; i < 32; i++) codes[32 * k + i] = (int8_t)(codes[32 * k + i] + (in[16 + i] >> k & 1) * 16);
}

static void pack_q6_k(const pare_block_params *p, const int8_t *codes, uint8_t *out) {
    for (int h = 0; h < 2; h++) {
        const int8_t *c = codes + 128 * h;
        uint8_t *low = out + 64 * h, *high = out + 128 + 32 * h;
        for (int i = 0; i < 32; i++) {
            int v0 = c[i] + 32, v1 = c[i + 32] + 32, v2 = c[i + 64] + 32, v3 = c[i + 96] + 32;
            low[i] = (uint8_t)((v0 & 15) | (v2 & 15) << 4);
            low[i + 32] = (uint8_t)((v1 & 15) | (v3 & 15) << 4);
            high[i] = (uint8_t)(v0 >> 4 | (v1 >> 4) << 2 | (v2 >> 4) << 4 | (v3 >> 4) << 6);
        }
    }
    memcpy(out + 192, p->sc, 16);
    memcpy(out + 208, &p->d, 2);
}
static void unpack_q6_k(const uint8_t *in, pare_block_params *p, int8_t *codes) {
    for (int j = 0; j < 8; j++) { /* 32 columns each */
        const uint8_t *low = in + 64 * (j / 4) + 32 * (j % 2), *high = in + 128 + 32 * (j / 4);
        int shift = j % 4 / 2 * 4;
        for (int i = 0; i < 32; i++)
            codes[32 * j + i] = (int8_t)((low[i] >> shift & 15) + (high[i] >> (2 * (j % 4)) & 3) * 16 - 32);
    }
    memcpy(p->sc, in + 192, 16);
    memcpy(&p->d, in + 208, 2);
}

static void pack_iq4_xs(const pare_block_params *p, const int8_t *codes, uint8_t *out) {
    int high = 0;
    memcpy(out, &p->d, 2);
    for (int j = 0; j < 8; j++) high |= (p->sc[j] + 32) >> 4 << (2 * j);
    out[2] = (uint8_t)high;
    out[3] = (uint8_t)(high >> 8);
    for (int j = 0; j < 4; j++)
        out[4 + j] = (uint8_t)(((p->sc[2 * j] + 32) & 15) | ((p->sc[2 * j + 1] + 32) & 15) << 4);
    for (int j = 0; j < 8; j++)
        for (int i = 0; i < 16; i++) out[8 + 16 * j + i] = (uint8_t)(codes[32 * j + i] | codes[32 * j + 16 + i] << 4);
}
static void unpack_iq4_xs(const uint8_t *in, pare_block_params *p, int8_t *codes) {
    memcpy(&p->d, in, 2);
    for (int j = 0; j < 8; j++) {
        p->sc[j] = (int8_t)pare_iq4_xs_scale(in, j);
        for (int i = 0; i < 16; i++) {
            codes[32 * j + i] = (int8_t)(in[8 + 16 * j + i] & 15);
            codes[32 * j + 16 + i] = (int8_t)(in[8 + 16 * j + i] >> 4);
        }
    }
}

#define FORMAT(id, nm, ggml, block, sub, low, high, with_offset, book, ...)                                            \
    static const pare_block_format id##_format = {.grid = PARE_BLOCK_GRID(256),                                        \
                                                  .elems = 256,                                                        \
                                                  .bytes = block,                                                      \
                                                  .run = sub,                                                          \
                                                  .subs = 256 / sub,                                                   \
                                                  .lo = low,                                                           \
                                                  .hi = high,                                                          \
                                                  .offset = with_offset,                                               \
                                                  .codebook = book,                                                    \
                                                  .search = {__VA_ARGS__},                                             \
                                                  .fit = pare_block_search_fit,                                        \
                                                  .affine = affine_##id,                                               \
                                                  .pack = pack_##id,                                                   \
                                                  .unpack = unpack_##id};                                              \
    static void decode_##id(const pare_qtype *qt, const void *src, float *dst, size_t n) {                             \
        pare_qops_get()->decode_##id(src, dst, n / 256);                                                               \
    }                                                                                                                  \
    const pare_qtype pare_qtype_##id = {.name = nm,                                                                    \
                                        .kind = PARE_QK_BLOCK,                                                         \
                                        .ggml_type = ggml,                                                             \
                                        .block_elems = 256,                                                            \
                                        .block_bytes = block,                                                          \
                                        .decode = decode_##id,                                                         \
                                        .grid = &id##_format.grid};

/* weights, with importance, rms, energy, lowest and highest scale, tries or (0, first, step, steps) */
FORMAT(q2_k, "q2_k", 10, 84, 16, 0, 3, true, false, PARE_W_ABS, PARE_W_IMPORTANCE, 0, 1, false, 0, 15, 0, -0.9f, 0.1f,
       20)
FORMAT(q3_k, "q3_k", 11, 110, 16, -4, 3, false, false, PARE_W_SQUARE, PARE_W_IMPORTANCE, 0, 2, false, -32, 31, 9)
FORMAT(q4_k, "q4_k", 12, 144, 32, 0, 15, true, false, PARE_W_ABS, PARE_W_IMPORTANCE, 1, 2, false, 0, 63, 0, -1, 0.1f,
       20)
FORMAT(q5_k, "q5_k", 13, 176, 32, 0, 31, true, false, PARE_W_ABS, PARE_W_IMPORTANCE, 1, 2, false, 0, 63, 0, -0.9f, 0.1f,
       18)
FORMAT(q6_k, "q6_k", 14, 210, 16, -32, 31, false, false, PARE_W_SQUARE, PARE_W_PLAIN, 0, 0, false, -128, 127, 9)
FORMAT(iq4_xs, "iq4_xs", 23, 136, 32, 0, 15, false, true, PARE_W_SQUARE, PARE_W_IMPORTANCE, 0, 2, false, -32, 31, 7)
