/* SPDX-License-Identifier: Apache-2.0
 *
 * Rows of integer formats to byte codes and scales: one source, compiled for each instruction set by expand*.c, which
 * define EXPAND_NAME and EXPAND_HALF(p) (f16 at p to float). Loops are written so that compilers vectorise them.
 * spec: block layouts of llama.cpp (ggml-common.h); grouped integers as core/qtype.h says. */
#include "cpu/matmul_i8.h"

#include <math.h>
#include <string.h>

static const uint8_t nl_codes[16] = {1,   24,  45,  63,  79,  93,  106, 118,
                                     129, 141, 153, 166, 181, 197, 217, 241};                    /* + 128 */
static const uint8_t mx_codes[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0}; /* + 12 */

static inline void scales32(pare_i8_slab *o, size_t block, float scale, float minimum) {
    o->scale[2 * block] = o->scale[2 * block + 1] = scale;
    o->minimum[2 * block] = o->minimum[2 * block + 1] = minimum;
}

#if defined(__AVX2__)
static inline __m256i load_nibbles(const uint8_t *p) {
    __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
    __m256i both = _mm256_inserti128_si256(_mm256_castsi128_si256(v), _mm_srli_epi16(v, 4), 1);
    return _mm256_and_si256(both, _mm256_set1_epi8(15));
}
static inline void store32(uint8_t *out, __m256i v) { _mm256_storeu_si256((__m256i *)(void *)out, v); }

static inline void nibbles(const uint8_t *p, uint8_t *out) { store32(out, load_nibbles(p)); }

static inline void looked_up(const uint8_t *p, const uint8_t table[16], uint8_t *out) {
    __m256i t = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)table));
    store32(out, _mm256_shuffle_epi8(t, load_nibbles(p)));
}

static inline void signed_bytes(const uint8_t *p, uint8_t *out, size_t n) {
    if (n == 32) {
        __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)p);
        store32(out, _mm256_xor_si256(v, _mm256_set1_epi8(-128)));
    } else
        for (size_t j = 0; j < n; j++) out[j] = p[j] ^ 0x80;
}

/* Adds 16 where the bit of the column is set: four bytes spread over 32, tested against one bit each. */
static inline void fifth_bits(const uint8_t *p, uint8_t *out) {
    const __m256i spread = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201ull);
    int32_t four;
    memcpy(&four, p, 4);
    __m256i v = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(four), spread), bit);
    v = _mm256_and_si256(_mm256_cmpeq_epi8(v, bit), _mm256_set1_epi8(16));
    store32(out, _mm256_or_si256(v, _mm256_loadu_si256((const __m256i *)(const void *)out)));
}
#else
static inline void nibbles(const uint8_t *p, uint8_t *out) {
    for (int j = 0; j < 16; j++) {
        out[j] = p[j] & 15;
        out[j + 16] = p[j] >> 4;
    }
}

static inline void looked_up(const uint8_t *p, const uint8_t table[16], uint8_t *out) {
    nibbles(p, out);
    for (int j = 0; j < 32; j++) out[j] = table[out[j]];
}

static inline void signed_bytes(const uint8_t *p, uint8_t *out, size_t n) {
    for (size_t j = 0; j < n; j++) out[j] = p[j] ^ 0x80;
}

static inline void fifth_bits(const uint8_t *p, uint8_t *out) {
    for (int j = 0; j < 32; j++) out[j] = (uint8_t)(out[j] | ((p[j / 8] >> (j % 8)) & 1) << 4);
}
#endif

/* One block of 32 columns of the old formats at p; returns its bytes. */
static inline void block32(pare_i8_kind kind, const uint8_t *p, uint8_t *codes, float *scale, float *minimum) {
    *scale = kind == PARE_I8_MXFP4 ? 0 : EXPAND_HALF(p);
    *minimum = 0;
    switch (kind) {
    case PARE_I8_Q4_0: nibbles(p + 2, codes); break;
    case PARE_I8_Q4_1: *minimum = EXPAND_HALF(p + 2), nibbles(p + 4, codes); break;
    case PARE_I8_Q5_0: nibbles(p + 6, codes), fifth_bits(p + 2, codes); break;
    case PARE_I8_Q5_1: *minimum = EXPAND_HALF(p + 2), nibbles(p + 8, codes), fifth_bits(p + 4, codes); break;
    case PARE_I8_Q8_0: signed_bytes(p + 2, codes, 32); break;
    case PARE_I8_IQ4_NL: looked_up(p + 2, nl_codes, codes); break;
    default: /* MXFP4: codes are doubled, the scale halved */
        looked_up(p + 1, mx_codes, codes);
        *scale = p[0] == 255 ? NAN : ldexpf(0.5f, p[0] - 127);
    }
}

