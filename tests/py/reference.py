# SPDX-License-Identifier: Apache-2.0
"""Forward passes of the Llama family and of BERT in numpy, in double, from a Hugging Face folder: written from the papers'
formulas, sharing nothing with the C code. forward(folder, ids [batch, seq]) -> logits or last hidden state."""
import json, math, os
import numpy as np
from safetensors.numpy import load_file


def load(folder):
    cfg = json.load(open(f"{folder}/config.json"))
    w = {}
    for f in sorted(os.listdir(folder)):
        if f.endswith(".safetensors"): w.update(load_file(f"{folder}/{f}"))
    w = {k.removeprefix("model.").removeprefix("bert."): v.astype(np.float64) for k, v in w.items() if v.dtype.kind == "f"}
    return cfg, w


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def linear(w, name, x):
    y = x @ w[f"{name}.weight"].T
    return y + w[f"{name}.bias"] if f"{name}.bias" in w else y


def angles(cfg, d, n):
    p = cfg.get("rope_parameters") or cfg.get("rope_scaling") or {}
    theta = p.get("rope_theta", cfg.get("rope_theta", 10000.0))
    i = np.arange(d // 2)
    freq, scale, kind = theta ** (-2.0 * i / d), 1.0, p.get("rope_type", p.get("type", "default"))
    f, old = p.get("factor", 1.0), p.get("original_max_position_embeddings", cfg.get("max_position_embeddings"))
    if kind == "linear": freq = freq / f
    if kind == "llama3":
        wave = 2 * math.pi / freq
        s = (old / wave - p["low_freq_factor"]) / (p["high_freq_factor"] - p["low_freq_factor"])
        s = np.clip(s, 0, 1)  # 0: wholly slowed down, 1: untouched
        freq = (1 - s) * freq / f + s * freq
    if kind == "yarn":
        pair = lambda turns: d * math.log(old / (turns * 2 * math.pi)) / (2 * math.log(theta))
        low, high = max(math.floor(pair(32)), 0), min(math.ceil(pair(1)), d - 1)
        ramp = np.clip((i - low) / max(high - low, 0.001), 0, 1)
        freq, scale = freq / f * ramp + freq * (1 - ramp), 0.1 * math.log(f) + 1
    a = np.arange(n)[:, None] * freq
    return np.cos(a) * scale, np.sin(a) * scale


def rms(x, g, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * g


def heads(x, h):
    return x.reshape(*x.shape[:-1], h, -1).swapaxes(1, 2)


def llama(cfg, w, ids):
    h, kv = cfg["num_attention_heads"], cfg["num_key_value_heads"]
    d = cfg.get("head_dim") or cfg["hidden_size"] // h
    eps, n = cfg["rms_norm_eps"], ids.shape[1]
    cos, sin = angles(cfg, d, n)

    def rotate(x):
        a, b = x[..., :d // 2], x[..., d // 2:]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

    mask = np.where(np.tri(n, dtype=bool), 0, -np.inf)
    x = w["embed_tokens.weight"][ids]
    for l in range(cfg["num_hidden_layers"]):
        p = f"layers.{l}."
        y = rms(x, w[p + "input_layernorm.weight"], eps)
        q, k, v = (heads(linear(w, f"{p}self_attn.{c}_proj", y), m) for c, m in (("q", h), ("k", kv), ("v", kv)))
        if p + "self_attn.q_norm.weight" in w:
            q, k = rms(q, w[p + "self_attn.q_norm.weight"], eps), rms(k, w[p + "self_attn.k_norm.weight"], eps)
        q, k = rotate(q), rotate(k)
        k, v = np.repeat(k, h // kv, 1), np.repeat(v, h // kv, 1)
        y = softmax(q @ k.swapaxes(-1, -2) / math.sqrt(d) + mask) @ v
        x = x + linear(w, p + "self_attn.o_proj", y.swapaxes(1, 2).reshape(*ids.shape, -1))
        y = rms(x, w[p + "post_attention_layernorm.weight"], eps)
        g = linear(w, p + "mlp.gate_proj", y)
        x = x + linear(w, p + "mlp.down_proj", g / (1 + np.exp(-g)) * linear(w, p + "mlp.up_proj", y))
    x = rms(x, w["norm.weight"], eps)
    return x @ (w["embed_tokens.weight"] if cfg.get("tie_word_embeddings") else w["lm_head.weight"]).T


def bert(cfg, w, ids):
    h, eps = cfg["num_attention_heads"], cfg["layer_norm_eps"]

    def norm(x, p):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * w[p + ".weight"] + w[p + ".bias"]

    erf = np.vectorize(math.erf)
    e = "embeddings."
    x = w[e + "word_embeddings.weight"][ids] + w[e + "token_type_embeddings.weight"][0]
    x = norm(x + w[e + "position_embeddings.weight"][:ids.shape[1]], e + "LayerNorm")
    for l in range(cfg["num_hidden_layers"]):
        p = f"encoder.layer.{l}."
        q, k, v = (heads(linear(w, f"{p}attention.self.{c}", x), h) for c in ("query", "key", "value"))
        y = softmax(q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1])) @ v
        y = linear(w, p + "attention.output.dense", y.swapaxes(1, 2).reshape(*ids.shape, -1))
        x = norm(x + y, p + "attention.output.LayerNorm")
        y = linear(w, p + "intermediate.dense", x)
        x = norm(x + linear(w, p + "output.dense", y * 0.5 * (1 + erf(y / math.sqrt(2)))), p + "output.LayerNorm")
    return x


def forward(folder, ids):
    cfg, w = load(folder)
    return (bert if cfg["model_type"] == "bert" else llama)(cfg, w, np.asarray(ids))

def corrected(w, h_inverse, halves):
    """w plus what the original's inputs (and stream) ask for, each row as far as two halves of the batches agree.
    halves: of each, (original's inputs, reduced inputs, original's stream, reduced stream); streams may be None."""
    h = [q.T @ q for _, q, _, _ in halves]
    b = [w @ ((f - q).T @ q) + (0 if rf is None else (rf - rq).T @ q) for f, q, rf, rq in halves]
    if len(b) == 1: return w + b[0] @ h_inverse
    d = [x @ np.linalg.inv(m + 0.01 * np.trace(m) / len(m) * np.eye(len(m))) for x, m in zip(b, h)]
    own, other = ((d[0] @ h[1]) * d[0] + (d[1] @ h[0]) * d[1]).sum(1), (d[0] * b[1] + d[1] * b[0]).sum(1)
    c = np.clip(np.where(own > 0, other / np.where(own > 0, own, 1), 0), 0, 1)
    return w + (2 * c / (1 + c))[:, None] * ((b[0] + b[1]) @ h_inverse)


def by_batch(windows, ctx, *arrays):
    """The tokens of even and of odd batches: as many windows in one as 2048 tokens hold and the number of windows can be divided by."""
    n = max(min(2048 // ctx, windows), 1)
    while windows % n: n -= 1
    odd = np.repeat(np.arange(windows // n) % 2 == 1, n * ctx)
    parts = [odd == k for k in (0, 1)] if windows > n else [odd == 0]
    return [tuple(None if a is None else a[p] for a in arrays) for p in parts]
