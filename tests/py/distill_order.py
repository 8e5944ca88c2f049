# SPDX-License-Identifier: Apache-2.0
"""What a peer must do as pare does to learn the same: the order of windows and sentences (distill/order.h), the rate of a
step (distill/optim.h), a text's tokens."""
import math, struct, subprocess
import numpy as np

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


def rate(t, steps, top):
    """Cosine from `top` to a tenth of it, behind a rise over a twentieth of the steps."""
    warm = steps // 20
    if t < warm: return top * (t + 1) / (warm + 1)
    return top * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (t - warm) / (steps - 1 - warm))))


def token_ids(tok_dump, model, text):
    """By pare's tokenizer, behind the one that begins a text."""
    body = open(text, "rb").read()
    raw = subprocess.run([tok_dump, model, "encode", "1"], input=struct.pack("<I", len(body)) + body, capture_output=True, check=True).stdout
    return np.frombuffer(raw, "<i4")[1:].astype(np.int64)
