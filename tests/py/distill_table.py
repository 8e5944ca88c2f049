# SPDX-License-Identifier: Apache-2.0
"""The quick form of docs/results/distill.md's table, on stories260k: half depth distilled against half depth taught by the
text alone; layers dropped, 2:4 and a narrower FFN healed. KL to the teacher by `pare verify` on text not trained on.

usage: distill_table.py PARE MODELS TEXT OUTDIR STEPS     (MODELS holds stories260k/)"""
import json, os, shutil, subprocess, sys
import numpy as np
from safetensors.numpy import load_file
from checks import check, finish

pare, models, text, out, steps = *sys.argv[1:5], int(sys.argv[5])
teacher = f"{models}/stories260k"
shutil.rmtree(out, ignore_errors=True)
os.makedirs(out)
body = open(text, "rb").read().decode(errors="ignore")
cut = body.index("\n", 150000)
open(f"{out}/train.txt", "w").write(body[:cut])
open(f"{out}/held.txt", "w").write(body[cut:cut + 40000])


def must(*a):
    r = subprocess.run([pare, *map(str, a), "--quiet"], capture_output=True, text=True)
    if r.returncode: sys.exit(f"pare {' '.join(map(str, a))}: exit {r.returncode}: {r.stderr}")


def kl(model):
    must("verify", teacher, model, "--data", f"{out}/held.txt", "--ctx", 128, "--json", f"{out}/v.json")
    m = json.load(open(f"{out}/v.json"))["metrics"]
    return m["kl_mean"]["value"], m["ppl_ratio"]["value"]


def learn(name, *a):
    must("distill", "--teacher", teacher, "-o", f"{out}/{name}", "--data", f"{out}/train.txt", "--ctx", 128, "--batch", 4, "--lr", "2e-3", "--steps", steps, *a)
    return kl(f"{out}/{name}")


taught, alone = learn("taught", "--keep-layers", "0,2,4"), learn("alone", "--keep-layers", "0,2,4", "--loss", "ce=1")
check("3 of 5 layers: the teacher's word is worth more than the text's", taught[0] < 0.9 * alone[0], f"KL {alone[0]:.3f} -> {taught[0]:.3f}, ppl x{alone[1]:.3f} -> x{taught[1]:.3f}, {steps} steps")
calib = ["--calib", f"{out}/train.txt", "--calib-windows", 32]
for name, share, a in (("2 of 5 layers dropped", 0.8, ["--pattern", "layers", "--stay", 3]), ("2:4", 0.9, ["--method", "sparsegpt", "--pattern", "2:4"]), ("a quarter of the FFN", 0.9, ["--pattern", "ffn", "--stay", 128])):
    must("prune", teacher, "-o", f"{out}/hurt", "--force", *calib, *a)
    before, after = kl(f"{out}/hurt"), learn("healed", "--student", f"{out}/hurt", "--force")
    check(f"{name}: healed", after[0] < share * before[0], f"KL {before[0]:.3f} -> {after[0]:.3f}, ppl x{before[1]:.3f} -> x{after[1]:.3f}, {steps} steps")
    if name != "2:4": continue
    zeros = [load_file(f"{out}/{m}/model.safetensors") for m in ("hurt", "healed")]
    check("2:4: the same zeros", all(((zeros[1][k] == 0) == (v == 0)).all() for k, v in zeros[0].items() if v.ndim == 2 and (v == 0).mean() > 0.4))
finish()