/* The 6-bit scales and minima of Q4_K and Q5_K. */
static inline void k_scales(const uint8_t *p, float d, float dmin, pare_i8_slab *o) {
    for (int j = 0; j < 4; j++) {
        scales32(o, (size_t)j, d * (float)(p[j] & 63), -dmin * (float)(p[j + 4] & 63));
        scales32(o, (size_t)j + 4, d * (float)((p[j + 8] & 15) | p[j] >> 6 << 4),
                 -dmin * (float)(p[j + 8] >> 4 | p[j + 4] >> 6 << 4));
    }
}

static inline void q4_k(const uint8_t *restrict p, pare_i8_slab *restrict o) {
    k_scales(p + 4, EXPAND_HALF(p), EXPAND_HALF(p + 2), o);
    for (int c = 0; c < 4; c++)
        for (int j = 0; j < 32; j++) {
            o->codes[64 * c + j] = p[16 + 32 * c + j] & 15;
            o->codes[64 * c + j + 32] = p[16 + 32 * c + j] >> 4;
        }
}

static inline void q5_k(const uint8_t *restrict p, pare_i8_slab *restrict o) {
    const uint8_t *high = p + 16, *low = p + 48;
    k_scales(p + 4, EXPAND_HALF(p), EXPAND_HALF(p + 2), o);
    for (int c = 0; c < 4; c++)
        for (int j = 0; j < 32; j++) {
            o->codes[64 * c + j] = (uint8_t)((low[32 * c + j] & 15) | ((high[j] >> (2 * c)) & 1) << 4);
            o->codes[64 * c + j + 32] = (uint8_t)(low[32 * c + j] >> 4 | ((high[j] >> (2 * c + 1)) & 1) << 4);
        }
}

static inline void q6_k(const uint8_t *restrict p, pare_i8_slab *restrict o) {
    float d = EXPAND_HALF(p + 208);
    for (int h = 0; h < 2; h++) {
        const uint8_t *low = p + 64 * h, *high = p + 128 + 32 * h;
        uint8_t *c = o->codes + 128 * h;
        for (int j = 0; j < 32; j++) {
            c[j] = (uint8_t)((low[j] & 15) | (high[j] & 3) << 4);
            c[j + 32] = (uint8_t)((low[j + 32] & 15) | (high[j] >> 2 & 3) << 4);
            c[j + 64] = (uint8_t)(low[j] >> 4 | (high[j] >> 4 & 3) << 4);
            c[j + 96] = (uint8_t)(low[j + 32] >> 4 | high[j] >> 6 << 4);
        }
    }
    for (int j = 0; j < 16; j++) o->scale[j] = d * (float)(int8_t)p[192 + j], o->minimum[j] = 0;
}

static inline void q2_k(const uint8_t *restrict p, pare_i8_slab *restrict o) {
    float d = EXPAND_HALF(p + 80), dmin = EXPAND_HALF(p + 82);
    for (int h = 0; h < 2; h++)
        for (int s = 0; s < 4; s++)
            for (int j = 0; j < 32; j++) o->codes[128 * h + 32 * s + j] = p[16 + 32 * h + j] >> (2 * s) & 3;
    for (int j = 0; j < 16; j++) o->scale[j] = d * (float)(p[j] & 15), o->minimum[j] = -dmin * (float)(p[j] >> 4);
}

static inline void q3_k(const uint8_t *restrict p, pare_i8_slab *restrict o) {
    const uint8_t *s = p + 96;
    float d = EXPAND_HALF(p + 108);
    for (int h = 0; h < 2; h++)
        for (int q = 0; q < 4; q++)
            for (int j = 0; j < 32; j++)
                o->codes[128 * h + 32 * q + j] =
                    (uint8_t)((p[32 + 32 * h + j] >> (2 * q) & 3) | (p[j] >> (4 * h + q) & 1) << 2);
    for (int j = 0; j < 16; j++) {
        int low = j < 8 ? s[j] & 15 : s[j - 8] >> 4, high = s[8 + j % 4] >> (j / 4 * 2) & 3;
        o->scale[j] = d * (float)((low | high << 4) - 32);
        o->minimum[j] = 0;
    }
}

static inline void iq4_xs(const uint8_t *restrict p, pare_i8_slab *restrict o) {
    float d = EXPAND_HALF(p);
    unsigned high = p[2] | (unsigned)p[3] << 8;
    for (int b = 0; b < 8; b++) {
        int s = (p[4 + b / 2] >> (b % 2 * 4) & 15) | (int)(high >> (2 * b) & 3) << 4;
        scales32(o, (size_t)b, d * (float)(s - 32), 0);
        looked_up(p + 8 + 16 * b, nl_codes, o->codes + 32 * b);
    }
}

