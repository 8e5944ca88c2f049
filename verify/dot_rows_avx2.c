/* SPDX-License-Identifier: Apache-2.0
 *
 * Dot products with many rows, AVX2: 16 lanes are two vectors; four rows at a time hide the latency of the additions.
 */
#include "verify/dot_rows.h"

#include <immintrin.h>

static float add_lanes(__m256 lo, __m256 hi, const float *x, const float *row, size_t done, size_t n) {
    float lane[16];
    _mm256_storeu_ps(lane, lo);
    _mm256_storeu_ps(lane + 8, hi);
    for (size_t j = done; j < n; j++) lane[j & 15] += x[j] * row[j];
    for (int half = 8; half; half /= 2)
        for (int j = 0; j < half; j++) lane[j] += lane[j + half];
    return lane[0];
}

void pare_dot_rows_avx2(const float *x, const float *rows, size_t n_rows, size_t n, float *out) {
    size_t whole = n / 16 * 16;
    for (size_t r = 0; r < n_rows;) {
        size_t m = n_rows - r < 4 ? 1 : 4;
        __m256 lo[4], hi[4];
        for (size_t k = 0; k < 4; k++) lo[k] = hi[k] = _mm256_setzero_ps();
        for (size_t j = 0; j < whole; j += 16) {
            __m256 a = _mm256_loadu_ps(x + j), b = _mm256_loadu_ps(x + j + 8);
            for (size_t k = 0; k < m; k++) {
                const float *row = rows + (r + k) * n + j;
                lo[k] = _mm256_add_ps(lo[k], _mm256_mul_ps(a, _mm256_loadu_ps(row)));
                hi[k] = _mm256_add_ps(hi[k], _mm256_mul_ps(b, _mm256_loadu_ps(row + 8)));
            }
        }
        for (size_t k = 0; k < m; k++) out[r + k] = add_lanes(lo[k], hi[k], x, rows + (r + k) * n, whole, n);
        r += m;
    }
}
