# SPDX-License-Identifier: Apache-2.0
"""`pare distill --blockwise` on stories260k: layers that learn one after another. What is gained on text that was not
trained on; the same bytes at every thread count, with activations in a file, after interruptions inside and between
layers, and after a kill; zeros and codes that stay; memory against training all layers at once; refusals.

usage: distill_blocks.py PARE MODELS TEXT OUTDIR     (MODELS holds stories260k/)"""
import json, os, shutil, signal, subprocess, sys
import gguf
import numpy as np
from safetensors.numpy import load_file, save_file
from checks import check, commands, finish, fresh, interrupt

pare, models, text, out = sys.argv[1:5]
teacher = f"{models}/stories260k"
fresh(out)
train = f"{out}/train.txt"
open(train, "w").write(open(text, "rb").read(120000).decode(errors="ignore"))
run, must = commands(pare)


def same(*names):
    first, *rest = (open(f"{out}/{n}", "rb").read() for n in names)
    return all(r == first for r in rest)


def distill(o, *a):
    return ["distill", "--teacher", teacher, "-o", f"{out}/{o}", "--data", train, "--ctx", 128, "--batch", 4, "--lr", "4e-3",
            "--json", f"{out}/{o}.json", *a]


def report(o):
    r = json.load(open(f"{out}/{o}.json"))
    return r, r["held_out"]["before"]["kl"], r["held_out"]["after"]["kl"]


# ---- two of five layers gone ----
depth = ["--keep-layers", "0,2,4"]
must(*distill("depth", *depth, "--steps", 60, "--blockwise"))
r, before, after = report("depth")
check("two of five layers dropped, the others taught one by one", after < 0.4 * before, f"KL {before:.3f} -> {after:.3f}")
check("each aims at what the teacher has before the next one", [(b["layer"], b["target"]) for b in r["blocks"]] == [(0, 1), (1, 3), (2, 4)])
check("each comes closer to its target", all(b["after"] < 0.9 * b["before"] for b in r["blocks"]),
      str([(round(b["before"], 3), round(b["after"], 3)) for b in r["blocks"]]))
check("a curve for each", [c["layer"] for c in r["curve"]] == [l for l in range(3) for _ in range(60)] and
      all(r["curve"][l * 60 + 59]["loss"] < 0.95 * r["curve"][l * 60]["loss"] for l in range(3)))
must(*distill("whole", *depth, "--steps", 1))
check("what was there before is measured as with all layers at once", report("whole")[0]["held_out"]["before"] == r["held_out"]["before"])
a, b = load_file(f"{out}/depth/model.safetensors"), load_file(f"{teacher}/model.safetensors")
check("embeddings and the last norm stay", all(np.array_equal(a[k], b[k]) for k in ("model.embed_tokens.weight", "model.norm.weight")))
must(*distill("by-teacher", *depth, "--steps", 40, "--blockwise", "--block-inputs", "teacher"))
r = report("by-teacher")
check("the teacher's own inputs", r[2] < 0.7 * r[1] and r[0]["blocks"][2]["before"] == 0, f"KL {r[1]:.3f} -> {r[2]:.3f}")
must(*distill("then", "--student", f"{out}/depth", "--steps", 30, "--lr", "2e-3"))
must(*distill("kl", *depth, "--steps", 30, "--lr", "2e-3"))
check("a good place to begin for all layers at once", report("then")[2] < 0.8 * report("kl")[2], f"KL {report('kl')[2]:.3f}, {report('then')[2]:.3f}")

