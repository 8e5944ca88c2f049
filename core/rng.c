/* SPDX-License-Identifier: Apache-2.0
 *
 * xoshiro256** seeded by SplitMix64. */
#include "core/rng.h"

#include <math.h>

static uint64_t rotl(uint64_t x, int k) { return x << k | x >> (64 - k); }

void pare_rng_seed(pare_rng *r, uint64_t seed) {
    for (int i = 0; i < 4; i++) {
        uint64_t z = seed += 0x9E3779B97F4A7C15u;
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
        z = (z ^ z >> 27) * 0x94D049BB133111EBu;
        r->s[i] = z ^ z >> 31;
    }
}

uint64_t pare_rng_u64(pare_rng *r) {
    uint64_t *s = r->s, result = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0], s[3] ^= s[1], s[1] ^= s[2], s[0] ^= s[3], s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

uint64_t pare_rng_below(pare_rng *r, uint64_t n) { /* Lemire 2019, with rejection */
    unsigned __int128 m = (unsigned __int128)pare_rng_u64(r) * n;
    if ((uint64_t)m < n) {
        uint64_t floor = -n % n;
        while ((uint64_t)m < floor) m = (unsigned __int128)pare_rng_u64(r) * n;
    }
    return (uint64_t)(m >> 64);
}

double pare_rng_unit(pare_rng *r) { return (double)(pare_rng_u64(r) >> 11) * 0x1p-53; }

float pare_rng_normal(pare_rng *r) {
    double u = 1.0 - pare_rng_unit(r), v = pare_rng_unit(r);
    return (float)(sqrt(-2.0 * log(u)) * cos(6.283185307179586477 * v));
}
