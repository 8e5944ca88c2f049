# SPDX-License-Identifier: Apache-2.0
"""`pare prune --method taylor`. Without torch: what is promised of any method, and that it is worth its gradients. With:
every zero and every unit that goes, from gradients of transformers' model.

usage: prune_taylor.py PARE TOK_DUMP MODELS TEXT OUTDIR [torch]     (MODELS holds stories260k/)"""
import json, os, shutil, struct, subprocess, sys
import numpy as np
from safetensors.numpy import load_file
sys.path.insert(0, os.path.dirname(__file__))
from tiny_encoder import tiny_encoder
from checks import check, finish

pare, tok_dump, models, text, out = sys.argv[1:6]
src = f"{models}/stories260k"
shutil.rmtree(out, ignore_errors=True)
os.makedirs(out)
CTX, WINDOWS = 128, 12
cal, held = f"{out}/cal.txt", f"{out}/held.txt"
body = open(text, "rb").read()[:40000].decode(errors="ignore").encode()
open(cal, "wb").write(body)
open(held, "wb").write(open(text, "rb").read()[-8000:])
data = ["--calib", cal, "--calib-ctx", CTX, "--calib-windows", WINDOWS]


def run(*a):
    return subprocess.run([pare, *map(str, a), "--quiet"], capture_output=True, text=True)


def must(*a):
    r = run(*a)
    if r.returncode: sys.exit(f"pare {' '.join(map(str, a))}: exit {r.returncode}: {r.stderr}")
    return r.stdout


def pruned(name, *a, method="taylor"):
    must("prune", src, "-o", f"{out}/{name}", "--method", method, *a, *(data if method != "magnitude" else []))
    return load_file(f"{out}/{name}/model.safetensors")


def kl(name):
    must("verify", src, f"{out}/{name}", "--data", held, "--ctx", CTX, "--json", f"{out}/v.json")
    return json.load(open(f"{out}/v.json"))["metrics"]["kl_mean"]["value"]


