# SPDX-License-Identifier: Apache-2.0
"""Sensitivity of layers, and pruning to a size or to a quality, through files and the command line.

usage: goals.py PARE MODELS TEXT OUTDIR     (MODELS holds stories260k/)

A point of the scan is made again as a file and measured by `pare verify` on the same windows; written sizes are looked up
on disk. Prints a line per check; exit 1 on a failure."""
import json, os, shutil, subprocess, sys
import xml.etree.ElementTree as ET
import numpy as np
from checks import check, finish

pare, models, text, out = sys.argv[1:5]
src = f"{models}/stories260k"
shutil.rmtree(out, ignore_errors=True)
os.makedirs(out)


def run(cmd, *a): return subprocess.run([pare, cmd, *map(str, a)], capture_output=True, text=True)


def must(cmd, *a):
    r = run(cmd, *a, "--quiet")
    if r.returncode: sys.exit(f"pare {cmd} {' '.join(map(str, a))}: exit {r.returncode}: {r.stderr}")


def size(p): return sum(os.path.getsize(f"{p}/{f}") for f in os.listdir(p)) if os.path.isdir(p) else os.path.getsize(p)


def kl(model, *a):
    must("verify", src, model, "--json", f"{out}/v.json", *a)
    return json.load(open(f"{out}/v.json"))["metrics"]["kl_mean"]["value"]


calib = ["--calib", text, "--calib-windows", 16, "--calib-ctx", 128]

# ---- sensitivity ----
must("prune", src, "--sensitivity", "--method", "sparsegpt", "--pattern", "unstructured,2:4,ffn,heads,layers", "--amounts", "0.2,0.4,0.6,0.8", *calib, "--json", f"{out}/s.json", "--svg", f"{out}/s.svg")
S = {s["pattern"]: s for s in json.load(open(f"{out}/s.json"))["sensitivity"]}
check("all patterns are there", list(S) == ["unstructured", "2:4", "ffn", "heads", "layers"] and [len(s["amounts"]) for s in S.values()] == [4, 1, 4, 4, 1])
check("every layer has a loss above 0 for every amount", all(len(s["layers"]) == 5 and all(len(l["loss"]) == len(s["amounts"]) and min(l["loss"]) > 0 for l in s["layers"]) for s in S.values()))
for p in ("unstructured", "ffn", "heads"):
    L = np.array([l["loss"] for l in S[p]["layers"]])
    check(f"{p}: the loss grows with the amount, on average and nearly everywhere", (np.diff(L.mean(0)) >= 0).all() and L.mean(0)[-1] > 2 * L.mean(0)[0] and (np.diff(L, axis=1) >= 0).mean() > 0.85, np.round(L.mean(0), 4))
    check(f"{p}: the layers differ", L[:, 1].max() > 1.15 * L[:, 1].min())
check("a whole layer costs more than a fifth of its zeros", all(a["loss"][0] > b["loss"][0] for a, b in zip(S["layers"]["layers"], S["unstructured"]["layers"])))
svg = ET.parse(f"{out}/s.svg").getroot()
lines = [e for e in svg.iter() if e.tag.endswith("polyline")]
check("the picture has a line for every pattern and amount, a point for every layer", len(lines) == 14 and all(len(l.get("points").split()) == 5 for l in lines))
r = run("prune", src, "--sensitivity", "--method", "magnitude", "--keep", r"layers\.2\.", "--json", "-", "--quiet")
kept = json.loads(r.stdout)["sensitivity"][0]["layers"]
check("a layer that is kept has no loss", [len(l["loss"]) for l in kept] == [3, 3, 0, 3, 3] and kept[2]["weights"] == 0)
# One point again, as a file: layer 3 alone at 0.5, on the windows that the scan takes (its first 4 of 128 tokens).
others = [x for l in (0, 1, 2, 4) for x in ("--keep", rf"layers\.{l}\.")]
must("prune", src, "-o", f"{out}/one", "--method", "magnitude", "--sparsity", 0.5, *others)
r = run("prune", src, "--sensitivity", "--method", "magnitude", "--amounts", "0.5", "--calib-ctx", 128, "--json", "-", "--quiet")
check("a criterion without data takes no --calib", r.returncode == 2 and "looks at no data" in r.stderr, r.stderr.strip())
r = run("prune", src, "--sensitivity", "--method", "magnitude", "--amounts", "0.5", "--json", "-", "--quiet")
point = json.loads(r.stdout)["sensitivity"][0]["layers"][3]["loss"][0]
there = kl(f"{out}/one", "--data", "calib/data/" + sorted(os.listdir("calib/data"))[0], "--ctx", 256, "--windows", 4)
check("a point of the scan is what a file with that layer pruned loses", abs(point - there) < 1e-4 * there, f"{point:.6f}, {there:.6f}")

# ---- fit ----
for name, goal, a in (("f.gguf", 300000, ["--pattern", "ffn", "--to", "q8_0"]), ("f", 800000, ["--pattern", "layers"]), ("h.gguf", 1000000, ["--pattern", "heads"]), ("d.gguf", 900000, ["--pattern", "hidden"])):
    r = run("prune", src, "-o", f"{out}/{name}", "--fit", goal, *calib, *a, "--json", f"{out}/fit.json")
    j = json.load(open(f"{out}/fit.json"))
    got, said = size(f"{out}/{name}"), j["choice"]["expected_bytes"]
    check(f"--fit {goal} with {a[1]}: {j['choice']['text']}", r.returncode == 0 and got <= goal and abs(got - said) < 0.01 * got + 2000, f"{got} bytes, {said} expected")
