# SPDX-License-Identifier: Apache-2.0
"""The compact layout (docs/formats.md), decoded here with numpy from the description alone.

usage: sparse.py PARE MODELS TEXT OUTDIR     (MODELS holds stories260k/)

Every pruned layer against the folder in which zeros are stored, bit for bit; sizes; back to an ordinary file; the same
bytes at 1 and 2 threads; the two models' outputs; files with a broken index, mask or offset, refused by name. Prints a
line per check; exit 1 on a failure."""
import json, os, re, shutil, struct, subprocess, sys
import numpy as np
from safetensors.numpy import load_file
from checks import check, finish

pare, models, text, out = sys.argv[1:5]
src = f"{models}/stories260k"
shutil.rmtree(out, ignore_errors=True)
os.makedirs(out)


def run(*a):
    return subprocess.run([pare, *map(str, a)], capture_output=True, text=True)


def must(*a):
    r = run(*a)
    if r.returncode: sys.exit(f"pare {' '.join(map(str, a))}: exit {r.returncode}: {r.stderr}")
    return r.stdout


def decode(t, m):
    """The weights or codes of module m, zeros included, from the parts that a compact file has."""
    rows, cols, run_ = (int(v) for v in t[m + ".weight_shape"])
    values = t[m + ".weight_values"]
    nibbles = values.dtype == np.uint8
    if run_ == 0:  # two 2-bit indexes per four columns, low bits first
        place = t[m + ".weight_index"]
        four = np.stack([place & 15, place >> 4], -1).reshape(rows, -1)[:, :cols // 4]
        assert (four & 3 < four >> 2).all()
        kept = np.zeros((rows, cols // 4, 4), bool)
        np.put_along_axis(kept, np.stack([four & 3, four >> 2], -1).astype(np.int64), True, -1)
        kept = kept.reshape(rows, cols)
        begin = np.arange(rows + 1) * values.nbytes // rows
    else:  # a bit per run, low bits first; byte offsets of the rows
        bits = np.unpackbits(t[m + ".weight_mask"], axis=1, bitorder="little")
        assert not bits[:, cols // run_:].any()
        kept = np.repeat(bits[:, :cols // run_], run_, axis=1).astype(bool)
        begin = t[m + ".weight_row_offsets"]
        assert begin[0] == 0 and begin[-1] == values.nbytes
    flat = values.reshape(-1).view(np.uint8)
    w = np.zeros((rows, cols), np.int8 if nibbles else values.dtype)
    for r in range(rows):
        row = flat[begin[r]:begin[r + 1]]
        if nibbles: row = (np.stack([row & 15, row >> 4], -1).reshape(-1).astype(np.int8) - 8)[:kept[r].sum()]
        w[r, kept[r]] = row if nibbles else row.view(values.dtype)
    return w


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def dense_codes(t, m):
    """The same from the folder in which zeros are stored."""
    if m + ".weight_packed" not in t: return t[m + ".weight"]
    words = t[m + ".weight_packed"].view(np.uint32)
    q = (words[:, :, None] >> (4 * np.arange(8, dtype=np.uint32)) & 15).reshape(words.shape[0], -1)
    return (q[:, :t[m + ".weight_shape"][1]].astype(np.int8) - 8).astype(np.int8)


calib = ["--calib", text, "--calib-ctx", 64, "--calib-windows", 4]
CASES = {
    "2of4": ["--method", "magnitude", "--pattern", "2:4"],
    "half": ["--method", "magnitude", "--sparsity", "0.5"],
    "block": ["--method", "magnitude", "--pattern", "block", "--sparsity", "0.5"],
    "wide": ["--method", "magnitude", "--pattern", "block:1x16", "--sparsity", "0.5", "--keep", "down_proj"],
    "int8-2of4": ["--method", "sparsegpt", "--pattern", "2:4", "--to", "int8", *calib],
    "int4-2of4": ["--method", "sparsegpt", "--pattern", "2:4", "--to", "int4:g32", *calib],
    "int4-most": ["--method", "sparsegpt", "--sparsity", "0.7", "--to", "int4:g32", *calib],
    "int8-block": ["--method", "sparsegpt", "--pattern", "block:1x4", "--sparsity", "0.5", "--to", "int8", *calib],
}
for name, args in CASES.items():
    dense, small, back = (f"{out}/{name}{tail}" for tail in ("", "-compact", "-back"))
    must("prune", src, "-o", dense, *args, "--quiet")
    report = must("prune", src, "-o", small, *args, "--layout", "compact", "--threads", 1)
    must("prune", src, "-o", small + "2", *args, "--layout", "compact", "--threads", 2, "--quiet")
    a, b = load_file(dense + "/model.safetensors"), load_file(small + "/model.safetensors")
    layers = [k[:-len(".weight_values")] for k in b if k.endswith(".weight_values")]
    ok = len(layers) >= 30 and all(same(dense_codes(a, m), decode(b, m)) for m in layers)
    scales = all(same(a[m + ".weight_scale"], b[m + ".weight_scale"]) for m in layers if m + ".weight_scale" in b)
    rest = all(same(a[k], b[k]) for k in a if k in b and not k.endswith("weight_shape"))
    parts = {"weight_values", "weight_index", "weight_mask", "weight_row_offsets", "weight_shape"}
    stored = sum(b[f"{m}.{p}"].nbytes for m in layers for p in parts if f"{m}.{p}" in b)
    codes = {m: dense_codes(a, m) for m in layers}
    zeros, weights = sum((c == 0).sum() for c in codes.values()), sum(c.size for c in codes.values())
    full = sum(c.nbytes / (2 if m + ".weight_packed" in a else 1) for m, c in codes.items())
    check(f"{name}: {len(layers)} layers decoded by numpy are the dense ones", ok and scales and rest,
          f"{stored / full:.4f} of the bytes with {zeros / weights:.2%} zeros")
    if name == "int8-2of4": # 24 bytes of shape per layer on top
        check("int8 2:4 takes 0.625 of dense int8", stored - 24 * len(layers) == sum(c.shape[0] * (-(-c.shape[1] // 8) + c.shape[1] // 2) for c in codes.values())
              and stored < 0.64 * full)
    check(f"{name}: the same bytes at 1 and 2 threads", open(small + "/model.safetensors", "rb").read() == open(small + "2/model.safetensors", "rb").read())
    check(f"{name}: the report has the numbers", re.search(r"zeros are left out of \d+ of \d+ linear matrices: \d+ bytes instead of \d+", report) is not None
          and "one token through" in report)
    must("convert", small, "-o", back, "--quiet")
    c = load_file(back + "/model.safetensors")
    check(f"{name}: convert stores the zeros again", a.keys() == c.keys() and all(same(a[k], c[k]) for k in a)
          and "pare-sparse" not in open(back + "/config.json").read())
    r = run("verify", dense, small, "--data", text, "--windows", 2, "--ctx", 64, "--max-kl", "1e-6", "--json", f"{out}/v.json")
    check(f"{name}: the same outputs", r.returncode == 0, r.stderr.strip()[:200])

# a lone file, from a dense one, and from there to GGUF
must("convert", f"{out}/half", "-o", f"{out}/half.safetensors", "--layout", "compact", "--quiet")
lone = load_file(f"{out}/half.safetensors")
check("a lone .safetensors file is the folder's", lone.keys() == load_file(f"{out}/half-compact/model.safetensors").keys())
os.makedirs(f"{out}/same")
shutil.copytree(f"{out}/half-compact", f"{out}/same/half")  # general.name is the folder's
must("convert", f"{out}/same/half", "-o", f"{out}/half.gguf", "--quiet")
must("convert", f"{out}/half", "-o", f"{out}/half-dense.gguf", "--quiet")
check("GGUF from a compact folder is that from the dense one", open(f"{out}/half.gguf", "rb").read() == open(f"{out}/half-dense.gguf", "rb").read())
r = run("convert", f"{out}/half", "-o", f"{out}/no.gguf", "--layout", "compact")
check("GGUF has no compact layout", r.returncode == 2 and "--layout" in r.stderr, r.stderr.strip()[:120])
r = run("prune", f"{out}/half-compact", "-o", f"{out}/no", *CASES["2of4"])
check("pruning what has lost its zeros is refused, with the way out", r.returncode == 2 and "pare convert" in r.stderr, r.stderr.strip()[:160])


# ---- broken files ----
def broken(name, tensor, change, word):
    """A compact folder with some bytes of one tensor changed: refused, the tensor named."""
    d = f"{out}/broken"
    shutil.rmtree(d, ignore_errors=True)
    shutil.copytree(f"{out}/{name}-compact", d)
    with open(d + "/model.safetensors", "r+b") as f:
        n = struct.unpack("<Q", f.read(8))[0]
        head = json.loads(f.read(n))
        full = next(k for k in sorted(head) if k.endswith(tensor))
        begin, end = head[full]["data_offsets"]
        f.seek(8 + n + begin)
        data = bytearray(f.read(end - begin))
        change(data)
        f.seek(8 + n + begin)
        f.write(data)
    r = run("inspect", d)
    check(f"{tensor}: {word}", r.returncode == 3 and full.rsplit(".", 1)[0] in r.stderr and word in r.stderr, r.stderr.strip()[:160])


def put(at, v):
    def change(data): data[at] = v
    return change


def put64(at, v):
    def change(data): data[8 * at:8 * at + 8] = struct.pack("<q", v)
    return change


broken("2of4", "weight_index", put(3, 0x44 & 0xF0 | 5), "must ascend")
broken("2of4", "weight_shape", put64(1, 66), "whole number of runs")
broken("2of4", "weight_shape", put64(0, -1), "rows and columns")
broken("2of4", "weight_shape", put64(2, 3), "third number")
broken("2of4", "weight_shape", put64(0, 63), "expected")
broken("half", "weight_mask", lambda d: d.__setitem__(0, d[0] ^ 1), "the masks before it make it")
broken("half", "weight_row_offsets", put64(1, 1 << 40), "the masks before it make it")
broken("half", "weight_row_offsets", put64(0, -8), "the masks before it make it")
broken("int4-most", "weight_shape", put64(1, 1 << 33), "rows and columns")
finish()
