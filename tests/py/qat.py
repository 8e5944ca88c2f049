# SPDX-License-Identifier: Apache-2.0
"""Quantization-aware training of stories260k, measured by `pare verify` on text that was not trained on, against the same
steps with codes kept; what was trained is what is in the file, which a peer's reader decodes alike; the same bytes at
every thread count and after an interruption; zeros that stay; refusals.

usage: qat.py PARE MODELS TEXT OUTDIR     (MODELS holds stories260k/)"""
import json, os, sys
import gguf
from checks import check, commands, finish, fresh, interrupt, two_texts

pare, models, text, out = sys.argv[1:5]
teacher = f"{models}/stories260k/stories260k-f32.gguf"
fresh(out)
train, held = two_texts(text, out, 120000, 12000)
run, must = commands(pare)


def kl(model):
    must("verify", teacher, model, "--data", held, "--ctx", 128, "--json", f"{out}/v.json")
    return json.load(open(f"{out}/v.json"))["metrics"]["kl_mean"]["value"]


def qat(o, *a, kind="qat"):
    return ["distill", "--teacher", teacher, "-o", f"{out}/{o}", "--data", train, "--ctx", 128, "--batch", 4, "--lr", "3e-3",
            "--json", f"{out}/{o}.json", "--train", kind, *a]


def told(o, when):
    return json.load(open(f"{out}/{o}.json"))["held_out"][when]["kl"]


def tensors(name):
    return {t.name: t for t in gguf.GGUFReader(f"{out}/{name}").tensors}


def same(a, b):
    return open(f"{out}/{a}", "rb").read() == open(f"{out}/{b}", "rb").read()


# ---- against the same steps with codes kept ----
must("quantize", teacher, "-o", f"{out}/rtn.gguf", "--to", "q4_0")
steps = ["--student", f"{out}/rtn.gguf", "--steps", 80]
must(*qat("rtn-s.gguf", *steps, kind="scales"))
must(*qat("rtn-q.gguf", *steps))
k = [kl(f"{out}/{x}.gguf") for x in ("rtn", "rtn-s", "rtn-q")]
check("codes learn more than scales alone", k[2] < 0.93 * k[1] and k[2] < 0.6 * k[0],
      f"q4_0: KL {k[0]:.4f}, scales {k[1]:.4f}, codes too {k[2]:.4f}")
a, b = tensors("rtn.gguf"), tensors("rtn-q.gguf")
quantized = [k for k in a if a[k].tensor_type == gguf.GGMLQuantizationType.Q4_0]
share = [float((a[k].data.reshape(-1, 18)[:, 2:] != b[k].data.reshape(-1, 18)[:, 2:]).mean()) for k in quantized]
check("codes moved, few of them; types and sizes stayed", len(quantized) > 20 and 0 < max(share) and max(share) < 0.5
      and all(a[k].tensor_type == b[k].tensor_type for k in a), f"{len(quantized)} matrices, bytes changed {min(share):.3f} to {max(share):.3f}")

# ---- what was trained is what is there ----
must(*qat("next.gguf", "--student", f"{out}/rtn-q.gguf", "--steps", 1))
first, last = told("next.gguf", "before"), told("rtn-q.gguf", "after")
check("the loss told at the end is that of the file", abs(first - last) < 1e-5 * last, f"{last:.8f}, read again {first:.8f}")
must(*qat("ct", "--to", "int4:g32", "--format", "folder", "--steps", 40))
must("quantize", teacher, "-o", f"{out}/ct-rtn", "--to", "int4:g32", "--format", "folder")
before, after = kl(f"{out}/ct-rtn"), kl(f"{out}/ct")
check("from floats into int4:g32 in a folder", after < 0.6 * before, f"KL {before:.4f} -> {after:.4f}")
must(*qat("back.gguf", "--student", f"{out}/ct", "--steps", 1, "--format", "gguf"))
check("codes of a folder go on as GGUF's (products are no longer rounded to f16)", abs(told("back.gguf", "before") - told("ct", "after")) < 1e-3 * told("ct", "after"))
must(*qat("k.gguf", "--to", "q4_k_m", "--steps", 10))
check("a mix with offsets", told("k.gguf", "after") < 0.9 * told("k.gguf", "before"),
      f"{told('k.gguf', 'before'):.4f} -> {told('k.gguf', 'after'):.4f}")

# ---- the same bytes ----
short = ["--to", "q4_0", "--steps", 8, "--ema", "0.8"]
must(*qat("one.gguf", *short, "--threads", 1))
must(*qat("two.gguf", *short, "--threads", 2))
check("threads", same("one.gguf", "two.gguf"))
stopped = interrupt([pare, *qat("cut.gguf", *short, "--threads", 1, "--save-every", 1), "--quiet"], f"{out}/cut.gguf")
must(*qat("cut.gguf", *short, "--threads", 2))
check("interrupted and gone on", stopped and same("one.gguf", "cut.gguf"))

# ---- zeros stay ----
must("prune", teacher, "-o", f"{out}/half.gguf", "--method", "magnitude", "--pattern", "2:4")
must(*qat("sparse.gguf", "--student", f"{out}/half.gguf", "--to", "q4_0", "--steps", 10))
must(*qat("sparser.gguf", "--student", f"{out}/sparse.gguf", "--steps", 5))
half, sparse, sparser = ({k: gguf.dequantize(t.data, t.tensor_type) for k, t in tensors(f"{n}.gguf").items()}
                         for n in ("half", "sparse", "sparser"))
pruned = [k for k in half if half[k].ndim == 2 and (half[k] == 0).mean() > 0.4]
q4 = [k for k, t in tensors("sparse.gguf").items() if k in pruned and t.tensor_type == gguf.GGMLQuantizationType.Q4_0]
check("pruned weights stay zero while codes learn", len(q4) > 20 and all((sparse[k][half[k] == 0] == 0).all() for k in q4)
      and told("sparse.gguf", "after") < 0.9 * told("sparse.gguf", "before"), f"{len(q4)} matrices")
check("also from codes", all((sparser[k][half[k] == 0] == 0).all() for k in q4))

# ---- refusals ----
for what, words, a in (
    ("no grid", "not quantized", []),
    ("a float type", "no codes", ["--to", "f16"]),
    ("an unknown grid", "q9_9", ["--to", "q9_9"]),
    ("zeros in a grid with an offset", "cannot store a zero", ["--student", f"{out}/half.gguf", "--to", "q4_1"]),
):
    r = run(*qat("never.gguf", *a, "--steps", 2))
    check(what, r.returncode == 2 and words in r.stderr and not os.path.exists(f"{out}/never.gguf"), r.stderr.strip()[-110:])
finish()
