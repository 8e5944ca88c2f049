# SPDX-License-Identifier: Apache-2.0
"""Students of `pare distill --student config.json` in the programs that people run them with.

usage: LLAMA_BIN=DIR peer_students.py PARE LOGITS_DUMP MODELS TEXT OUTDIR     (MODELS holds stories260k/)

Folders: stock transformers finds every tensor it wants and no other, computes pare's logits to 1e-4 of their spread and continues
a prompt with the same tokens; its tokenizer is the teacher's. GGUF files: the gguf package finds the configuration's numbers, and
the folder's values under its own names, queries and keys in its own order; llama.cpp gives pare's perplexity and the same text.
Encoders: embeddings. Without LLAMA_BIN that part is left out and said to be."""
import json, os, re, subprocess, sys
import gguf
import numpy as np
import torch
import transformers as tf
from safetensors.torch import load_file
from checks import check, finish, fresh, two_texts
from peer_programs import Peers, llama, must, output_of
from tiny_encoder import tiny_encoder

pare, dump, models, text, out = sys.argv[1:6]
teacher = f"{models}/stories260k"
fresh(out)
train, held = two_texts(text, out, 30000, 20000)
peers = Peers(pare, dump, out, held, 128, 8)
theirs = json.load(open(f"{teacher}/config.json"))
BEGIN = "Once upon a time"


def config(name, base, over):
    c = {k: v for k, v in {**base, **over}.items() if v is not None}
    json.dump(c, open(f"{out}/{name}.json", "w"), indent=1)
    return c, f"{out}/{name}.json"


def distill(o, student, *a, of=teacher):
    must(pare, "distill", "--teacher", of, "--student", student, "-o", f"{out}/{o}", "--data", train, "--ctx", 64, "--batch", 4,
         "--eval-windows", 4, "--lr", "2e-3", "--threads", 1, "--quiet", *a)
    return f"{out}/{o}"


# ---- folders ----
def same_tokens(name, folder):
    """Of every qwen2 transformers 5 makes Qwen2's own tokenizer, whatever its folder says."""
    auto = tf.PreTrainedTokenizerFast if "qwen2" in name else tf.AutoTokenizer
    t, of = auto.from_pretrained(folder), tf.AutoTokenizer.from_pretrained(teacher)
    line = open(held).read(2000)
    check(f"{name}: the tokenizer is the teacher's", len(t(line).input_ids) > 500 and t(line).input_ids == of(line).input_ids)


def continues(name, folder, model):
    prompt = np.array([[1, 403, 407, 261, 378]])
    with torch.no_grad(): want = model.generate(torch.tensor(prompt), max_new_tokens=40, min_new_tokens=40, do_sample=False, num_beams=1, eos_token_id=None, pad_token_id=0)[0, 5:].tolist()
    got = peers.by_pare(folder, "greedy", prompt, "<i8", 40).tolist()
    check(f"{name}: 40 tokens, each the likeliest", got == want, f"{sum(a == b for a, b in zip(got, want))} the same, {len(set(want))} different ones")


def in_folder(name, c, folder, dtype, limit=1e-4):
    kinds = {str(v.dtype) for v in load_file(f"{folder}/model.safetensors").values()}
    stated = tf.AutoConfig.from_pretrained(folder).dtype
    check(f"{name}: {dtype}, as its configuration says", kinds == {f"torch.{dtype}"} and f"{stated}" == f"torch.{dtype}", f"{kinds} {stated}")
    model = peers.in_transformers(name, folder, tf.AutoModelForCausalLM, limit, relative=True)
    if not model: return
    size = (model.config.hidden_size, len(model.model.layers), model.model.layers[0].mlp.up_proj.out_features, model.config.tie_word_embeddings)
    check(f"{name}: of the shape that was asked for", size == (c["hidden_size"], c["num_hidden_layers"], c["intermediate_size"], c["tie_word_embeddings"]), f"{size}")
    same_tokens(name, folder)
    continues(name, folder, model)


# ---- GGUF ----
def in_gguf_order(v, heads):
    """Of halves neighbours, as llama.cpp's converter does for the architecture that it calls llama."""
    return v.reshape(heads, 2, -1, *v.shape[1:]).swapaxes(1, 2).reshape(v.shape)


def values(t, like):
    """What is no matrix is f32 there, and rounded in the folder."""
    v = gguf.quants.dequantize(t.data, t.tensor_type) if t.tensor_type == gguf.GGMLQuantizationType.BF16 else t.data.astype("f4")
    return torch.tensor(v).to(like.dtype).float().numpy().reshape(like.shape)