static inline float any_scale(const pare_int_format *f, const uint8_t *p) {
    if (f->scale_type == &pare_qtype_f16) return EXPAND_HALF(p);
    float v;
    uint32_t u = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 24;
    memcpy(&v, f->scale_type == &pare_qtype_f32 ? (const void *)p : (const void *)&u, 4);
    return v;
}

/* Grouped integers; a group's header stands before its codes. */
static inline void grouped(const pare_i8_source *s, const uint8_t *row, size_t first, size_t n, pare_i8_slab *o) {
    const pare_int_format *f = s->type->int_format;
    size_t head = (f->scale_type == &pare_qtype_f32 ? 4u : 2u) + f->asym, chunk = f->bits == 4 ? 16 : 32;
    size_t per = f->group ? f->group / 32 : PARE_I8_SLAB / 32; /* chunks to one scale; groups are powers of two */
    const uint8_t *p = f->group ? row + (first >> __builtin_ctz(f->group)) * s->type->block_bytes : row;
    const uint8_t *q = p + head + (f->group ? 0 : first / 32 * chunk);
    for (size_t b = 0; 32 * b < n; p += s->type->block_bytes, q = p + head) {
        float scale = any_scale(f, p), zero = f->asym ? (float)p[head - 1] : 0;
        for (size_t i = 0; i < per && 32 * b < n; i++, b++, q += chunk) {
            scales32(o, b, scale, -scale * zero);
            o->zero[2 * b] = o->zero[2 * b + 1] = zero;
            if (f->bits == 4) nibbles(q, o->codes + 32 * b);
            else signed_bytes(q, o->codes + 32 * b, n - 32 * b < 32 ? n - 32 * b : 32);
        }
    }
}

/* Sparse rows: codes come through the sparse kernel, scales stand side by side. */
static inline void sparse(const pare_i8_source *s, const uint8_t *row, size_t first, size_t n, pare_i8_slab *o) {
    const pare_int_format *f = s->type->int_format;
    size_t size = f->scale_type == &pare_qtype_f32 ? 4 : 2;
    _Alignas(64) int8_t q[PARE_I8_SLAB];
    pare_mm_kernels()->sparse_slab(&s->sparse, row, first, n, q);
    for (size_t j = 0; j < n; j++) o->codes[j] = (uint8_t)(q[j] + s->offset);
    for (size_t b = 0; 32 * b < n; b++) {
        size_t g = f->group ? (first + 32 * b) >> __builtin_ctz(f->group) : 0;
        scales32(o, b, any_scale(f, row + g * size), 0);
        o->zero[2 * b] = o->zero[2 * b + 1] = 0;
    }
}

void EXPAND_NAME(const pare_i8_source *s, const uint8_t *row, size_t first, size_t n, pare_i8_slab *o) {
    if (n < PARE_I8_SLAB) memset(o, 0, sizeof *o);
    const uint8_t *k = row + first / 256 * s->type->block_bytes;
    switch (s->kind) {
    case PARE_I8_Q2_K: q2_k(k, o); return;
    case PARE_I8_Q3_K: q3_k(k, o); return;
    case PARE_I8_Q4_K: q4_k(k, o); return;
    case PARE_I8_Q5_K: q5_k(k, o); return;
    case PARE_I8_Q6_K: q6_k(k, o); return;
    case PARE_I8_IQ4_XS: iq4_xs(k, o); return;
    case PARE_I8_GROUPED: grouped(s, row, first, n, o); return;
    case PARE_I8_SPARSE: sparse(s, row, first, n, o); return;
    default: break;
    }
    const uint8_t *p = row + first / 32 * s->type->block_bytes;
    float scale, minimum;
#define BLOCKS(kind)                                                                                                   \
    case kind:                                                                                                         \
        for (size_t b = 0; 32 * b < n; b++) {                                                                          \
            block32(kind, p + b * s->type->block_bytes, o->codes + 32 * b, &scale, &minimum);                          \
            scales32(o, b, scale, minimum);                                                                            \
        }                                                                                                              \
        return;
    switch (s->kind) { /* one loop per format, so that each is vectorised */
        BLOCKS(PARE_I8_Q4_0)
        BLOCKS(PARE_I8_Q4_1)
        BLOCKS(PARE_I8_Q5_0)
        BLOCKS(PARE_I8_Q5_1)
        BLOCKS(PARE_I8_Q8_0)
        BLOCKS(PARE_I8_IQ4_NL)
        BLOCKS(PARE_I8_MXFP4)
    default: break;
    }
#undef BLOCKS
}
