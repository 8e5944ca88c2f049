# SPDX-License-Identifier: Apache-2.0
"""Students of `pare distill --student config.json`: begun as parts of stories260k or at random, in folders and GGUF, against
tests/py/reference.py; from recipes; the same bytes after an interruption; configurations that are damaged.

usage: distill_config.py PARE LOGITS_DUMP MODELS TEXT OUTDIR     (MODELS holds stories260k/)"""
import json, os, random, shutil, subprocess, sys
import numpy as np
from safetensors.numpy import load_file
from checks import check, commands, finish, fresh, interrupt
from reference import forward

pare, dump, models, text, out = sys.argv[1:6]
teacher = f"{models}/stories260k"
fresh(out)
train = f"{out}/train.txt"
open(train, "wb").write(open(text, "rb").read()[:9000])
theirs = json.load(open(f"{teacher}/config.json"))
run, must = commands(pare)


def config(name, base=theirs, **over):
    c = {k: v for k, v in {**base, **over}.items() if v is not None}
    json.dump(c, open(f"{out}/{name}.json", "w"), indent=1)
    return f"{out}/{name}.json"


def distill(student, o, *a, of=teacher):
    return ["distill", "--teacher", of, "--student", student, "-o", f"{out}/{o}", "--data", train, "--ctx", 64, "--batch", 4,
            "--eval-windows", 8, "--lr", "2e-3", *a]


def logits(model, ids):
    np.asarray(ids, "<i8").tofile(f"{out}/ids")
    subprocess.run([dump, model, "none", "forward", str(len(ids[0])), f"{out}/ids", f"{out}/out"], check=True)
    return np.fromfile(f"{out}/out", "<f4")


def weights(o):
    return load_file(f"{out}/{o}/model.safetensors")


def same(a, b):
    return open(f"{out}/{a}", "rb").read() == open(f"{out}/{b}", "rb").read()


def report(o):
    return json.load(open(f"{out}/{o}.json"))


ids = np.random.default_rng(3).integers(3, 512, (2, 40))


def runs_as_reference(what, o):
    want = forward(f"{out}/{o}", ids)
    off = np.abs(logits(f"{out}/{o}", ids).reshape(want.shape) - want).max() / want.std()
    check(f"{what}: what the reference computes of it", off < 1e-4, f"{off:.1e}")


still = ["--steps", 1, "--lr", "1e-30", "--weight-decay", 0]  # what it begins as, written

# ---- parts of the teacher ----
small = config("small", hidden_size=48, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=4,
               head_dim=8)
must(*distill(small, "small", "--steps", 60, "--json", f"{out}/r-small.json"))
must(*distill(small, "fresh", "--steps", 60, "--json", f"{out}/r-fresh.json", "--init", "random"))
a, b = report("r-small"), report("r-fresh")
check("parts of the teacher are the better start", a["held_out"]["after"]["kl"] < 0.7 * b["held_out"]["after"]["kl"],
      f"KL {a['held_out']['after']['kl']:.2f}, at random {b['held_out']['after']['kl']:.2f}")
check("the report says which", a["options"]["init"] == "teacher" and b["options"]["init"] == "random")
given, got = json.load(open(small)), json.load(open(f"{out}/small/config.json"))
check("its configuration", got == given | {"torch_dtype": "float32"}, {k: v for k, v in got.items() if given.get(k) != v})
check("the teacher's tokenizer", all(open(f"{out}/small/{f}").read() == open(f"{teacher}/{f}").read()
                                     for f in ("tokenizer.json", "tokenizer_config.json")))
w = weights("small")
check("its shapes", w["model.layers.2.self_attn.k_proj.weight"].shape == (32, 48) and w["model.embed_tokens.weight"].shape == (512, 48)
      and w["model.layers.0.mlp.down_proj.weight"].shape == (48, 96) and "lm_head.weight" not in w and not any("layers.3" in k for k in w))
runs_as_reference("parts", "small")

t = load_file(f"{teacher}/model.safetensors")
must(*distill(config("alike", tie_word_embeddings=False, mlp_bias=True, attention_bias=True), "alike", *still))
w = weights("alike")
check("of the teacher's shape: the teacher's weights", all(np.array_equal(w[k], t[k]) for k in t if k != "lm_head.weight"))
check("an output matrix of its own begins as the embedding", np.array_equal(w["lm_head.weight"], t["model.embed_tokens.weight"]))
biases = [k for k in w if k.endswith(".bias")]
check("biases begin at 0", len(biases) == 35 and all((abs(w[k]) < 1e-20).all() for k in biases))
runs_as_reference("biases and an output matrix", "alike")
must(*distill(config("narrow", hidden_size=48, num_attention_heads=6, num_key_value_heads=3, head_dim=8), "narrow", *still))
w = weights("narrow")
near = lambda a, b: abs(a - b) < 1e-6 * abs(b)
norms = {k: v * (48 / 64) ** 0.5 for k, v in w.items() if v.ndim == 1}  # fewer channels, a smaller mean square
at = [np.flatnonzero(near(t["model.norm.weight"], v)) for v in norms["model.norm.weight"]]
check("fewer channels are the teacher's, the same everywhere", all(len(i) == 1 for i in at) and all(
    near(norms[k], t[k][np.concatenate(at)]).all() for k in norms), [len(i) for i in at if len(i) != 1])
