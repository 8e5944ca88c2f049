# SPDX-License-Identifier: Apache-2.0
"""Models run by pare against tests/py/reference.py: tiny seeded checkpoints of every family, and stories260k.

usage: forward.py LOGITS_DUMP WORKDIR STORIES_FOLDER|-

Whole windows, steps from the KV cache, greedy tokens and embeddings; exit 1 when a number is off by more than 1e-4 of
the logits' spread (the reference is in double), or a token differs.
"""
import json, os, subprocess, sys
import numpy as np
from safetensors.numpy import save_file
sys.path.insert(0, os.path.dirname(__file__))
from reference import forward

dump, work, stories = sys.argv[1:4]
os.makedirs(work, exist_ok=True)
bad = 0


def run(model, mode, n, ids, dtype="<f4"):
    np.asarray(ids, "<i8").tofile(f"{work}/ids")
    subprocess.run([dump, model, "none", mode, str(n), f"{work}/ids", f"{work}/out"], check=True)
    return np.fromfile(f"{work}/out", dtype)


def report(name, what, got, want, limit=1e-4):
    global bad
    err = np.abs(got.reshape(want.shape) - want).max() / want.std()
    bad += not err <= limit
    print(f"{name:28} {what:8} {want.shape[-2]:5} rows  max error / spread {err:.1e}{'' if err <= limit else '  TOO LARGE'}")


def checkpoint(name, seed, dtype, **over):
    """A random checkpoint as transformers would write it: llama-like names, or BERT's."""
    rng = np.random.default_rng(seed)
    c = dict(vocab_size=192, hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=256, rms_norm_eps=1e-6, tie_word_embeddings=False, **over)
    d = c.get("head_dim", c["hidden_size"] // 4)
    w = {}

    def mat(k, rows, cols, bias=False, scale=0.15):
        w[k + ".weight"] = rng.normal(0, scale, (rows, cols))
        if bias: w[k + ".bias"] = rng.normal(0, 0.3, rows)

    def vec(k, n, bias=False):
        w[k + ".weight"] = rng.normal(1, 0.2, n)
        if bias: w[k + ".bias"] = rng.normal(0, 0.2, n)

    E, F = c["hidden_size"], c["intermediate_size"]
    if c["model_type"] == "bert":
        c["layer_norm_eps"], c["type_vocab_size"] = 1e-12, 2
        for k, n in (("word", c["vocab_size"]), ("position", 256), ("token_type", 2)): mat(f"embeddings.{k}_embeddings", n, E, scale=1)
        vec("embeddings.LayerNorm", E, True)
        for l in range(2):
            p = f"encoder.layer.{l}."
            for k in ("query", "key", "value"): mat(p + "attention.self." + k, E, E, True)
            mat(p + "attention.output.dense", E, E, True), vec(p + "attention.output.LayerNorm", E, True)
            mat(p + "intermediate.dense", F, E, True), mat(p + "output.dense", E, F, True), vec(p + "output.LayerNorm", E, True)
        mat("pooler.dense", E, E, True)
    else:
        qkv = c["model_type"] == "qwen2" or c.get("attention_bias", False)
        mat("model.embed_tokens", c["vocab_size"], E, scale=1), vec("model.norm", E)
        if not c["tie_word_embeddings"]: mat("lm_head", c["vocab_size"], E)
        for l in range(2):
            p = f"model.layers.{l}."
            vec(p + "input_layernorm", E), vec(p + "post_attention_layernorm", E)
            for k, n in (("q", 4), ("k", 2), ("v", 2)): mat(p + f"self_attn.{k}_proj", n * d, E, qkv)
            mat(p + "self_attn.o_proj", E, 4 * d, c.get("attention_bias", False))
            if c["model_type"] == "qwen3": vec(p + "self_attn.q_norm", d), vec(p + "self_attn.k_norm", d)
            mat(p + "mlp.gate_proj", F, E), mat(p + "mlp.up_proj", F, E), mat(p + "mlp.down_proj", E, F)
    path = f"{work}/{name}"
    os.makedirs(path, exist_ok=True)
    json.dump(c, open(f"{path}/config.json", "w"))
    save_file({k: np.ascontiguousarray(v.astype(dtype)) for k, v in w.items()}, f"{path}/model.safetensors", {"format": "pt"})
    return path


def check_decoder(name, model, folder, vocab, window, rows):
    ids = np.random.default_rng(5).integers(3, vocab, (rows, window))
    want = forward(folder, ids)
    report(name, "windows", run(model, "forward", window, ids), want)
    first = window // 3
    report(name, "steps", run(model, "step", first, ids[0]), want[0, first - 1:])


def check_greedy(name, model, folder, prompt, n):
    ids = list(prompt)
    for _ in range(n): ids.append(int(forward(folder, np.array([ids]))[0, -1].argmax()))
    got = run(model, "greedy", n, prompt, "<i8")
    global bad
    same = list(got) == ids[len(prompt):]
    bad += not same
    print(f"{name:28} greedy   {n:5} tokens {'equal' if same else 'DIFFER'}")


l3 = dict(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64)
f4, f2 = np.float32, np.float16
families = {
    "llama3-old": (f4, dict(model_type="llama", rope_theta=5e5, rope_scaling=dict(rope_type="llama3", **l3))),
    "llama3-new": (f2, dict(model_type="llama", rope_parameters=dict(rope_type="llama3", rope_theta=5e5, **l3))),
    "mistral": (f2, dict(model_type="mistral", head_dim=20, sliding_window=None, rope_theta=1e6)),
    "qwen2": (f4, dict(model_type="qwen2", rope_parameters=dict(rope_type="default", rope_theta=1e6))),
    "qwen3": (f2, dict(model_type="qwen3", head_dim=32, rope_theta=1e6)),
    "yarn": (f4, dict(model_type="qwen2", rope_scaling=dict(type="yarn", factor=4.0, original_max_position_embeddings=64))),
    "linear": (f4, dict(model_type="llama", attention_bias=True, rope_scaling=dict(type="linear", factor=2.0))),
}
for k, (name, (dtype, cfg)) in enumerate(families.items()):
    path = checkpoint(name, k, dtype, **cfg)
    check_decoder(name, path, path, 192, 100, 3)
path = checkpoint("bert", 99, f4, model_type="bert", hidden_act="gelu")
ids = np.random.default_rng(6).integers(0, 192, (4, 40))
report("bert", "windows", run(path, "forward", 40, ids), forward(path, ids))
lengths, padded = [40, 3, 17, 1], ids.copy()
for b, n in enumerate(lengths): padded[b, n:] = -1
want = np.stack([forward(path, ids[b:b + 1, :n])[0].mean(0) for b, n in enumerate(lengths)])
report("bert", "embed", run(path, "embed", 40, padded), want)

if stories == "-": print("stories260k is not here: skipped")
else:
    for model in (stories, f"{stories}/stories260k-f32.gguf"):
        name = os.path.basename(model)
        check_decoder(name, model, stories, 512, 500, 4)
        check_greedy(name, model, stories, [1, 403, 407, 261, 378], 64)
sys.exit(bool(bad))
