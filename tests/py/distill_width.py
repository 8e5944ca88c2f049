# SPDX-License-Identifier: Apache-2.0
"""Encoders with fewer heads and their channels: what `pare prune --pattern width` cuts and refits, seen with numpy; students of
`pare distill --hidden --heads`, of a config.json and of a recipe; the same bytes at every thread count; refusals.

usage: distill_width.py PARE OUTDIR"""
import json, os, sys
import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer
from checks import check, commands, finish, fresh
from ridge import ridge
from tiny_encoder import tiny_encoder, tiny_sentences

pare, out = sys.argv[1], os.path.abspath(sys.argv[2])
fresh(out)
D, HEADS, SIZE = 32, 4, 8
teacher = tiny_encoder(f"{out}/teacher", width=D, heads=HEADS, whole=True)
full = load_file(f"{teacher}/model.safetensors")
lines = tiny_sentences(300, 7)
train, held = f"{out}/train.txt", f"{out}/held.tsv"
open(train, "w").write("\n".join(lines[:240]))
open(held, "w").write("".join(f"{i % 5}\t{a}\t{b}\n" for i, (a, b) in enumerate(zip(lines[240:270], lines[270:]))))
run, must = commands(pare)


def weights(o):
    return load_file(f"{out}/{o}/model.safetensors")


def config(o):
    return json.load(open(f"{out}/{o}/config.json"))


def metrics(model):
    must("verify", teacher, f"{out}/{model}", "--data", held, "--json", f"{out}/v.json")
    return {k: v["value"] for k, v in json.load(open(f"{out}/v.json"))["metrics"].items() if "value" in v}


def same(a, b):
    return open(f"{out}/{a}", "rb").read() == open(f"{out}/{b}", "rb").read()


def close(a, b):
    return a.keys() == b.keys() and all(a[k].shape == b[k].shape and np.abs(a[k] - b[k]).max() < 1e-6 for k in a)


def prune(o, *a):
    must("prune", teacher, "-o", f"{out}/{o}", "--pattern", "width", "--calib", train, *a)
    return weights(o)


def distill(o, *a):
    return ["distill", "--teacher", teacher, "-o", f"{out}/{o}", "--data", train, "--lr", "3e-3", "--eval-windows", 20, *a]


# ---- the cut: the same channels everywhere, heads layer by layer ----
cut = prune("cut", "--stay", 2, "--no-heal")
at = lambda row, of: [i for i in range(len(of)) if np.array_equal(of[i], row)]
kept = [at(c, full["embeddings.word_embeddings.weight"].T) for c in cut["embeddings.word_embeddings.weight"].T]
check("channels are the teacher's, in order", all(len(i) == 1 for i in kept) and len(kept) == 16 and sorted(kept) == kept)
kept = np.concatenate(kept)
rows = [np.concatenate([at(b, full[f"encoder.layer.{l}.attention.self.query.bias"]) for b in
                        cut[f"encoder.layer.{l}.attention.self.query.bias"]]) for l in range(2)]
check("heads are whole", all(len(r) == 16 and (r.reshape(2, SIZE) % SIZE == np.arange(SIZE)).all() for r in rows))


def expected(name, v):
    layer = int(name.split(".")[2]) if "layer." in name else None
    if "position_ids" in name: return v
    if "self." in name: v = v[rows[layer]]
    elif "_embeddings" not in name and "intermediate" not in name: v = v[kept]
    if v.ndim == 2: v = v[:, rows[layer] if "attention.output" in name else slice(None) if ".output" in name and "pooler" not in name else kept]
    return v


wrong = [k for k, v in full.items() if not np.array_equal(cut[k], expected(k, v))]
check("every tensor is the teacher's at these, the pooler too", not wrong and cut.keys() == full.keys(), wrong)
c = config("cut")
check("config.json", c["hidden_size"] == 16 and c["num_attention_heads"] == 2 and c["intermediate_size"] == 64
      and c == json.load(open(f"{teacher}/config.json")) | {k: c[k] for k in ("hidden_size", "num_attention_heads", "torch_dtype") if k in c})
pooling = json.load(open(f"{out}/cut/1_Pooling/config.json"))
check("the pooling module", pooling == {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True}, pooling)

