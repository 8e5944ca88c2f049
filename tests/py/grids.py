# SPDX-License-Identifier: Apache-2.0
"""Storage formats against gguf-py. usage: grids.py BUILD

Random block bytes of every type decode to exactly what gguf.quants.dequantize gives; and where gguf-py has an encoder,
our squared error on the same rows is no larger than that of its bytes.
"""
import subprocess
import sys

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as T
from gguf.quants import dequantize, quantize

tool = sys.argv[1] + "/tests/test_grids"


def run(*args, data):
    return subprocess.run([tool, *args], input=data.tobytes(), stdout=subprocess.PIPE, check=True).stdout


def decode(name, cols, raw):
    return np.frombuffer(run("decode", name, str(cols), data=raw), np.float32)


def encode(name, x):
    return np.frombuffer(run("encode", name, str(x.shape[1]), data=x), np.uint8)


rng = np.random.default_rng(7)
bad = 0


def check(what, ok):
    global bad
    if not ok:
        bad += 1
        print("FAILED", what)


def expected(t, raw, elems):
    """gguf-py, and by hand the two types it cannot decode: d * code (ggml-common.h, block_q8_1 and block_q8_K)."""
    if t is T.Q8_1:
        d = raw[:, :2].copy().view(np.float16).astype(np.float32)
        return d * raw[:, 4:].view(np.int8).astype(np.float32)
    if t is T.Q8_K:
        d = raw[:, :4].copy().view(np.float32)
        return d * raw[:, 4:260].view(np.int8).astype(np.float32)
    return dequantize(raw, t)


for t in (T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.Q8_1, T.Q2_K, T.Q3_K, T.Q4_K, T.Q5_K, T.Q6_K, T.Q8_K, T.IQ4_NL,
          T.IQ4_XS, T.MXFP4):
    elems, size = GGML_QUANT_SIZES[t] if t is not T.Q8_1 else (32, 36)  # gguf-py says 40; ggml-common.h has 36
    raw = rng.integers(0, 256, (1000, size), dtype=np.uint8)
    with np.errstate(all="ignore"):
        want = expected(t, raw, elems).reshape(-1)
    got = decode(t.name, elems, raw)
    same = (got.view(np.uint32) == want.view(np.uint32)) | (np.isnan(got) & np.isnan(want))
    check(f"{t.name}: {np.count_nonzero(~same)} of {same.size} decoded values differ", same.all())

x = rng.standard_t(4, (256, 512)).astype(np.float32) * np.float32(0.02)
for t in (T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0):
    theirs = quantize(x, t)
    ours = encode(t.name, x).reshape(theirs.shape)
    e_theirs = np.square(dequantize(theirs, t).astype(np.float64) - x).sum()
    e_ours = np.square(dequantize(ours, t).astype(np.float64) - x).sum()
    print(f"{t.name}: squared error / gguf-py's {e_ours / e_theirs:.6f}, {np.mean(ours == theirs):.4%} equal bytes")
    check(f"{t.name}: error", e_ours <= e_theirs)
sys.exit(bad != 0)
