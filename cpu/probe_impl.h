/* SPDX-License-Identifier: Apache-2.0
 *
 * Vector probes, one source for both widths. The including file defines V, BYTES, ZERO, FILL, LOAD, STORE, STREAM, ADD,
 * SUM, and PROBE(name). */
#include <immintrin.h>

#include "cpu/probe.h"

#define AHEAD 4096

uint64_t PROBE(read)(const void *p, size_t bytes, int streams) {
    size_t part = bytes / (size_t)streams;
    V s[4] = {ZERO(), ZERO(), ZERO(), ZERO()};
    for (size_t i = 0; i < part; i += 256)
        for (int k = 0; k < streams; k++) {
            const char *q = (const char *)p + (size_t)k * part + i;
            for (int j = 0; j < 256; j += 64) _mm_prefetch(q + j + AHEAD, _MM_HINT_T0);
            for (int j = 0; j < 256 / BYTES; j++) s[j % 4] = ADD(s[j % 4], LOAD(q + j * BYTES));
        }
    return SUM(ADD(ADD(s[0], s[1]), ADD(s[2], s[3])));
}

void PROBE(copy)(void *dst, const void *src, size_t bytes) {
    for (size_t i = 0; i < bytes; i += BYTES) STORE((char *)dst + i, LOAD((const char *)src + i));
}

void PROBE(copy_nt)(void *dst, const void *src, size_t bytes) {
    for (size_t i = 0; i < bytes; i += BYTES) STREAM((char *)dst + i, LOAD((const char *)src + i));
    _mm_sfence();
}

void PROBE(write_nt)(void *dst, size_t bytes) {
    for (size_t i = 0; i < bytes; i += BYTES) STREAM((char *)dst + i, FILL());
    _mm_sfence();
}
