# SPDX-License-Identifier: Apache-2.0
"""The order in which windows and sentences are learned from, as distill/order.h says it."""
MASK64 = (1 << 64) - 1


def mix(z):
    z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & MASK64
    z = ((z ^ z >> 27) * 0x94D049BB133111EB) & MASK64
    return z ^ z >> 31


def order(seed, n, at):  # distill/order.h
    x, half = at % n, 1
    key = mix((mix(seed) + at // n + 1) & MASK64)
    while half < 32 and 1 << 2 * half < n: half += 1
    mask = (1 << half) - 1
    while True:
        left, right = x >> half, x & mask
        for r in range(6):
            left, right = right, left ^ (mix((key + 0x9E3779B97F4A7C15 * (r + 1) + right) & MASK64) & mask)
        x = left << half | right
        if x < n: return x
