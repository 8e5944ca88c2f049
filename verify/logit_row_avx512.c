/* SPDX-License-Identifier: Apache-2.0
 *
 * Logit sums, AVX-512: the 8 lanes are one vector of doubles. */
#include "verify/logit_exp.h"

#include <immintrin.h>

static float max_of(const float *x, size_t n) {
    __m512 a = _mm512_set1_ps(x[0]), b = a;
    size_t i = 0;
    for (; i + 32 <= n; i += 32)
        a = _mm512_max_ps(_mm512_loadu_ps(x + i), a), b = _mm512_max_ps(_mm512_loadu_ps(x + i + 16), b);
    float m = _mm512_reduce_max_ps(_mm512_max_ps(a, b));
    for (; i < n; i++)
        if (x[i] > m) m = x[i];
    return m;
}

static inline __m512d exp_neg(__m512d x) {
    __mmask8 live = _mm512_cmp_pd_mask(x, _mm512_set1_pd(PARE_EXP_MIN), _CMP_NLT_UQ);
    __m512d k = _mm512_roundscale_pd(_mm512_mul_pd(x, _mm512_set1_pd(PARE_EXP_LOG2E)),
                                     _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512d r = _mm512_fnmadd_pd(k, _mm512_set1_pd(PARE_EXP_LN2_HI), x);
    r = _mm512_fnmadd_pd(k, _mm512_set1_pd(PARE_EXP_LN2_LO), r);
    __m512d y = _mm512_set1_pd(pare_exp_coef[0]);
    for (int i = 1; i < PARE_EXP_TERMS; i++) y = _mm512_fmadd_pd(y, r, _mm512_set1_pd(pare_exp_coef[i]));
    __m512i e = _mm512_slli_epi64(_mm512_cvtpd_epi64(k), 52);
    return _mm512_maskz_mov_pd(live, _mm512_castsi512_pd(_mm512_add_epi64(_mm512_castpd_si512(y), e)));
}

void pare_logit_row_avx512(const float *p, const float *q, size_t n, pare_logit_sums *out) {
    float max_p = max_of(p, n), max_q = max_of(q, n);
    const __m512d mp = _mm512_set1_pd(max_p), mq = _mm512_set1_pd(max_q);
    __m512d s[6];
    for (int k = 0; k < 6; k++) s[k] = _mm512_setzero_pd();
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m512d a = _mm512_cvtps_pd(_mm256_loadu_ps(p + i)), b = _mm512_cvtps_pd(_mm256_loadu_ps(q + i));
        __m512d x = _mm512_sub_pd(a, mp), y = _mm512_sub_pd(b, mq), e = exp_neg(x), diff = _mm512_sub_pd(a, b);
        s[0] = _mm512_add_pd(s[0], e);
        s[1] = _mm512_add_pd(s[1], exp_neg(y));
        s[2] = _mm512_fmadd_pd(e, _mm512_sub_pd(x, y), s[2]);
        s[3] = _mm512_fmadd_pd(a, a, s[3]);
        s[4] = _mm512_fmadd_pd(a, b, s[4]);
        s[5] = _mm512_fmadd_pd(diff, diff, s[5]);
    }
    double sum[6][8];
    for (int k = 0; k < 6; k++) _mm512_storeu_pd(sum[k], s[k]);
    for (; i < n; i++) pare_logit_element(sum, i & 7, p[i], q[i], max_p, max_q);
    pare_logit_finish(sum, max_p, max_q, out);
}
