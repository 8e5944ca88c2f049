/* SPDX-License-Identifier: Apache-2.0
 *
 * 128 bytes at a time. */
#include <immintrin.h>

#include "formats/validate.h"

bool pare_any_exponent16_avx2(const void *src, size_t n, uint32_t mask) {
    const __m256i *p = src, m = _mm256_set1_epi16((short)mask);
    __m256i any = _mm256_setzero_si256();
    size_t i = 0;
    for (; i + 64 <= n; i += 64, p += 4)
        for (int k = 0; k < 4; k++)
            any = _mm256_or_si256(any, _mm256_cmpeq_epi16(_mm256_and_si256(_mm256_loadu_si256(p + k), m), m));
    return !_mm256_testz_si256(any, any) || pare_any_exponent16_ref(p, n - i, mask);
}

bool pare_any_exponent32_avx2(const void *src, size_t n, uint32_t mask) {
    const __m256i *p = src, m = _mm256_set1_epi32((int)mask);
    __m256i any = _mm256_setzero_si256();
    size_t i = 0;
    for (; i + 32 <= n; i += 32, p += 4)
        for (int k = 0; k < 4; k++)
            any = _mm256_or_si256(any, _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_loadu_si256(p + k), m), m));
    return !_mm256_testz_si256(any, any) || pare_any_exponent32_ref(p, n - i, mask);
}