short = config("short", num_hidden_layers=3)
must(*distill(short, "short", *still, "--loss", "kl=1,hidden=1"))
w, of = weights("short"), [0, 0, 0]
for l in range(3): of[l] = [i for i in range(5) if np.array_equal(w[f"model.layers.{l}.mlp.up_proj.weight"], t[f"model.layers.{i}.mlp.up_proj.weight"])]
check("fewer layers are the teacher's", all(len(i) == 1 for i in of) and of == sorted(of), of)
must(*distill(config("queries", num_attention_heads=4), "queries.gguf", *still, "--init", "random"))  # heads of 16

# ---- at random ----
wide = config("wide", hidden_size=96, intermediate_size=200, num_attention_heads=6, num_key_value_heads=2, tie_word_embeddings=False,
              torch_dtype="float16", initializer_range=0.1, rope_theta=50000.0, max_position_embeddings=256,
              rope_scaling={"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                            "original_max_position_embeddings": 64})
must(*distill(wide, "wide", "--steps", 20, "--loss", "kl=1,hidden=0.1", "--json", f"{out}/r-wide.json"))
c = report("r-wide")["curve"]
check("wider, layers compared through projections", c[-1]["kl"] < 0.9 * c[0]["kl"] and c[-1]["hidden"] < c[0]["hidden"])
check("its dtype", all(v.dtype == np.float16 for v in weights("wide").values()))
runs_as_reference("wider, its own head size and rotation", "wide")
must(*distill(wide, "begun", *still, "--to", "f32"))
must(*distill(wide, "begun2", *still, "--to", "f32", "--threads", 2, of=f"{teacher}/stories260k-f32.gguf"))
must(*distill(wide, "seed2", *still, "--to", "f32", "--seed", 2))
w, v = weights("begun"), weights("seed2")
matrices = [k for k in w if w[k].ndim > 1]
check("normal numbers of initializer_range", all(abs(w[k].std() - 0.1) < 0.01 and abs(w[k].mean()) < 0.005 for k in matrices))
check("norms begin at 1", all((w[k] == 1).all() for k in w if w[k].ndim == 1) and len(w) - len(matrices) == 11)
check("no two matrices are alike", len({w[k].ravel()[:8].tobytes() for k in matrices}) == len(matrices))
check("the seed decides", same("begun/model.safetensors", "begun2/model.safetensors") and
      not any(np.array_equal(w[k], v[k]) for k in matrices))

# ---- the same bytes ----
must(*distill(short, "one.gguf", "--steps", 8, "--threads", 1))
os.makedirs(f"{out}/short/short")  # as short.json is called
shutil.copyfile(short, f"{out}/short/short/config.json")
must(*distill(f"{out}/short/short", "two.gguf", "--steps", 8, "--threads", 2))
check("threads, and a folder with a configuration alone", same("one.gguf", "two.gguf"))
stopped = interrupt([pare, *distill(short, "cut.gguf", "--steps", 8, "--save-every", 1), "--quiet"], f"{out}/cut.gguf")
must(*distill(short, "cut.gguf", "--steps", 8))
check("interrupted and gone on", stopped and same("one.gguf", "cut.gguf"))
must(*distill(short, "folder", "--steps", 8))
x, y = logits(f"{out}/one.gguf", ids), logits(f"{out}/folder", ids)
check("GGUF and folder give the same", np.abs(x - y).max() < 1e-4 * y.std(), f"{np.abs(x - y).max() / y.std():.1e}")

# ---- in recipes ----
step = {"do": "distill", "student": "small.json", "data": "train.txt", "steps": 8, "ctx": 64, "batch": 4, "lr": 2e-3, "eval_windows": 8}
cut = {k: v for k, v in step.items() if k != "student"} | {"hidden": 48, "heads": 6, "ffn": 96, "layers": 3}
for name, first in (("given", step), ("cuts", cut)):
    json.dump({"model": os.path.abspath(teacher), "calib": {"text": "train.txt"},
               "steps": [first, {"do": "quantize", "to": "q8_0"}]}, open(f"{out}/{name}.recipe.json", "w"))
    must("recipe", f"{out}/{name}.recipe.json", "-o", f"{out}/{name}.gguf", "--json", f"{out}/{name}.json")
    check(f"a recipe, {name}", os.path.exists(f"{out}/{name}.gguf") and logits(f"{out}/{name}.gguf", ids).std() > 0.1)
json.dump({"model": os.path.abspath(teacher), "steps": [{"do": "prune", "pattern": "2:4", "method": "magnitude"}, step]}, open(f"{out}/late.recipe.json", "w"))
r = run("recipe", f"{out}/late.recipe.json", "-o", f"{out}/late")
check("not behind another step", r.returncode == 2 and "steps[1].student" in r.stderr and "first step" in r.stderr, r.stderr.strip()[-150:])

# ---- refusals ----
bad = lambda **over: open(config("bad", **over)).read()
for what, code, words, body, more in (
    ("no such file", 3, "cannot open", None, []),
    ("an empty file", 3, "not valid JSON", "", []),
    ("half a file", 3, "not valid JSON", '{"hidden_size": 64,', []),
    ("a list", 3, "JSON object", "[1]", []),
    ("a thousand brackets", 3, "not valid JSON", "[" * 5000, []),
    ("a key twice", 3, "duplicate", '{"model_type": "llama", "model_type": "bert"}', []),
    ("no type", 3, "model_type", bad(model_type=None), []),
    ("an architecture that is none of ours", 2, "`mamba`", bad(model_type="mamba"), []),
    ("an encoder of a language model", 3, "nothing to compare", bad(model_type="bert", hidden_act="gelu"), []),
    ("no hidden size", 3, "hidden_size: expected this key", bad(hidden_size=None), []),
    ("a hidden size below 0", 3, "-64", bad(hidden_size=-64), []),
    ("no layers", 3, "number of layers", bad(num_hidden_layers=0), []),
    ("layers beyond number", 3, "whole number", bad(num_hidden_layers=10**17), []),
    ("a word for a number", 3, "a number", bad(intermediate_size="172"), []),
    ("half a neuron", 3, "whole number", bad(intermediate_size=172.5), []),
    ("more than fits", 4, "parameters", bad(hidden_size=1 << 20, intermediate_size=1 << 22, num_attention_heads=4096, num_key_value_heads=4096, num_hidden_layers=4096), []),
    ("heads that do not divide", 3, "6 heads do not divide the hidden size 64", bad(num_attention_heads=6, num_key_value_heads=3), []),
    ("such heads in a folder", 3, "write a GGUF file", bad(num_attention_heads=6, num_key_value_heads=3, head_dim=8), []),
    ("keys that do not divide", 3, "does not divide", bad(num_key_value_heads=3), []),
    ("another vocabulary", 3, "vocab_size", bad(vocab_size=1000), []),
    ("another activation", 2, "relu", bad(hidden_act="relu"), []),
    ("a rotation that is none", 3, "rope", bad(rope_scaling={"rope_type": "llama3"}), []),
    ("a range below 0", 3, "initializer_range", bad(initializer_range=-1), []),
    ("wider, from the teacher", 2, "another size than the teacher's", bad(hidden_size=96), ["--init", "teacher"]),
    ("a beginning that is none", 2, "teacher, random", bad(), ["--init", "zero"]),
):
    p = f"{out}/bad.json"
    if body is None: p = f"{out}/absent.json"
    else: open(p, "w").write(body)
    r = run(*distill(p, "never", "--steps", 2, *more))
    check(what, r.returncode == code and words in r.stderr and not os.path.exists(f"{out}/never"), f"{r.returncode}: {r.stderr.strip()[-110:]}")
r = run("distill", "--teacher", teacher, "--layers", 2, "--init", "random", "-o", f"{out}/never", "--data", train)
check("a beginning without a configuration", r.returncode == 2 and "config.json" in r.stderr, r.stderr.strip()[-110:])

# ---- damaged at random: refused, or trained, never anything else ----
rng, codes = random.Random(4), {}
body = json.dumps(theirs | {"initializer_range": 0.02, "rope_scaling": {"rope_type": "linear", "factor": 2.0}})
for i in range(40):
    s = list(body)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(s))
        s[at] = rng.choice([rng.choice('0123456789{}[]",:-e.'), "", chr(rng.randrange(32, 127)), s[at] * 2])
    open(f"{out}/bad.json", "w").write("".join(s))
    r = run(*distill(f"{out}/bad.json", "fuzz", "--steps", 1, "--force", "--init", "random"))
    codes[r.returncode] = codes.get(r.returncode, 0) + 1
    if r.returncode not in (0, 2, 3, 4) or (r.returncode and not r.stderr.startswith("pare: ")): check("damaged", False, "".join(s) + r.stderr[-300:])
check("40 damaged configurations", set(codes) <= {0, 2, 3, 4} and codes.get(3, 0) > 5, codes)
check("nothing is left behind", not [f for f in os.listdir(out) if "pare-" in f or "tmp" in f])
finish()
