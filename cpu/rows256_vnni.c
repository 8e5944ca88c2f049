/* SPDX-License-Identifier: Apache-2.0
 *
 * One stored row times one row of activations, AVX512-VNNI, for Q4_K and Q6_K. The sums of four products fit in 16 bits
 * (63 * 127 * 4 = 32004), so vpdpwssd multiplies them by the integer scales of their groups; floats come in once per
 * super-block of 256 columns. */
#include "cpu/matmul_kernels.h"

#include <immintrin.h>
#include <string.h>

#define AHEAD 4096 /* bytes; rows follow one another */

static inline float half_at(const uint8_t *p) { return _cvtsh_ss((unsigned short)(p[0] | p[1] << 8)); }

static inline uint32_t word_at(const uint8_t *p) {
    uint32_t u;
    memcpy(&u, p, 4);
    return u;
}

/* Each of the eight scales, as a 32-bit lane, is wanted in eight lanes: of groups 4i (+1), 4i+2 (+1). */
#define EIGHTS(a, b) _mm512_setr_epi32(a, a, a, a, a, a, a, a, b, b, b, b, b, b, b, b)

float pare_row_q4_k_vnni(const pare_i8_source *s, const uint8_t *row, const pare_i8_act *x) {
    const __m512i low = _mm512_set1_epi8(15), zero = _mm512_setzero_si512();
    const __m512i pick[4] = {EIGHTS(0, 2), EIGHTS(1, 3), EIGHTS(4, 6), EIGHTS(5, 7)};
    __m512 acc = _mm512_setzero_ps();
    __m256 least = _mm256_setzero_ps();
    for (size_t b = 0; b < s->k / 256; b++, row += 144) {
        const int8_t *xc = x->shuffled + 256 * b;
        _mm_prefetch((const char *)row + AHEAD, _MM_HINT_T0);
        _mm_prefetch((const char *)row + AHEAD + 64, _MM_HINT_T0);
        _mm_prefetch((const char *)row + AHEAD + 128, _MM_HINT_T0);
        uint32_t a = word_at(row + 4), m = word_at(row + 8), h = word_at(row + 12);
        uint64_t scales = (a & 0x3F3F3F3F) | (uint64_t)((h & 0x0F0F0F0F) | (a >> 6 & 0x03030303) << 4) << 32;
        uint64_t mins = (m & 0x3F3F3F3F) | (uint64_t)((h >> 4 & 0x0F0F0F0F) | (m >> 6 & 0x03030303) << 4) << 32;
        __m512i sc = _mm512_castsi256_si512(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)scales)));
        __m256i mn = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)mins));
        mn = _mm256_mullo_epi32(mn, _mm256_loadu_si256((const __m256i *)(const void *)(x->sum32 + 8 * b)));
        __m512i sum = zero;
#pragma GCC unroll 2
        for (int i = 0; i < 2; i++) {
            __m512i w = _mm512_loadu_si512(row + 16 + 64 * i);
            __m512i even = _mm512_dpbusd_epi32(zero, _mm512_and_si512(w, low), _mm512_loadu_si512(xc + 128 * i));
            w = _mm512_and_si512(_mm512_srli_epi16(w, 4), low);
            __m512i odd = _mm512_dpbusd_epi32(zero, w, _mm512_loadu_si512(xc + 128 * i + 64));
            sum = _mm512_dpwssd_epi32(sum, even, _mm512_permutexvar_epi32(pick[2 * i], sc));
            sum = _mm512_dpwssd_epi32(sum, odd, _mm512_permutexvar_epi32(pick[2 * i + 1], sc));
        }
        float sx = x->scale32[8 * b];
        acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(half_at(row) * sx), acc);
        least = _mm256_fmadd_ps(_mm256_cvtepi32_ps(mn), _mm256_set1_ps(half_at(row + 2) * sx), least);
    }
    return _mm512_reduce_add_ps(_mm512_sub_ps(acc, _mm512_zextps256_ps512(least)));
}

#define FOURS(a)                                                                                                       \
    _mm512_setr_epi32(a, a, a, a, (a) + 1, (a) + 1, (a) + 1, (a) + 1, (a) + 2, (a) + 2, (a) + 2, (a) + 2, (a) + 3,     \
                      (a) + 3, (a) + 3, (a) + 3)

float pare_row_q6_k_vnni(const pare_i8_source *s, const uint8_t *row, const pare_i8_act *x) {
    const __m512i low = _mm512_set1_epi8(15), high = _mm512_set1_epi8(0x30), zero = _mm512_setzero_si512();
    const __m512i left = _mm512_setr_epi64(4, 4, 4, 4, 2, 2, 2, 2), right = _mm512_setr_epi64(0, 0, 0, 0, 2, 2, 2, 2);
    const __m512i pick[4] = {FOURS(0), FOURS(4), FOURS(8), FOURS(12)};
    __m512 acc = _mm512_setzero_ps();
    for (size_t b = 0; b < s->k / 256; b++, row += 210) {
        const int8_t *xc = x->codes + 256 * b;
        for (int i = 0; i < 256; i += 64) _mm_prefetch((const char *)row + AHEAD + i, _MM_HINT_T0);
        __m256i sc16 = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(row + 192)));
        __m256i off = _mm256_madd_epi16(sc16, _mm256_loadu_si256((const __m256i *)(const void *)(x->sum16 + 16 * b)));
        __m512i sc = _mm512_cvtepu16_epi32(sc16); /* the upper half of each lane stays 0, whatever the sign */
        __m512i sum = zero;
#pragma GCC unroll 2
        for (int i = 0; i < 2; i++) {
            __m512i w = _mm512_loadu_si512(row + 64 * i);
            __m512i q = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)(const void *)(row + 128 + 32 * i)));
            __m512i lo = _mm512_and_si512(w, low), hi = _mm512_and_si512(_mm512_srli_epi16(w, 4), low);
            lo = _mm512_or_si512(lo, _mm512_and_si512(_mm512_sllv_epi64(q, left), high));
            hi = _mm512_or_si512(hi, _mm512_and_si512(_mm512_srlv_epi64(q, right), high));
            lo = _mm512_dpbusd_epi32(zero, lo, _mm512_loadu_si512(xc + 128 * i));
            hi = _mm512_dpbusd_epi32(zero, hi, _mm512_loadu_si512(xc + 128 * i + 64));
            sum = _mm512_dpwssd_epi32(sum, lo, _mm512_permutexvar_epi32(pick[2 * i], sc));
            sum = _mm512_dpwssd_epi32(sum, hi, _mm512_permutexvar_epi32(pick[2 * i + 1], sc));
        }
        sum = _mm512_sub_epi32(sum, _mm512_zextsi256_si512(_mm256_slli_epi32(off, 5))); /* codes are 32 too large */
        acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(half_at(row + 208) * x->scale32[8 * b]), acc);
    }
    return _mm512_reduce_add_ps(acc);
}
