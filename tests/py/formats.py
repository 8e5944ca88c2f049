# SPDX-License-Identifier: Apache-2.0
"""Files of the gguf and safetensors packages read by pare, and files of pare read by those packages: names, types, shapes,
order, metadata and every byte. usage: formats.py MODEL_COPY OUTDIR"""
import json, os, shutil, subprocess, sys
import numpy as np
import gguf, safetensors
from safetensors import safe_open
from safetensors.numpy import load_file

tool, out = sys.argv[1:3]
shutil.rmtree(out, ignore_errors=True)
os.makedirs(out)
rng = np.random.default_rng(7)
checked = 0


def dump(path):
    """What pare sees: name -> (type, shape, bytes), in file order."""
    raw = f"{out}/raw.bin"
    r = subprocess.run([tool, "dump", path, raw], capture_output=True, text=True)
    assert r.returncode == 0, (path, r.stderr)
    data, seen, at = open(raw, "rb").read(), {}, 0
    for line in r.stdout.splitlines():
        name, typ, shape, n = line.split("\t")
        seen[name] = (typ, tuple(map(int, shape.split(","))) if shape else (), data[at:at + int(n)])
        at += int(n)
    assert at == len(data)
    return seen


def copy(src, dst, kind, *more):
    r = subprocess.run([tool, "copy", src, dst, kind, *more], capture_output=True, text=True)
    assert r.returncode == 0, (src, dst, r.stderr)


def same(got, want, what):
    global checked
    assert list(got) == list(want) or sorted(got) == sorted(want), (what, list(got), list(want))
    for k in want:
        assert got[k] == want[k], f"{what}: {k}: {got[k][:2]} != {want[k][:2]}"
        checked += 1


def serialize(group, metadata=None):
    """The package's own writer, for any dtype: name -> (word, shape, bytes)."""
    if hasattr(safetensors, "TensorSpec"):
        hold = {k: np.frombuffer(d or b"\0", np.uint8) for k, (_, _, d) in group.items()}
        spec = {k: safetensors.TensorSpec(dtype=w, shape=list(s), data_ptr=hold[k].ctypes.data, data_len=len(d)) for k, (w, s, d) in group.items()}
    else: spec = {k: {"dtype": w, "shape": list(s), "data": d} for k, (w, s, d) in group.items()}
    return bytes(safetensors.serialize(spec, metadata=metadata))


# ---- safetensors: every dtype the package knows x shapes, scalars and empty tensors among them
words = {"float64": ("f64", 8), "float32": ("f32", 4), "float16": ("f16", 2), "bfloat16": ("bf16", 2), "float8_e4m3fn": ("f8_e4m3", 1),
         "float8_e5m2": ("f8_e5m2", 1), "float8_e8m0fnu": ("f8_e8m0", 1), "int8": ("i8", 1), "int16": ("i16", 2), "int32": ("i32", 4),
         "int64": ("i64", 8), "uint8": ("u8", 1), "uint16": ("u16", 2), "uint32": ("u32", 4), "uint64": ("u64", 8), "bool": ("bool", 1)}
shapes = [(), (1,), (0,), (7,), (3, 5), (0, 4), (4, 0), (2, 3, 4), (1, 1, 1, 1, 3), (33, 65)]
tensors, want, unknown = {}, {}, []
for word, (name, size) in words.items():
    group = {}
    for i, shape in enumerate(shapes):
        n = int(np.prod(shape)) * size
        data = rng.integers(0, 2 if word == "bool" else 256, n, dtype=np.uint8).tobytes()
        group[f"{word}.{i} \u00e9\"\\"] = (name, shape, data)
    try:
        serialize({k: (word, s, d) for k, (_, s, d) in group.items()})
    except Exception:  # an older package without this dtype
        unknown.append(word)
        continue
    tensors.update({k: (word, s, d) for k, (_, s, d) in group.items()})
    want.update(group)
