# SPDX-License-Identifier: Apache-2.0
"""Encoder errors against llama-quantize. usage: LLAMA_BIN=folder peer_grids.py BUILD [SMOLLM2.gguf]

The same tensors go through llama-quantize --pure and through our encoders; both results are decoded by gguf-py and
compared under the weights that llama-quantize's search for that type uses, without and with an importance matrix.
Prints a table (our error / its error, so 1 or less is no worse); exit status 1 when any ratio is above 1.
"""
import os
import subprocess
import sys
import tempfile

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T
from gguf.quants import dequantize

TOOL = sys.argv[1] + "/tests/test_grids"
LLAMA = os.environ.get("LLAMA_BIN")
if not LLAMA:
    print("LLAMA_BIN is not set: no llama-quantize to compare with")
    sys.exit(77)

TYPES = "Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS".split()
FILE_TYPE = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}


def weights(t, x, q):
    """The search weights of llama-quantize for type t; x is [rows, cols], q per column or None."""
    def mean(n):
        return np.repeat(np.square(x.reshape(len(x), -1, n)).mean(-1), n, -1)
    if t == "Q8_0":
        return np.ones_like(x)
    if q is None:
        if t in ("Q4_0", "Q4_1", "Q5_0", "Q5_1"):
            return np.ones_like(x)
        if t == "Q2_K":
            return np.abs(x)
        if t in ("Q4_K", "Q5_K"):
            return np.abs(x) + np.sqrt(mean(32))
        return np.square(x)
    if t == "Q6_K":
        return np.broadcast_to(q, x.shape)
    if t in ("Q4_0", "Q4_1", "Q5_0", "Q5_1"):
        s2 = mean(x.shape[1])
    elif t == "Q2_K":
        s2 = mean(256)
    else:
        s2 = 2 * mean(32 if t == "IQ4_NL" else 256)
    return q * np.sqrt(s2 + np.square(x))


def tensors(rng, smollm):
    rows = 512
    normal = rng.standard_normal((rows, 2048)) * 0.02
    outliers = rng.standard_t(3, (rows, 2048)) * 0.01
    outliers[:, ::97] *= 8
    shifted = rng.gamma(2.0, 0.01, (rows, 2048)) - 0.004
    out = {"normal": normal, "outliers": outliers, "skewed": shifted}
    if smollm:
        for t in gguf.GGUFReader(smollm).tensors:
            if t.name in ("blk.0.attn_q.weight", "blk.7.ffn_down.weight", "blk.20.ffn_up.weight", "blk.29.attn_output.weight"):
                if t.data.shape[-1] % 256 == 0:
                    out["smollm2 " + t.name.split(".", 1)[1][:-7]] = t.data[:1024]
    return {k: v.astype(np.float16).astype(np.float32) for k, v in out.items()}


def names(data):
    roles = ("attn_q", "attn_output", "ffn_up", "ffn_down", "ffn_gate", "attn_k", "attn_v")
    return {k: f"blk.0.{r}.weight" for k, r in zip(data, roles)}


def write_model(path, data):
    w = gguf.GGUFWriter(path, "llama")
    for key, value in (("context_length", 64), ("embedding_length", 256), ("block_count", 1), ("feed_forward_length", 256),
                       ("attention.head_count", 4)):
        w.add_uint32("llama." + key, value)
    w.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    for k, name in names(data).items():
        w.add_tensor(name, data[k].astype(np.float16))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def write_imatrix(path, data, importance):
    w = gguf.GGUFWriter(path, "llama")
    w.add_type("imatrix")
    w.add_array("imatrix.datasets", ["random"])
    w.add_uint32("imatrix.chunk_count", 1)
    w.add_uint32("imatrix.chunk_size", 512)
    for k, name in names(data).items():
        w.add_tensor(name + ".in_sum2", importance[k][None])
        w.add_tensor(name + ".counts", np.ones((1, 1), np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def theirs(folder, model, t, imatrix):
    out = os.path.join(folder, "out.gguf")
    args = ["--imatrix", imatrix] if imatrix else []
    r = subprocess.run([LLAMA + "/llama-quantize", "--pure", *args, model, out, FILE_TYPE.get(t, t), "2"],
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if r.returncode:
        sys.exit("llama-quantize failed:\n" + r.stdout[-3000:])
    return {x.name: (x.tensor_type, np.array(x.data)) for x in gguf.GGUFReader(out).tensors}


def ours(folder, t, x, q):
    args = [TOOL, "encode", t, str(x.shape[1])]
    if q is not None:
        path = os.path.join(folder, "importance")
        q.tofile(path)
        args.append(path)
    raw = subprocess.run(args, input=x.tobytes(), stdout=subprocess.PIPE, check=True).stdout
    return np.frombuffer(raw, np.uint8).reshape(len(x), -1)


def main():
    rng = np.random.default_rng(int(os.environ.get("SEED", "11")))
    data = tensors(rng, sys.argv[2] if len(sys.argv) > 2 else None)
    importance = {k: rng.gamma(0.5, 1.0, v.shape[1]).astype(np.float32) for k, v in data.items()}
    types = os.environ.get("GRIDS", " ".join(TYPES)).split()
    worse = 0
    with tempfile.TemporaryDirectory() as folder:
        model, imatrix = folder + "/model.gguf", folder + "/imatrix.gguf"
        write_model(model, data)
        write_imatrix(imatrix, data, importance)
        print("| grid | importance | " + " | ".join(data) + " |")
        print("|---" * (len(data) + 2) + "|")
        for t in types:
            for with_q in (False, True):
                peer = theirs(folder, model, t, imatrix if with_q else None)
                cells = []
                for k, name in names(data).items():
                    q = importance[k] if with_q else None
                    kind, raw = peer[name]
                    assert kind is T[t], (name, kind)
                    w = weights(t, data[k].astype(np.float64), None if q is None else q.astype(np.float64))
                    e = [(w * np.square(dequantize(r, T[t]).astype(np.float64) - data[k])).sum()
                         for r in (ours(folder, t, data[k], q), raw)]
                    cells.append(f"{e[0] / e[1]:.5f}")
                    worse += e[0] > e[1]
                print(f"| {t.lower()} | {'yes' if with_q else 'no'} | " + " | ".join(cells) + " |", flush=True)
    print(f"{worse} worse than llama-quantize")
    return worse != 0


sys.exit(main())
