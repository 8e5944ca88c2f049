# SPDX-License-Identifier: Apache-2.0
"""Calibrated quantization through files: GPTQ with corrected targets against numpy, interruption, refusals.

usage: gptq.py PARE MODELS OUTDIR     (MODELS holds stories260k/)

The first layer of stories260k is followed in double with weights that pare wrote so far; for each of its matrices second
moments, target and sweep are computed here, with the scales that pare chose, and the codes compared. Runs are killed and
resumed, and must end in the bytes of an undisturbed run. Prints a line per check; exit 1 on a failure."""
import json, math, os, shutil, signal, subprocess, sys, time
import numpy as np
import gguf
from safetensors.numpy import load_file
from tokenizers import Tokenizer

sys.path.insert(0, os.path.dirname(__file__))
import reference as ref
from checks import check, finish

pare, models, out = sys.argv[1:4]
src, ctx = f"{models}/stories260k", 128
shutil.rmtree(out, ignore_errors=True)
os.makedirs(out)


def run(*a, **k):
    return subprocess.run([pare, "quantize", *map(str, a)], capture_output=True, text=True, **k)


def must(*a, **k):
    r = run(*a, "--quiet", **k)
    if r.returncode: sys.exit(f"pare quantize {' '.join(map(str, a))}: exit {r.returncode}: {r.stderr}")


rng = np.random.default_rng(5)
words = "once upon a time there was little girl named Lily who liked to play in the park with her dog and one day they saw big red ball".split()
text = " ".join(rng.choice(words, 5000))
open(f"{out}/text", "w").write(text)

# ---- the first layer against numpy ----
for name, more in (("int4", ["--no-refine"]), ("refined", [])):
    must(src, "-o", f"{out}/{name}", "--to", "int4:g32", "--method", "gptq", "--calib", f"{out}/text", "--calib-ctx", ctx, "--calib-windows", 24, *more)
stored = load_file(f"{out}/int4/model.safetensors")
refined = load_file(f"{out}/refined/model.safetensors")
cfg, W = ref.load(src)
ids = [1] + Tokenizer.from_file(f"{src}/tokenizer.json").encode(text, add_special_tokens=False).ids
windows = np.array(ids[:24 * ctx]).reshape(24, ctx)
windows[:, 0] = 1


def decoded(name, of=None):
    packed, scale = ((of or stored)[f"model.{name}.weight_{x}"] for x in ("packed", "scale"))
    codes = (packed[:, :, None].view(np.uint32) >> (4 * np.arange(8, dtype=np.uint32)) & 15).astype(np.int64).reshape(len(packed), -1) - 8
    codes = codes[:, :W[f"{name}.weight"].shape[1]]
    return codes, scale, (codes.astype(np.float32) * np.repeat(scale.astype(np.float32), 32, 1)[:, :codes.shape[1]]).astype(scale.dtype).astype(np.float64)


def by_energy(h, group=32):
    """Groups of columns by falling energy of their inputs, within them columns."""
    e = np.diag(h).astype(np.float32)
    groups = sorted(range(0, len(e), group), key=lambda g: -e[g:g + group].astype(np.float64).sum())
    return np.concatenate([g + np.argsort(-e[g:g + group], kind="stable") for g in groups])


def sweep(w, u, scale):
    w, codes, step = w.copy(), np.zeros(w.shape, np.int64), scale.astype(np.float64)
    for j in range(w.shape[1]):
        s = np.where(step[:, j] == 0, 1, step[:, j])
        codes[:, j] = np.where(step[:, j] == 0, 0, np.clip(np.rint(w[:, j] / s), -8, 7))
        q = (codes[:, j] * step[:, j]).astype(scale.dtype).astype(np.float64)
        e = (w[:, j] - q) / u[j, j]
        w[:, j] = q
        w[:, j + 1:] -= e[:, None] * u[j, j + 1:]
    return codes