def in_gguf(name, c, file, folder):
    r = gguf.GGUFReader(file)
    kind = r.fields["general.architecture"].contents()
    number = lambda key: r.fields[f"{kind}.{key}"].contents() if f"{kind}.{key}" in r.fields else c["hidden_size"] // heads  # the sizes of heads may be left out
    heads, kv = c["num_attention_heads"], c["num_key_value_heads"]
    size = c.get("head_dim") or c["hidden_size"] // heads
    want = {"embedding_length": c["hidden_size"], "block_count": c["num_hidden_layers"], "feed_forward_length": c["intermediate_size"],
            "attention.head_count": heads, "attention.head_count_kv": kv, "attention.key_length": size, "attention.value_length": size,
            "context_length": c["max_position_embeddings"], "rope.freq_base": c["rope_theta"]}
    wrong = {k: number(k) for k, v in want.items() if number(k) != v}
    words = r.fields["tokenizer.ggml.tokens"].contents()
    check(f"{name}: the gguf package reads its numbers", not wrong and len(words) == c["vocab_size"], f"{wrong or ''}")
    arch = next(k for k, v in gguf.MODEL_ARCH_NAMES.items() if v == kind)
    names = gguf.get_tensor_name_map(arch, c["num_hidden_layers"])
    there, rows = {t.name: t for t in r.tensors}, {"q_proj": heads, "k_proj": kv}
    found, far = set(), []
    for k, v in load_file(f"{folder}/model.safetensors").items():
        key, of, want = names.get_name(k, try_suffixes=(".weight", ".bias")), rows.get(k.split(".")[-2]), v.float().numpy()
        if of and kind == "llama": want = in_gguf_order(want, of)
        found.add(key)
        width = v.element_size() if v.ndim > 1 else 4
        if key not in there or there[key].n_bytes != width * v.numel() or not np.array_equal(values(there[key], v), want): far.append(k)
    check(f"{name}: the folder's values, under its names", not far and there.keys() - found <= {"rope_freqs.weight"},
          f"{len(found)} tensors {far or ''} {sorted(there.keys() - found) or ''}")
    peers.in_llama(name, file, folder)


def says(name, file):
    """The same text, sampled by nobody."""
    if not llama: return
    mine = must(pare, "run", file, "--prompt", BEGIN, "-n", 40, "--temp", 0, "--quiet").strip()
    m, log = output_of(f"{llama}/llama-completion", "-m", file, "-p", BEGIN, "-n", 40, "--temp", 0, "-no-cnv", "--no-warmup", "-t", 1, "-fa", "off",
                       "-ctk", "f32", "-ctv", "f32", "--no-display-prompt", until=re.escape(mine), log=subprocess.DEVNULL)
    check(f"{name}: llama.cpp continues as pare does", m and len(mine) > 20, f"({mine[:60]!r}, {log.strip()[-90:]!r})")


llama3 = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
drawn = {"initializer_range": 0.15}  # so large that what attention does shows in the logits
STUDENTS = {  # of stories260k's configuration: tied, 64 wide, 8 heads of 8, 4 of them with keys, 172 neurons, 5 layers
    "narrowed": (dict(hidden_size=48, intermediate_size=96, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=3, head_dim=8), "float32", []),
    "narrowed, untied": (dict(num_attention_heads=4, num_key_value_heads=4, head_dim=8, intermediate_size=128, tie_word_embeddings=False), "float16", ["--to", "f16"]),
    "one key for all": (dict(num_attention_heads=4, num_key_value_heads=1, head_dim=8, num_hidden_layers=2), "bfloat16", ["--to", "bf16"]),
    "drawn": (dict(drawn, num_attention_heads=4, num_key_value_heads=2, head_dim=None, num_hidden_layers=2), "float32", ["--init", "random"]),
    "drawn, wider, slowed": (dict(drawn, hidden_size=96, intermediate_size=192, num_attention_heads=6, num_key_value_heads=2, head_dim=24, rope_theta=50000.0,
                                  tie_word_embeddings=False, attention_bias=True, mlp_bias=True, rope_scaling=llama3, dtype="float16", torch_dtype=None), "float16", []),
    "drawn, mistral": (dict(drawn, model_type="mistral", architectures=["MistralForCausalLM"], num_key_value_heads=2, head_dim=16, sliding_window=None), "float32", []),
    "drawn, qwen2": (dict(drawn, model_type="qwen2", architectures=None, num_attention_heads=4, num_key_value_heads=2), "bfloat16", ["--to", "bf16"]),
    "drawn, qwen3": (dict(drawn, model_type="qwen3", architectures=["Qwen3ForCausalLM"], head_dim=16, tie_word_embeddings=False), "float32", []),
}
for name, (over, dtype, how) in STUDENTS.items():
    o = name.replace(" ", "-").replace(",", "")
    c, path = config(o, theirs, over)
    steps = ["--steps", 30 if name == "narrowed" else 8]
    folder = distill(o, path, *steps, *how)
    in_folder(name, c, folder, dtype)
    in_gguf(name, c, distill(f"{o}.gguf", path, *steps, *how), folder)
    if name in ("narrowed", "drawn, wider, slowed"): says(name, f"{out}/{o}.gguf")

