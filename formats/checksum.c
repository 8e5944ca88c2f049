/* SPDX-License-Identifier: Apache-2.0
 *
 * Eight lanes of multiply and rotate over 64-byte stripes; every chunk is folded into the running value, so that a
 * changed, moved or missing byte changes the result. */
#include "formats/checksum.h"

#include <string.h>

#define P1 0x9E3779B185EBCA87u
#define P2 0xC2B2AE3D27D4EB4Fu

static uint64_t rotl(uint64_t x, int r) { return x << r | x >> (64 - r); }

static uint64_t mix(uint64_t h) {
    h = (h ^ h >> 32) * P1;
    h = (h ^ h >> 29) * P2;
    return h ^ h >> 32;
}

static uint64_t chunk(uint64_t before, const uint8_t *p, size_t n) {
    uint64_t lane[8], w[8];
    for (int i = 0; i < 8; i++) lane[i] = mix(before + (uint64_t)(i + 1) * P2);
    size_t i = 0;
    for (; i + 64 <= n; i += 64) {
        memcpy(w, p + i, 64);
        for (int k = 0; k < 8; k++) lane[k] = rotl((lane[k] ^ w[k]) * P1, 31);
    }
    memset(w, 0, 64);
    memcpy(w, p + i, n - i);
    uint64_t h = mix(before ^ (uint64_t)n * P1);
    for (int k = 0; k < 8; k++) h = mix(h ^ mix((lane[k] ^ w[k]) * P1));
    return h;
}

uint64_t pare_checksum(uint64_t before, const void *bytes, size_t n) {
    const uint8_t *p = bytes;
    for (; n > PARE_CHECKSUM_CHUNK; p += PARE_CHECKSUM_CHUNK, n -= PARE_CHECKSUM_CHUNK)
        before = chunk(before, p, PARE_CHECKSUM_CHUNK);
    return n ? chunk(before, p, n) : before;
}