def compare(name, xf, xq, rf=None, rq=None):
    w, (codes, scale, _) = W[f"{name}.weight"], decoded(name)
    same_input = xf is xq
    xf, xq = xf.reshape(-1, w.shape[1]), xq.reshape(-1, w.shape[1])
    h = xq.T @ xq
    inverse = np.linalg.inv(h + 0.01 * np.trace(h) / len(h) * np.eye(len(h)))
    if rf is not None: rf, rq = rf.reshape(-1, len(w)), rq.reshape(-1, len(w))
    target = ref.corrected(w, inverse, ref.by_batch(len(windows), ctx, xf, xq, rf, rq))
    o = by_energy(h)
    expected = np.zeros(w.shape, np.int64)
    expected[:, o] = sweep(target[:, o], np.linalg.cholesky(inverse[np.ix_(o, o)]).T, np.repeat(scale, 32, 1)[:, o])
    same = (codes == expected).mean()
    error_of = lambda q: np.einsum("ij,jk,ik", w - q, h + 0.01 * np.trace(h) / len(h) * np.eye(len(h)), w - q)
    if same_input:
        once, more = error_of(decoded(name)[2]), error_of(decoded(name, refined)[2])
        check(f"passes after the sweep lower the error of {name}", more < 0.99 * once, f"{more / once:.3f}")
    plain = sweep(w, np.eye(len(h)), np.repeat(scale, 32, 1))
    check(f"codes of {name} are numpy's", same > 0.99, f"{100 * same:.2f} % (without error feedback {100 * (codes == plain).mean():.1f} %)")


