# SPDX-License-Identifier: Apache-2.0
"""Structured pruning seen from outside: what `pare prune --pattern heads|query-heads|ffn|hidden|layers` writes.

usage: smaller.py PARE LOGITS_DUMP MODELS TEXT OUTDIR     (MODELS holds stories260k/, TEXT is a file)

Folders are read with safetensors, GGUF files with gguf-py. The smaller model's numbers come from tests/py/reference.py
(numpy, double), the original's too, with the parts silenced or the layers left out: both must be what pare computes. What
goes and how the rest is refitted is worked out again here, from the papers' formulas, on the same windows of the text."""
import hashlib, json, os, shutil, subprocess, sys
import numpy as np
import gguf
from safetensors.numpy import load_file
from tokenizers import Tokenizer
sys.path.insert(0, os.path.dirname(__file__))
import reference
from ridge import ridge
from tiny_encoder import tiny_encoder

pare, dump, models, text, out = sys.argv[1:6]
src = f"{models}/stories260k"
shutil.rmtree(out, ignore_errors=True)
os.makedirs(out)
failures, WINDOWS, CTX = 0, 16, 256


def check(what, ok, more=""):
    global failures
    failures += not ok
    print(f"{'ok    ' if ok else 'FAILED'} {what} {more}", flush=True)


def prune(name, *a, rc=0):
    calib = ["--calib", text, "--calib-windows", str(WINDOWS), "--calib-ctx", str(CTX)]
    r = subprocess.run([pare, "prune", src, "-o", f"{out}/{name}", *calib, *map(str, a)], capture_output=True, text=True)
    if r.returncode != rc: sys.exit(f"pare prune {' '.join(map(str, a))}: exit {r.returncode}, not {rc}\n{r.stdout}{r.stderr}")
    return f"{out}/{name}" if rc == 0 else r.stderr


def logits(model, ids):
    np.asarray(ids, "<i8").tofile(f"{out}/ids")
    subprocess.run([dump, model, "none", "forward", str(len(ids)), f"{out}/ids", f"{out}/y"], check=True)
    return np.fromfile(f"{out}/y", "<f4").reshape(len(ids), -1)


def close(what, got, want, limit=1e-4):
    err = np.abs(got - want).max() / want.std()
    check(what, err <= limit, f"(max error / spread {err:.1e})")


