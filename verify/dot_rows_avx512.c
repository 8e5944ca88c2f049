/* SPDX-License-Identifier: Apache-2.0
 *
 * Dot products with many rows, AVX-512: 16 lanes are one vector; eight rows at a time hide the latency of the
 * additions. */
#include "verify/dot_rows.h"

#include <immintrin.h>

static float add_lanes(__m512 sum, const float *x, const float *row, size_t done, size_t n) {
    float lane[16];
    _mm512_storeu_ps(lane, sum);
    for (size_t j = done; j < n; j++) lane[j & 15] += x[j] * row[j];
    __m128 a = _mm_add_ps(_mm_add_ps(_mm_loadu_ps(lane), _mm_loadu_ps(lane + 8)),
                          _mm_add_ps(_mm_loadu_ps(lane + 4), _mm_loadu_ps(lane + 12)));
    a = _mm_add_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_add_ss(a, _mm_shuffle_ps(a, a, 1)));
}

void pare_dot_rows_avx512(const float *x, const float *rows, size_t n_rows, size_t n, float *out) {
    size_t whole = n / 16 * 16, r = 0;
    for (; r + 8 <= n_rows; r += 8) {
        __m512 s[8];
        for (int k = 0; k < 8; k++) s[k] = _mm512_setzero_ps();
        for (size_t j = 0; j < whole; j += 16) {
            __m512 a = _mm512_loadu_ps(x + j);
            for (size_t k = 0; k < 8; k++)
                s[k] = _mm512_add_ps(s[k], _mm512_mul_ps(a, _mm512_loadu_ps(rows + (r + k) * n + j)));
        }
        for (size_t k = 0; k < 8; k++) out[r + k] = add_lanes(s[k], x, rows + (r + k) * n, whole, n);
    }
    for (; r < n_rows; r++) {
        __m512 s = _mm512_setzero_ps();
        for (size_t j = 0; j < whole; j += 16)
            s = _mm512_add_ps(s, _mm512_mul_ps(_mm512_loadu_ps(x + j), _mm512_loadu_ps(rows + r * n + j)));
        out[r] = add_lanes(s, x, rows + r * n, whole, n);
    }
}
