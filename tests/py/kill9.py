# SPDX-License-Identifier: Apache-2.0
"""kill -9 at moments spread over a run: the output's name must hold nothing, the old output, or the whole new one.

usage: kill9.py PARE WORKDIR [--mb SIZE] [--kills N]
SIZE is what each run writes at least. Runs: a file, a folder, and both with --force over an older output, by quantize and
by convert. Before the kills each run is done once undisturbed; outputs are the same bytes at every run, so a whole output is
told by its hash. At the end a run to the same name must remove what the killed ones left beside it."""
import argparse, hashlib, json, os, random, shutil, signal, subprocess, sys, time
import gguf
import numpy as np
from safetensors.numpy import save_file

ap = argparse.ArgumentParser()
ap.add_argument("pare"), ap.add_argument("work")
ap.add_argument("--mb", type=float, default=520)
ap.add_argument("--kills", type=int, default=50)
args = ap.parse_args()
work = args.work
shutil.rmtree(work, ignore_errors=True)
os.makedirs(work)
rng = np.random.default_rng(3)


def model(path, bytes_wanted, seed):
    """f16 matrices of no known architecture: a folder, and the same as a GGUF file."""
    os.makedirs(path)
    rows, cols = 1024, 1024
    base = (np.random.default_rng(seed).standard_normal((rows, cols)) * 0.05).astype(np.float16)
    n = int(bytes_wanted / base.nbytes) + 1
    save_file({f"blocks.{i}.weight": np.roll(base, i, 0) for i in range(n)}, f"{path}/model.safetensors", metadata={"format": "pt"})
    json.dump({"model_type": "none"}, open(f"{path}/config.json", "w"))
    w = gguf.GGUFWriter(f"{path}.gguf", "none")
    for i in range(n): w.add_tensor(f"blocks.{i}.weight", np.roll(base, i, 0))
    w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file(), w.close()


mb = args.mb * 1e6
model(f"{work}/large", 2.0 * mb, 1), model(f"{work}/medium", mb, 1), model(f"{work}/small", 4e6, 2)
# name, output, command line without MODEL and -o, input
runs = [("file", "q8.gguf", ["quantize", "--to", "q8_0"], "large"), ("folder", "int8", ["quantize", "--to", "int8"], "large"),
        ("convert folder", "copy", ["convert", "--max-shard-size", "100MB"], "medium"),
        ("convert file", "copy.gguf", ["convert"], "medium")]


def command(run, model_name, force):
    ending = ".gguf" if run[1].endswith(".gguf") else ""
    return [args.pare, run[2][0], f"{work}/{model_name}{ending}", "-o", f"{work}/out/{run[1]}", *run[2][1:], "--quiet", *(["--force"] if force else [])]


def state(path):
    """Hash of a file, or of all files of a folder with their names; None when there is nothing."""
    if not os.path.lexists(path): return None
    files = [path] if os.path.isfile(path) else sorted(os.path.join(d, f) for d, _, fs in os.walk(path) for f in fs)
    h = hashlib.sha256()
    for f in files:
        h.update(os.path.relpath(f, path).encode())
        with open(f, "rb") as s:
            while piece := s.read(1 << 24): h.update(piece)
    return h.hexdigest()


def clear(path):
    if os.path.isdir(path): shutil.rmtree(path)
    elif os.path.lexists(path): os.unlink(path)


os.makedirs(f"{work}/out")
truth = {}
for run in runs:
    out = f"{work}/out/{run[1]}"
    subprocess.run(command(run, "small", False), check=True)
    old = state(out)
    t0 = time.time()
    subprocess.run(command(run, run[3], True), check=True)
    took = time.time() - t0
    size = sum(os.path.getsize(os.path.join(d, f)) for d, _, fs in os.walk(out) for f in fs) if os.path.isdir(out) else os.path.getsize(out)
    assert size >= mb, (run[0], size)
    truth[run[0]] = (old, state(out), took)
    print(f"{run[0]}: {size / 1e6:.0f} MB in {took:.2f} s")
    clear(out)
assert sorted(os.listdir(f"{work}/out")) == [], os.listdir(f"{work}/out")

count = {"nothing": 0, "old": 0, "new": 0}
left, bad = 0, 0
random.seed(5)
for k in range(args.kills):
    run, force = runs[k % len(runs)], k // len(runs) % 2 == 1
    old, new, took = truth[run[0]]
    out = f"{work}/out/{run[1]}"
    clear(out)
    if force: subprocess.run(command(run, "small", False), check=True)
    wait = took * 1.15 * (k + random.random()) / args.kills if k % 3 else took * random.uniform(0.6, 1.1)
    p = subprocess.Popen(command(run, run[3], force), stderr=subprocess.DEVNULL)
    time.sleep(wait)
    p.send_signal(signal.SIGKILL)
    p.wait()
    got = state(out)
    word = "new" if got == new else "old" if got == old and force else "nothing" if got is None and not force else None
    left += any(".pare-" in f for f in os.listdir(f"{work}/out"))
    if word is None:
        bad += 1
        print(f"kill {k}: {run[0]}{' --force' if force else ''} after {wait:.2f} s: WRONG content under {out}: {got}")
    else: count[word] += 1
for run in runs:  # a last run cleans up
    subprocess.run(command(run, "small", True), check=True)
names = sorted(os.listdir(f"{work}/out"))
print(f"{args.kills} kills: {count}, temporaries lay beside the output after {left}, {bad} wrong")
if names != sorted(r[1] for r in runs): print("left behind:", names)
assert bad == 0 and names == sorted(r[1] for r in runs)
assert count["nothing"] and count["old"], "no kill hit a run that was under way: check the timing"
shutil.rmtree(work)