# ---- the same bytes ----
short = [*depth, "--steps", 6, "--micro", 2, "--blockwise", "--format", "gguf"]
must(*distill("one.gguf", *short, "--threads", 1))
must(*distill("two.gguf", *short, "--threads", 2))
must(*distill("file.gguf", *short, "--threads", 2, "--block-memory", "1M"))
check("threads; activations in a file", same("one.gguf", "two.gguf", "file.gguf") and same("one.gguf.json", "two.gguf.json", "file.gguf.json"))
journal = lambda o: os.path.exists(f"{out}/{o}.pare-journal") and os.path.getsize(f"{out}/{o}.pare-journal")
layer = os.path.getsize(f"{out}/one.gguf") // 3  # a layer is 44 k parameters of f32: less than a third of the file
for o, threads, how in (("in.gguf", 1, {}), ("between.gguf", 2, {"until": lambda: journal("between.gguf") > layer}),
                        ("killed.gguf", 1, {"until": lambda: journal("killed.gguf") > layer, "sign": signal.SIGKILL})):
    command = distill(o, *short, "--save-every", 1)
    stopped = interrupt([pare, *command, "--threads", threads, "--quiet"], f"{out}/{o}", **how)
    if o == "between.gguf":
        other = run(*distill(o, *short, "--seed", 2))
        check("a run of other options is refused", other.returncode == 2 and "other options" in other.stderr, other.stderr.strip()[-90:])
    must(*command, "--threads", 3 - threads)
    check(f"interrupted and gone on: {o[:-5]}", stopped and same("one.gguf", o) and same("one.gguf.json", f"{o}.json"))
check("nothing is left behind", not [f for f in os.listdir(out) if "pare-" in f or "tmp" in f])

# ---- zeros stay, codes stay, narrower layers ----
must("prune", teacher, "-o", f"{out}/half", "--method", "magnitude", "--pattern", "2:4")
must(*distill("healed", "--student", f"{out}/half", "--steps", 40, "--blockwise"))
r, before, after = report("healed")
check("50 % in 2:4", after < 0.45 * before and all(b["after"] < b["before"] for b in r["blocks"]), f"KL {before:.3f} -> {after:.3f}")
half, healed = load_file(f"{out}/half/model.safetensors"), load_file(f"{out}/healed/model.safetensors")
pruned = [k for k in half if (half[k] == 0).mean() > 0.4]
check("zeros stay zeros, and nothing else becomes one", len(pruned) == 35 and all(((half[k] == 0) == (healed[k] == 0)).all() for k in pruned))
check("all of the layers moved", all((half[k] != healed[k]).any() for k in half if ".layers." in k))
must(*distill("norms", "--student", f"{out}/half", "--steps", 10, "--blockwise", "--train", "norms"))
norms = load_file(f"{out}/norms/model.safetensors")
check("norms alone", all((norms[k] != half[k]).any() == (".layers." in k and half[k].ndim == 1) for k in half))
must("quantize", f"{teacher}/stories260k-f32.gguf", "-o", f"{out}/q.gguf", "--to", "q4_0")
must(*distill("qs.gguf", "--student", f"{out}/q.gguf", "--train", "scales", "--steps", 20, "--blockwise"))
r, before, after = report("qs.gguf")
a, c = ({t.name: t for t in gguf.GGUFReader(f"{out}/{n}.gguf").tensors} for n in ("q", "qs"))
blocks = lambda t: t.data.reshape(-1, 18)
quantized = [k for k in a if a[k].tensor_type == gguf.GGMLQuantizationType.Q4_0 and "blk" in k]
check("q4_0: codes stay, scales learn", after < 0.85 * before and len(quantized) > 20 and all(
    np.array_equal(blocks(a[k])[:, 2:], blocks(c[k])[:, 2:]) and not np.array_equal(blocks(a[k])[:, :2], blocks(c[k])[:, :2]) for k in quantized),
    f"KL {before:.4f} -> {after:.4f}")
open(f"{out}/small.txt", "w").write(open(train).read()[:16000])
must(*distill("narrow", "--data", f"{out}/small.txt", "--ffn", 128, "--heads", 4, "--steps", 20, "--lr", "1e-3", "--blockwise"))
r, before, after = report("narrow")
config = json.load(open(f"{out}/narrow/config.json"))
check("fewer neurons and heads", after < before and all(b["after"] < b["before"] for b in r["blocks"]) and config["intermediate_size"] == 128 and config["num_attention_heads"] == 4, f"KL {before:.3f} -> {after:.3f}")
json.dump({"model": os.path.abspath(teacher), "output": "recipe.gguf", "calib": {"text": os.path.abspath(train)}, "steps": [
    {"do": "prune", "method": "magnitude", "pattern": "2:4"},
    {"do": "distill", "ctx": 128, "batch": 4, "steps": 10, "lr": 4e-3, "blockwise": True},
    {"do": "distill", "ctx": 128, "batch": 4, "steps": 10, "lr": 2e-3}]}, open(f"{out}/recipe.json", "w"))
