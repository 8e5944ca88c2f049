/* SPDX-License-Identifier: Apache-2.0
 *
 * A handful of vector words, so that a row kernel is written once and compiled for AVX2 and AVX-512. Only for files
 * whose suffix picks these flags. V holds VW floats; + - * / work on it directly (GNU vectors). v_max and v_min return
 * the second operand when either is NaN, as the instructions do. Loads and stores need no alignment; the _n forms touch
 * only the first n < VW floats (the others read as 0). */
#ifndef PARE_CPU_SIMD_H
#define PARE_CPU_SIMD_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__AVX512F__)

#define VW 16
typedef __m512 V;
#define v_load(p)               _mm512_loadu_ps(p)
#define v_store(p, v)           _mm512_storeu_ps(p, v)
#define v_load_n(p, n)          _mm512_maskz_loadu_ps((__mmask16)((1u << (n)) - 1), p)
#define v_store_n(p, v, n)      _mm512_mask_storeu_ps(p, (__mmask16)((1u << (n)) - 1), v)
#define v_set1(x)               _mm512_set1_ps(x)
#define v_fma(a, b, c)          _mm512_fmadd_ps(a, b, c)  /* a * b + c */
#define v_fnma(a, b, c)         _mm512_fnmadd_ps(a, b, c) /* c - a * b */
#define v_fmaddsub(a, b, c)     _mm512_fmaddsub_ps(a, b, c)
#define v_max(a, b)             _mm512_max_ps(a, b)
#define v_min(a, b)             _mm512_min_ps(a, b)
#define v_sqrt(a)               _mm512_sqrt_ps(a)
#define v_round(a)              _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define v_ldexp(a, n)           _mm512_scalef_ps(a, n) /* a * 2^n, n a whole number */
#define v_abs(a)                _mm512_abs_ps(a)
#define v_sign_of(a, sign)      _mm512_or_ps(a, _mm512_and_ps(sign, _mm512_set1_ps(-0.0f)))      /* a >= 0 */
#define v_select_lt(a, b, x, y) _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x) /* a < b ? x : y */
#define v_swap_pairs(a)         _mm512_permute_ps(a, 0xB1)
/* VW / 2 floats, each twice */
#define v_load_twice(p)                                                                                                \
    _mm512_permutexvar_ps(_mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7),                           \
                          _mm512_castps256_ps512(_mm256_loadu_ps(p)))
static inline float v_hmax(V a) { return _mm512_reduce_max_ps(a); }
static inline double v_hsum(V a) {
    __m512d lo = _mm512_cvtps_pd(_mm512_castps512_ps256(a)), hi = _mm512_cvtps_pd(_mm512_extractf32x8_ps(a, 1));
    return _mm512_reduce_add_pd(_mm512_add_pd(lo, hi));
}

#else

#define VW                      8
typedef __m256 V;
static inline __m256i v_mask(size_t n) {
    static const int32_t ones[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
    return _mm256_loadu_si256((const __m256i *)(ones + 8 - n));
}
#define v_load(p)               _mm256_loadu_ps(p)
#define v_store(p, v)           _mm256_storeu_ps(p, v)
#define v_load_n(p, n)          _mm256_maskload_ps(p, v_mask(n))
#define v_store_n(p, v, n)      _mm256_maskstore_ps(p, v_mask(n), v)
#define v_set1(x)               _mm256_set1_ps(x)
#define v_fma(a, b, c)          _mm256_fmadd_ps(a, b, c)
#define v_fnma(a, b, c)         _mm256_fnmadd_ps(a, b, c)
#define v_fmaddsub(a, b, c)     _mm256_fmaddsub_ps(a, b, c)
#define v_max(a, b)             _mm256_max_ps(a, b)
#define v_min(a, b)             _mm256_min_ps(a, b)
#define v_sqrt(a)               _mm256_sqrt_ps(a)
#define v_round(a)              _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define v_abs(a)                _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a)
#define v_sign_of(a, sign)      _mm256_or_ps(a, _mm256_and_ps(sign, _mm256_set1_ps(-0.0f)))
#define v_select_lt(a, b, x, y) _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_LT_OQ))
#define v_swap_pairs(a)         _mm256_permute_ps(a, 0xB1)
#define v_load_twice(p)                                                                                                \
    _mm256_permutevar8x32_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)), _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3))
