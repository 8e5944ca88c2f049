/* SPDX-License-Identifier: Apache-2.0
 *
 * Part of quant/qops_impl.h: block formats to f32. Layouts as in quant/blocks.h; the order of the products is that of
 * the formats' own readers. */
#include "quant/blocks.h"

static inline float f16_at(const uint8_t *p) {
#if defined(__F16C__)
    uint16_t h;
    memcpy(&h, p, 2);
    return _cvtsh_ss(h);
#else
    return pare_f16_to_f32((uint16_t)(p[0] | p[1] << 8));
#endif
}

static void decode_q4_0(const uint8_t *restrict src, float *restrict dst, size_t blocks) {
    for (; blocks; blocks--, src += 18, dst += 32) {
        float d = f16_at(src);
        for (int i = 0; i < 16; i++) dst[i] = d * (float)((src[2 + i] & 15) - 8);
        for (int i = 0; i < 16; i++) dst[16 + i] = d * (float)((src[2 + i] >> 4) - 8);
    }
}
static void decode_q4_1(const uint8_t *restrict src, float *restrict dst, size_t blocks) {
    for (; blocks; blocks--, src += 20, dst += 32) {
        float d = f16_at(src), m = f16_at(src + 2);
        for (int i = 0; i < 16; i++) dst[i] = d * (float)(src[4 + i] & 15) + m;
        for (int i = 0; i < 16; i++) dst[16 + i] = d * (float)(src[4 + i] >> 4) + m;
    }
}
/* Nibbles and fifth bits to 0..31. */
static inline void codes_q5(const uint8_t *restrict nibbles, const uint8_t *restrict fifth, uint8_t *restrict q) {
#if defined(__AVX2__)
    const __m256i bits = _mm256_set1_epi64x((long long)0x8040201008040201);
    const __m256i byte = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    __m128i n = _mm_loadu_si128((const __m128i *)nibbles);
    __m256i low = _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(n, 4), n), _mm256_set1_epi8(15));
    __m256i h = _mm256_shuffle_epi8(_mm256_set1_epi32((int)pare_le32(fifth)), byte);
    h = _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_and_si256(h, bits), bits), _mm256_set1_epi8(16));
    _mm256_storeu_si256((__m256i *)q, _mm256_or_si256(low, h));
#else
    uint32_t h = pare_le32(fifth);
    for (int i = 0; i < 16; i++) {
        q[i] = (uint8_t)((nibbles[i] & 15) | (h >> i & 1) << 4);
        q[16 + i] = (uint8_t)(nibbles[i] >> 4 | (h >> (16 + i) & 1) << 4);
    }
#endif
}
static void decode_q5_0(const uint8_t *restrict src, float *restrict dst, size_t blocks) {
    for (; blocks; blocks--, src += 22, dst += 32) {
        float d = f16_at(src);
        uint8_t q[32];
        codes_q5(src + 6, src + 2, q);
        for (int i = 0; i < 32; i++) dst[i] = d * (float)(q[i] - 16);
    }
}
static void decode_q5_1(const uint8_t *restrict src, float *restrict dst, size_t blocks) {
    for (; blocks; blocks--, src += 24, dst += 32) {
        float d = f16_at(src), m = f16_at(src + 2);
        uint8_t q[32];
        codes_q5(src + 8, src + 4, q);
        for (int i = 0; i < 32; i++) dst[i] = d * (float)q[i] + m;
    }
}
static void decode_q8_0(const uint8_t *restrict src, float *restrict dst, size_t blocks) {
    for (; blocks; blocks--, src += 34, dst += 32) {
        float d = f16_at(src);
        for (int i = 0; i < 32; i++) dst[i] = (float)(int8_t)src[2 + i] * d;
    }
}
static void decode_q8_1(const uint8_t *restrict src, float *restrict dst, size_t blocks) {
    for (; blocks; blocks--, src += 36, dst += 32) {
        float d = f16_at(src);
        for (int i = 0; i < 32; i++) dst[i] = (float)(int8_t)src[4 + i] * d;
    }
}

