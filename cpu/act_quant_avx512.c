/* SPDX-License-Identifier: Apache-2.0
 *
 * Activation rounding with AVX-512; see cpu/act_quant.h. */
#include "cpu/matmul_kernels.h"

#include <float.h>
#include <immintrin.h>
#include <math.h>
#include <string.h>

#define TINY 1e-36f

static inline __mmask16 tail(size_t n) { return n < 16 ? (__mmask16)((1u << n) - 1) : 0xFFFF; }

/* Largest magnitude, NaN when any element is not finite. */
static inline float largest(const float *x, size_t n) {
    __m512 m = _mm512_setzero_ps();
    __mmask16 bad = 0;
    for (size_t i = 0; i < n; i += 16) {
        __m512 v = _mm512_abs_ps(_mm512_maskz_loadu_ps(tail(n - i), x + i));
        bad |= _mm512_cmp_ps_mask(v, _mm512_set1_ps(FLT_MAX), _CMP_NLE_UQ);
        m = _mm512_max_ps(m, v);
    }
    return bad ? NAN : _mm512_reduce_max_ps(m);
}

/* The first element of magnitude amax. */
static inline float first_of(const float *x, size_t n, float amax) {
    for (size_t i = 0; i < n; i += 16) {
        __m512 v = _mm512_maskz_loadu_ps(tail(n - i), x + i);
        __mmask16 hit = _mm512_cmp_ps_mask(_mm512_abs_ps(v), _mm512_set1_ps(amax), _CMP_EQ_OQ);
        if (hit) return x[i + (size_t)__builtin_ctz(hit)];
    }
    return amax;
}

static inline void to_codes(const float *x, size_t n, float inv, int8_t *codes) {
    for (size_t i = 0; i < n; i += 16) {
        __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(tail(n - i), x + i), _mm512_set1_ps(inv));
        __m512i c = _mm512_min_epi32(_mm512_cvtps_epi32(v), _mm512_set1_epi32(127));
        _mm_mask_storeu_epi8(codes + i, tail(n - i), _mm512_cvtsepi32_epi8(c));
    }
}

void pare_act_quant_avx512(pare_act_rule rule, const float *x, size_t k, int8_t *codes, float *scale) {
    size_t block = pare_act_block(rule, k);
    for (size_t i = 0; i < k; i += block, scale++) {
        size_t n = block < k - i ? block : k - i;
        float amax = largest(x + i, n);
        if (!(amax >= TINY)) {
            memset(codes + i, 0, n);
            *scale = isnan(amax) ? NAN : 0.0f;
            continue;
        }
        float inv = rule == PARE_RULE_Q8_K ? -127.0f / first_of(x + i, n, amax) : 127.0f / amax;
        to_codes(x + i, n, inv, codes + i);
        if (rule == PARE_RULE_Q8_K) *scale = 1.0f / inv;
        else if (rule == PARE_RULE_TOKEN) *scale = amax / 127.0f;
        else *scale = _cvtsh_ss(_cvtss_sh(amax / 127.0f, _MM_FROUND_TO_NEAREST_INT));
    }
}

/* Quads by multiplication with ones, then four vectors of quads to one of sums of 16. */
void pare_act_sums_avx512(const int8_t *codes, const float *scale, size_t n, int32_t *sum, float *scaled) {
    const __m512i ones8 = _mm512_set1_epi8(1), ones16 = _mm512_set1_epi16(1);
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    for (size_t i = 0; i < n; i += 256) {
        __m512i v[4];
        for (size_t j = 0; j < 4; j++)
            v[j] = _mm512_madd_epi16(_mm512_maddubs_epi16(ones8, _mm512_loadu_si512(codes + i + 64 * j)), ones16);
        __m512i a = _mm512_add_epi32(_mm512_unpacklo_epi32(v[0], v[1]), _mm512_unpackhi_epi32(v[0], v[1]));
        __m512i b = _mm512_add_epi32(_mm512_unpacklo_epi32(v[2], v[3]), _mm512_unpackhi_epi32(v[2], v[3]));
        a = _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
        a = _mm512_permutexvar_epi32(order, a);
        _mm512_storeu_si512(sum + i / 16, a);
        _mm512_storeu_ps(scaled + i / 16, _mm512_mul_ps(_mm512_cvtepi32_ps(a), _mm512_loadu_ps(scale + i / 16)));
    }
}
