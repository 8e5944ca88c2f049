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
static void decode_q5_0(const uint8_t *restrict src, float *restrict dst, size_t blocks) {
    for (; blocks; blocks--, src += 22, dst += 32) {
        float d = f16_at(src);
        uint32_t qh = pare_le32(src + 2);
        for (int i = 0; i < 16; i++) dst[i] = d * (float)((src[6 + i] & 15) + (int)(qh >> i & 1) * 16 - 16);
        for (int i = 0; i < 16; i++) dst[16 + i] = d * (float)((src[6 + i] >> 4) + (int)(qh >> (i + 16) & 1) * 16 - 16);
    }
}
static void decode_q5_1(const uint8_t *restrict src, float *restrict dst, size_t blocks) {
    for (; blocks; blocks--, src += 24, dst += 32) {
        float d = f16_at(src), m = f16_at(src + 2);
        uint32_t qh = pare_le32(src + 4);
        for (int i = 0; i < 16; i++) dst[i] = d * (float)((src[8 + i] & 15) + (int)(qh >> i & 1) * 16) + m;
        for (int i = 0; i < 16; i++) dst[16 + i] = d * (float)((src[8 + i] >> 4) + (int)(qh >> (i + 16) & 1) * 16) + m;
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
static void decode_q3_k(const uint8_t *restrict src, float *restrict dst, size_t blocks) {
    for (; blocks; blocks--, src += 110, dst += 256) {
        float d = f16_at(src + 108);
        int8_t sc[16];
        pare_q3_k_scales(src + 96, sc);
        for (int j = 0; j < 16; j++) {
            const uint8_t *q = src + 32 + 32 * (j / 8) + 16 * (j % 2), *h = src + 16 * (j % 2);
            float a = d * (float)sc[j];
            int shift = 2 * (j / 2 % 4), bit = j / 2;
            for (int i = 0; i < 16; i++) dst[16 * j + i] = a * (float)((q[i] >> shift & 3) + (h[i] >> bit & 1) * 4 - 4);
        }
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
        float d = f16_at(src + 208);
        for (int j = 0; j < 16; j++) { /* eight sub-blocks share 64 bytes of low nibbles and 32 of high bit pairs */
            int half = j / 8, k = j % 8;
            const uint8_t *ql = src + 64 * half + 16 * (k % 4), *qh = src + 128 + 32 * half + 16 * (k % 2);
            int lshift = k / 4 * 4, hshift = k / 2 * 2;
            float a = d * (float)(int8_t)src[192 + j];
            for (int i = 0; i < 16; i++)
                dst[16 * j + i] = a * (float)((ql[i] >> lshift & 15) + (qh[i] >> hshift & 3) * 16 - 32);
        }
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

static void scale_i8(const int8_t *restrict q, size_t n, float zero, float scale, float *restrict dst) {
    for (size_t i = 0; i < n; i++) dst[i] = ((float)q[i] - zero) * scale;
}
static void scale_u4(const uint8_t *restrict q, size_t n, float zero, float scale, float *restrict dst) {
    for (; n >= 32; n -= 32, q += 16, dst += 32) {
        for (int i = 0; i < 16; i++) dst[i] = ((float)(q[i] & 15) - zero) * scale;
        for (int i = 0; i < 16; i++) dst[16 + i] = ((float)(q[i] >> 4) - zero) * scale;
    }
    for (size_t i = 0; i < n; i++) dst[i] = ((float)(i < 16 ? q[i] & 15 : q[i - 16] >> 4) - zero) * scale;
}
static void round_bf16(float *x, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, x + i, 4);
        u = (u + 0x7FFF + (u >> 16 & 1)) & 0xFFFF0000u;
        memcpy(x + i, &u, 4);
    }
}