cfg, W = reference.load(src)
L, D, F, H, KV = (cfg[k] for k in ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads"))
d = D // H
tokens = [cfg["bos_token_id"]] + Tokenizer.from_file(f"{src}/tokenizer.json").encode(open(text, encoding="utf-8").read()[:200000], add_special_tokens=False).ids
windows = np.array(tokens[:WINDOWS * CTX]).reshape(WINDOWS, CTX)
windows[:, 0] = cfg["bos_token_id"]
probe = np.array(tokens[-96:])

# ---- the original on the calibration windows: inputs of the linear layers, the stream before each layer ----
inputs, streams = {}, []
plain_linear, plain_rms = reference.linear, reference.rms
reference.linear = lambda w, n, x: (inputs.__setitem__(n, x.reshape(-1, x.shape[-1])), plain_linear(w, n, x))[1]
reference.rms = lambda x, g, eps: (streams.append(x.copy()), plain_rms(x, g, eps))[1]
reference.llama(cfg, W, windows)
reference.linear, reference.rms = plain_linear, plain_rms
streams = streams[0::2]  # one norm before attention, one before the feed-forward part; last the final one
assert len(streams) == L + 1
down, o = (lambda l: f"layers.{l}.mlp.down_proj"), (lambda l: f"layers.{l}.self_attn.o_proj")


def best(score, n):
    return np.sort(np.argsort(-score, kind="stable")[:n])


def scores(name, method, unit):
    x, w = inputs[name], W[name + ".weight"]
    groups = x.reshape(len(x), -1, unit)
    if method == "activation": return np.sqrt((groups ** 2).sum(-1)).mean(0)
    if method == "wanda": return ((x ** 2).mean(0) * (w ** 2).sum(0)).reshape(-1, unit).sum(-1)


def silenced(kept_columns, which):
    w = dict(W)
    for l in range(L):
        m = np.zeros_like(w[which(l) + ".weight"])
        m[:, kept_columns[l]] = w[which(l) + ".weight"][:, kept_columns[l]]
        w[which(l) + ".weight"] = m
    return w


def expect(folder, **sizes):
    c, w = reference.load(folder)
    e = dict(cfg, **sizes)
    bad = [k for k in e if c.get(k) != e[k]]
    hd = e.get("head_dim", e["hidden_size"] // e["num_attention_heads"])
    q, kv, D2, F2 = hd * e["num_attention_heads"], hd * e["num_key_value_heads"], e["hidden_size"], e["intermediate_size"]
    want = {"embed_tokens.weight": (cfg["vocab_size"], D2), "norm.weight": (D2,)}
    for l in range(e["num_hidden_layers"]):
        p = f"layers.{l}."
        for k, s in (("input_layernorm", (D2,)), ("post_attention_layernorm", (D2,)), ("self_attn.q_proj", (q, D2)), ("self_attn.k_proj", (kv, D2)),
                     ("self_attn.v_proj", (kv, D2)), ("self_attn.o_proj", (D2, q)), ("mlp.gate_proj", (F2, D2)), ("mlp.up_proj", (F2, D2)), ("mlp.down_proj", (D2, F2))):
            want[p + k + ".weight"] = s
    check(f"{os.path.basename(folder)}: config.json and shapes agree", not bad and {k: v.shape for k, v in w.items()} == want, bad)
    return c, w


def read_gguf(path, **keys):
    r = gguf.GGUFReader(path)
    got = {k: int(r.fields[f"llama.{k}"].parts[-1][0]) if f"llama.{k}" in r.fields else None for k in keys}
    check(f"{os.path.basename(path)}: metadata", got == keys, "" if got == keys else got)
    return {t.name: t.data.shape for t in r.tensors}


# ---- heads, neurons: chosen as the papers say; cut like numpy cuts; equal to the silenced original ----
for name, pattern, amount, unit, stay, which, methods, sizes, keys in (
        ("ffn", "ffn", ("--sparsity", 0.2), 1, 160, down, ("wanda", "activation"), dict(intermediate_size=160), dict(feed_forward_length=160)),
        ("heads", "heads", ("--stay", 2), 2 * d, 2, o, ("wanda", "activation"), dict(num_attention_heads=4, num_key_value_heads=2, head_dim=d),
         dict({"attention.head_count": 4, "attention.head_count_kv": 2, "attention.key_length": d, "attention.value_length": d, "rope.dimension_count": d})),
        ("query", "query-heads", ("--stay", 4), d, 4, o, ("wanda",), dict(num_attention_heads=4, head_dim=d), {"attention.head_count": 4, "attention.head_count_kv": 4})):
    for method in methods:
        folder = prune(f"{name}-{method}", "--pattern", pattern, *amount, "--method", method, "--no-heal")
        c, w = expect(folder, **sizes)
        kept = []
        for l in range(L):
            s = scores(which(l), method, unit)
            units = np.array([2 * g + best(s[2 * g:2 * g + 2], 1)[0] for g in range(KV)]) if name == "query" else best(s, stay)
            kept.append((units[:, None] * unit + np.arange(unit)).ravel())
        same = all(np.array_equal(w[which(l) + ".weight"], W[which(l) + ".weight"][:, kept[l]]) for l in range(L))
        check(f"{name}, {method}: what stays is what the formula says", same)
        close(f"{name}, {method}: pare computes what the silenced original does", logits(folder, probe),
              reference.llama(cfg, silenced(kept, which), probe[None])[0])
        close(f"{name}, {method}: pare computes what numpy does", logits(folder, probe), reference.forward(folder, probe[None])[0])
    file = prune(f"{name}.gguf", "--pattern", pattern, *amount, "--no-heal")
    read_gguf(file, **keys)
    close(f"{name}: the GGUF file computes the same", logits(file, probe), logits(f"{out}/{name}-wanda", probe))
    # healed: layer 0 by least squares here, the whole closer to the original than without
    healed = prune(f"{name}-healed", "--pattern", pattern, *amount)
    c, w = expect(healed, **sizes)
    s = scores(which(0), "wanda", unit)
    k = [i for l, i in enumerate([(np.array([2 * g + best(s[2 * g:2 * g + 2], 1)[0] for g in range(KV)]) if name == "query" else best(s, stay))[:, None] * unit + np.arange(unit)])][0].ravel()
    x, w0 = inputs[which(0)], W[which(0) + ".weight"]
    fit = ridge(x[:, k], x @ w0.T, w0[:, k], 2048 // CTX * CTX)
    err = np.abs(w[which(0) + ".weight"] - fit).max() / np.abs(fit).max()
    check(f"{name}: the refit of layer 0 is the ridge regression", err < 2e-3, f"({err:.1e})")
    full = reference.llama(cfg, W, probe[None])[0]
    mse = lambda m: ((logits(m, probe) - full) ** 2).mean()
    check(f"{name}: healing brings the outputs closer", mse(healed) < 0.9 * mse(f"{out}/{name}-wanda"), f"({mse(healed) / mse(f'{out}/{name}-wanda'):.2f} of the error)")

# ---- hidden: the same channels everywhere ----
folder = prune("hidden", "--pattern", "hidden", "--stay", 32, "--no-heal")
c, w = expect(folder, hidden_size=32, head_dim=d)
first = W["norm.weight"]
k, at = [], 0
for ch in range(D):
    if at < 32 and np.array_equal(W["embed_tokens.weight"][:, ch], w["embed_tokens.weight"][:, at]): k.append(ch); at += 1
check("hidden: channels of the embedding stay in order", len(k) == 32)
axes = {"embed_tokens": 1, "norm": 0, "input_layernorm": 0, "post_attention_layernorm": 0, "o_proj": 0, "down_proj": 0}
cut = {n: np.take(v, k, axes.get(n.split(".")[-2], 1)) for n, v in W.items()}
check("hidden: every tensor is the original's at these channels", all(np.array_equal(cut[n], w[n]) for n in W))
close("hidden: pare computes what numpy does", logits(folder, probe), reference.forward(folder, probe[None])[0])
file = prune("hidden.gguf", "--pattern", "hidden", "--stay", 32)
read_gguf(file, **{"embedding_length": 32, "attention.key_length": d, "attention.value_length": d})
full = reference.llama(cfg, W, probe[None])[0]
check("hidden: healing brings the outputs closer", ((logits(file, probe) - full) ** 2).mean() < ((logits(folder, probe) - full) ** 2).mean())

# ---- layers: influence as in the paper, the others as they were, the gap closed by regression ----
cos = lambda a, b: (a * b).sum(-1) / np.sqrt((a * a).sum(-1) * (b * b).sum(-1))
influence = [1 - cos(streams[l], streams[l + 1]).mean() for l in range(L)]
angle = [np.arccos(cos(streams[l][:, -1], streams[l + 2][:, -1])).mean() for l in range(L - 1)]
for name, args, gone in (("influence", ("--stay", L - 2), list(np.argsort(influence)[:2])), ("angular", ("--stay", L - 2, "--method", "angular"), [int(np.argmin(angle)), int(np.argmin(angle)) + 1]),
                         ("asked", ("--drop", "0,2-3"), [0, 2, 3])):
    folder = prune(f"layers-{name}", "--pattern", "layers", *args, "--no-heal")
    c, w = expect(folder, num_hidden_layers=L - len(gone))
    left = [l for l in range(L) if l not in gone]
    skip = {n: v for n, v in W.items() if not n.startswith("layers.")}
    for i, l in enumerate(left): skip.update({n.replace(f"layers.{l}.", f"layers.{i}.", 1): v for n, v in W.items() if n.startswith(f"layers.{l}.")})
    check(f"layers, {name}: {sorted(map(int, gone))} go, the rest stays", all(np.array_equal(skip[n], w[n]) for n in w))
    close(f"layers, {name}: pare computes the original with these skipped", logits(folder, probe), reference.llama(dict(cfg, num_hidden_layers=len(left)), skip, probe[None])[0])
file = prune("layers.gguf", "--pattern", "layers", "--drop", 2, "--no-heal")
shapes = read_gguf(file, block_count=L - 1)
check("layers: the GGUF file numbers them from 0", {n.split(".")[1] for n in shapes if n.startswith("blk.")} == {str(l) for l in range(L - 1)})
folder = prune("layers-healed", "--pattern", "layers", "--drop", 2)
c, w = expect(folder, num_hidden_layers=L - 1)
x, jump = inputs[down(1)], (streams[3] - streams[2]).reshape(-1, D)
fit = ridge(x, x @ W[down(1) + ".weight"].T + jump, W[down(1) + ".weight"], 2048 // CTX * CTX)
err = np.abs(w[down(1) + ".weight"] - fit).max() / np.abs(fit).max()
check("layers: the gap is closed by the ridge regression", err < 2e-3, f"({err:.1e})")
check("layers: healing brings the outputs closer", ((logits(folder, probe) - full) ** 2).mean() < ((logits(file, probe) - full) ** 2).mean())

# ---- an encoder: post-norm layers, biases ----
full_src, src = src, tiny_encoder(f"{out}/encoder")
bcfg, B = reference.load(src)
bt = Tokenizer.from_file(f"{src}/tokenizer.json").encode(open(text, encoding="utf-8").read()[:60000], add_special_tokens=False).ids
CTX = 64
bw = np.array([[2, *bt[i * 62:(i + 1) * 62], 3] for i in range(WINDOWS)])
bprobe = bw[0]
dense, binputs = "encoder.layer.0.output.dense", {}
reference.linear = lambda w, n, x: (binputs.__setitem__(n, x.reshape(-1, x.shape[-1])), plain_linear(w, n, x))[1]
reference.bert(bcfg, B, bw)
reference.linear = plain_linear
folder = prune("bert-ffn", "--pattern", "ffn", "--stay", 32, "--no-heal")
c, w = reference.load(folder)
k0 = best((binputs[dense] ** 2).mean(0) * (B[dense + ".weight"] ** 2).sum(0), 32)
check("bert: what stays is what the formula says", c["intermediate_size"] == 32 and np.array_equal(w[dense + ".weight"], B[dense + ".weight"][:, k0])
      and np.array_equal(w["encoder.layer.0.intermediate.dense.bias"], B["encoder.layer.0.intermediate.dense.bias"][k0]))
states = lambda m: logits(m, bprobe)
close("bert: pare computes what numpy does", states(folder), reference.forward(folder, bprobe[None])[0])
healed = prune("bert-healed", "--pattern", "ffn", "--stay", 32)
c, w = reference.load(healed)
x = binputs[dense]
mean = lambda v, x, k: (x[:, k] @ v[dense + ".weight"].T + v[dense + ".bias"]).mean(0)
err = np.abs(mean(w, x, k0) - mean(B, x, range(64))).max()
check("bert: the corrected bias keeps the mean output", err < 1e-4, f"({err:.1e})")
bfull = reference.forward(src, bprobe[None])[0]
check("bert: healing brings the outputs closer", ((states(healed) - bfull) ** 2).mean() < 0.9 * ((states(folder) - bfull) ** 2).mean())
file = prune("bert.gguf", "--pattern", "layers", "--drop", 0)
skip = {n.replace("layer.1.", "layer.0."): v for n, v in B.items() if "layer.0." not in n}
folder = prune("bert-layers", "--pattern", "layers", "--drop", 0)
close("bert: a dropped layer is a skipped layer", states(folder), reference.bert(dict(bcfg, num_hidden_layers=1), skip, bprobe[None])[0])
r = gguf.GGUFReader(file)
check("bert: the GGUF file says so", int(r.fields["bert.block_count"].parts[-1][0]) == 1 and not any(t.name.startswith("blk.1.") for t in r.tensors))
for what, args in (("heads", ("--stay", 1)), ("hidden", ("--stay", 16, "--multiple", 16))):
    err = prune("refused", "--pattern", what, *args, rc=2)
    check(f"refused: {what} of a bert", "no head size of its own" in err and not os.path.exists(f"{out}/refused"), err if "no head" not in err else "")
src, CTX = full_src, 256

# ---- the same bytes at every thread count; on to other formats; refusals leave nothing ----
digest = lambda p: hashlib.sha256(open(p, "rb").read()).hexdigest()
a, b = (prune(f"t{n}.gguf", "--pattern", "ffn", "--sparsity", 0.4, "--threads", n) for n in (1, 2))
check("the same bytes with 1 and 2 threads", digest(a) == digest(b))
q = prune("q8.gguf", "--pattern", "ffn", "--sparsity", 0.4, "--to", "q8_0")
kinds = {t.tensor_type.name for t in gguf.GGUFReader(q).tensors if len(t.shape) == 2}
check("smaller and rounded in one go", "Q8_0" in kinds and ((logits(q, probe) - logits(a, probe)) ** 2).mean() < 0.01 * logits(a, probe).var())
half = f"{out}/half.gguf"
subprocess.run([pare, "quantize", src, "-o", half, "--to", "q4_0", "--quiet"], check=True)
for what, args, words in (("all heads", ("--pattern", "heads", "--stay", 0), "--sparsity"), ("more heads than there are", ("--pattern", "heads", "--stay", 5), "can stay"),
                          ("a share of everything", ("--pattern", "ffn", "--sparsity", 1), "0 < share < 1"), ("less than one step", ("--pattern", "ffn", "--sparsity", 0.05), "one step of 32"),
                          ("uneven groups", ("--pattern", "query-heads", "--stay", 6), "multiple of 4"), ("an unknown layer", ("--pattern", "layers", "--drop", "7"), "no layer 7"),
                          ("every layer", ("--pattern", "layers", "--drop", "0-4"), "5 of 5"), ("heads that do not divide", ("--pattern", "heads", "--stay", 3), "LlamaConfig"),
                          ("an unknown method", ("--pattern", "ffn", "--sparsity", 0.5, "--method", "sparsegpt"), "sparsegpt"), ("a scope", ("--pattern", "ffn", "--sparsity", 0.5, "--scope", "row"), "--scope"),
                          ("an unknown pattern", ("--pattern", "columns", "--sparsity", 0.5, "--method", "wanda"), "columns")):
    err = prune("refused", *args, rc=2)
    check(f"refused: {what}", words in err and not os.path.exists(f"{out}/refused"), "" if words in err else err)
r = subprocess.run([pare, "prune", half, "-o", f"{out}/refused.gguf", "--pattern", "heads", "--stay", "2", "--method", "magnitude", "--no-heal"], capture_output=True, text=True)
check("refused: columns of rounded weights", r.returncode == 2 and "attn_output" in r.stderr and "prune the original" in r.stderr and not os.path.exists(f"{out}/refused.gguf"), r.stderr[-200:] if r.returncode != 2 else "")
sys.exit(failures > 0)