must("prune", src, "-o", f"{out}/f0.gguf", "--pattern", "ffn", "--stay", 160, "--to", "q8_0", *calib)
must("prune", src, "-o", f"{out}/f1.gguf", "--fit", size(f"{out}/f0.gguf"), "--pattern", "ffn", "--to", "q8_0", *calib, "--json", f"{out}/fit.json")
check("no more goes than it takes", json.load(open(f"{out}/fit.json"))["choice"]["text"].startswith("160 of"))
r = run("prune", src, "-o", f"{out}/p", "--fit", "75%", "--pattern", "layers", *calib, "--json", f"{out}/fit.json")
check("a share of the model's size", r.returncode == 0 and size(f"{out}/p") <= json.load(open(f"{out}/fit.json"))["choice"]["fit_bytes"], r.stderr[-200:])

r = run("prune", src, "-o", f"{out}/c", "--fit", "900KB", "--method", "magnitude", "--layout", "compact", "--json", f"{out}/fit.json", "--verify-windows", 4)
j = json.load(open(f"{out}/fit.json"))
step = int(j["choice"]["text"].split()[0])
check(f"--fit 900KB in the compact layout: {j['choice']['text']}", r.returncode == 0 and size(f"{out}/c") <= 900000 and 10 < step < 80, size(f"{out}/c"))

# ---- quality ----
for name, limit, a in (("u", 0.3, ["--method", "wanda", *calib]), ("n", 0.9, ["--method", "magnitude", "--pattern", "2:4"]), ("w", 0.4, ["--pattern", "ffn", *calib])):
    r = run("prune", src, "-o", f"{out}/{name}", "--max-kl", limit, *a, "--verify-windows", 8, "--json", f"{out}/q.json")
    j = json.load(open(f"{out}/q.json"))
    found = kl(f"{out}/{name}", "--windows", 8)
    check(f"--max-kl {limit}: {j['choice']['text']}", r.returncode == 0 and found <= limit and abs(found - j["choice"]["kl"]) < 1e-9 and j["choice"]["evaluations"] <= 7, f"{found:.4f}, {j['choice']['evaluations']} models")
    if name == "u":
        used = sum(1 for t in j["plan"] if t.get("zeros")), {round(t["sparsity"], 3) for t in j["plan"] if "sparsity" in t}
        check("layers get different shares", len(used[1]) == 5, used[1])
        mean = sum(t["zeros"] for t in j["plan"] if "zeros" in t) / sum(t["weights"] for t in j["plan"] if "zeros" in t)
        must("prune", src, "-o", f"{out}/same", "--method", "wanda", *calib, "--sparsity", mean)
        plain = kl(f"{out}/same", "--windows", 8)
        check("and lose no more than as many zeros in every layer", found < 1.02 * plain, f"{found:.4f}, {plain:.4f} at {mean:.3f}")
check("no candidate is left behind", not [f for f in os.listdir(out) if "search" in f or "candidate" in f], os.listdir(out))


def refused(what, status, says, *a):
    r = run("prune", src, *a, "--quiet")
    line = r.stderr.strip().split("\n")
    check(f"refused: {what}", r.returncode == status and says in r.stderr and len(line) == 1 and not os.path.exists(f"{out}/x"), r.stderr.strip()[-200:])


x = ["-o", f"{out}/x"]
refused("a quality that cannot be", 1, "cannot be reached", *x, "--pattern", "ffn", "--max-kl", 1e-9, *calib)
refused("a size that cannot be", 1, "cannot be reached", *x, "--pattern", "ffn", "--fit", "100KB", *calib)
os.makedirs(f"{out}/x.pare-search"), open(f"{out}/x.pare-search/mine", "w").write("mine")
refused("a folder of somebody's at the place of the search", 2, "not of a search", *x, "--pattern", "ffn", "--max-kl", 0.5, *calib)
check("it is left alone", os.path.exists(f"{out}/x.pare-search/mine"))
refused("a size that it has already", 2, "nothing has to go", *x, "--pattern", "ffn", "--fit", "2MB", *calib)
r = run("prune", f"{out}/absent", "-o", f"{out}/y")
check("refused: a model that is not there, before what else is missing", r.returncode == 3 and "No such file" in r.stderr, r.stderr)
refused("zeros to fit", 2, "zeros are stored", *x, "--method", "wanda", "--fit", "500KB", *calib)
refused("an amount beside a goal", 2, "--sparsity", *x, "--method", "wanda", "--sparsity", 0.5, "--max-kl", 0.1, *calib)
refused("a size that is none", 2, "--fit", *x, "--pattern", "ffn", "--fit", "small")
refused("amounts that do not rise", 2, "rising", "--sensitivity", "--method", "magnitude", "--amounts", "0.5,0.2")
refused("amounts that are none", 2, "--amounts", "--sensitivity", "--method", "magnitude", "--amounts", "half")
refused("channels, layer by layer", 2, "residual stream", "--sensitivity", "--pattern", "hidden")
refused("an existing output, before the search", 2, "--force", "-o", f"{out}/u", "--method", "wanda", "--max-kl", 0.1, *calib)
finish()
