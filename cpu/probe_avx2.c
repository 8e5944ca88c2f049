/* SPDX-License-Identifier: Apache-2.0
 *
 * Machine probes with AVX2: 10 chains, enough for two units of latency five. */
#define V            __m256i
#define BYTES        32
#define ZERO()       _mm256_setzero_si256()
#define FILL()       _mm256_set1_epi8(1)
#define LOAD(p)      _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define STORE(p, v)  _mm256_store_si256((__m256i *)(void *)(p), v)
#define STREAM(p, v) _mm256_stream_si256((__m256i *)(void *)(p), v)
#define ADD(a, b)    _mm256_add_epi64(a, b)
#define SUM(v)       sum(v)
#define PROBE(name)  pare_probe_##name##_avx2

#include <immintrin.h>
#include <stdint.h>

static inline uint64_t sum(__m256i v) {
    __m128i s = _mm_add_epi64(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    return (uint64_t)(_mm_cvtsi128_si64(s) + _mm_extract_epi64(s, 1));
}

#include "cpu/probe_impl.h"

#define CHAINS 10

double pare_probe_fma_avx2(size_t steps, float *sink) {
    __m256 a[CHAINS], m = _mm256_set1_ps(0.999f), c = _mm256_set1_ps(0.001f);
    for (int j = 0; j < CHAINS; j++) a[j] = _mm256_set1_ps((float)j);
    for (size_t i = 0; i < steps; i++)
        for (int j = 0; j < CHAINS; j++) a[j] = _mm256_fmadd_ps(a[j], m, c);
    for (int j = 1; j < CHAINS; j++) a[0] = _mm256_add_ps(a[0], a[j]);
    *sink = _mm256_cvtss_f32(a[0]);
    return 16.0 * CHAINS * (double)steps;
}

double pare_probe_dot8_avx2(size_t steps, int32_t *sink) {
    __m256i s[CHAINS], ones = _mm256_set1_epi16(1), w = _mm256_set1_epi8(*sink & 1 ? 3 : 5), x = _mm256_set1_epi8(7);
    for (int j = 0; j < CHAINS; j++) s[j] = _mm256_set1_epi32(j);
    for (size_t i = 0; i < steps; i++)
        for (int j = 0; j < CHAINS; j++) { /* the operand changes with the chain, so that nothing is hoisted */
            __m256i p = _mm256_madd_epi16(_mm256_maddubs_epi16(w, _mm256_xor_si256(x, s[j])), ones);
            s[j] = _mm256_add_epi32(s[j], p);
        }
    for (int j = 1; j < CHAINS; j++) s[0] = _mm256_add_epi32(s[0], s[j]);
    *sink = _mm256_extract_epi32(s[0], 0);
    return 64.0 * CHAINS * (double)steps;
}
