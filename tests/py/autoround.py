# SPDX-License-Identifier: Apache-2.0
"""Learned rounding of stories260k: nearer to the original than GPTQ on text that was not calibrated on; GPTQ's scales and
codes, moved a little; the same bytes at every thread count and after kill -9; zeros that stay; refusals.

usage: autoround.py PARE MODELS TEXT OUTDIR     (MODELS holds stories260k/)"""
import json, os, signal, subprocess, sys, time
import gguf
import numpy as np
from checks import check, commands, finish, fresh, two_texts

pare, models, text, out = sys.argv[1:5]
model = f"{models}/stories260k/stories260k-f32.gguf"
fresh(out)
train, held = two_texts(text, out, 60000, 15000)
run, must = commands(pare)


def command(o, method, to, source=model, ctx=256, windows=32):
    return ["quantize", source, "-o", f"{out}/{o}", "--to", to, "--method", method, "--calib", train, "--calib-ctx", ctx,
            "--calib-windows", windows]


def kl(o, against=model):
    must("verify", against, f"{out}/{o}", "--data", held, "--ctx", 256, "--json", f"{out}/v.json")
    return json.load(open(f"{out}/v.json"))["metrics"]["kl_mean"]["value"]


def tensors(o):
    return {t.name: t for t in gguf.GGUFReader(f"{out}/{o}").tensors}


def same(a, b):
    return open(f"{out}/{a}", "rb").read() == open(f"{out}/{b}", "rb").read()


# ---- against gptq ----
for method in ("gptq", "autoround"): must(*command(f"{method}.gguf", method, "q4_0"))
k = kl("gptq.gguf"), kl("autoround.gguf")
check("q4_0: nearer to the original than gptq", k[1] < 0.85 * k[0], f"KL {k[0]:.4f}, learned {k[1]:.4f}")
a, b = tensors("gptq.gguf"), tensors("autoround.gguf")
q4 = [k for k in a if a[k].tensor_type == gguf.GGMLQuantizationType.Q4_0]
value = lambda t: gguf.dequantize(t.data, t.tensor_type)
off = [float(np.linalg.norm(value(a[k]) - value(b[k])) / np.linalg.norm(value(a[k]))) for k in q4]
check("every matrix has moved, none far; a stock reader decodes it", len(q4) == 30 and 0 < min(off) and max(off) < 0.4,
      f"by {min(off):.4f} to {max(off):.4f}")
check("the rest is gptq's", all(np.array_equal(a[k].data, b[k].data) for k in a if k not in q4))

# ---- the same bytes ----
must(*command("one.gguf", "autoround", "q4_0", ctx=64, windows=8), "--threads", 1)
must(*command("two.gguf", "autoround", "q4_0", ctx=64, windows=8), "--threads", 2)
check("threads", same("one.gguf", "two.gguf"))
kills = 0
for wanted in (150000, 400000):  # bytes of the journal: within the first layers, and later
    p = subprocess.Popen([pare, *map(str, command("cut.gguf", "autoround", "q4_0", ctx=64, windows=8)), "--threads", "1", "--quiet"])
    path = f"{out}/cut.gguf.pare-journal"
    while p.poll() is None and (not os.path.exists(path) or os.path.getsize(path) < wanted): time.sleep(0.002)
    kills += p.poll() is None
    p.send_signal(signal.SIGKILL)
    p.wait()
must(*command("cut.gguf", "autoround", "q4_0", ctx=64, windows=8))
check("killed twice and gone on", kills == 2 and same("one.gguf", "cut.gguf"), f"{kills} kills")

# ---- zeros stay ----
must("prune", model, "-o", f"{out}/half.gguf", "--method", "magnitude", "--pattern", "2:4")
must(*command("sparse.gguf", "autoround", "q4_0", f"{out}/half.gguf", 64, 8), "--keep-zeros")
half, sparse = tensors("half.gguf"), tensors("sparse.gguf")
pruned = [k for k in q4 if (half[k].data == 0).mean() > 0.4]
check("pruned weights stay zero", len(pruned) == 30 and all((value(sparse[k])[value(half[k]) == 0] == 0).all() for k in pruned))

# ---- refusals ----
open(f"{out}/tiny.txt", "w").write("Once upon a time.")
r = run("quantize", model, "-o", f"{out}/never.gguf", "--to", "q4_0", "--method", "autoround", "--calib", f"{out}/tiny.txt")
check("data too short", r.returncode == 3 and not os.path.exists(f"{out}/never.gguf"), r.stderr.strip()[-110:])
r = run("quantize", model, "-o", f"{out}/never.gguf", "--to", "q4_0", "--method", "autorund")
check("a method that is none", r.returncode == 2 and "autoround" in r.stderr, r.stderr.strip()[-110:])
finish()