static void decode_q2_k(const uint8_t *restrict src, float *restrict dst, size_t blocks) {
    for (; blocks; blocks--, src += 84, dst += 256) {
        float d = f16_at(src + 80), dmin = f16_at(src + 82);
        for (int j = 0; j < 16; j++) { /* sub-block j: bytes 32 * (j / 8) + 16 * (j % 2) .., bit pair j / 2 % 4 */
            const uint8_t *q = src + 16 + 32 * (j / 8) + 16 * (j % 2);
            float a = d * (float)(src[j] & 15), b = dmin * (float)(src[j] >> 4);
            int shift = 2 * (j / 2 % 4);
            for (int i = 0; i < 16; i++) dst[16 * j + i] = a * (float)(q[i] >> shift & 3) - b;
        }
    }
}
/* 16 sub-blocks of 16 codes: dst = (d * scale) * code */
static inline void scale_subs(const int8_t *restrict q, const uint8_t *restrict scales, float d, float *restrict dst) {
    for (int j = 0; j < 16; j++) {
        float a = d * (float)(int8_t)scales[j];
        for (int i = 0; i < 16; i++) dst[16 * j + i] = a * (float)q[16 * j + i];
    }
}

static void decode_q3_k(const uint8_t *restrict src, float *restrict dst, size_t blocks) {
    for (; blocks; blocks--, src += 110, dst += 256) {
        int8_t sc[16], q[256];
        pare_q3_k_scales(src + 96, sc);
        for (int k = 0; k < 8; k++) {
            const uint8_t *low = src + 32 + 32 * (k / 4);
            int shift = 2 * (k % 4);
            for (int i = 0; i < 32; i++) q[32 * k + i] = (int8_t)((low[i] >> shift & 3) + (src[i] >> k & 1) * 4 - 4);
        }
        scale_subs(q, (const uint8_t *)sc, f16_at(src + 108), dst);
    }
}
static void decode_q4_k(const uint8_t *restrict src, float *restrict dst, size_t blocks) {
    for (; blocks; blocks--, src += 144, dst += 256) {
        float d = f16_at(src), dmin = f16_at(src + 2);
        uint8_t sc[8], mn[8];
        pare_k_scales(src + 4, sc, mn);
        for (int j = 0; j < 4; j++) {
            const uint8_t *q = src + 16 + 32 * j;
            float a0 = d * (float)sc[2 * j], b0 = dmin * (float)mn[2 * j];
            float a1 = d * (float)sc[2 * j + 1], b1 = dmin * (float)mn[2 * j + 1];
            for (int i = 0; i < 32; i++) dst[64 * j + i] = a0 * (float)(q[i] & 15) - b0;
            for (int i = 0; i < 32; i++) dst[64 * j + 32 + i] = a1 * (float)(q[i] >> 4) - b1;
        }
    }
}
static void decode_q5_k(const uint8_t *restrict src, float *restrict dst, size_t blocks) {
    for (; blocks; blocks--, src += 176, dst += 256) {
        float d = f16_at(src), dmin = f16_at(src + 2);
        uint8_t sc[8], mn[8];
        pare_k_scales(src + 4, sc, mn);
        for (int j = 0; j < 8; j++) {
            const uint8_t *q = src + 48 + 32 * (j / 2), *h = src + 16;
            float a = d * (float)sc[j], b = dmin * (float)mn[j];
            int shift = j % 2 * 4;
            for (int i = 0; i < 32; i++) dst[32 * j + i] = a * (float)((q[i] >> shift & 15) + (h[i] >> j & 1) * 16) - b;
        }
    }
}
static void decode_q6_k(const uint8_t *restrict src, float *restrict dst, size_t blocks) {
    for (; blocks; blocks--, src += 210, dst += 256) {
        int8_t q[256];
        for (int h = 0; h < 2; h++) { /* 128 columns share 64 bytes of low nibbles and 32 of high bit pairs */
            const uint8_t *low = src + 64 * h, *high = src + 128 + 32 * h;
            int8_t *c = q + 128 * h;
            for (int i = 0; i < 32; i++) c[i] = (int8_t)((low[i] & 15) + (high[i] & 3) * 16 - 32);
            for (int i = 0; i < 32; i++) c[32 + i] = (int8_t)((low[32 + i] & 15) + (high[i] >> 2 & 3) * 16 - 32);
            for (int i = 0; i < 32; i++) c[64 + i] = (int8_t)((low[i] >> 4) + (high[i] >> 4 & 3) * 16 - 32);
            for (int i = 0; i < 32; i++) c[96 + i] = (int8_t)((low[32 + i] >> 4) + (high[i] >> 6) * 16 - 32);
        }
        scale_subs(q, src + 192, f16_at(src + 208), dst);
    }
}
static void decode_q8_k(const uint8_t *restrict src, float *restrict dst, size_t blocks) {
    for (; blocks; blocks--, src += 292, dst += 256) {
        float d;
        memcpy(&d, src, 4);
        for (int i = 0; i < 256; i++) dst[i] = d * (float)(int8_t)src[4 + i];
    }
}

