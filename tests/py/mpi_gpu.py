# SPDX-License-Identifier: Apache-2.0
"""`pare distill --device cuda` under mpirun on emulated GPUs, NCCL emulated between them: the bytes of one process, in steps
that go round evenly and not, with zeros that stay, layer by layer, and going on with another number of processes; without NCCL
through the host's memory, with the same bytes again.

usage: mpi_gpu.py PARE PLUGIN NCCL TEACHER TEXT OUTDIR"""
import json, os, subprocess, sys
from checks import check, finish, fresh, interrupt

pare, plugin, nccl, teacher, text, out = sys.argv[1:7]
fresh(out)
train = f"{out}/train.txt"
open(train, "wb").write(open(text, "rb").read()[:6000])
base = {**os.environ, "PARE_PLUGIN_CUDA": os.path.abspath(plugin), "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMPI_MCA_mpi_yield_when_idle": "1"}
with_nccl = {**base, "PARE_NCCL": os.path.abspath(nccl)}


def line(n, o, *a):
    run = ["mpirun", "--oversubscribe", "-n", n] * (n > 1)
    return list(map(str, [*run, pare, "distill", "--teacher", teacher, "--data", train, "--ctx", 8, "--batch", 4, "--loss", "ce", "--micro", 1, "--lr", "2e-3",
                          "--eval-windows", 1, "--steps", 2, "--threads", 1, "--device", "cuda", "-o", f"{out}/{o}", "--json", f"{out}/{o}.json", *a]))


def go(n, o, *a, env=with_nccl):
    return subprocess.run(line(n, o, *a), capture_output=True, text=True, env=env, timeout=120)


def must(n, o, *a, env=with_nccl):
    r = go(n, o, *a, env=env)
    if r.returncode: sys.exit(f"{r.args}: exit {r.returncode}: {r.stderr}")
    return r.stderr, json.load(open(f"{out}/{o}.json"))


def same(a, b):
    files = [[f"{out}/{o}/{f}" for f in sorted(os.listdir(f"{out}/{o}"))] if os.path.isdir(f"{out}/{o}") else [f"{out}/{o}"] for o in (a, b)]
    return [open(f, "rb").read() for f in files[0]] == [open(f, "rb").read() for f in files[1]]


cut = ["--keep-layers", 0]
must(1, "1.gguf", *cut)
for n in (2, 3):  # 4 passes do not go round 3 processes
    said, r = must(n, f"{n}.gguf", *cut)
    check(f"{n} processes: the bytes of one, gradients from device to device",
          same("1.gguf", f"{n}.gguf") and same("1.gguf.json", f"{n}.gguf.json") and r["resident"] and f"from device to device ({n} " in said)
wrong, _ = must(2, "wrong.gguf", *cut, env={**with_nccl, "PARE_NCCL_FAULT": "order"})
check("a NCCL that mixes processes up would be seen", not same("1.gguf", "wrong.gguf"))

subprocess.run([pare, "prune", teacher, "-o", f"{out}/pruned", "--method", "magnitude", "--pattern", "2:4", "--quiet"], check=True)
for name, more in (("zeros", ["--student", f"{out}/pruned", "--ema", 0.5, "--loss", "kl", "--steps", 1]), ("sgd", [*cut, "--optimizer", "sgd", "--lr", "1e-2"]),
                   ("blocks", ["--keep-layers", "0-1", "--blockwise", "--loss", "hidden"])):
    pair = [must(n, f"{name}{n}", *more)[1] for n in (1, 2)]
    check(f"{name}: the bytes of one process", same(f"{name}1", f"{name}2") and all(r["resident"] for r in pair))

# ---- where devices cannot do it alone ----
for what, env, words in (("without NCCL", base, "libnccl.so.2 cannot be loaded"), ("a file that is no NCCL", {**base, "PARE_NCCL": os.path.abspath(plugin)}, "is no NCCL"),
                         ("one GPU for two", {**with_nccl, "PARE_NCCL_FAULT": "join"}, "invalid usage")):
    said, r = must(2, "host.gguf", *cut, "--force", env=env)
    check(f"{what}: through the host's memory, the same bytes", words in said and not r["resident"] and same("1.gguf", "host.gguf"),
          " ".join(l for l in said.splitlines() if "host's memory" in l)[-110:])
r = go(2, "never.gguf", *cut, env={**with_nccl, "PARE_NCCL_FAULT": "gather"})
check("an exchange that fails ends all", r.returncode not in (0, None) and "gradients cannot be exchanged" in r.stderr and not os.path.exists(f"{out}/never.gguf"),
      f"{r.returncode}")

# ---- interrupted, and gone on with one process ----
long = [*cut, "--steps", 12]
must(1, "whole.gguf", *long)
interrupt(line(2, "part.gguf", *long, "--save-every", 1), f"{out}/part.gguf", with_nccl)  # the exit status is mpirun's
kept = os.path.exists(f"{out}/part.gguf.pare-train")
r = go(1, "part.gguf", *long)
check("interrupted and gone on by one process", kept and "by earlier runs" in r.stdout and same("whole.gguf", "part.gguf"))
check("nothing is left behind", not [f for f in os.listdir(out) if "pare-" in f or "tmp" in f] and not [f for f in os.listdir("/tmp") if f.startswith("pare-nccl-emu")])
finish()
