# SPDX-License-Identifier: Apache-2.0
"""What `pare distill` makes of stories260k, measured by `pare verify` on text that was not trained on; the same bytes at
every thread count, with activation checkpointing, and after an interruption; zeros and codes that stay; refusals.

usage: distill.py PARE MODELS TEXT OUTDIR     (MODELS holds stories260k/)"""
import json, os, sys
import xml.dom.minidom
import gguf
import numpy as np
from safetensors.numpy import load_file
from checks import check, commands, finish, fresh, interrupt, two_texts

pare, models, text, out = sys.argv[1:5]
teacher = f"{models}/stories260k"
fresh(out)
train, held = two_texts(text, out, 120000, 12000)
run, must = commands(pare)


def kl(model):
    must("verify", teacher, model, "--data", held, "--ctx", 128, "--json", f"{out}/v.json")
    return json.load(open(f"{out}/v.json"))["metrics"]["kl_mean"]["value"]


def same(a, b):
    return open(a, "rb").read() == open(b, "rb").read()


def distill(o, *a):
    return ["distill", "--teacher", teacher, "-o", o, "--data", train, "--ctx", 128, "--batch", 4, "--lr", "2e-3", *a]


# ---- two layers gone ----
depth = ["--keep-layers", "0-1,4", "--steps", 60]
must("prune", teacher, "-o", f"{out}/cut", "--pattern", "layers", "--drop", "2-3", "--no-heal")
must(*distill(f"{out}/depth", *depth, "--json", f"{out}/depth.json", "--curve", f"{out}/depth.svg"))
before, after = kl(f"{out}/cut"), kl(f"{out}/depth")
check("two of five layers dropped, then taught", after < 0.4 * before, f"KL {before:.3f} -> {after:.3f}")
r = json.load(open(f"{out}/depth.json"))
check("the report agrees: held out", r["held_out"]["after"]["kl"] < 0.4 * r["held_out"]["before"]["kl"])
check("the curve", len(r["curve"]) == 60 and r["curve"][-1]["loss"] < 0.5 * r["curve"][0]["loss"]
      and all(abs(c["kl"] - c["loss"]) < 1e-6 * c["loss"] for c in r["curve"]))
check("the picture", xml.dom.minidom.parse(f"{out}/depth.svg").documentElement.tagName == "svg")
check("configuration", json.load(open(f"{out}/depth/config.json"))["num_hidden_layers"] == 3)

# ---- the same bytes ----
short = ["--keep-layers", "0-1,4", "--steps", 8, "--format", "gguf"]
for name, more in (("one", ["--threads", 1]), ("two", ["--threads", 2]), ("again", ["--threads", 1, "--recompute"])):
    must(*distill(f"{out}/{name}.gguf", *short, *more))
check("threads", same(f"{out}/one.gguf", f"{out}/two.gguf"))
check("activation checkpointing", same(f"{out}/one.gguf", f"{out}/again.gguf"))
interrupted = interrupt([pare, *distill(f"{out}/cut.gguf", *short, "--threads", 1, "--save-every", 1), "--quiet"], f"{out}/cut.gguf")
other = run(*distill(f"{out}/cut.gguf", *short, "--seed", 2))
check("a checkpoint of another run is refused", other.returncode == 2 and "another run" in other.stderr, other.stderr.strip()[-90:])
must(*distill(f"{out}/cut.gguf", *short, "--threads", 2))
check("interrupted and gone on", interrupted and same(f"{out}/one.gguf", f"{out}/cut.gguf"))
check("nothing is left behind", not [f for f in os.listdir(out) if "pare-train" in f or "tmp" in f])

# ---- zeros stay ----
must("prune", teacher, "-o", f"{out}/half", "--method", "magnitude", "--pattern", "2:4")
must(*distill(f"{out}/healed", "--student", f"{out}/half", "--steps", 40))
before, after = kl(f"{out}/half"), kl(f"{out}/healed")
check("50 % in 2:4, then healed", after < 0.5 * before, f"KL {before:.3f} -> {after:.3f}")
half, healed = load_file(f"{out}/half/model.safetensors"), load_file(f"{out}/healed/model.safetensors")
pruned = [k for k in half if (half[k] == 0).mean() > 0.4]
check("zeros stay zeros, and nothing else becomes one", len(pruned) == 35 and
      all(((half[k] == 0) == (healed[k] == 0)).all() for k in pruned))
check("all else moved", all((half[k] != healed[k]).any() for k in half))

