# SPDX-License-Identifier: Apache-2.0
"""Students of a tiny sentence encoder: what `pare verify` says of them on sentences that were not trained on, the same
bytes at every thread count and after an interruption, projections that are not written, refusals.

usage: distill_encoder.py PARE OUTDIR"""
import json, os, sys
from safetensors.numpy import load_file
from checks import check, commands, finish, fresh, interrupt
from tiny_encoder import tiny_encoder, tiny_sentences

pare, out = sys.argv[1:3]
fresh(out)
teacher = tiny_encoder(f"{out}/teacher")
lines = tiny_sentences(260, 3)
train, held = f"{out}/train.txt", f"{out}/held.txt"
open(train, "w").write("\n".join(lines[:220]))
open(held, "w").write("\n".join(lines[220:]))
run, must = commands(pare)


def cosine(model):
    must("verify", teacher, model, "--data", held, "--json", f"{out}/v.json")
    return json.load(open(f"{out}/v.json"))["metrics"]["cosine_mean"]["value"]


def same(a, b):
    return open(a, "rb").read() == open(b, "rb").read()


def distill(o, *a):
    return ["distill", "--teacher", teacher, "-o", o, "--data", train, "--lr", "3e-3", "--eval-windows", 20, *a]


# ---- one of two layers ----
one = ["--keep-layers", 1, "--steps", 60]
must("prune", teacher, "-o", f"{out}/cut", "--pattern", "layers", "--drop", 0, "--no-heal")
must(*distill(f"{out}/taught", *one, "--json", f"{out}/r.json"))
before, after = cosine(f"{out}/cut"), cosine(f"{out}/taught")
check("a layer of two dropped, then taught", before < 0.7 and after > 0.95, f"cosine {before:.3f} -> {after:.3f}")
r = json.load(open(f"{out}/r.json"))
check("the report agrees", r["held_out"]["after"]["cosine"] > 0.95 and r["terms"] == ["embed"]
      and abs(r["held_out"]["after"]["cosine"] - after) < 0.03, str(r["held_out"]))
pairs = "".join(f"{i % 5}\t{a}\t{b}\n" for i, (a, b) in enumerate(zip(lines[:100], lines[100:200])))
open(f"{out}/pairs.tsv", "w").write(pairs)
must(*distill(f"{out}/scored", *one[:2], "--steps", 2, "--data", f"{out}/pairs.tsv", "--json", f"{out}/p.json"))
p = json.load(open(f"{out}/p.json"))
check("scored pairs are sentences", p["train_windows"] + p["eval_windows"] == len(set(lines[:200])), p["data"])
losses = "embed=1,similarity=1,relation=0.5"
must(*distill(f"{out}/all", *one, "--loss", losses, "--relation-heads", 4, "--batch", 16, "--json", f"{out}/a.json"))
c = json.load(open(f"{out}/a.json"))["curve"]
check("three terms, each smaller", all(c[-1][k] < c[0][k] for k in ("embed", "similarity", "relation"))
      and all(abs(x["embed"] + x["similarity"] + 0.5 * x["relation"] - x["loss"]) < 1e-5 * x["loss"] for x in c))
must(*distill(f"{out}/layers", *one, "--loss", "hidden=1,cosine=1,embed-mse=1"))
check("layers against the teacher's", cosine(f"{out}/layers") > 0.9)
must(*distill(f"{out}/student.gguf", *one[:2], "--steps", 20))
check("a student in GGUF", cosine(f"{out}/student.gguf") > before)

must(*distill(f"{out}/small", "--layers", 1, "--ffn", 32, "--steps", 40))
shapes = {k: v.shape for k, v in load_file(f"{out}/small/model.safetensors").items()}
check("one layer with half of its neurons", shapes["encoder.layer.0.intermediate.dense.weight"] == (32, 32)
      and not any("layer.1." in k for k in shapes) and cosine(f"{out}/small") > 0.8)

# ---- the same bytes ----
short = ["--keep-layers", 0, "--steps", 8, "--loss", losses, "--batch", 16, "--micro", 8]
for name, more in (("one", ["--threads", 1]), ("two", ["--threads", 2]), ("again", ["--threads", 1, "--recompute"])):
    must(*distill(f"{out}/{name}.gguf", *short, *more))
check("threads", same(f"{out}/one.gguf", f"{out}/two.gguf"))
check("activation checkpointing", same(f"{out}/one.gguf", f"{out}/again.gguf"))
interrupted = interrupt([pare, *distill(f"{out}/cut.gguf", *short, "--threads", 1, "--save-every", 1), "--quiet"], f"{out}/cut.gguf")
must(*distill(f"{out}/cut.gguf", *short, "--threads", 2))
check("interrupted and gone on", interrupted and same(f"{out}/one.gguf", f"{out}/cut.gguf"))

# ---- a student of another width ----
narrow = tiny_encoder(f"{out}/narrow", seed=6, width=16)
must(*distill(f"{out}/wide", "--student", narrow, "--steps", 40, "--loss", "embed=1,hidden=1,relation=1", "--relation-heads", 2,
              "--json", f"{out}/w.json"))
w = json.load(open(f"{out}/w.json"))
check("projections learn", w["curve"][-1]["hidden"] < 0.7 * w["curve"][0]["hidden"] and w["curve"][-1]["embed"] < 0.5 * w["curve"][0]["embed"],
      f"hidden {w['curve'][0]['hidden']:.3f} -> {w['curve'][-1]['hidden']:.3f}")
a, b = load_file(f"{narrow}/model.safetensors"), load_file(f"{out}/wide/model.safetensors")
check("and are thrown away", a.keys() == b.keys() and all(a[k].shape == b[k].shape for k in a)
      and w["trained"] == w["parameters"] == sum(x.size for x in b.values()))

# ---- refusals ----
strange = tiny_encoder(f"{out}/strange", letters="zyxwvutsrqponmlkjihgfedcba0123456789.,'-%?")
open(f"{out}/lonely.txt", "w").write("Only one.")
for what, code, words, more in (
    ("the next token of an encoder", 2, "does not", ["--keep-layers", 0, "--loss", "kl"]),
    ("a term that is none", 2, "there are kl", ["--keep-layers", 0, "--loss", "foo"]),
    ("heads that do not divide", 2, "do not divide", ["--keep-layers", 0, "--loss", "embed=1,relation=1", "--relation-heads", 5]),
    ("heads of an encoder", 2, "no head size", ["--heads", 1]),
    ("other words", 3, "different vocabularies", ["--student", strange]),
    ("a single sentence", 3, "two sentences", ["--keep-layers", 0, "--data", f"{out}/lonely.txt"]),
    ("what nothing teaches", 2, "does not depend", ["--keep-layers", 0, "--loss", "relation"]),
    ("sentences too long", 2, "from 3 to 128", ["--keep-layers", 0, "--ctx", 129]),
):
    r = run(*distill(f"{out}/never", *more, "--steps", 5))
    check(what, r.returncode == code and words in r.stderr and not os.path.exists(f"{out}/never"), f"{r.returncode}: {r.stderr.strip()[-110:]}")
check("nothing is left behind", not [f for f in os.listdir(out) if "pare-" in f or "tmp" in f])
finish()