def against_torch():
    import torch
    import transformers
    raw = subprocess.run([tok_dump, src, "encode", "1"], input=struct.pack("<I", len(body)) + body, capture_output=True, check=True).stdout
    ids = np.frombuffer(raw, "<i4")[1:][:CTX * WINDOWS].reshape(WINDOWS, CTX).astype(np.int64)
    ids[:, 0] = 1
    model = transformers.AutoModelForCausalLM.from_pretrained(src, dtype=torch.float64, attn_implementation="eager")
    linear = {n + ".weight": m.weight for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and n != "lm_head"}
    score = {n: torch.zeros_like(w) for n, w in linear.items()}
    for row in torch.tensor(ids):
        model.zero_grad()
        logits = model(row[None]).logits[0]
        torch.nn.functional.cross_entropy(logits[:-1], row[1:], reduction="sum").backward()
        for n, w in linear.items(): score[n] += (w.detach() * w.grad) ** 2
    score = {n: s.numpy() for n, s in score.items()}

    def agree(a, mask):
        return min((((a[n] == 0) | (score[n] == 0)) == (mask(score[n]) | (score[n] == 0))).mean() for n in score)
    half = agree(pruned("layer", "--sparsity", "0.5"), lambda s: s <= np.sort(s, axis=None)[s.size // 2 - 1])
    check("zeros of a layer, as torch has them", half > 0.9995, f"{half:.5f} of the weights agree")
    limit = np.sort(np.concatenate([s.ravel() for s in score.values()]))
    limit = limit[limit.size * 3 // 10 - 1]
    every = agree(pruned("all", "--sparsity", "0.3", "--scope", "global"), lambda s: s <= limit)
    check("of all layers together", every > 0.9995, f"{every:.5f}")
    order = lambda s: np.argsort(np.argsort(s.reshape(s.shape[0], -1, 4), -1, kind="stable"), -1).reshape(s.shape)
    group = agree(pruned("group", "--pattern", "2:4"), lambda s: order(s) < 2) if all(s.shape[1] % 4 == 0 for s in score.values()) else 0
    check("of four", group > 0.999, f"{group:.5f}")
    narrow = pruned("units", "--pattern", "ffn", "--stay", 128, "--no-heal")
    whole = load_file(f"{src}/model.safetensors")
    same = []
    for l in range(5):
        n = f"model.layers.{l}.mlp.down_proj.weight"
        keep = np.sort(np.argsort(-score[n].sum(0), kind="stable")[:128])
        same.append(np.array_equal(narrow[n], whole[n][:, keep]))
    check("neurons that stay", all(same), f"{sum(same)} of 5 layers")


if len(sys.argv) > 6:
    against_torch()
    finish()

# ---- zeros ----
half = pruned("half", "--sparsity", "0.5", "--scope", "global", "--threads", 1)
pruned("again", "--sparsity", "0.5", "--scope", "global", "--threads", 2)
check("threads", open(f"{out}/half/model.safetensors", "rb").read() == open(f"{out}/again/model.safetensors", "rb").read())
linear = [n for n in half if "_proj" in n]
share = sum((half[n] == 0).sum() for n in linear) / sum(half[n].size for n in linear)
check("half of all weights", len(linear) == 35 and abs(share - 0.5) < 1e-4, f"{share:.5f}")
for name, most, a in (("global", 0.7, ["--scope", "global"]), ("layer", 1, [])):
    pruned(f"t-{name}", "--sparsity", "0.5", *a)
    pruned(f"m-{name}", "--sparsity", "0.5", *a, method="magnitude")
    t, m = kl(f"t-{name}"), kl(f"m-{name}")
    check(f"half by {name}: better than magnitude", t < most * m, f"KL {t:.3f}, magnitude {m:.3f}")
four = pruned("four", "--pattern", "2:4")
check("2:4", all(((four[n].reshape(-1, 4) == 0).sum(1) >= 2).all() for n in linear))
block = pruned("block", "--pattern", "block:1x4", "--sparsity", "0.5")
check("blocks", all((np.isin((block[n].reshape(-1, 4) == 0).sum(1), (0, 4))).mean() > 0.999 for n in linear))

# ---- smaller ----
for pattern, a in (("ffn", ["--stay", 128]), ("query-heads", ["--stay", 4])):
    for method in ("taylor", "magnitude"):
        must("prune", src, "-o", f"{out}/{method}-{pattern}.gguf", "--method", method, "--pattern", pattern, *a, *data)
    t, m = kl(f"taylor-{pattern}.gguf"), kl(f"magnitude-{pattern}.gguf")
    check(f"{pattern}: about as good as magnitude or better", t < 1.05 * m, f"KL {t:.3f}, magnitude {m:.3f}")
must("prune", src, "-o", f"{out}/heads.gguf", "--method", "taylor", "--pattern", "heads", "--stay", 3, *data)
check("heads", kl("heads.gguf") < 0.5)

# ---- what goes with any method ----
must("prune", src, "--sensitivity", "--method", "taylor", "--pattern", "2:4,ffn", "--json", f"{out}/scan.json", *data)
scan = json.load(open(f"{out}/scan.json"))
check("sensitivity", "taylor" in json.dumps(scan))
plan = run("prune", src, "-o", f"{out}/never", "--method", "taylor", "--sparsity", "0.5", "--dry-run")
check("dry run", plan.returncode == 0 and not os.path.exists(f"{out}/never"))
json.dump({"model": os.path.abspath(src), "output": "recipe.gguf", "calib": {"text": "cal.txt", "ctx": CTX, "windows": WINDOWS},
           "steps": [{"do": "prune", "method": "taylor", "sparsity": 0.5, "scope": "global"}]}, open(f"{out}/r.json", "w"))
r = run("recipe", f"{out}/r.json")
check("a recipe", r.returncode == 0 and abs(kl("recipe.gguf") / kl("half") - 1) < 1e-6, r.stderr.strip()[-200:])
check("help", "taylor" in subprocess.run([pare, "prune", "--help"], capture_output=True, text=True).stdout)

# ---- refusals ----
tiny_encoder(f"{out}/bert")
for what, code, words, a in (
    ("an encoder", 2, "next token", [f"{out}/bert", "--sparsity", "0.5"]),
    ("an encoder's neurons", 2, "next token", [f"{out}/bert", "--pattern", "ffn", "--stay", 32]),
    ("layers", 2, "does not judge layers", [src, "--pattern", "layers", "--stay", 4]),
    ("rounding at once", 2, "sparsegpt", [src, "--sparsity", "0.5", "--to", "q8_0"]),
    ("blocks of all layers", 2, "unstructured", [src, "--pattern", "block:1x4", "--sparsity", "0.5", "--scope", "global"]),
):
    r = run("prune", a[0], "-o", f"{out}/never", "--method", "taylor", *a[1:])
    check(f"refused: {what}", r.returncode == code and words in r.stderr and not os.path.exists(f"{out}/never"), r.stderr.strip()[-120:])
finish()