/* 32 nibbles, low ones first, through a table of 16 values. */
static inline void decode_table(const uint8_t *q, const float *table, float *dst) {
#if defined(__AVX512F__)
    __m128i b = _mm_loadu_si128((const __m128i *)q), m = _mm_set1_epi8(15);
    __m512 t = _mm512_loadu_ps(table);
    __m512i lo = _mm512_cvtepu8_epi32(_mm_and_si128(b, m));
    __m512i hi = _mm512_cvtepu8_epi32(_mm_and_si128(_mm_srli_epi16(b, 4), m));
    _mm512_storeu_ps(dst, _mm512_permutexvar_ps(lo, t));
    _mm512_storeu_ps(dst + 16, _mm512_permutexvar_ps(hi, t));
#else
    for (int i = 0; i < 16; i++) {
        dst[i] = table[q[i] & 15];
        dst[16 + i] = table[q[i] >> 4];
    }
#endif
}
static void decode_iq4_nl(const uint8_t *restrict src, float *restrict dst, size_t blocks) {
    for (; blocks; blocks--, src += 18, dst += 32) {
        float d = f16_at(src), t[16];
        for (int i = 0; i < 16; i++) t[i] = d * pare_iq4_values[i];
        decode_table(src + 2, t, dst);
    }
}
static void decode_iq4_xs(const uint8_t *restrict src, float *restrict dst, size_t blocks) {
    for (; blocks; blocks--, src += 136, dst += 256) {
        float d = f16_at(src), t[16];
        for (int j = 0; j < 8; j++) {
            float a = d * (float)pare_iq4_xs_scale(src, j);
            for (int i = 0; i < 16; i++) t[i] = a * pare_iq4_values[i];
            decode_table(src + 8 + 16 * j, t, dst + 32 * j);
        }
    }
}
static void decode_mxfp4(const uint8_t *restrict src, float *restrict dst, size_t blocks) {
    static const float e2m1_doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
    for (; blocks; blocks--, src += 17, dst += 32) {
        uint32_t bits = src[0] < 2 ? 0x00200000u << src[0] : (uint32_t)(src[0] - 1) << 23; /* 2^(e - 128) */
        float d, t[16];
        memcpy(&d, &bits, 4);
        for (int i = 0; i < 16; i++) t[i] = d * e2m1_doubled[i];
        decode_table(src + 1, t, dst);
    }
}

static inline vf round_lanes(vf v, int round) {
    return round == PARE_ROUND_F16 ? v_round_f16(v) : round == PARE_ROUND_BF16 ? v_round_bf16(v) : v;
}

static void decode_i8(const int8_t *restrict q, size_t n, float zero, float scale, int round, float *restrict dst) {
    vf z = v_set(zero), s = v_set(scale);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) v_store(dst + i, round_lanes((v_load_i8(q + i) - z) * s, round));
    if (i < n) {
        int8_t rest[LANES] = {0};
        float out[LANES];
        memcpy(rest, q + i, n - i);
        v_store(out, round_lanes((v_load_i8(rest) - z) * s, round));
        memcpy(dst + i, out, (n - i) * sizeof *dst);
    }
}

/* A group has 16 values at most: they are made once and looked up. */
static void decode_i4(const uint8_t *restrict q, size_t n, float zero, float scale, int round, float *restrict dst) {
    static const int8_t codes[16] = {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7};
    float table[16];
    decode_i8(codes, 16, zero, scale, round, table);
    for (; n >= 32; n -= 32, q += 16, dst += 32) decode_table(q, table, dst);
    for (size_t i = 0; i < n; i++) dst[i] = table[i < 16 ? q[i] & 15 : q[i - 16] >> 4];
}
