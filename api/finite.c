/* SPDX-License-Identifier: Apache-2.0
 *
 * Magnitudes compared as integers: for IEEE formats the order of the bits without the sign is the order of the
 * magnitudes, with Inf and NaN on top. The loops reduce to one maximum, which compilers turn into vector code; the
 * position is looked for only when there is something to find. */
#include "api/finite.h"

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
