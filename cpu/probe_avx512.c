/* SPDX-License-Identifier: Apache-2.0
 *
 * Machine probes with AVX-512. */
#define V            __m512i
#define BYTES        64
#define ZERO()       _mm512_setzero_si512()
#define FILL()       _mm512_set1_epi8(1)
#define LOAD(p)      _mm512_loadu_si512(p)
#define STORE(p, v)  _mm512_store_si512(p, v)
#define STREAM(p, v) _mm512_stream_si512((void *)(p), v)
#define ADD(a, b)    _mm512_add_epi64(a, b)
#define SUM(v)       sum(v)
#define PROBE(name)  pare_probe_##name##_avx512

#include <immintrin.h>
#include <stdint.h>

/* In unsigned arithmetic: the intrinsic adds signed lanes, whose overflow is undefined. */
static uint64_t sum(__m512i v) {
    uint64_t lane[8], total = 0;
    _mm512_storeu_si512(lane, v);
    for (int i = 0; i < 8; i++) total += lane[i];
    return total;
}

#include "cpu/probe_impl.h"

#define CHAINS 12

double pare_probe_fma_avx512(size_t steps, float *sink) {
    __m512 a[CHAINS], m = _mm512_set1_ps(0.999f), c = _mm512_set1_ps(0.001f);
    for (int j = 0; j < CHAINS; j++) a[j] = _mm512_set1_ps((float)j);
    for (size_t i = 0; i < steps; i++)
        for (int j = 0; j < CHAINS; j++) a[j] = _mm512_fmadd_ps(a[j], m, c);
    for (int j = 1; j < CHAINS; j++) a[0] = _mm512_add_ps(a[0], a[j]);
    *sink = _mm512_reduce_add_ps(a[0]);
    return 32.0 * CHAINS * (double)steps;
}

double pare_probe_dot8_avx512(size_t steps, int32_t *sink) {
    __m512i s[CHAINS], ones = _mm512_set1_epi16(1), w = _mm512_set1_epi8(*sink & 1 ? 3 : 5), x = _mm512_set1_epi8(7);
    for (int j = 0; j < CHAINS; j++) s[j] = _mm512_set1_epi32(j);
    for (size_t i = 0; i < steps; i++)
        for (int j = 0; j < CHAINS; j++) { /* the operand changes with the chain, so that nothing is hoisted */
            __m512i p = _mm512_madd_epi16(_mm512_maddubs_epi16(w, _mm512_xor_si512(x, s[j])), ones);
            s[j] = _mm512_add_epi32(s[j], p);
        }
    for (int j = 1; j < CHAINS; j++) s[0] = _mm512_add_epi32(s[0], s[j]);
    *sink = _mm_cvtsi128_si32(_mm512_castsi512_si128(s[0])); /* any lane keeps the work alive */
    return 128.0 * CHAINS * (double)steps;
}
