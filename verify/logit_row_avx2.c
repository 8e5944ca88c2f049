/* SPDX-License-Identifier: Apache-2.0
 *
 * Logit sums, AVX2 and FMA: 8 lanes as two vectors of 4 doubles. */
#include "verify/logit_exp.h"

#include <immintrin.h>

static float max_of(const float *x, size_t n) {
    float m = x[0];
    size_t i = 0;
    if (n >= 32) {
        __m256 a = _mm256_loadu_ps(x), b = _mm256_loadu_ps(x + 8), c = a, d = b;
        for (; i + 32 <= n; i += 32) {
            a = _mm256_max_ps(_mm256_loadu_ps(x + i), a), b = _mm256_max_ps(_mm256_loadu_ps(x + i + 8), b);
            c = _mm256_max_ps(_mm256_loadu_ps(x + i + 16), c), d = _mm256_max_ps(_mm256_loadu_ps(x + i + 24), d);
        }
        float v[8];
        _mm256_storeu_ps(v, _mm256_max_ps(_mm256_max_ps(a, b), _mm256_max_ps(c, d)));
        for (int j = 0; j < 8; j++)
            if (v[j] > m) m = v[j];
    }
    for (; i < n; i++)
        if (x[i] > m) m = x[i];
    return m;
}

static inline __m256d exp_neg(__m256d x) {
    const __m256d low = _mm256_set1_pd(PARE_EXP_MIN);
    __m256d k = _mm256_round_pd(_mm256_mul_pd(x, _mm256_set1_pd(PARE_EXP_LOG2E)),
                                _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256d r = _mm256_fnmadd_pd(k, _mm256_set1_pd(PARE_EXP_LN2_HI), x);
    r = _mm256_fnmadd_pd(k, _mm256_set1_pd(PARE_EXP_LN2_LO), r);
    __m256d y = _mm256_set1_pd(pare_exp_coef[0]);
    for (int i = 1; i < PARE_EXP_TERMS; i++) y = _mm256_fmadd_pd(y, r, _mm256_set1_pd(pare_exp_coef[i]));
    __m256i e = _mm256_slli_epi64(_mm256_cvtepi32_epi64(_mm256_cvtpd_epi32(k)), 52);
    y = _mm256_castsi256_pd(_mm256_add_epi64(_mm256_castpd_si256(y), e));
    return _mm256_andnot_pd(_mm256_cmp_pd(x, low, _CMP_LT_OQ), y);
}

void pare_logit_row_avx2(const float *p, const float *q, size_t n, pare_logit_sums *out) {
    float max_p = max_of(p, n), max_q = max_of(q, n);
    const __m256d mp = _mm256_set1_pd(max_p), mq = _mm256_set1_pd(max_q);
    __m256d s[6][2];
    for (int k = 0; k < 6; k++) s[k][0] = s[k][1] = _mm256_setzero_pd();
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        for (int h = 0; h < 2; h++) {
            __m256d a = _mm256_cvtps_pd(_mm_loadu_ps(p + i + 4 * h)), b = _mm256_cvtps_pd(_mm_loadu_ps(q + i + 4 * h));
            __m256d x = _mm256_sub_pd(a, mp), y = _mm256_sub_pd(b, mq), e = exp_neg(x), diff = _mm256_sub_pd(a, b);
            s[0][h] = _mm256_add_pd(s[0][h], e);
            s[1][h] = _mm256_add_pd(s[1][h], exp_neg(y));
            s[2][h] = _mm256_fmadd_pd(e, _mm256_sub_pd(x, y), s[2][h]);
            s[3][h] = _mm256_fmadd_pd(a, a, s[3][h]);
            s[4][h] = _mm256_fmadd_pd(a, b, s[4][h]);
            s[5][h] = _mm256_fmadd_pd(diff, diff, s[5][h]);
        }
    }
    double sum[6][8];
    for (int k = 0; k < 6; k++) _mm256_storeu_pd(sum[k], s[k][0]), _mm256_storeu_pd(sum[k] + 4, s[k][1]);
    for (; i < n; i++) pare_logit_element(sum, i & 7, p[i], q[i], max_p, max_q);
    pare_logit_finish(sum, max_p, max_q, out);
}