assert len(unknown) <= 1, unknown
meta = {"format": "pt", "note": "caf\u00e9 \"quoted\"\n\\ \t", "empty": ""}
st = f"{out}/all.safetensors"
open(st, "wb").write(serialize(tensors, meta))
same(dump(st), want, "safetensors read")
for dst, kind, more in ((f"{out}/copy.safetensors", "safetensors", ()), (f"{out}/folder", "folder", ("0",)), (f"{out}/shards", "folder", ("20000",))):
    copy(st, dst, kind, *more)
    same(dump(dst), want, f"safetensors {kind} {more} read back")
    files = [dst] if kind == "safetensors" else sorted(f"{dst}/{f}" for f in os.listdir(dst) if f.endswith(".safetensors"))
    theirs = {}
    for f in files:
        with safe_open(f, "np") as s: assert s.metadata() == meta, s.metadata()
        theirs.update({k: (words[{"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn",
                                  "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu", "I8": "int8", "I16": "int16", "I32": "int32",
                                  "I64": "int64", "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64", "BOOL": "bool"}[v["dtype"]]][0],
                           tuple(v["shape"]), bytes(v["data"])) for k, v in safetensors.deserialize(open(f, "rb").read())})
    same(theirs, want, f"safetensors {kind} {more} read by the package")
    if more == ("20000",):
        index = json.load(open(f"{dst}/model.safetensors.index.json"))
        assert len(files) > 3 and sorted(index["weight_map"]) == sorted(want)
        assert index["metadata"]["total_size"] == sum(len(v[2]) for v in want.values())
        for k, f in index["weight_map"].items():
            with safe_open(f"{dst}/{f}", "np") as s: assert k in s.keys()

# ---- GGUF: every metadata type; plain types and every block format the package can write
T = gguf.GGMLQuantizationType
fields = {"g.u8": ("uint8", 200), "g.i8": ("int8", -3), "g.u16": ("uint16", 60000), "g.i16": ("int16", -30000), "g.u32": ("uint32", 4000000000),
          "g.i32": ("int32", -5), "g.f32": ("float32", 0.1), "g.u64": ("uint64", 2**64 - 1), "g.i64": ("int64", -2**63), "g.f64": ("float64", 1e300),
          "g.bool": ("bool", True), "g.str": ("string", "caf\u00e9\n"), "g.none": ("string", ""), "g.ints": ("array", [1, -2, 3]),
          "g.floats": ("array", [0.5, 1.5]), "g.strs": ("array", ["a", "", "b\u00e9"]), "g.bools": ("array", [True, False])}
for big in (False, True):
    path = f"{out}/all{big}.gguf"
    w = gguf.GGUFWriter(path, "llama")
    if big: w.add_custom_alignment(128)
    for k, (kind, v) in fields.items(): getattr(w, f"add_{kind}")(k, v)
    want = {}
    for np_type, name in ((np.float32, "f32"), (np.float16, "f16"), (np.float64, "f64"), (np.int8, "i8"), (np.int16, "i16"), (np.int32, "i32"), (np.int64, "i64")):
        for i, shape in enumerate([(1,), (5,), (3, 7), (2, 3, 4), (2, 1, 3, 4)]):
            a = rng.integers(-100, 100, shape).astype(np_type)
            w.add_tensor(f"{name}.{i}", a)
            want[f"{name}.{i}"] = (name, shape, a.tobytes())
    for t in (T.BF16, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.Q2_K, T.Q3_K, T.Q4_K, T.Q5_K, T.Q6_K, T.IQ4_NL, T.IQ4_XS, T.MXFP4, T.IQ2_XXS, T.IQ1_S, T.TQ1_0):
        elems, size = gguf.GGML_QUANT_SIZES[t]
        for i, rows in enumerate([(1,), (3,), (2, 3)]):
            a = rng.integers(0, 256, (*rows, 2 * size), dtype=np.uint8)
            w.add_tensor(f"{t.name}.{i}", a, raw_dtype=t)
            want[f"{t.name}.{i}"] = (t.name.lower(), (*rows, 2 * elems), a.tobytes())
    w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file(), w.close()
    same(dump(path), want, "GGUF read")
    mine = f"{out}/mine{big}.gguf"
    copy(path, mine, "gguf")
    same(dump(mine), want, "GGUF read back")
    theirs, ours = gguf.GGUFReader(path), gguf.GGUFReader(mine)
    keys = [k for k in theirs.fields if k != "general.alignment" and not k.startswith("GGUF.")]
    assert keys == [k for k in ours.fields if not k.startswith("GGUF.")], "keys and their order"
    for k in keys:
        assert theirs.fields[k].types == ours.fields[k].types and theirs.fields[k].contents() == ours.fields[k].contents(), k
    got = {t.name: (t.tensor_type.name.lower(), tuple(int(x) for x in t.shape[::-1]), t.data.tobytes()) for t in ours.tensors}
    same(got, {k: (v[0], v[1], v[2]) for k, v in want.items()}, "GGUF read by the package")
    assert [t.name for t in ours.tensors] == list(want)
print(f"{checked} tensors equal, {len(words) - len(unknown)} safetensors dtypes{', not in the package: ' + ', '.join(unknown) if unknown else ''}")
