# SPDX-License-Identifier: Apache-2.0
"""Pairs of sentences that mean the same (`--loss contrastive`): a tiny encoder learns which belong together, also those it
has not seen; pairs stay together in every order; the same bytes at every thread count and after an interruption; files that
hold no pairs are refused.

usage: distill_pairs.py PARE OUTDIR"""
import json, os, random, sys
import numpy as np
from checks import check, commands, finish, fresh, interrupt
from tiny_encoder import tiny_encoder

pare, out = sys.argv[1:3]
fresh(out)
run, must = commands(pare)
teacher = tiny_encoder(f"{out}/teacher")
random.seed(4)
words = "cat dog man guitar hill bird rain field boat stone river night".split()


def pair():
    """The same words in another order, one of them different."""
    a = random.sample(words, 5)
    b = a[:4] + [random.choice(words)]
    random.shuffle(b)
    return " ".join(a), " ".join(b)


pairs = [pair() for _ in range(640)]
data = f"{out}/pairs.tsv"
open(data, "w").write("\r\n".join(f"{a}\t{b}" for a, b in pairs[:600]) + "\n\n")
open(f"{out}/unseen.txt", "w").write("\n".join(s for p in pairs[600:] for s in p))


def partners(model):
    """How many unseen sentences have their partner nearer than any other."""
    must("run", model, "--input", f"{out}/unseen.txt", "--json", f"{out}/e.json")
    e = np.array([r["embedding"] for r in json.load(open(f"{out}/e.json"))])
    e /= np.linalg.norm(e, axis=1, keepdims=True)
    c = e @ e.T - 9 * np.eye(len(e))
    return float(np.mean(c.argmax(1) == np.arange(len(e)) ^ 1))


def distill(o, *a):
    return ["distill", "--teacher", teacher, "-o", o, "--data", data, "--loss", "contrastive", "--batch", 64, "--lr", "3e-3", *a]


must(*distill(f"{out}/taught", "--steps", 120, "--eval-windows", 20, "--json", f"{out}/r.json"))
r = json.load(open(f"{out}/r.json"))
before, after = partners(teacher), partners(f"{out}/taught")
check("unseen sentences find their partner", after > before + 0.1, f"{before:.2f} -> {after:.2f}")
check("the loss falls", r["curve"][-1]["loss"] < 0.5 * r["curve"][0]["loss"], f"{r['curve'][0]['loss']:.3f} -> {r['curve'][-1]['loss']:.3f}")
check("every sentence of a pair counts, also those that return", r["train_windows"] == 1180 and r["eval_windows"] == 20, r["data"])
check("the teacher was not asked to train", r["teacher_windows"] == 0 and r["held_out"]["before"]["cosine"] > 0.9999)

# The first step's loss by the definition, whatever the order: one step over all pairs at once.
must(*distill(f"{out}/one", "--steps", 1, "--batch", 300, "--micro", 300, "--eval-windows", 900, "--temperature", 0.5, "--json", f"{out}/1.json"))
open(f"{out}/seen.txt", "w").write("\n".join(f"{s}" for p in pairs[:150] for s in p))
must("run", teacher, "--input", f"{out}/seen.txt", "--json", f"{out}/e.json")
e = np.array([x["embedding"] for x in json.load(open(f"{out}/e.json"))], np.float64)
e /= np.linalg.norm(e, axis=1, keepdims=True)
c = e @ e.T / 0.5
np.fill_diagonal(c, -np.inf)
want = float(np.mean(np.log(np.exp(c).sum(1)) - c[np.arange(300), np.arange(300) ^ 1]))
got = json.load(open(f"{out}/1.json"))["curve"][0]["loss"]
check("the first loss is the definition's", abs(got - want) < 1e-5 * want, f"{got:.7f}, {want:.7f}")

same = lambda a, b: open(a, "rb").read() == open(b, "rb").read()
short = ["--steps", 6, "--micro", 8, "--loss", "contrastive=1,embed=1"]
for name, threads in (("t1", 1), ("t2", 2)): must(*distill(f"{out}/{name}.gguf", *short, "--threads", threads))
check("threads", same(f"{out}/t1.gguf", f"{out}/t2.gguf"))
stopped = interrupt([pare, *distill(f"{out}/cut.gguf", *short, "--threads", 1, "--save-every", 1), "--quiet"], f"{out}/cut.gguf")
must(*distill(f"{out}/cut.gguf", *short, "--threads", 2))
check("interrupted and gone on", stopped and same(f"{out}/t1.gguf", f"{out}/cut.gguf"))

for name, text in (("lines", "a cat\na dog\na man\n"), ("scored", "1.5\ta cat\ta dog\n2\ta man\ta bird\n"), ("empty", "a cat\t\nb\tc\n"), ("one", "a cat\ta dog\n")):
    open(f"{out}/{name}.tsv", "w").write(text)
for what, code, text, more in (
    ("sentences without partners", 3, "line 1: a pair was expected", ["--data", f"{out}/lines.tsv"]),
    ("scored pairs", 3, "line 1: a pair was expected", ["--data", f"{out}/scored.tsv"]),
    ("an empty sentence", 3, "line 1: a pair was expected", ["--data", f"{out}/empty.tsv"]),
    ("one pair", 3, "two pairs", ["--data", f"{out}/one.tsv"]),
    ("half a pair held out", 2, "pairs stay together", ["--eval-windows", 7]),
    ("an odd pass", 2, "even number", ["--batch", 15, "--micro", 5]),
    ("one pair a pass", 2, "two pairs", ["--micro", 2]),
):
    r = run(*distill(f"{out}/never", "--steps", 2, *more))
    check(what, r.returncode == code and text in r.stderr and not os.path.exists(f"{out}/never"), f"{r.returncode}: {r.stderr.strip()[-110:]}")
r = run("distill", "--teacher", "../shared/models/stories260k", "-o", f"{out}/never", "--loss", "contrastive", "--steps", 2)
if os.path.isdir("../shared"): check("a language model", r.returncode == 2 and "embeddings of sentences" in r.stderr, r.stderr.strip()[-90:])
r = run("distill", "--teacher", teacher, "-o", f"{out}/never", "--loss", "contrastive", "--steps", 2)
check("no pairs of one's own", r.returncode == 2 and "none built in" in r.stderr and not os.path.exists(f"{out}/never"), r.stderr.strip()[-90:])
check("nothing is left behind", not [f for f in os.listdir(out) if "pare-" in f or "tmp" in f])
finish()