h, kv, eps = cfg["num_attention_heads"], cfg["num_key_value_heads"], cfg["rms_norm_eps"]
d = cfg["hidden_size"] // h
cos, sin = ref.angles(cfg, d, ctx)
mask = np.where(np.tri(ctx, dtype=bool), 0, -np.inf)
rotate = lambda x: np.concatenate([x[..., :d // 2] * cos - x[..., d // 2:] * sin, x[..., d // 2:] * cos + x[..., :d // 2] * sin], -1)


def attention(w, y):
    q, k, v = (ref.heads(ref.linear(w, f"layers.0.self_attn.{c}_proj", y), m) for c, m in (("q", h), ("k", kv), ("v", kv)))
    k, v = np.repeat(rotate(k), h // kv, 1), np.repeat(v, h // kv, 1)
    y = ref.softmax(rotate(q) @ k.swapaxes(-1, -2) / math.sqrt(d) + mask) @ v
    return y.swapaxes(1, 2).reshape(*windows.shape, -1)


Q = dict(W)
x = W["embed_tokens.weight"][windows]
y = ref.rms(x, W["layers.0.input_layernorm.weight"], eps)
p = "layers.0."
for c in "qkv":
    compare(f"{p}self_attn.{c}_proj", y, y)
    Q[f"{p}self_attn.{c}_proj.weight"] = decoded(f"{p}self_attn.{c}_proj")[2]
af, aq = attention(W, y), attention(Q, y)
compare(f"{p}self_attn.o_proj", af, aq, x, x)
Q[f"{p}self_attn.o_proj.weight"] = decoded(f"{p}self_attn.o_proj")[2]
hf, hq = x + ref.linear(W, f"{p}self_attn.o_proj", af), x + ref.linear(Q, f"{p}self_attn.o_proj", aq)
yf, yq = (ref.rms(t, W[f"{p}post_attention_layernorm.weight"], eps) for t in (hf, hq))
for c in ("gate", "up"):
    compare(f"{p}mlp.{c}_proj", yf, yq)
    Q[f"{p}mlp.{c}_proj.weight"] = decoded(f"{p}mlp.{c}_proj")[2]
mid = lambda w, y: (g := ref.linear(w, f"{p}mlp.gate_proj", y)) / (1 + np.exp(-g)) * ref.linear(w, f"{p}mlp.up_proj", y)
if f"model.{p}mlp.down_proj.weight_packed" in stored: compare(f"{p}mlp.down_proj", mid(W, yf), mid(Q, yq), hf, hq)

# ---- files of other people; the report ----
G = f"{src}/stories260k-f32.gguf"
base = [G, "--to", "q4_0", "--calib", f"{out}/text", "--calib-windows", 24]
job = [*base, "--method", "gptq"]
r = run(*job, "-o", f"{out}/whole.gguf", "--json", f"{out}/report.json", "--max-kl", 5)
check("exit status 0 and gates passed", r.returncode == 0 and "PASS  max-kl" in r.stdout, r.stderr)
plan = [t for t in json.load(open(f"{out}/report.json"))["plan"] if "output_error" in t]
check("the report lists every linear matrix", len(plan) == 30 and all(0 < t["weight_error"] < 0.2 for t in plan), len(plan))
gain = np.exp(np.mean([np.log(t["rtn_output_error"] / t["output_error"]) for t in plan]))
check("output errors are below those of rounding to nearest", gain > 1.3, f"{gain:.2f}x")
R = {t.name: t for t in gguf.GGUFReader(f"{out}/whole.gguf").tensors}
w = gguf.dequantize(R["blk.0.ffn_up.weight"].data, R["blk.0.ffn_up.weight"].tensor_type)
e = ((w - W["layers.0.mlp.up_proj.weight"]) ** 2).sum() / (W["layers.0.mlp.up_proj.weight"] ** 2).sum()
said = next(t["weight_error"] for t in plan if t["name"] == "blk.0.ffn_up.weight")
check("gguf-py decodes it to the weight error that the report says", abs(e - said) < 1e-3 * e, f"{e:.6f}")
r = run(*job, "-o", f"{out}/gate.gguf", "--max-kl", 1e-9, "--quiet")
check("a failed gate gives exit status 1 and the file stays", r.returncode == 1 and os.path.exists(f"{out}/gate.gguf"))

# ---- interruption ----
whole = open(f"{out}/whole.gguf", "rb").read()
must(*job, "-o", f"{out}/one.gguf", "--threads", 1)
check("the same bytes with one thread", open(f"{out}/one.gguf", "rb").read() == whole)
check("no journal is left", not [f for f in os.listdir(out) if "journal" in f])
journal, resumed = f"{out}/cut.gguf.pare-journal", 0
full = time.time()
must(*job, "-o", f"{out}/time.gguf")
full = time.time() - full
for kind in (signal.SIGKILL, signal.SIGINT):
    for share in (0.3, 0.5, 0.7):
        if os.path.exists(f"{out}/cut.gguf"): os.remove(f"{out}/cut.gguf")
        p = subprocess.Popen([pare, "quantize", *map(str, job), "-o", f"{out}/cut.gguf", "--quiet"], stderr=subprocess.PIPE, text=True)
        time.sleep(share * full)
        p.send_signal(kind)
        p.communicate()
        had = os.path.exists(journal) and os.path.getsize(journal) or 0
        if p.returncode == 0 or os.path.exists(f"{out}/cut.gguf"): # it was done
            check("done before the signal: whole", open(f"{out}/cut.gguf", "rb").read() == whole)
            continue
        r = run(*job, "-o", f"{out}/cut.gguf", "--threads", 1 if share == 0.5 else 2)
        resumed += "going on after" in r.stderr
        same = r.returncode == 0 and open(f"{out}/cut.gguf", "rb").read() == whole
        check(f"{kind.name} after {share:.1f} of the time, resumed: the same bytes", same and not os.path.exists(journal), f"journal of {had} bytes {r.stderr[-200:] if not same else ''}")
check("journals were used", resumed >= 2, resumed)


def stopped(*a):
    """A run that leaves a journal behind; how large it is."""
    for wait in (0.5, 0.4, 0.6, 0.3, 0.7, 0.2):
        p = subprocess.Popen([pare, "quantize", *map(str, a), "--quiet"], stderr=subprocess.DEVNULL)
        time.sleep(wait * full)
        p.kill(), p.wait()
        if os.path.exists(journal) and os.path.getsize(journal) > 40000: return os.path.getsize(journal)
        for f in (journal, f"{out}/cut.gguf"): os.path.exists(f) and os.remove(f)
    sys.exit("no run could be stopped half way")


os.remove(f"{out}/cut.gguf")
size = stopped(*job, "-o", f"{out}/cut.gguf")
data = bytearray(open(journal, "rb").read())
data[size * 2 // 3] ^= 1
open(journal, "wb").write(data[:size - 3000])
r = run(*job, "-o", f"{out}/cut.gguf")
check("a damaged, shortened journal: its good beginning is used", r.returncode == 0 and "damaged or cut short" in r.stderr and open(f"{out}/cut.gguf", "rb").read() == whole, r.stderr[-300:])


def refused(what, status, says, *a):
    r = run(*a, "--quiet")
    line = r.stderr.strip().split("\n")
    check(f"refused: {what}", r.returncode == status and says in r.stderr and len(line) == 1, r.stderr.strip()[-200:])


os.remove(f"{out}/cut.gguf")
stopped(*job, "-o", f"{out}/cut.gguf")
held = open(journal, "rb").read()
refused("a journal of other options", 2, "other options", *base, "--method", "search", "-o", f"{out}/cut.gguf")
refused("a journal of other data", 2, "other calibration data", *job, "--calib-ctx", 64, "-o", f"{out}/cut.gguf")
other = bytearray(open(G, "rb").read())
open(f"{out}/other.gguf", "wb").write(other)
refused("a journal of another file", 2, "another model", f"{out}/other.gguf", *job[1:], "-o", f"{out}/cut.gguf")
check("refusals leave the journal alone", open(journal, "rb").read() == held)
must(*base, "--method", "search", "-o", f"{out}/cut.gguf", "--force")
check("--force replaces it", not os.path.exists(journal) and os.path.exists(f"{out}/cut.gguf"))
os.remove(f"{out}/cut.gguf")
refused("an output that exists, before any work", 2, "--force", *job, "-o", f"{out}/whole.gguf")

# ---- a file whose tensors lie at odd addresses: their copies are what graphs see ----
os.makedirs(f"{out}/odd", exist_ok=True)
for f in ("config.json", "tokenizer.json", "tokenizer_config.json"): shutil.copy(f"{src}/{f}", f"{out}/odd/{f}")
raw = open(f"{src}/model.safetensors", "rb").read()
size = int.from_bytes(raw[:8], "little")
more = 1 + size % 2  # the header ends at an odd byte
open(f"{out}/odd/model.safetensors", "wb").write((size + more).to_bytes(8, "little") + raw[8:8 + size] + b" " * more + raw[8 + size:])
for name in (src, f"{out}/odd"):
    must(name, "-o", f"{out}/even.gguf" if name == src else f"{out}/odd.gguf", "--to", "q4_0", "--method", "gptq", "--calib", f"{out}/text", "--calib-windows", 4)
a, b = ({t.name: np.array(t.data) for t in gguf.GGUFReader(f"{out}/{f}.gguf").tensors} for f in ("even", "odd"))
check("tensors at odd addresses: the same rows", a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a))

# ---- awq: scales folded into the norms before ----
must(src, "-o", f"{out}/awq", "--to", "int4:g32", "--method", "awq", "--calib", f"{out}/text", "--calib-windows", 8)
stored = load_file(f"{out}/awq/model.safetensors")
p = "layers.0."
for norm, names in (("input_layernorm", ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]), ("post_attention_layernorm", ["mlp.gate_proj", "mlp.up_proj"])):
    g, new = W[f"{p}{norm}.weight"], stored[f"model.{p}{norm}.weight"].astype(np.float64)
    s = g / new
    scaled = max(((W[f"{p}{n}.weight"] * s - decoded(p + n)[2]) ** 2).sum() / ((W[f"{p}{n}.weight"] * s) ** 2).sum() for n in names)
    unscaled = max(((W[f"{p}{n}.weight"] - decoded(p + n)[2]) ** 2).sum() / (W[f"{p}{n}.weight"] ** 2).sum() for n in names)
    check(f"awq: {norm} took the inverse of its matrices' scales", s.max() / s.min() > 1.05 and scaled < 0.013 and unscaled > 1.05 * scaled, f"error {scaled:.4f}, unscaled {unscaled:.4f}")
r = run(G, "-o", f"{out}/awq8.gguf", "--to", "q8_0", "--method", "awq", "--calib", f"{out}/text", "--max-kl", 0.005)
check("awq: at 8 bits the model is the original", r.returncode == 0, r.stderr[-200:])
mean = {}
for m in ("search", "awq"):
    must(*base, "--method", m, "-o", f"{out}/{m}.gguf", "--json", f"{out}/{m}.json")
    mean[m] = np.mean([np.log(t["output_error"]) for t in json.load(open(f"{out}/{m}.json"))["plan"] if "output_error" in t])
check("awq: output errors are below those of the search alone", mean["awq"] < mean["search"] - 0.02, mean)
stopped(*base, "--method", "awq", "-o", f"{out}/cut.gguf")
r = run(*base, "--method", "awq", "-o", f"{out}/cut.gguf")
check("awq: resumed, the same bytes", "going on after" in r.stderr and open(f"{out}/cut.gguf", "rb").read() == open(f"{out}/awq.gguf", "rb").read())

# ---- importance matrices ----
must(*base, "--method", "search", "-o", f"{out}/im0.gguf", "--save-imatrix", f"{out}/im.gguf")
must(*base, "--method", "search", "-o", f"{out}/im1.gguf", "--save-imatrix", f"{out}/im.dat")
I = {t.name: np.array(t.data, np.float64).ravel() for t in gguf.GGUFReader(f"{out}/im.gguf").tensors}
got = I["blk.0.attn_q.weight.in_sum2"] / I["blk.0.attn_q.weight.counts"]
t = 512
n = len(ids) // t if len(ids) // t < 24 else 24
long = np.array(ids[:n * t]).reshape(n, t)
long[:, 0] = 1
y = ref.rms(W["embed_tokens.weight"][long], W["layers.0.input_layernorm.weight"], eps).reshape(-1, len(got))
check("mean squares of the first layer are numpy's", np.allclose(got, (y * y).mean(0), rtol=1e-4) and I["blk.0.attn_q.weight.counts"][0] == n * t)
for f in ("im.gguf", "im.dat"): must(G, "--to", "q4_0", "--imatrix", f"{out}/{f}", "-o", f"{out}/from-{f}.gguf")
a, b = (dict((t.name, np.array(t.data)) for t in gguf.GGUFReader(f"{out}/from-{f}.gguf").tensors) for f in ("im.gguf", "im.dat"))
part = np.mean([(a[k] == b[k]).mean() for k in a])
check("both formats say the same", part > 0.999, f"{100 * part:.3f} % of bytes")
w = gguf.GGUFWriter(f"{out}/wrong.gguf", "none")
w.add_tensor("blk.0.attn_q.weight.in_sum2", np.ones((1, 32), np.float32)), w.add_tensor("blk.0.attn_q.weight.counts", np.ones((1, 1), np.float32))
w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file(), w.close()
x = ["-o", f"{out}/x.gguf"]
refused("an imatrix of another width", 3, "another model", G, "--to", "q4_0", "--imatrix", f"{out}/wrong.gguf", *x)
refused("a text as imatrix", 3, "no importance matrix", G, "--to", "q4_0", "--imatrix", f"{out}/text", *x)
refused("a model as imatrix", 3, "no importance matrix", G, "--to", "q4_0", "--imatrix", G, *x)
refused("an imatrix for gptq", 2, "--method search", G, "--to", "q4_0", "--method", "gptq", "--imatrix", f"{out}/im.gguf", *x)
refused("saving what was not measured", 2, "--save-imatrix", G, "--to", "q4_0", "--save-imatrix", f"{out}/y.dat", *x)

# ---- calibration data ----
open(f"{out}/short", "w").write("Once upon a time.")
refused("a text shorter than a window", 3, "less than one window", *job[:4], f"{out}/short", "--method", "gptq", *x)
open(f"{out}/binary", "wb").write(b"\xff\xfe\x80 no text \xc3" * 4000)
refused("a text that is no UTF-8", 3, "UTF-8", *job[:4], f"{out}/binary", "--method", "gptq", *x)
refused("a text that is not there", 3, "cannot be read", *job[:4], f"{out}/absent", "--method", "gptq", *x)
refused("windows longer than the model's context", 2, "--calib-ctx", *job, "--calib-ctx", 100000, *x)
check("nothing else is left behind", not [f for f in os.listdir(out) if "pare-tmp" in f or "journal" in f or f == "x.gguf"], os.listdir(out))
finish()
