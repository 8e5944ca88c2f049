/* SPDX-License-Identifier: Apache-2.0
 *
 * Magnitudes compared as integers: for IEEE formats the order of the bits without the sign is the order of the
 * magnitudes, with Inf and NaN on top. The loops reduce to one maximum, which compilers turn into vector code; the
 * position is looked for only when there is something to find. */
#include "api/finite.h"

#include <float.h>
#include <string.h>

static size_t first32(const uint32_t *b, size_t n, int32_t limit) {
    enum { RUN = 4096 };
    for (size_t i = 0; i < n; i += RUN) {
        size_t end = n - i < RUN ? n : i + RUN;
        int32_t top = 0;
        for (size_t k = i; k < end; k++) {
            int32_t v = (int32_t)(b[k] & 0x7FFFFFFFu);
            top = v > top ? v : top;
        }
        if (top <= limit) continue;
        while ((int32_t)(b[i] & 0x7FFFFFFFu) <= limit) i++;
        return i;
    }
    return n;
}

size_t pare_find_beyond(const float *v, size_t n, float limit) {
    uint32_t bits;
    memcpy(&bits, &limit, 4);
    return first32((const uint32_t *)(const void *)v, n, (int32_t)bits);
}

/* src may be unaligned. */
static size_t first16(const uint8_t *src, size_t n, int16_t limit) {
    enum { RUN = 4096 };
    int16_t v[RUN];
    for (size_t i = 0; i < n; i += RUN) {
        size_t m = n - i < RUN ? n - i : RUN;
        int16_t top = 0;
        memcpy(v, src + i * 2, m * 2);
        for (size_t k = 0; k < m; k++) {
            int16_t x = (int16_t)(v[k] & 0x7FFF);
            top = x > top ? x : top;
        }
        if (top <= limit) continue;
        for (size_t k = 0;; k++)
            if ((v[k] & 0x7FFF) > limit) return i + k;
    }
    return n;
}

size_t pare_find_nonfinite_stored(const pare_qtype *qt, const void *src, size_t n) {
    enum { RUN = 1024 };
    float v[RUN];
    if (qt->kind != PARE_QK_FLOAT || qt->block_elems != 1 || !qt->decode) return n;
    if (qt == &pare_qtype_f16) return first16(src, n, 0x7BFF);
    if (qt == &pare_qtype_bf16) return first16(src, n, 0x7F7F);
    for (size_t i = 0; i < n; i += RUN) {
        size_t m = n - i < RUN ? n - i : RUN;
        qt->decode(qt, (const uint8_t *)src + i * qt->block_bytes, v, m);
        size_t at = pare_find_beyond(v, m, FLT_MAX);
        if (at < m) return i + at;
    }
    return n;
}
