# SPDX-License-Identifier: Apache-2.0
"""`pare distill --device cuda` on the emulated GPU, of sentence encoders and of students that a config.json describes: the
CPU's losses, norms and weights, all of the pass on the device, the same bytes in every run.

usage: distill_cuda_students.py PARE PLUGIN MODELS TEXT OUTDIR     (MODELS holds stories260k/)"""
import json, os, sys
import numpy as np
from checks import check, commands, finish, fresh
from safetensors.numpy import load_file
from tiny_encoder import tiny_encoder

pare, plugin, models, text, out = sys.argv[1:6]
fresh(out)
body = open(text, "rb").read(6000).decode(errors="ignore")
open(f"{out}/train.txt", "w").write(body)
lines = [s for s in (" ".join(s.split()) for s in body.split(".")) if 8 < len(s) < 40]
open(f"{out}/lines.txt", "w").write("\n".join(lines))
env = {**os.environ, "PARE_PLUGIN_CUDA": plugin}
run, _ = commands(pare)
decoder, encoder = f"{models}/stories260k", tiny_encoder(f"{out}/encoder")
TEXT = ["--teacher", decoder, "--data", f"{out}/train.txt", "--ctx", 16, "--batch", 2, "--micro", 1, "--eval-windows", 1, "--lr", "2e-3"]
LINES = ["--teacher", encoder, "--data", f"{out}/lines.txt", "--ctx", 32, "--batch", 6, "--micro", 3, "--eval-windows", 4, "--lr", "3e-3"]


def config(name, of, **over):
    json.dump(json.load(open(f"{of}/config.json")) | over, open(f"{out}/{name}.json", "w"))
    return f"{out}/{name}.json"


def distill(o, *a):
    r = run("distill", *a, "--steps", 2, "-o", f"{out}/{o}", "--json", f"{out}/{o}.json", quiet=False, env=env)
    if r.returncode: sys.exit(f"distill {a}: exit {r.returncode}: {r.stderr}")
    return json.load(open(f"{out}/{o}.json")), load_file(f"{out}/{o}/model.safetensors"), "run on the CPU" in r.stderr


def as_on_the_cpu(name, *a):
    """Weights within 2e-4: AdamW's first steps are as long as the rate, 2e-3 and more. Not an encoder's biases of keys: no score
    depends on them, so that their gradient is rounding alone, and their steps are as long as all others."""
    (x, wx, _), (y, wy, left) = distill(f"{name}-cpu", *a), distill(f"{name}-gpu", *a, "--device", "cuda")
    off = max(abs(p[k] - q[k]) for p, q in zip(x["curve"], y["curve"]) for k in ("loss", *x["terms"]))
    norm = max(abs(p["norm"] / q["norm"] - 1) for p, q in zip(x["curve"], y["curve"]))
    far = max(float(np.abs(wx[k] - wy[k]).max()) for k in wx if not k.endswith("key.bias"))
    moved = x["curve"][0]["loss"] - x["curve"][-1]["loss"]
    check(f"{name}: the CPU's loss, norm and weights", off < 1e-4 and norm < 1e-4 and far < 2e-4 and moved > 1e-3,
          f"{off:.1e} {norm:.1e} {far:.1e}, the loss fell by {moved:.3f}")
    check(f"{name}: nothing is left to the CPU", not left)


def same_again(name, *a):
    distill(f"{name}-again", *a, "--device", "cuda", "--threads", 1)
    first, again = (open(f"{out}/{name}-{w}/model.safetensors", "rb").read() for w in ("gpu", "again"))
    check(f"{name}: the same bytes in another run", first == again)


terms = [*LINES, "--keep-layers", 1, "--loss", "embed=1,similarity=1,relation=0.5", "--relation-heads", 4]
as_on_the_cpu("encoder", *terms)
same_again("encoder", *terms)
as_on_the_cpu("encoder-layers", *LINES, "--keep-layers", 1, "--loss", "hidden=1,cosine=1,embed-mse=1", "--recompute")
thin = config("thin", encoder, hidden_size=24, intermediate_size=40, num_attention_heads=3, initializer_range=0.3)
as_on_the_cpu("encoder-config", *LINES, "--student", thin, "--loss", "embed=1,hidden=1")
as_on_the_cpu("encoder-adapters", *LINES, "--keep-layers", 0, "--train", "adapters", "--rank", 2, "--lr", "1e-2")
small = config("small", decoder, hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
               head_dim=16, tie_word_embeddings=False, initializer_range=0.1)
as_on_the_cpu("config", *TEXT, "--student", small, "--loss", "kl=1,hidden=0.1")
same_again("config", *TEXT, "--student", small, "--loss", "kl=1,hidden=0.1")
finish()
