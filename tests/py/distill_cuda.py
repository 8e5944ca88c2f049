# SPDX-License-Identifier: Apache-2.0
"""`pare distill --device cuda` on the emulated GPU: the CPU's curve of the loss, the same bytes in every run and after an
interruption, every node of the pass on the device.

usage: distill_cuda.py PARE PLUGIN MODELS TEXT OUTDIR     (MODELS holds stories260k/)"""
import json, os, subprocess, sys
import numpy as np
from checks import check, finish, fresh, interrupt
from safetensors.numpy import load_file

pare, plugin, models, text, out = sys.argv[1:6]
teacher = f"{models}/stories260k"
fresh(out)
train = f"{out}/train.txt"
open(train, "wb").write(open(text, "rb").read()[:6000])
env = {**os.environ, "PARE_PLUGIN_CUDA": plugin}


def common(o):
    return ["--teacher", teacher, "--keep-layers", "0-1", "--data", train, "--ctx", 16, "--batch", 2, "--micro", 1,
            "--lr", "2e-3", "--eval-windows", 1, "-o", o, "--json", o + ".json"]


def distill(o, *a):
    return subprocess.run(list(map(str, [pare, "distill", *common(o), *a])), capture_output=True, text=True, env=env)


def must(o, *a):
    r = distill(o, *a)
    if r.returncode: sys.exit(f"distill {a}: exit {r.returncode}: {r.stderr}")
    if "run on the CPU" in r.stderr: sys.exit(f"distill {a}: {r.stderr}")
    return json.load(open(o + ".json")), open(o, "rb").read()


steps = ["--steps", 5]
here, _ = must(f"{out}/cpu.gguf", *steps)
there, first = must(f"{out}/gpu.gguf", *steps, "--device", "cuda")
off = max(abs(a["loss"] - b["loss"]) for a, b in zip(here["curve"], there["curve"]))
check("the curve of the loss is the CPU's within 1e-4", off < 1e-4 and len(there["curve"]) == 5, f"{off:.2e}")
check("it falls", there["curve"][-1]["loss"] < there["curve"][0]["loss"])
off = abs(here["held_out"]["after"]["kl"] - there["held_out"]["after"]["kl"])
check("what was held out, after training", off < 1e-3, f"{off:.2e}")
check("the report names the device", there["options"]["device"] == "cuda" and here["options"]["device"] == "cpu")
_, again = must(f"{out}/again.gguf", *steps, "--device", "cuda", "--threads", 1)
check("the same bytes at another number of threads", first == again)

# ---- the other losses, and activation checkpointing ----
for name, extra in (("ce", ["--loss", "ce"]), ("js", ["--divergence", "js", "--loss", "kl=1,hidden=1,ce=0.5"]),
                    ("recompute", ["--recompute"]), ("blockwise", ["--blockwise"])):
    a, _ = must(f"{out}/{name}-cpu.gguf", "--steps", 2, *extra)
    b, _ = must(f"{out}/{name}-gpu.gguf", "--steps", 2, *extra, "--device", "cuda")
    off = max(abs(x["loss"] - y["loss"]) for x, y in zip(a["curve"], b["curve"]))
    check(f"{name}: the CPU's loss", off < 1e-4, f"{off:.2e}")

# ---- other optimizers and what they keep; zeros that were pruned; steps of one pass ----
check("parameters and optimizer are on the device", there["resident"] and not here["resident"])
pruned = f"{out}/pruned"
subprocess.run([pare, "prune", teacher, "-o", pruned, "--method", "magnitude", "--pattern", "2:4", "--force"], check=True,
               capture_output=True)
for name, extra in (("ema", ["--ema", 0.9, "--micro", 2]), ("sgd", ["--optimizer", "sgd", "--lr", "1e-2"]),
                    ("norms", ["--train", "norms", "--clip", 1e-3]), ("adapters", ["--train", "adapters", "--rank", 2]),
                    ("zeros", ["--student", pruned, "--ema", 0.5])):
    cut = [] if "--student" in extra else ["--keep-layers", "0-1"]
    pair = []
    for o, dev in ((f"{out}/{name}-cpu", []), (f"{out}/{name}-gpu", ["--device", "cuda"])):
        r = subprocess.run(list(map(str, [pare, "distill", "--teacher", teacher, *cut, "--data", train, "--ctx", 16,
                                          "--batch", 2, "--micro", 1, "--lr", "2e-3", "--eval-windows", 1, "--steps", 3,
                                          "-o", o, "--json", o + ".json", *extra, *dev])),
                           capture_output=True, text=True, env=env)
        if r.returncode: sys.exit(f"distill {name}: {r.stderr}")
        pair.append((json.load(open(o + ".json")), load_file(o + "/model.safetensors")))
    (a, wa), (b, wb) = pair
    off = max(abs(x["loss"] - y["loss"]) for x, y in zip(a["curve"], b["curve"]))
    norm = max(abs(x["norm"] / y["norm"] - 1) for x, y in zip(a["curve"], b["curve"]))
    far = max(float(np.abs(wa[k] - wb[k]).max()) for k in wa)
    check(f"{name}: the CPU's loss, norm and weights", off < 1e-4 and norm < 1e-4 and far < 2e-4,
          f"{off:.2e} {norm:.2e} {far:.2e}")
    check(f"{name}: where the optimizer is", b["resident"] == (name != "adapters"))
    if name == "zeros":
        zero = {k: v == 0 for k, v in load_file(pruned + "/model.safetensors").items()}
        check("zeros stay", all((wb[k][zero[k]] == 0).all() for k in wb if wb[k].ndim > 1))

# ---- interrupted and gone on ----
line = [pare, "distill", *common(f"{out}/part.gguf"), *steps, "--device", "cuda", "--save-every", 1]
stopped = interrupt(line, f"{out}/part.gguf", env)
other = distill(f"{out}/part.gguf", *steps)
check("a checkpoint of the GPU's run is another run to the CPU", other.returncode == 2 and "another run" in other.stderr,
      other.stderr.strip()[-90:])
_, whole = must(f"{out}/part.gguf", *steps, "--device", "cuda")
check("interrupted and gone on: the same bytes", stopped and whole == first)
other = distill(f"{out}/no.gguf", *steps, "--device", "tpu")
check("a device that is none is refused", other.returncode == 2 and "tpu" in other.stderr, other.stderr.strip()[-90:])
finish()
