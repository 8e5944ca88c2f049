/* SPDX-License-Identifier: Apache-2.0
 *
 * Peak of vpdpbusd: 128 operations each, on twelve chains. */
#include <immintrin.h>

#include "cpu/probe.h"

#define CHAINS 12

double pare_probe_dot8_vnni(size_t steps, int32_t *sink) {
    __m512i s[CHAINS], w = _mm512_set1_epi8(*sink & 1 ? 3 : 5), x = _mm512_set1_epi8(7);
    for (int j = 0; j < CHAINS; j++) s[j] = _mm512_set1_epi32(j);
    for (size_t i = 0; i < steps; i++)
        for (int j = 0; j < CHAINS; j++) s[j] = _mm512_dpbusd_epi32(s[j], w, x);
    for (int j = 1; j < CHAINS; j++) s[0] = _mm512_add_epi32(s[0], s[j]);
    *sink = _mm_cvtsi128_si32(_mm512_castsi512_si128(s[0])); /* any lane keeps the work alive */
    return 128.0 * CHAINS * (double)steps;
}
