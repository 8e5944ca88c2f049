/* SPDX-License-Identifier: Apache-2.0
 *
 * Sparse rows of floats times activations, AVX-512. Two of four: sixteen values meet those of 32 activations that their
 * indexes name. Runs: only what is stored is met. Single columns: the mask bits of sixteen are the mask of vexpandps,
 * which some processors do no faster than memory delivers dense rows. */
#include "cpu/matmul_kernels.h"

#include <immintrin.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define AHEAD  2048 /* bytes */

INLINE __m512 to_floats(__m256i h, const bool half) {
    return half ? _mm512_cvtph_ps(h) : _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}
/* Sixteen values at p. */
INLINE __m512 values(const uint8_t *p, const int bits, const bool half) {
    if (bits == 32) return _mm512_loadu_ps(p);
    return to_floats(_mm256_loadu_si256((const __m256i *)(const void *)p), half);
}
/* At most `left` of them, 0 for the others. */
INLINE __m512 values_few(const uint8_t *p, size_t left, const int bits, const bool half) {
    __mmask16 there = left < 16 ? (__mmask16)((1u << left) - 1) : (__mmask16)0xFFFF;
    if (bits == 32) return _mm512_maskz_loadu_ps(there, p);
    return to_floats(_mm256_maskz_loadu_epi16(there, p), half);
}

INLINE float sum4(const __m512 s[4]) {
    return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(s[0], s[1]), _mm512_add_ps(s[2], s[3])));
}

/* The activations that 16 values of 32 columns meet. */
INLINE __m512 picked(uint32_t places, __m512 low, __m512 high) {
    const __m512i shift = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i base = _mm512_setr_epi32(0, 0, 4, 4, 8, 8, 12, 12, 16, 16, 20, 20, 24, 24, 28, 28);
    __m512i i = _mm512_srlv_epi32(_mm512_set1_epi32((int)places), shift);
    i = _mm512_ternarylogic_epi32(i, _mm512_set1_epi32(3), base, 0xEA); /* (i & 3) | base */
    return _mm512_permutex2var_ps(low, i, high);
}