# ---- the refit ----
healed = prune("healed", "--stay", 2)
tok = Tokenizer.from_file(f"{teacher}/tokenizer.json")
ids = tok.encode(open(train).read(), add_special_tokens=False).ids
windows = np.array([[2, *ids[i * 62:i * 62 + 62], 3] for i in range(len(ids) // 62)])  # [CLS], 62 tokens, [SEP]
x = (full["embeddings.word_embeddings.weight"][windows] + full["embeddings.token_type_embeddings.weight"][0]
     + full["embeddings.position_embeddings.weight"][:64]).reshape(-1, D).astype(float)
norm = lambda v: (v - v.mean(1, keepdims=True)) / v.std(1, keepdims=True)
whole = norm(x) * full["embeddings.LayerNorm.weight"] + full["embeddings.LayerNorm.bias"]
y, z = whole[:, kept], norm(x[:, kept])
fit = np.array([np.polyfit(z[:, c], y[:, c], 1) for c in range(16)])
off = [np.abs(healed[f"embeddings.LayerNorm.{n}"] - fit[:, i]).max() for i, n in enumerate(("weight", "bias"))]
check("a layer norm's scale and bias are the least-squares fit", max(off) < 1e-4 and np.abs(fit[:, 0] - full["embeddings.LayerNorm.weight"][kept]).max() > 0.01, off)
batch = next(b for b in range(min(32, len(windows)), 0, -1) if len(windows) % b == 0)
of = {n: full[f"encoder.layer.0.attention.self.{n}.weight"][rows[0]] for n in ("query", "value")}
off = [np.abs(healed[f"encoder.layer.0.attention.self.{n}.weight"] - ridge(z * fit[:, 0] + fit[:, 1], whole @ w.T, w[:, kept], batch * 64)).max()
       for n, w in of.items()]
check("what reads it is the ridge regression on what the smaller model's norm gives", max(off) < 2e-4, off)
before, after = metrics("cut"), metrics("healed")
check("the refit keeps more of what is close to what", after["spearman_models"] > before["spearman_models"] + 0.02,
      f"{before['spearman_models']:.3f} -> {after['spearman_models']:.3f}")
check("widths that differ have no cosine", not any(k.startswith("cosine") or k == "sqnr" for k in after) and "overlap" in after, list(after))
r = run("verify", teacher, f"{out}/healed", "--data", held, "--min-cosine", 0.9)
check("and no gate on one", r.returncode == 2 and "cosine_mean" in r.stderr, r.stderr)
must("verify", teacher, f"{out}/healed", "--data", held, "--layers", "--min-spearman", -1)
for n in (1, 2): prune(f"t{n}", "--stay", 2, "--threads", n)
check("threads, refitting", all(same("t1/" + f, "t2/" + f) for f in ("model.safetensors", "config.json")))
must("prune", teacher, "-o", f"{out}/half.gguf", "--pattern", "width", "--sparsity", 0.5, "--calib", train)
must("convert", f"{out}/half.gguf", "-o", f"{out}/half")
w = weights("half")
check("a share of them, in GGUF", config("half")["num_attention_heads"] == 2 and np.abs(w["encoder.layer.1.output.dense.weight"] -
      healed["encoder.layer.1.output.dense.weight"]).max() < 1e-6 and metrics("half.gguf")["spearman_models"] > before["spearman_models"])
must("prune", teacher, "-o", f"{out}/fit.gguf", "--pattern", "width", "--fit", "70%", "--calib", train)
check("as much as a size asks for", os.path.getsize(f"{out}/fit.gguf") < 0.72 * os.path.getsize(f"{teacher}/model.safetensors"))

# ---- students ----
alone = ["--hidden", 16, "--steps", 60]
r = run(*distill("taught", *alone, "--json", f"{out}/r.json"), quiet=False)
check("--hidden says what it implies", r.returncode == 0 and "2 of 4 heads stay" in r.stderr, r.stderr[-200:])
r = json.load(open(f"{out}/r.json"))
h, c = r["held_out"], r["curve"]
check("the loss falls through the projection, held out too", c[-1]["embed"] < 0.5 * c[0]["embed"] and r["terms"] == ["embed"]
      and 1 - h["after"]["cosine"] < 0.5 * (1 - h["before"]["cosine"]), f"cosine {h['before']['cosine']:.3f} -> {h['after']['cosine']:.3f}")
taught = metrics("taught")
check("pare verify agrees", taught["spearman_models"] > after["spearman_models"] + 0.1, f"{taught['spearman_models']:.3f}")
w = weights("taught")
check("its shapes", {k: v.shape for k, v in w.items()} == {k: v.shape for k, v in cut.items()} and config("taught")["hidden_size"] == 16)
for name, more in (("one", ["--threads", 1]), ("two", ["--threads", 2, "--heads", 2])):
    must(*distill(f"{name}.gguf", "--hidden", 16, "--steps", 8, *more))
check("threads, and heads said or implied", same("one.gguf", "two.gguf"))
must(*distill("all", "--hidden", 24, "--ffn", 32, "--layers", 1, "--steps", 4, "--loss", "embed=1,hidden=0.1"))
c, w = config("all"), weights("all")
check("with neurons and layers", [c[k] for k in ("hidden_size", "num_attention_heads", "intermediate_size", "num_hidden_layers")] == [24, 3, 32, 1]
      and w["encoder.layer.0.intermediate.dense.weight"].shape == (32, 24) and w["encoder.layer.0.attention.output.dense.weight"].shape == (24, 24))

still = ["--steps", 1, "--lr", "1e-30", "--weight-decay", 0]  # what it begins as, written
given = json.load(open(f"{teacher}/config.json")) | {"hidden_size": 16, "num_attention_heads": 2}
json.dump(given, open(f"{out}/given.json", "w"))
r = run(*distill("given", "--student", f"{out}/given.json", *still), quiet=False)
core = lambda w: {k: v for k, v in w.items() if "pooler" not in k and "position_ids" not in k}
check("a config.json of that shape begins as these parts", r.returncode == 0 and "parts of the teacher" in r.stderr and
      close(core(weights("given")), core(healed)), r.stderr[-200:])
check("its pooling module", json.load(open(f"{out}/given/1_Pooling/config.json"))["word_embedding_dimension"] == 16)
json.dump({"model": teacher, "output": f"{out}/recipe", "calib": {"text": train},
           "steps": [{"do": "distill", "hidden": 16, "heads": 2, "steps": 1, "lr": 1e-30, "weight_decay": 0}]}, open(f"{out}/recipe.json", "w"))
must("recipe", f"{out}/recipe.json")
check("a recipe's keys", close(weights("recipe"), healed) and config("recipe")["num_attention_heads"] == 2)

# ---- refusals ----
for what, words, more in (
    ("heads alone", "--hidden 16 --heads 2 takes both", ["--heads", 2]),
    ("half a head", "--hidden 16 (2 heads), --hidden 24 (3)", ["--hidden", 20]),
    ("less than a head", "--hidden 8 (1 heads), --hidden 16 (2)", ["--hidden", 5]),
    ("all channels", "fewer than 4 stay; nearest to 32: --hidden 24", ["--hidden", 32]),
    ("as many heads, fewer channels", "16 channels are 2 heads; --hidden 32 goes with --heads 4", ["--hidden", 16, "--heads", 4]),
    ("more heads than there are", "from 1 to 3 heads", ["--hidden", 16, "--heads", 9]),
):
    r = run(*distill("never", *more, "--steps", 2))
    check(f"refused: {what}", r.returncode == 2 and words in r.stderr and not os.path.exists(f"{out}/never"), r.stderr.strip()[-160:])
for what, words, more in (
    ("channels alone", "--pattern width takes 8 channels with every head", ["--pattern", "hidden", "--stay", 16, "--multiple", 16]),
    ("heads alone", "--pattern width takes 8 channels with every head", ["--pattern", "heads", "--stay", 2]),
    ("nothing", "from 1 to 3", ["--pattern", "width", "--stay", 4]),
    ("a layer's own width", "belong to all layers", ["--pattern", "width", "--sensitivity"]),
):
    r = run("prune", teacher, "-o", f"{out}/never", *more)
    check(f"refused by prune: {what}", r.returncode == 2 and words in r.stderr and not os.path.exists(f"{out}/never"), r.stderr.strip()[-160:])
check("nothing is left behind", not [f for f in os.listdir(out) if "pare-" in f or "tmp" in f])
finish()
