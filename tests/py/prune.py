# SPDX-License-Identifier: Apache-2.0
"""What `pare prune` writes, against numpy and other people's packages.

usage: prune.py PARE TOK_DUMP MODELS TEXT OUTDIR     (MODELS holds stories260k/)

Wanda and SparseGPT on the first layer of stories260k, written here in double from the papers with the same calibration
windows; GGUF files read with gguf-py, folders with safetensors: exactly the promised zeros; joint pruning and rounding;
the same bytes at 1 and 2 threads; refusals that leave nothing behind. Prints a line per check; exit 1 on a failure."""
import json, math, os, shutil, struct, subprocess, sys
import numpy as np
import gguf
from gguf.quants import dequantize
from safetensors.numpy import load_file, save_file
sys.path.insert(0, os.path.dirname(__file__))
from reference import angles, by_batch, corrected, heads, load, rms, softmax
from tiny_encoder import tiny_encoder
from checks import check, finish

pare, tok_dump, models, text, out = sys.argv[1:6]
src = f"{models}/stories260k"
shutil.rmtree(out, ignore_errors=True)
os.makedirs(out)


def run(*a):
    return subprocess.run([pare, "prune", *map(str, a), "--quiet"], capture_output=True, text=True)


def must(*a):
    r = run(*a)
    if r.returncode: sys.exit(f"pare prune {' '.join(map(str, a))}: exit {r.returncode}: {r.stderr}")


# ---- the calibration windows: the text begins with BOS, and BOS takes the place of each window's first token ----
CTX, WINDOWS = 128, 16
cal = f"{out}/cal.txt"
body = open(text, "rb").read()[:60000].decode(errors="ignore").encode()
open(cal, "wb").write(body)
raw = subprocess.run([tok_dump, src, "encode", "1"], input=struct.pack("<I", len(body)) + body, capture_output=True, check=True).stdout
ids = np.frombuffer(raw, "<i4")[1:][:CTX * WINDOWS].reshape(WINDOWS, CTX).astype(np.int64)
ids[:, 0] = 1
data = ["--calib", cal, "--calib-ctx", CTX, "--calib-windows", WINDOWS]

# ---- the first layer, in double ----
cfg, W = load(src)
P = "layers.0."
H, KV, EPS = cfg["num_attention_heads"], cfg["num_key_value_heads"], cfg["rms_norm_eps"]
D = cfg["hidden_size"] // H
NAMES = [P + f"self_attn.{c}_proj.weight" for c in "qkvo"] + [P + f"mlp.{c}_proj.weight" for c in ("gate", "up", "down")]