INLINE float dot_two(const pare_sparse_view *v, const uint8_t *row, const float *x, const int bits, const bool half) {
    const uint8_t *places = row + v->at.place_at, *p = row + v->at.values_at;
    const size_t size = (size_t)bits / 8;
    __m512 sum[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
    uint32_t word;
    size_t c = 0;
    for (; c + 128 <= v->n; c += 128, p += 64 * size, places += 16)
#pragma GCC unroll 4
        for (size_t i = 0; i < 4; i++) {
            _mm_prefetch((const char *)p + AHEAD + 16 * size * i, _MM_HINT_T0);
            memcpy(&word, places + 4 * i, 4);
            __m512 a = picked(word, _mm512_loadu_ps(x + c + 32 * i), _mm512_loadu_ps(x + c + 32 * i + 16));
            sum[i] = _mm512_fmadd_ps(values(p + 16 * size * i, bits, half), a, sum[i]);
        }
    for (; c < v->n; c += 32, p += 16 * size, places += 4) {
        size_t n = v->n - c < 32 ? v->n - c : 32;
        word = 0;
        memcpy(&word, places, (n + 7) / 8);
        __mmask16 low = n < 16 ? (__mmask16)((1u << n) - 1) : (__mmask16)0xFFFF;
        __mmask16 high = n < 16 ? 0 : (__mmask16)((1u << (n - 16)) - 1);
        __m512 a = picked(word, _mm512_maskz_loadu_ps(low, x + c), _mm512_maskz_loadu_ps(high, x + c + 16));
        sum[0] = _mm512_fmadd_ps(values_few(p, n / 2, bits, half), a, sum[0]);
    }
    return sum4(sum);
}

/* Runs of 16: the set bits of the mask, 64 at a time. */
INLINE float dot_runs(const pare_sparse_view *v, const uint8_t *row, const float *x, const int bits, const bool half) {
    const uint8_t *places = row + v->at.place_at, *p = row + v->at.values_at, *end = row + v->at.bytes;
    const size_t step = (size_t)bits * 2;
    __m512 sum[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
    for (size_t b = 0; b < v->at.place_bytes; b += 8) {
        uint64_t m = 0;
        size_t some = v->at.place_bytes - b < 8 ? v->at.place_bytes - b : 8;
        memcpy(&m, places + b, some);
        if (8 * b + 64 > v->n / 16) m &= (1ull << (v->n / 16 - 8 * b)) - 1;
        size_t room = (size_t)(end - p) / step;
        for (size_t k = (size_t)__builtin_popcountll(m); k > room; k--) m &= m - 1; /* a row that lies */
        for (const float *xb = x + 128 * b; m;)
#pragma GCC unroll 4
            for (int i = 0; i < 4 && m; i++, m &= m - 1, p += step) {
                _mm_prefetch((const char *)p + AHEAD, _MM_HINT_T0);
                __m512 a = _mm512_loadu_ps(xb + 16 * (size_t)__builtin_ctzll(m));
                sum[i] = _mm512_fmadd_ps(values(p, bits, half), a, sum[i]);
            }
    }
    return sum4(sum);
}

/* Runs of 4, four of them at a time. */
INLINE float dot_runs4(const pare_sparse_view *v, const uint8_t *row, const float *x, const int bits, const bool half) {
    const uint8_t *places = row + v->at.place_at, *p = row + v->at.values_at, *end = row + v->at.bytes;
    const size_t step = (size_t)bits / 2;
    __m512 sum[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    for (size_t b = 0, turn = 0; b < v->at.place_bytes; b += 8) {
        uint64_t m = 0;
        size_t some = v->at.place_bytes - b < 8 ? v->at.place_bytes - b : 8;
        memcpy(&m, places + b, some);
        if (8 * b + 64 > v->n / 4) m &= (1ull << (v->n / 4 - 8 * b)) - 1;
        size_t runs = (size_t)__builtin_popcountll(m), room = (size_t)(end - p) / step;
        const float *xb = x + 32 * b;
        for (runs = runs < room ? runs : room; runs >= 4; runs -= 4, p += 4 * step, turn ^= 1) {
            __m512 a = _mm512_castps128_ps512(_mm_loadu_ps(xb + 4 * (size_t)__builtin_ctzll(m)));
            m &= m - 1;
            a = _mm512_mask_broadcast_f32x4(a, 0x00F0, _mm_loadu_ps(xb + 4 * (size_t)__builtin_ctzll(m)));
            m &= m - 1;
            a = _mm512_mask_broadcast_f32x4(a, 0x0F00, _mm_loadu_ps(xb + 4 * (size_t)__builtin_ctzll(m)));
            m &= m - 1;
            a = _mm512_mask_broadcast_f32x4(a, 0xF000, _mm_loadu_ps(xb + 4 * (size_t)__builtin_ctzll(m)));
            m &= m - 1;
            _mm_prefetch((const char *)p + AHEAD, _MM_HINT_T0);
            sum[turn] = _mm512_fmadd_ps(values(p, bits, half), a, sum[turn]);
        }
        for (; runs; runs--, m &= m - 1, p += step) {
            __m512 a = _mm512_maskz_broadcast_f32x4(0x000F, _mm_loadu_ps(xb + 4 * (size_t)__builtin_ctzll(m)));
            sum[turn] = _mm512_fmadd_ps(values_few(p, 4, bits, half), a, sum[turn]);
        }
    }
    return _mm512_reduce_add_ps(_mm512_add_ps(sum[0], sum[1]));
}

/* Single columns. */
INLINE float dot_mask(const pare_sparse_view *v, const uint8_t *row, const float *x, const int bits, const bool half) {
    const uint8_t *mask = row + v->at.place_at, *p = row + v->at.values_at, *end = row + v->at.bytes;
    const size_t size = (size_t)bits / 8, n = v->n;
    __m512 sum[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
    size_t c = 0;
    for (; c + 64 <= n && (size_t)(end - p) >= 64 * size; c += 64) {
        _mm_prefetch((const char *)p + AHEAD, _MM_HINT_T0);
        if (bits == 32) _mm_prefetch((const char *)p + AHEAD + 64, _MM_HINT_T0);
#pragma GCC unroll 4
        for (size_t i = 0; i < 4; i++) {
            uint16_t m;
            memcpy(&m, mask + c / 8 + 2 * i, 2);
            __m512 w = _mm512_maskz_expand_ps(m, values(p, bits, half));
            sum[i] = _mm512_fmadd_ps(w, _mm512_loadu_ps(x + c + 16 * i), sum[i]);
            p += (size_t)__builtin_popcount(m) * size;
        }
    }
    for (; c < n; c += 16) {
        size_t k = n - c < 16 ? n - c : 16, left = p < end ? (size_t)(end - p) / size : 0;
        uint16_t in = (uint16_t)((1u << k) - 1), m = 0;
        memcpy(&m, mask + c / 8, (k + 7) / 8);
        m &= in;
        __m512 w = _mm512_maskz_expand_ps(m, values_few(p, left, bits, half));
        sum[0] = _mm512_fmadd_ps(w, _mm512_maskz_loadu_ps(in, x + c), sum[0]);
        p += (size_t)__builtin_popcount(m) * size;
    }
    return sum4(sum);
}

float pare_sparse_dot_avx512(const pare_sparse_view *v, const uint8_t *row, const float *x) {
#define BY_RUN(bits, half)                                                                                             \
    switch (v->f->keep ? v->f->run : 0) {                                                                              \
    case 0: return dot_two(v, row, x, bits, half);                                                                     \
    case 1: return dot_mask(v, row, x, bits, half);                                                                    \
    case 4: return dot_runs4(v, row, x, bits, half);                                                                   \
    default: return dot_runs(v, row, x, bits, half);                                                                   \
    }
    if (v->f->bits == 32) BY_RUN(32, false)
    if (v->f->dense == &pare_qtype_f16) BY_RUN(16, true)
    BY_RUN(16, false)
#undef BY_RUN
}
