/* SPDX-License-Identifier: Apache-2.0
 *
 * A vector of LANES floats, as wide as the flags of the including file allow (AVX-512: 16, AVX2: 8, else 4 by compiler
 * vectors). Every operation is element by element and correctly rounded, and nothing is fused or reduced across lanes
 * except minima and maxima, which are exact; so code written on lanes gives the same bits at every width. */
#ifndef PARE_QUANT_LANES_H
#define PARE_QUANT_LANES_H

#include "core/qtype.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define LANES 16
typedef __m512 vf;
typedef __mmask16 vmask;
static inline vf v_set(float x) { return _mm512_set1_ps(x); }
static inline vf v_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void v_store(float *p, vf v) { _mm512_storeu_ps(p, v); }
static inline vf v_sqrt(vf a) { return _mm512_sqrt_ps(a); }
static inline vf v_min(vf a, vf b) { return _mm512_min_ps(a, b); } /* a < b ? a : b */
static inline vf v_max(vf a, vf b) { return _mm512_max_ps(a, b); } /* a > b ? a : b */
static inline vf v_abs(vf a) { return _mm512_abs_ps(a); }
static inline vmask v_lt(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
static inline vf v_sel(vmask m, vf yes, vf no) { return _mm512_mask_blend_ps(m, no, yes); }
static inline float v_hmin(vf a) { return _mm512_reduce_min_ps(a); }
static inline float v_hmax(vf a) { return _mm512_reduce_max_ps(a); }
static inline void v_store_i8(int8_t *p, vf v) { /* v holds integers of the int8 range */
    _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v)));
}

#elif defined(__AVX2__)
#define LANES 8
typedef __m256 vf;
typedef __m256 vmask;
static inline vf v_set(float x) { return _mm256_set1_ps(x); }
static inline vf v_load(const float *p) { return _mm256_loadu_ps(p); }
static inline void v_store(float *p, vf v) { _mm256_storeu_ps(p, v); }
static inline vf v_sqrt(vf a) { return _mm256_sqrt_ps(a); }
static inline vf v_min(vf a, vf b) { return _mm256_min_ps(a, b); }
static inline vf v_max(vf a, vf b) { return _mm256_max_ps(a, b); }
static inline vf v_abs(vf a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
static inline vmask v_lt(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
static inline vf v_sel(vmask m, vf yes, vf no) { return _mm256_blendv_ps(no, yes, m); }
static inline float v_hmin(vf a) {
    __m128 h = _mm_min_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    h = _mm_min_ps(h, _mm_movehl_ps(h, h));
    return _mm_cvtss_f32(_mm_min_ss(h, _mm_shuffle_ps(h, h, 1)));
}
static inline float v_hmax(vf a) {
    __m128 h = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    h = _mm_max_ps(h, _mm_movehl_ps(h, h));
    return _mm_cvtss_f32(_mm_max_ss(h, _mm_shuffle_ps(h, h, 1)));
}
static inline void v_store_i8(int8_t *p, vf v) {
    __m256i i = _mm256_cvtps_epi32(v);
    __m128i w = _mm_packs_epi32(_mm256_castsi256_si128(i), _mm256_extracti128_si256(i, 1));
    _mm_storel_epi64((__m128i *)p, _mm_packs_epi16(w, w));
}

#else
#define LANES 4
typedef float vf __attribute__((vector_size(16)));
typedef int32_t vmask __attribute__((vector_size(16)));
static inline vf v_set(float x) { return (vf){x, x, x, x}; }
static inline vf v_load(const float *p) {
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline void v_store(float *p, vf v) { memcpy(p, &v, sizeof v); }
static inline vf v_sel(vmask m, vf yes, vf no) { return (vf)((m & (vmask)yes) | (~m & (vmask)no)); }
static inline vmask v_lt(vf a, vf b) { return (vmask)(a < b); }
static inline vf v_sqrt(vf a) { return (vf){sqrtf(a[0]), sqrtf(a[1]), sqrtf(a[2]), sqrtf(a[3])}; }
static inline vf v_min(vf a, vf b) { return v_sel(v_lt(a, b), a, b); }
static inline vf v_max(vf a, vf b) { return v_sel(v_lt(b, a), a, b); }
static inline vf v_abs(vf a) { return (vf)((vmask)a & 0x7FFFFFFF); }
static inline float v_hmin(vf a) {
    float x = a[0] < a[1] ? a[0] : a[1], y = a[2] < a[3] ? a[2] : a[3];
    return x < y ? x : y;
}
static inline float v_hmax(vf a) {
    float x = a[0] > a[1] ? a[0] : a[1], y = a[2] > a[3] ? a[2] : a[3];
    return x > y ? x : y;
}
static inline void v_store_i8(int8_t *p, vf v) {
    for (int i = 0; i < LANES; i++) p[i] = (int8_t)(int)v[i];
}
#endif

/* LANES signed bytes as floats; and values rounded to a narrower type, ties to even (bf16: finite ones). */
#if defined(__AVX512F__)
static inline vf v_load_i8(const int8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
static inline vf v_round_f16(vf v) { return _mm512_cvtph_ps(_mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT)); }
static inline vf v_round_bf16(vf v) {
    __m512i u = _mm512_castps_si512(v), odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    u = _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF)));
    return _mm512_castsi512_ps(_mm512_and_si512(u, _mm512_set1_epi32((int)0xFFFF0000)));
}
#elif defined(__AVX2__)
static inline vf v_load_i8(const int8_t *p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}
static inline vf v_round_f16(vf v) { return _mm256_cvtph_ps(_mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT)); }
static inline vf v_round_bf16(vf v) {
    __m256i u = _mm256_castps_si256(v), odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    u = _mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF)));
    return _mm256_castsi256_ps(_mm256_and_si256(u, _mm256_set1_epi32((int)0xFFFF0000)));
}
#else
static inline vf v_load_i8(const int8_t *p) { return (vf){p[0], p[1], p[2], p[3]}; }
static inline vf v_round_f16(vf v) {
    for (int i = 0; i < LANES; i++) v[i] = pare_f16_to_f32(pare_f32_to_f16(v[i]));
    return v;
}
static inline vf v_round_bf16(vf v) {
    vmask u = (vmask)v;
    return (vf)((u + 0x7FFF + (u >> 16 & 1)) & (int32_t)0xFFFF0000);
}
#endif

/* Nearest integer, ties to even, for |x| < 2^22. The sum lands where the unit in the last place is 1. */
#define PARE_RNE_MAGIC 12582912.0f
static inline vf v_rne(vf v) { return v + v_set(PARE_RNE_MAGIC) - v_set(PARE_RNE_MAGIC); }
static inline float s_rne(float v) {
    float t = v + PARE_RNE_MAGIC;
    return t - PARE_RNE_MAGIC;
}
static inline float s_clamp(float v, float lo, float hi) {
    v = v > lo ? v : lo;
    return v < hi ? v : hi;
}
static inline vf v_clamp(vf v, vf lo, vf hi) { return v_min(v_max(v, lo), hi); }

#endif
