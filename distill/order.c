/* SPDX-License-Identifier: Apache-2.0
 *
 * The permutation of an epoch. */
#include "distill/order.h"

#define ROUNDS 6

static uint64_t mix(uint64_t z) { /* SplitMix64's output function */
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static uint64_t shuffle(uint64_t key, int half_bits, uint64_t x) {
    uint64_t mask = ((uint64_t)1 << half_bits) - 1, left = x >> half_bits, right = x & mask;
    for (uint64_t r = 0; r < ROUNDS; r++) {
        uint64_t next = left ^ (mix(key + 0x9E3779B97F4A7C15u * (r + 1) + right) & mask);
        left = right, right = next;
    }
    return left << half_bits | right;
}

uint64_t pare_order_at(uint64_t seed, uint64_t n, uint64_t at) {
    uint64_t epoch = at / n, x = at % n, key = mix(mix(seed) + epoch + 1);
    int half_bits = 1;
    while (half_bits < 32 && (uint64_t)1 << 2 * half_bits < n) half_bits++;
    do x = shuffle(key, half_bits, x);
    while (x >= n);
    return x;
}
