# SPDX-License-Identifier: Apache-2.0
"""What makes `pare distill` cheaper, on stories260k: the teacher's largest log-probabilities kept between epochs;
adapters of low rank.

usage: distill_cheap.py PARE MODELS TEXT OUTDIR     (MODELS holds stories260k/)"""
import json, os, sys
import gguf
import numpy as np
from checks import check, commands, finish, fresh, interrupt

pare, models, text, out = sys.argv[1:5]
teacher = f"{models}/stories260k"
fresh(out)
body = open(text, "rb").read().decode(errors="ignore")
train = f"{out}/train.txt"
open(train, "w").write(body[:14000])
run, must = commands(pare)


def same(a, b):
    return open(a, "rb").read() == open(b, "rb").read()


def distill(o, *a):
    return ["distill", "--teacher", teacher, "-o", o, "--data", train, "--ctx", 64, "--batch", 4, "--lr", "2e-3", *a]


def taught(name, *a):
    """The report of a run, its losses beside it."""
    must(*distill(f"{out}/{name}.gguf", *a, "--json", f"{out}/{name}.json"))
    r = json.load(open(f"{out}/{name}.json"))
    return r, np.array([c["loss"] for c in r["curve"]])


def interrupted(name, *a):
    """A run that is cut off after its first checkpoint, and goes on."""
    o = f"{out}/{name}.gguf"
    stopped = interrupt([pare, *distill(o, *a, "--threads", 1, "--save-every", 1), "--quiet"], o)
    must(*distill(o, *a, "--threads", 2))
    return stopped


# ---- the teacher's largest ----
depth = ["--keep-layers", "0-1,4", "--steps", 50, "--eval-windows", 20]
whole, losses = taught("whole", *depth, "--threads", 1)
windows = whole["train_windows"]
check("the text repeats", 2 * windows < 50 * 4 and whole["teacher_windows"] == 200, f"{windows} windows, 200 seen")
all_of, kept = taught("all", *depth, "--teacher-top", 512, "--threads", 1)
check("all tokens kept: the same curve", np.abs(kept / losses - 1).max() < 1e-4, f"within {np.abs(kept / losses - 1).max():.1e}")
few, kept = taught("few", *depth, "--teacher-top", 32, "--threads", 1)
a, b = whole["held_out"]["after"]["kl"], few["held_out"]["after"]["kl"]
check("32 of 512 kept: about the same student", b < 1.1 * a, f"KL held out {a:.4f}, {b:.4f}")
one = taught("one", *depth, "--teacher-top", 1)[0]["held_out"]["after"]["kl"]
check("one kept: a worse one", one > 1.2 * a, f"{one:.4f}")
check("each window is asked once", all_of["teacher_windows"] == few["teacher_windows"] == windows)
taught("disk", *depth, "--teacher-top", 32, "--teacher-memory", "20K", "--threads", 2, "--micro", 4)
check("in a file beside the output, two threads", same(f"{out}/few.gguf", f"{out}/disk.gguf"))
check("interrupted and gone on", interrupted("cut", *depth, "--teacher-top", 32) and same(f"{out}/few.gguf", f"{out}/cut.gguf"))
warm = ["--keep-layers", "0-1,4", "--steps", 3, "--temperature", 3]
check("at another temperature", np.abs(taught("warm", *warm, "--teacher-top", 512)[1] / taught("warmer", *warm)[1] - 1).max() < 1e-4)
for way in ("reverse", "js"):
    _, loss = taught(way, *warm[:4], "--divergence", way, "--teacher-top", 4)
    check(f"{way}: finite", np.isfinite(loss).all() and (loss > 0).all())

# ---- adapters ----
must("prune", teacher, "-o", f"{out}/half.gguf", "--method", "magnitude", "--pattern", "2:4")
thin = ["--student", f"{out}/half.gguf", "--train", "adapters", "--rank", 8, "--steps", 12]
for name, threads in (("lora", 1), ("lora2", 2)): r, _ = taught(name, *thin, "--threads", threads)
check("adapters: the student is better", r["held_out"]["after"]["kl"] < 0.8 * r["held_out"]["before"]["kl"],
      f"{r['held_out']['before']['kl']:.3f} -> {r['held_out']['after']['kl']:.3f}, {r['trained']} of {r['parameters']}")
was, now = (gguf.GGUFReader(f"{out}/{n}.gguf").tensors for n in ("half", "lora"))
rank, zeros, still = True, True, True
for a, b in zip(was, now):
    x, y = np.asarray(a.data, np.float64), np.asarray(b.data, np.float64)
    layer = len(x.shape) == 2 and a.name.startswith("blk.")
    still &= layer or np.array_equal(x, y)
    zeros &= not layer or np.array_equal(x == 0, y == 0)
check("adapters: zeros stay, norms and embedding too", zeros and still)
taught("dense", "--student", f"{teacher}/stories260k-f32.gguf", *thin[2:4], "--rank", 2, "--steps", 3, "--loss", "ce")
before = {t.name: t for t in gguf.GGUFReader(f"{teacher}/stories260k-f32.gguf").tensors}
for b in gguf.GGUFReader(f"{out}/dense.gguf").tensors:
    a = before[b.name]
    if len(a.shape) == 2 and a.name.startswith("blk."):
        v = np.linalg.svd(np.asarray(b.data, np.float64) - np.asarray(a.data, np.float64), compute_uv=False)
        rank &= v[0] > 0 and v[2] < 1e-4 * v[0]
check("adapters: what is added to a dense matrix has their rank", rank)
check("adapters: threads", same(f"{out}/lora.gguf", f"{out}/lora2.gguf"))
check("adapters: interrupted and gone on", interrupted("lora3", *thin) and same(f"{out}/lora.gguf", f"{out}/lora3.gguf"))

# ---- refusals ----
for what, words, a in (
    ("hidden states", "hidden", ["--loss", "kl=1,hidden=1", "--teacher-top", 8]),
    ("their cosine", "cosine", ["--loss", "kl=1,cosine=1", "--teacher-top", 8]),
    ("a teacher that is not asked", "no term", ["--loss", "ce", "--teacher-top", 8]),
    ("a rank of nothing", "--train adapters", ["--rank", 4]),
    ("a rank above a matrix's", "is more than", ["--train", "adapters", "--rank", 4000]),
    ("more tokens than there are", "of the teacher's 512", ["--teacher-top", 513]),
):
    r = run(*distill(f"{out}/never", "--keep-layers", "0", "--steps", 2, *a))
    check(f"refused: {what}", r.returncode == 2 and words in r.stderr and not os.path.exists(f"{out}/never"), r.stderr.strip()[-110:])
check("nothing is left behind", not [f for f in os.listdir(out) if "pare-" in f or "tmp" in f])
finish()