/* In two steps, as 2^n alone leaves the range of f32 before the product does. |n| <= 252. */
static inline V v_ldexp(V a, V n) {
    __m256i e = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(e, 1), rest = _mm256_sub_epi32(e, half);
    __m256i one = _mm256_set1_epi32(127);
    V x = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, one), 23));
    V y = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, one), 23));
    return a * x * y;
}
static inline float v_hmax(V a) {
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_shuffle_ps(m, m, 1)));
}
static inline double v_hsum(V a) {
    __m256d s = _mm256_cvtps_pd(_mm256_castps256_ps128(a)) + _mm256_cvtps_pd(_mm256_extractf128_ps(a, 1));
    __m128d t = _mm256_castpd256_pd128(s) + _mm256_extractf128_pd(s, 1);
    return _mm_cvtsd_f64(t) + _mm_cvtsd_f64(_mm_unpackhi_pd(t, t));
}

#endif

/* e^r - 1 for |r| <= ln 2 / 2: the Taylor series to degree 7 (next term below 2e-8 of r). */
static inline V v_expm1_small(V r) {
    V p = v_set1(1.0f / 5040);
    p = v_fma(p, r, v_set1(1.0f / 720));
    p = v_fma(p, r, v_set1(1.0f / 120));
    p = v_fma(p, r, v_set1(1.0f / 24));
    p = v_fma(p, r, v_set1(1.0f / 6));
    p = v_fma(p, r, v_set1(0.5f));
    return v_fma(p * r, r, r);
}

/* x = n ln 2 + r (Cody and Waite: ln 2 in two parts, the first exact in 15 bits). */
#define V_SPLIT(x, n, r)                                                                                               \
    V n = v_round((x)*v_set1(1.44269504f)), r = v_fnma(n, v_set1(0.693145752f), x);                                    \
    r = v_fnma(n, v_set1(1.42860677e-6f), r);

/* e^x within 1 ulp or so; 0 below -104, infinity above 89, NaN stays. */
static inline V v_exp(V x) {
    x = v_min(v_set1(89.0f), v_max(v_set1(-104.0f), x));
    V_SPLIT(x, n, r)
    return v_ldexp(v_set1(1.0f) + v_expm1_small(r), n);
}

static inline V v_sigmoid(V x) { return v_set1(1.0f) / (v_set1(1.0f) + v_exp(v_set1(0.0f) - x)); }

/* tanh |x| = (1 - e) / (1 + e), e = exp(-2|x|), by way of e - 1 so that small x keep their digits. */
static inline V v_tanh(V x) {
    V t = v_min(v_set1(40.0f), v_abs(x));
    t = v_set1(-2.0f) * t;
    V_SPLIT(t, n, r)
    V scale = v_ldexp(v_set1(1.0f), n), em1 = v_fma(scale, v_expm1_small(r), scale - v_set1(1.0f));
    return v_sign_of(v_abs(em1) / (em1 + v_set1(2.0f)), x);
}

/* Minimax fits of ours: erf(x)/x in x^2 on [0, 1] (error 3e-11), and log erfc on [1, 4] about 2.5 (error of erfc
 * 2e-11); above 4, 1 - erfc rounds to 1. */
static inline V v_erf(V x) {
    V a = v_min(v_set1(4.0f), v_abs(x)), z = a * a, t = v_max(v_set1(1.0f), a) - v_set1(2.5f);
    static const float near[] = {-9.68014047e-06f, 0.000112705459f, -0.000848471164f, 0.00522107489f,
                                 -0.0268654458f,   0.112837827f,    -0.376126385f,    1.12837917f};
    static const float far[] = {2.51291597e-07f, -2.02884846e-05f, 6.47605505e-05f, -0.000428220658f, 0.00216708491f,
                                -0.0108542455f,  -0.943892329f,    -5.35268069f,    -7.8068153f};
    V p = v_set1(near[0]), q = v_set1(far[0]);
    for (int i = 1; i < 8; i++) p = v_fma(p, z, v_set1(near[i]));
    for (int i = 1; i < 9; i++) q = v_fma(q, t, v_set1(far[i]));
    return v_sign_of(v_abs(v_select_lt(a, v_set1(1.0f), a * p, v_set1(1.0f) - v_exp(q))), x);
}

#endif
