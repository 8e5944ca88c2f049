# SPDX-License-Identifier: Apache-2.0
"""Importance matrices against llama.cpp: llama-imatrix on the same tokens, llama-quantize with pare's files.

usage: peer_imatrix.py PARE MODELS OUTDIR     (LLAMA_BIN: folder of llama-imatrix and llama-quantize)"""
import os, shutil, subprocess, sys
import gguf
import numpy as np
from checks import check, finish

pare, models, out = sys.argv[1:4]
bin_, G = os.environ["LLAMA_BIN"], f"{models}/stories260k/stories260k-f32.gguf"
shutil.rmtree(out, ignore_errors=True)
os.makedirs(out)


def must(*a):
    r = subprocess.run([*map(str, a)], capture_output=True, text=True)
    if r.returncode: sys.exit(f"{' '.join(map(str, a))}: exit {r.returncode}: {r.stderr[-2000:]}")
    return r.stdout + r.stderr


def means(path):
    t = {x.name: np.array(x.data, np.float64).ravel() for x in gguf.GGUFReader(path).tensors}
    return {n[:-8]: (t[n] / t[n[:-8] + ".counts"][0], t[n[:-8] + ".counts"][0]) for n in t if n.endswith(".in_sum2")}


rng = np.random.default_rng(3)
words = "once upon a time there was little girl named Lily who liked to play in the park with her dog and one day they saw big red ball".split()
open(f"{out}/text", "w").write(" ".join(rng.choice(words, 6000)))
job = [pare, "quantize", G, "--to", "q4_0", "--method", "search", "--calib", f"{out}/text", "--calib-windows", 7, "--quiet"]
for f in ("pare.gguf", "pare.dat"): must(*job, "-o", f"{out}/{f}.q.gguf", "--save-imatrix", f"{out}/{f}")
for f in ("peer.gguf", "peer.dat"): # one sequence at a time and f32 caches: otherwise f16 keys are what differs
    must(f"{bin_}/llama-imatrix", "-m", G, "-f", f"{out}/text", "-o", f"{out}/{f}", "-c", 512, "-b", 512, "--chunks", 7, "-ctk", "f32", "-ctv", "f32",
         "-fa", "off", "--no-ppl", "-t", 2, *(["--output-format", "dat"] if f.endswith(".dat") else []))
a, b = means(f"{out}/peer.gguf"), means(f"{out}/pare.gguf")
check("pare's file has every layer of llama-imatrix's", set(a) <= set(b), len(a))
check("on as many tokens", all(a[k][1] == b[k][1] for k in a))
worst = max((np.abs(a[k][0] - b[k][0]) / (a[k][0] + 1e-9 * a[k][0].max())).max() for k in a)
check("mean squares are equal", worst < 1e-4, f"relative difference {worst:.1e}")
q = {}
for f in ("pare.gguf", "pare.dat", "peer.gguf"):
    said = must(f"{bin_}/llama-quantize", "--imatrix", f"{out}/{f}", G, f"{out}/{f}.lq.gguf", "Q4_0")
    if f != "peer.gguf": check(f"llama-quantize takes {f}", "importance matrix entries" in said and "did not find weights" not in said)
    q[f] = {t.name: np.array(t.data) for t in gguf.GGUFReader(f"{out}/{f}.lq.gguf").tensors}
for f in ("pare.gguf", "pare.dat"):
    part = np.mean([(q[f][k] == q["peer.gguf"][k]).mean() for k in a])
    check(f"and with {f} makes the matrices that it makes with its own", part > 0.99, f"{100 * part:.3f} % of bytes")
made = {}
for f in ("peer.gguf", "peer.dat", "pare.gguf"):
    must(pare, "quantize", G, "--to", "q4_0", "--imatrix", f"{out}/{f}", "-o", f"{out}/by-{f}", "--quiet", "--format", "gguf", "--force")
    made[f] = {t.name: np.array(t.data) for t in gguf.GGUFReader(f"{out}/by-{f}").tensors}
for f in ("peer.dat", "pare.gguf"):
    part = np.mean([(made[f][k] == made["peer.gguf"][k]).mean() for k in a])
    check(f"pare quantizes with {f} as with peer.gguf", part > 0.99, f"{100 * part:.3f} % of bytes")
finish()