# ---- from a GGUF teacher; rounded ----
c, path = config("again", theirs, STUDENTS["narrowed"][0])
folder = distill("from-gguf", path, "--steps", 8, of=f"{teacher}/stories260k-f32.gguf")
in_folder("of a GGUF teacher", c, folder, "float32")
c, path = config("even", theirs, dict(hidden_size=64, intermediate_size=128, num_attention_heads=4, num_key_value_heads=2, head_dim=8, num_hidden_layers=3))
for to in ("int8", "int4:g32"):
    peers.in_transformers(f"rounded to {to}", distill("ct", path, "--steps", 8, "--to", to, "--force"), tf.AutoModelForCausalLM)
for to in ("q8_0", "q4_0"):
    peers.in_llama(f"rounded to {to}", distill("rounded.gguf", path, "--steps", 8, "--to", to, "--force"), teacher)

# ---- encoders ----
bert = tiny_encoder(f"{out}/bert")
theirs, lines = json.load(open(f"{bert}/config.json")), [s for s in (" ".join(s.split()) for s in open(held).read().split(".")) if 20 < len(s) < 60]
open(f"{out}/some.txt", "w").write("\n".join(lines[:6]))
open(f"{out}/lines.txt", "w").write("\n".join(lines[6:]))
train = f"{out}/lines.txt"


def embeddings(name, folder):
    t, model = tf.AutoTokenizer.from_pretrained(folder), tf.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    x = t(lines[:6], padding=True, return_tensors="pt")
    with torch.no_grad(): h = model(**x).last_hidden_state
    want = (h * x["attention_mask"][..., None]).sum(1) / x["attention_mask"].sum(1, keepdim=True)
    want = torch.nn.functional.normalize(want, dim=1).numpy()
    must(pare, "run", folder, "--input", f"{out}/some.txt", "--json", f"{out}/e.json", "--quiet")
    mine = np.array([e["embedding"] for e in json.load(open(f"{out}/e.json"))])
    far = np.abs(mine / np.linalg.norm(mine, axis=1, keepdims=True) - want).max()
    check(f"{name}: transformers gives pare's embeddings", far < 1e-5 and want.std(0).mean() > 1e-3, f"{far:.1e}, {want.std(0).mean():.3f}")


ENCODERS = {
    "encoder, narrowed": (dict(num_hidden_layers=1, intermediate_size=40), "float32", []),
    "encoder, of the teacher's shape": (dict(), "float16", ["--to", "f16"]),
    "encoder, other heads": (dict(num_attention_heads=4, num_hidden_layers=3, initializer_range=0.3), "float32", []),
    "encoder, wider": (dict(hidden_size=48, intermediate_size=64, num_attention_heads=3, type_vocab_size=1, max_position_embeddings=64, initializer_range=0.3), "bfloat16", ["--to", "bf16"]),
    "encoder, tanh": (dict(hidden_act="gelu_new", initializer_range=0.3), "float32", ["--init", "random"]),
}
for name, (over, dtype, how) in ENCODERS.items():
    o = name.replace(" ", "-").replace(",", "")
    c, path = config(o, theirs, over)
    folder = distill(o, path, "--steps", 8, *how, of=bert)
    kinds = {str(v.dtype) for v in load_file(f"{folder}/model.safetensors").values()}
    check(f"{name}: {dtype}", kinds == {f"torch.{dtype}"}, f"{kinds}")
    peers.in_transformers(name, folder, tf.AutoModel, 1e-4, relative=True)
    embeddings(name, folder)
    if c["hidden_act"] == "gelu_new":  # which files of architecture bert mean
        peers.encoder_in_llama(name, distill(f"{o}.gguf", path, "--steps", 8, *how, of=bert), lines[:6])
check("nothing is left behind", not [f for f in os.listdir(out) if "pare-" in f or "tmp" in f])
print("" if llama else "without llama.cpp: LLAMA_BIN is not set")
finish()