def attention(w, x):
    """The input of o_proj."""
    cos, sin = angles(cfg, D, CTX)
    rotate = lambda x: np.concatenate([x[..., :D // 2] * cos - x[..., D // 2:] * sin, x[..., D // 2:] * cos + x[..., :D // 2] * sin], -1)
    y = rms(x, w[P + "input_layernorm.weight"], EPS)
    q, k, v = (heads(y @ w[P + f"self_attn.{c}_proj.weight"].T, m) for c, m in (("q", H), ("k", KV), ("v", KV)))
    q, k = rotate(q), rotate(k)
    k, v = np.repeat(k, H // KV, 1), np.repeat(v, H // KV, 1)
    y = softmax(q @ k.swapaxes(-1, -2) / math.sqrt(D) + np.where(np.tri(CTX, dtype=bool), 0, -np.inf)) @ v
    return y.swapaxes(1, 2).reshape(*ids.shape, -1)


def inputs(w, upto):
    """Input of the group at hand and the stream that its outputs are added to, flat over tokens."""
    flat = lambda x: x.reshape(-1, x.shape[-1])
    x = w["embed_tokens.weight"][ids]
    if upto == "qkv": return flat(rms(x, w[P + "input_layernorm.weight"], EPS)), None
    y = attention(w, x)
    if upto == "o": return flat(y), flat(x)
    x = x + y @ w[P + "self_attn.o_proj.weight"].T
    y = rms(x, w[P + "post_attention_layernorm.weight"], EPS)
    if upto == "mlp": return flat(y), None
    g = y @ w[P + "mlp.gate_proj.weight"].T
    return flat(g / (1 + np.exp(-g)) * (y @ w[P + "mlp.up_proj.weight"].T)), flat(x)


def smallest(score, k):
    """Mask of the k smallest, lower indices first."""
    m = np.zeros(score.size, bool)
    m[np.argsort(score.ravel(), kind="stable")[:k]] = True
    return m.reshape(score.shape)


def groups_of(score, n, m):
    return np.concatenate([np.stack([smallest(r, m - n) for r in score[:, g:g + m]]) for g in range(0, score.shape[1], m)], 1)


def wanda(w, x, pattern):
    score = np.abs(w) * np.sqrt((x * x).mean(0))
    mask = groups_of(score, *pattern) if pattern else np.stack([smallest(r, len(r) // 2) for r in score])
    return np.where(mask, 0, w)


def sparsegpt(w, x, pattern, full, stream, by_layer):
    """stream: (original, reduced) of what the outputs are added to; full: the original's inputs."""
    h = x.T @ x
    h += 0.01 * np.diag(h).mean() * np.eye(len(h))
    inverse = np.linalg.inv(h)
    u = np.linalg.cholesky(inverse).T
    w = corrected(w, inverse, by_batch(WINDOWS, CTX, full, x, *(stream or (None, None))))
    mask, step = np.zeros(w.shape, bool), pattern[1] if pattern else 128
    for j in range(w.shape[1]):
        if j % step == 0:
            score = w[:, j:j + step] ** 2 / np.diag(u)[j:j + step] ** 2
            n = score.shape[1]
            if pattern: mask[:, j:j + step] = groups_of(score, *pattern)
            elif by_layer: mask[:, j:j + step] = smallest(score, (j + n) * len(w) // 2 - j * len(w) // 2)
            else: mask[:, j:j + step] = np.stack([smallest(r, (j + n) // 2 - j // 2) for r in score])
        err = np.where(mask[:, j], w[:, j], 0) / u[j, j]
        w[:, j + 1:] -= np.outer(err, u[j, j + 1:])
        w[mask[:, j], j] = 0
    return w


def prune_layer(method, pattern, by_layer):
    w = dict(W)
    for upto, names in (("qkv", NAMES[:3]), ("o", NAMES[3:4]), ("mlp", NAMES[4:6]), ("down", NAMES[6:])):
        x, r = inputs(w, upto)
        full, rf = inputs(W, upto)
        for n in names:
            w[n] = wanda(W[n], x, pattern) if method == "wanda" else sparsegpt(W[n], x, pattern, full, None if r is None else (rf, r), by_layer)
    return w


for method in ("wanda", "sparsegpt"):
    for pattern, by_layer in ((None, False), (None, True), ((2, 4), False)):
        if by_layer and method == "wanda": continue
        tag = "2:4" if pattern else "50 % of the layer" if by_layer else "50 % of a row"
        how = ["--pattern", "2:4"] if pattern else ["--sparsity", "0.5", "--scope", "layer" if by_layer else "row"]
        must(src, "-o", f"{out}/{method}", "--method", method, *how, *data, "--force")
        got, want = load(f"{out}/{method}")[1], prune_layer(method, pattern, by_layer)
        same, worst, loss = [], 0, []
        for n in NAMES:
            m = (got[n] == 0) == (want[n] == 0)
            same.append(m.mean())
            worst = max(worst, np.abs(got[n] - want[n])[m].max() / np.abs(W[n]).max())
        for upto, names in (("qkv", NAMES[:3]), ("o", NAMES[3:4]), ("mlp", NAMES[4:6]), ("down", NAMES[6:])): # of the layer's outputs
            x = inputs(W, upto)[0]
            loss += [np.square(x @ (got[n] - W[n]).T).sum() / np.square(x @ (want[n] - W[n]).T).sum() for n in names]
        check(f"{method} {tag}: layer 0 as numpy has it", min(same) >= (0.999 if method == "wanda" else 0.99) and same[0] >= 0.999 and
              0.98 <= min(loss) and max(loss) <= 1.02 and (worst < 1e-6 or method != "wanda"),
              f"masks {min(same):.4f}, values {worst:.1e}, error {min(loss):.3f}..{max(loss):.3f} of numpy's")


# ---- zeros in files, as other packages read them ----
def linear(n): return "_proj" in n or ".attn_" in n and "norm" not in n or ".ffn_" in n and "norm" not in n


def zeros_of(path):
    """Name to weights in f32."""
    if path.endswith(".gguf"):
        return {t.name: dequantize(t.data, t.tensor_type).astype(np.float32).reshape(t.shape[::-1]) for t in gguf.GGUFReader(path).tensors}
    return {k: v.astype(np.float32) for k, v in load_file(f"{path}/model.safetensors").items()}


def two_of_four(w): return ((w.reshape(-1, 4) == 0).sum(1) == 2).all()


original = {False: zeros_of(src), True: zeros_of(f"{src}/stories260k-f32.gguf")}
for name in ("a", "a.gguf"):
    for source in (src, f"{src}/stories260k-f32.gguf"):
        to = f"{out}/{name}"
        must(source, "-o", to, "--method", "wanda", "--pattern", "2:4", *data, "--force")
        F, O = zeros_of(to), original[name.endswith(".gguf")]
        check(f"2:4 {os.path.basename(source)} to {name}: two zeros of four, the rest as it was",
              F.keys() == O.keys() and all(two_of_four(w) if linear(n) else np.array_equal(w, O[n]) for n, w in F.items()) and
              all(((w == O[n]) | (w == 0)).all() for n, w in F.items()))
must(src, "-o", f"{out}/b", "--method", "magnitude", "--sparsity", "0.3", "--json", f"{out}/b.json", "--tensor", "down_proj=0.62", "--keep", r"layers\.1\.", "--force")
F, report = zeros_of(f"{out}/b"), json.load(open(f"{out}/b.json"))
share = lambda n: 0 if "layers.1." in n or not linear(n) else 0.62 if "down" in n else 0.3
check("--tensor, --keep: zeros to the last one", all((w == 0).sum() == int(share(n) * w.size + 1e-6) for n, w in F.items()))
check("the report counts what is there", {r["name"]: r["zeros"] for r in report["plan"] if "zeros" in r} ==
      {n: int((w == 0).sum()) for n, w in F.items() if share(n)} and report["pruned"]["zeros"] == sum((w == 0).sum() for w in F.values()))
want = smallest(np.abs(W[NAMES[0]]), int(0.3 * W[NAMES[0]].size))
check("magnitude is numpy's", np.array_equal(F["model." + NAMES[0]] == 0, want))
must(src, "-o", f"{out}/g", "--method", "magnitude", "--sparsity", "0.4", "--scope", "global")
F = zeros_of(f"{out}/g")
all_w = np.concatenate([np.abs(original[False][n]).ravel() for n in F if linear(n)])
limit = np.sort(all_w)[int(0.4 * all_w.size) - 1]
check("--scope global: one limit for all", all(np.array_equal(w == 0, np.abs(original[False][n]) <= limit) for n, w in F.items() if linear(n)))
must(src, "-o", f"{out}/k", "--method", "sparsegpt", "--sparsity", "0.5", "--pattern", "block:4x4", *data)
F = zeros_of(f"{out}/k")
block = lambda w: (w.reshape(w.shape[0] // 4, 4, -1, 4) == 0).sum((1, 3))
check("block:4x4: blocks are empty or full", all(set(np.unique(block(w))) == {0, 16} and ((block(w) == 16).sum(1) == w.shape[1] // 8).all() for n, w in F.items() if linear(n)))

# ---- rounding at the same time ----
for to in ("q8_0", "q5_0"):
    must(src, "-o", f"{out}/{to}.gguf", "--method", "sparsegpt", "--pattern", "2:4", "--to", to, *data)
    r = gguf.GGUFReader(f"{out}/{to}.gguf")
    F = zeros_of(f"{out}/{to}.gguf")
    kinds = {t.tensor_type.name for t in r.tensors if linear(t.name)}
    check(f"2:4 with {to}: zeros survive", to.upper() in kinds and all(((w.reshape(-1, 4) == 0).sum(1) >= 2).all() for n, w in F.items() if linear(n)), kinds)
must(src, "-o", f"{out}/ct", "--method", "sparsegpt", "--pattern", "2:4", "--to", "int4:g32", *data)
F, bad, n = load_file(f"{out}/ct/model.safetensors"), 0, 0
for k, v in F.items():
    if not k.endswith(".weight_packed"): continue
    codes = (v.view(np.uint32)[..., None] >> (4 * np.arange(8, dtype=np.uint32)) & 15).astype(int) - 8
    bad, n = bad + ((codes.reshape(-1, 4) == 0).sum(1) < 2).sum(), n + 1
check("2:4 with int4:g32 in compressed-tensors: code 0 is 0", n >= 25 and bad == 0, f"{n} matrices")

# ---- verify, threads ----
r = subprocess.run([pare, "verify", src, f"{out}/a.gguf", "--data", cal, "--windows", "2", "--quiet", "--json", f"{out}/v.json"], capture_output=True, text=True)
check("verify runs it", r.returncode == 0 and 0 < json.load(open(f"{out}/v.json"))["metrics"]["kl_mean"]["value"] < 20, r.stderr)
for how in (["wanda", "--sparsity", "0.5"], ["sparsegpt", "--sparsity", "0.5"], ["sparsegpt", "--pattern", "2:4", "--to", "q8_0"]):
    for t in (1, 2): must(src, "-o", f"{out}/t{t}.gguf", "--method", *how, *data, "--threads", t, "--force")
    check(f"{' '.join(how)}: same bytes at 1 and 2 threads", open(f"{out}/t1.gguf", "rb").read() == open(f"{out}/t2.gguf", "rb").read())

# ---- an encoder, with a pooler that its embeddings do not use; a model of unknown architecture ----
b = f"{out}/bert"
tiny_encoder(b)
w = load_file(f"{b}/model.safetensors")
w["pooler.dense.weight"], w["pooler.dense.bias"] = np.ones((32, 32), np.float32), np.zeros(32, np.float32)
save_file(w, f"{b}/model.safetensors", metadata={"format": "pt"})
must(b, "-o", f"{b}2", "--method", "sparsegpt", "--pattern", "2:4", "--calib", cal, "--calib-ctx", "64", "--calib-windows", "4", "--json", f"{b}.json")
F, report = zeros_of(f"{b}2"), json.load(open(f"{b}.json"))
matrix = lambda n: "encoder.layer" in n and n.endswith("weight") and "Norm" not in n
check("encoder: linear layers only, not the pooler", all(two_of_four(F[n]) if matrix(n) else np.array_equal(F[n], w[n]) for n in F) and
      "never multiplies" in next(r["note"] for r in report["plan"] if r["name"] == "pooler.dense.weight") and "outputs finite" in report["pruned"]["ran"])
u = f"{out}/unknown.safetensors"
save_file({"net.0.weight": W[NAMES[0]].astype(np.float16), "net.0.bias": np.ones(64, np.float16), "embed.weight": np.ones((8, 8), np.float16)}, u)
must(u, "-o", f"{out}/unknown2.safetensors", *["--method", "magnitude", "--pattern", "1:4"], "--json", f"{out}/u.json")
F = load_file(f"{out}/unknown2.safetensors")
check("unknown architecture: magnitude by names and shapes", ((F["net.0.weight"].reshape(-1, 4) == 0).sum(1) == 3).all() and F["embed.weight"].all() and
      "not run" in json.load(open(f"{out}/u.json"))["pruned"]["ran"])

# ---- refusals ----
open(f"{out}/short.txt", "w").write("Once upon a time")
must(src, "-o", f"{out}/half.gguf", "--method", "magnitude", "--sparsity", "0.5")
subprocess.run([pare, "quantize", src, "-o", f"{out}/q.gguf", "--to", "q8_0", "--quiet"], check=True)
M = ["--method", "magnitude"]
for what, code, say, args in (
        ("sparsity 1", 2, "share of zeros", [*M, "--sparsity", "1"]), ("sparsity 0", 2, "share of zeros", [*M, "--sparsity", "0"]),
        ("sparsity -0.5", 2, "share of zeros", [*M, "--sparsity", "-0.5"]), ("no sparsity", 2, "--sparsity", M),
        ("no such method", 2, "magnitude, wanda, sparsegpt", ["--method", "obd", "--sparsity", "0.5"]),
        ("no such pattern", 2, "unstructured, N:M", [*M, "--pattern", "diagonal"]), ("4:2", 2, "N:M", [*M, "--pattern", "4:2"]),
        ("2:4 at 0.7", 2, "0.5", [*M, "--pattern", "2:4", "--sparsity", "0.7"]),
        ("columns not divisible", 2, "layers.0.mlp.down_proj.weight: 4:8", [*M, "--pattern", "4:8"]),
        ("rows that change places", 2, "change places", [*M, "--pattern", "block:5x4", "--sparsity", "0.5"]),
        ("a row emptied", 2, "of a row of 64", ["--method", "wanda", "--sparsity", "0.99"]),
        ("a layer emptied", 2, "nothing would be left", [*M, "--scope", "global", "--sparsity", "0.9994"]),
        ("text too short", 3, "less than one window", ["--method", "wanda", "--sparsity", "0.5", "--calib", f"{out}/short.txt"]),
        ("--keep of nothing", 2, "matches no tensor", [*M, "--sparsity", "0.5", "--keep", "experts"]),
        ("everything kept", 2, "left to prune", [*M, "--sparsity", "0.5", "--keep", "."]),
        ("bad --tensor", 2, "REGEX=SPARSITY", [*M, "--sparsity", "0.5", "--tensor", "q_proj"]),
        ("global Wanda", 2, "magnitude", ["--method", "wanda", "--sparsity", "0.5", "--scope", "global"]),
        ("Wanda with a grid", 2, "sparsegpt", ["--method", "wanda", "--sparsity", "0.5", "--to", "q8_0"]),
        ("a grid without 0", 2, "no exact 0", ["--method", "sparsegpt", "--sparsity", "0.5", "--to", "q4_1"])):
    r = run(src, "-o", f"{out}/no.gguf", *args)
    check(f"refused: {what}", r.returncode == code and say in r.stderr and not os.path.exists(f"{out}/no.gguf"), f"exit {r.returncode} {r.stderr.strip()}")
r = run(f"{out}/q.gguf", "-o", f"{out}/no.gguf", *M, "--sparsity", "0.5")
check("refused: a source that is rounded", r.returncode == 2 and "prune the original" in r.stderr, r.stderr.strip())
r = run(src, "-o", f"{out}/no", *M, "--pattern", "block:5x4", "--sparsity", "0.5")
check("refused: rows not divisible", r.returncode == 2 and "multiple of 5 rows" in r.stderr, r.stderr.strip())
r = run(src, "-o", f"{out}/half.gguf", *M, "--sparsity", "0.5")
check("refused: the output exists", r.returncode != 0 and "--force" in r.stderr, r.stderr.strip())
finish()
