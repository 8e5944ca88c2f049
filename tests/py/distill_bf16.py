# SPDX-License-Identifier: Apache-2.0
"""`pare distill --precision bf16` beside f32 on stories260k: three of five layers, the loss of every step and the held-out
divergence, judged by `pare verify` in f32; on the processor's own products of bf16 and without them; the same bytes at
every thread count and after an interruption; refusals.

usage: distill_bf16.py PARE MODELS TEXT OUTDIR     (MODELS holds stories260k/)"""
import json, os, sys
import numpy as np
from safetensors.numpy import load_file
from checks import check, commands, finish, fresh, interrupt, two_texts

pare, models, text, out = sys.argv[1:5]
teacher = f"{models}/stories260k"
fresh(out)
train, held = two_texts(text, out, 120000, 12000)
run, must = commands(pare)


def distill(o, *a):
    return ["distill", "--teacher", teacher, "--keep-layers", "0-1,4", "-o", o, "--data", train, "--ctx", 128, "--batch", 4,
            "--lr", "2e-3", *a]


def taught(name, *a, level=None):
    """The losses of a run, and what it came to on text that was not trained on, in f32."""
    o = f"{out}/{name}"
    must(*distill(o, "--steps", 100, "--threads", 1, "--json", f"{o}.json", *a), env={**os.environ, "PARE_CPU": level} if level else None)
    must("verify", teacher, o, "--data", held, "--ctx", 128, "--json", f"{o}.v.json")
    report = json.load(open(f"{o}.json"))
    return report, np.array([c["loss"] for c in report["curve"]]), json.load(open(f"{o}.v.json"))["metrics"]["kl_mean"]["value"]


def same(a, b):
    return open(a, "rb").read() == open(b, "rb").read()


_, f32, kl = taught("f32")
report, bf16, kl16 = taught("bf16", "--precision", "bf16")
check("the report says so", report["options"]["precision"] == "bf16")
off = np.abs(bf16 / f32 - 1)
check("the first step: rounding alone", 0 < off[0] < 0.01, f"{f32[0]:.4f}, in bf16 {bf16[0]:.4f}")
check("the curve", off.mean() < 0.005 and off.max() < 0.02, f"off by {off.mean():.2%}, at most {off.max():.2%}")
check("held out", abs(kl16 / kl - 1) < 0.03, f"KL {kl:.4f}, in bf16 {kl16:.4f} ({kl16 / kl - 1:+.1%})")
w = load_file(f"{out}/bf16/model.safetensors")
kept = np.mean([np.mean(v.view(np.uint32) & 0xFFFF != 0) for v in w.values()])
check("masters are f32", all(v.dtype == np.float32 for v in w.values()) and kept > 0.9, f"{kept:.1%} are no bf16 numbers")
_, plain, klp = taught("plain", "--precision", "bf16", level="avx2")
off = np.abs(plain / bf16 - 1)
check("without the processor's own", abs(klp / kl - 1) < 0.03 and off.max() < 0.02, f"KL {klp:.4f}, curve within {off.max():.2%}")

# ---- the same bytes ----
short = ["--steps", 8, "--format", "gguf", "--precision", "bf16"]
for n in (1, 2): must(*distill(f"{out}/t{n}.gguf", *short, "--threads", n))
check("threads", same(f"{out}/t1.gguf", f"{out}/t2.gguf"))
interrupted = interrupt([pare, *map(str, distill(f"{out}/cut.gguf", *short, "--threads", 1, "--save-every", 1)), "--quiet"], f"{out}/cut.gguf")
other = run(*distill(f"{out}/cut.gguf", "--steps", 8, "--format", "gguf"))
check("a checkpoint of f32 is another run's", other.returncode == 2 and "another run" in other.stderr, other.stderr.strip()[-90:])
must(*distill(f"{out}/cut.gguf", *short, "--threads", 2))
check("interrupted and gone on", interrupted and same(f"{out}/t1.gguf", f"{out}/cut.gguf"))
r = run(*distill(f"{out}/no", "--precision", "fp16"))
check("unknown precision", r.returncode == 2 and "f32, bf16" in r.stderr, r.stderr.strip())
finish()
