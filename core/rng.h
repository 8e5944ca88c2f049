/* SPDX-License-Identifier: Apache-2.0
 *
 * Deterministic random numbers: SplitMix64 seeding, xoshiro256** (Blackman and Vigna, 2018). Same seed, same stream,
 * on every machine. */
#ifndef PARE_CORE_RNG_H
#define PARE_CORE_RNG_H

#include <stdint.h>

typedef struct pare_rng {
    uint64_t s[4];
} pare_rng;
void pare_rng_seed(pare_rng *r, uint64_t seed);
uint64_t pare_rng_u64(pare_rng *r);
uint64_t pare_rng_below(pare_rng *r, uint64_t n); /* uniform in [0, n), n > 0, without bias */
double pare_rng_unit(pare_rng *r);                /* [0, 1), 53 bits */
float pare_rng_normal(pare_rng *r);               /* mean 0, variance 1 (Box-Muller, in double) */

#endif