# ---- codes stay, norms learn ----
must("quantize", f"{teacher}/stories260k-f32.gguf", "-o", f"{out}/q.gguf", "--to", "q4_0")
must(*distill(f"{out}/qn.gguf", "--student", f"{out}/q.gguf", "--train", "norms", "--steps", 40))
before, after = kl(f"{out}/q.gguf"), kl(f"{out}/qn.gguf")
check("q4_0 with its norms trained", after < 0.95 * before, f"KL {before:.4f} -> {after:.4f}")
a, b = ({t.name: t for t in gguf.GGUFReader(f"{out}/{n}.gguf").tensors} for n in ("q", "qn"))
check("codes are the same", all(np.array_equal(a[k].data, b[k].data) for k in a if len(a[k].shape) > 1))
check("norms are not", all(not np.array_equal(a[k].data, b[k].data) for k in a if len(a[k].shape) == 1))
must(*distill(f"{out}/qs.gguf", "--student", f"{out}/q.gguf", "--train", "scales", "--steps", 40, "--json", f"{out}/qs.json"))
learned = kl(f"{out}/qs.gguf")
check("q4_0 with its scales trained", learned < 0.8 * before, f"KL {before:.4f} -> {learned:.4f}")
c = {t.name: t for t in gguf.GGUFReader(f"{out}/qs.gguf").tensors}
blocks = lambda t: t.data.reshape(-1, 18)
quantized = [k for k in a if a[k].tensor_type == gguf.GGMLQuantizationType.Q4_0]
check("its codes are the same, its scales are not", len(quantized) > 20 and all(
    np.array_equal(blocks(a[k])[:, 2:], blocks(c[k])[:, 2:]) and not np.array_equal(blocks(a[k])[:, :2], blocks(c[k])[:, :2]) for k in quantized))
must("quantize", teacher, "-o", f"{out}/ct", "--to", "int4:g32")
must(*distill(f"{out}/cts", "--student", f"{out}/ct", "--train", "scales", "--steps", 40))
before, after = kl(f"{out}/ct"), kl(f"{out}/cts")
packed, taught = load_file(f"{out}/ct/model.safetensors"), load_file(f"{out}/cts/model.safetensors")
check("int4:g32 in a folder, likewise", after < 0.8 * before and all(
    np.array_equal(packed[k], taught[k]) != k.endswith("weight_scale") for k in packed if "weight_" in k), f"KL {before:.4f} -> {after:.4f}")
must(*distill(f"{out}/qf", "--student", f"{out}/q.gguf", "--steps", 2, "--optimizer", "sgd", "--schedule", "linear",
              "--loss", "kl=1,hidden=0.1,cosine=1", "--divergence", "js", "--temperature", 2, "--ema", "0.9"))
check("q4_0 decoded and trained", load_file(f"{out}/qf/model.safetensors")["model.norm.weight"].dtype == np.float16)

# ---- the next token alone ----
must(*distill(f"{out}/ce", "--keep-layers", "0-1,4", "--steps", 30, "--loss", "ce", "--json", f"{out}/ce.json"))
r = json.load(open(f"{out}/ce.json"))["held_out"]
check("cross-entropy lowers the text's loss", r["after"]["loss"] < 0.7 * r["before"]["loss"],
      f"{r['before']['loss']:.3f} -> {r['after']['loss']:.3f}")

# ---- refusals ----
open(f"{out}/tiny.txt", "w").write("Once upon a time.")
for what, code, words, a in (
    ("a layer that is not there", 2, "no layer 7", ["--keep-layers", "0,7"]),
    ("an output that is there", 2, "exists", ["--keep-layers", "0"]),
    ("a term that is none", 2, "no term", ["--keep-layers", "0", "--loss", "foo"]),
    ("data too short", 3, "less than two windows", ["--keep-layers", "0", "--data", f"{out}/tiny.txt"]),
    ("no such data", 3, "cannot be read", ["--keep-layers", "0", "--data", f"{out}/none.txt"]),
    ("two ways to choose a student", 2, "leave --student out", ["--layers", 2, "--student", f"{out}/half"]),
    ("a rate that breaks it", 3, "not finite", ["--keep-layers", "0-4", "--lr", "1e30", "--clip", 0, "--optimizer", "sgd", "--warmup", 0]),
    ("scales of a model that has none", 2, "no scales", ["--student", f"{out}/half", "--train", "scales"]),
    ("a warm-up longer than the run", 2, "outside", ["--keep-layers", "0", "--steps", 5, "--warmup", 9]),
):
    target = f"{out}/half" if what == "an output that is there" else f"{out}/never"
    r = run(*distill(target, *a, "--steps", 5) if "--steps" not in a else distill(target, *a))
    check(what, r.returncode == code and words in r.stderr and not os.path.exists(f"{out}/never"), r.stderr.strip()[-110:])
r = run("distill", "--teacher", teacher, "--layers", 3, "-o", f"{out}/absent/x", "--data", train, "--steps", 10**6)
check("a folder that is not there, before any work", r.returncode == 4 and "absent" in r.stderr, r.stderr.strip()[-110:])
bad = run("distill", "--teacher", teacher, "-o", teacher, "--keep-layers", "0", "--force")
check("the teacher is not overwritten", bad.returncode == 2 and "the output is the input" in bad.stderr)
finish()