r = run("recipe", f"{out}/recipe.json", "--json", f"{out}/r.json")
steps = [s["distill"]["held_out"] for s in json.load(open(f"{out}/r.json"))["steps"] if "distill" in s] if r.returncode == 0 else []
check("as two steps of a recipe", len(steps) == 2 and steps[0]["after"]["kl"] < steps[0]["before"]["kl"] and
      steps[1]["before"] == steps[0]["after"] and steps[1]["after"]["kl"] < steps[0]["after"]["kl"], r.stderr[-200:])

# ---- memory ----
rng, H, F, L = np.random.default_rng(1), 256, 1024, 8
os.makedirs(f"{out}/wide")
config = json.load(open(f"{teacher}/config.json"))
config.update(hidden_size=H, intermediate_size=F, num_hidden_layers=L, num_attention_heads=4, num_key_value_heads=4, head_dim=64)
json.dump(config, open(f"{out}/wide/config.json", "w"))
for f in ("tokenizer.json", "tokenizer_config.json"): shutil.copyfile(f"{teacher}/{f}", f"{out}/wide/{f}")
m = lambda *shape: rng.standard_normal(shape, "f4") * 0.02
w = {"model.embed_tokens.weight": m(config["vocab_size"], H), "model.norm.weight": np.ones(H, "f4")}
for l in range(L):
    for k in "qkvo": w[f"model.layers.{l}.self_attn.{k}_proj.weight"] = m(H, H)
    for k in ("gate", "up"): w[f"model.layers.{l}.mlp.{k}_proj.weight"] = m(F, H)
    w[f"model.layers.{l}.mlp.down_proj.weight"] = m(H, F)
    for k in ("input", "post_attention"): w[f"model.layers.{l}.{k}_layernorm.weight"] = np.ones(H, "f4")
save_file(w, f"{out}/wide/model.safetensors")


# A child's peak begins at what its parent holds when it starts, which is numpy's here: a small process lies between.
SMALL = """import os, sys
_, status, use = os.wait4(os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ), 0)
print(use.ru_maxrss * 1024 if status == 0 else "nan")"""


def rss(*a):
    r = subprocess.run([sys.executable, "-I", "-S", "-c", SMALL, *map(str, (pare, *a))], capture_output=True, text=True)
    return float(r.stdout.split()[-1])


def peak(o, *a):
    return rss("distill", "--teacher", f"{out}/wide", "--keep-layers", f"0-{L - 1}", "-o", f"{out}/{o}", "--data", train,
               "--ctx", 64, "--batch", 2, "--steps", 2, "--threads", 1, "--quiet", *a)


parameters = sum(v.nbytes for v in w.values())
whole, by_layer = peak("wide-whole"), peak("wide-blocks", "--blockwise")
base = rss("inspect", f"{teacher}/model.safetensors")  # the program and its libraries
check("memory: less than half, and about twice the model", by_layer < 0.5 * whole and by_layer - base < 2.5 * parameters,
      f"model {parameters / 1e6:.0f} MB, all layers at once {whole / 1e6:.0f} MB, one by one {by_layer / 1e6:.0f} MB, "
      f"nothing {base / 1e6:.0f} MB")

# ---- refusals ----
for what, code, words, a in (
    ("another width", 2, "leave --blockwise out", ["--blockwise", "--hidden", 32]),
    ("a loss of the whole model", 2, "hidden and cosine", [*depth, "--blockwise", "--loss", "kl"]),
    ("inputs without layers", 2, "goes with --blockwise", [*depth, "--block-inputs", "teacher"]),
    ("inputs of nobody", 2, "none of: student, teacher", [*depth, "--blockwise", "--block-inputs", "me"]),
    ("distributions that are not learned", 2, "no distribution", [*depth, "--blockwise", "--teacher-top", 8]),
    ("a student that begins at random", 2, "begins at random", ["--student", f"{teacher}/config.json", "--init", "random", "--blockwise"]),
    ("a rate that breaks it", 3, "layer 1 of 3", [*depth, "--blockwise", "--lr", "1e30", "--clip", 0, "--optimizer", "sgd", "--warmup", 0]),
):
    r = run(*distill("never", "--steps", 5, *a))
    check(what, r.returncode == code and words in r.stderr and not os.path.exists(f"{out}/never"), r.stderr.strip()[-110:])
finish()
