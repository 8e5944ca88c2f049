# SPDX-License-Identifier: Apache-2.0
"""What stock programs compute of a model, beside what pare computes: transformers of folders, llama.cpp (LLAMA_BIN: the
folder of its programs) of GGUF files. A line per check."""
import json, logging, os, re, subprocess, sys
import numpy as np
import torch
import transformers
from transformers.utils.quantization_config import CompressedTensorsConfig
from checks import check

llama = os.environ.get("LLAMA_BIN")
logging.disable(logging.WARNING)
transformers.utils.logging.disable_progress_bar()


def must(*a):
    r = subprocess.run([*map(str, a)], capture_output=True, text=True, errors="replace")
    if r.returncode: sys.exit(f"{' '.join(map(str, a))}: exit {r.returncode}: {r.stderr[-2000:]}")
    return r.stdout + r.stderr


def output_of(*a, until, log=subprocess.STDOUT):
    """What a program of llama.cpp wrote, once it holds the pattern: it can lose the end of its output at exit."""
    for _ in range(12):
        r = subprocess.run([*map(str, a)], stdout=subprocess.PIPE, stderr=log, text=True, errors="replace")
        if m := re.search(until, r.stdout, re.S): return m, r.stdout
    return None, r.stdout


class Peers:
    """dump: tests/tools/logits_dump; out: a folder for files between programs."""

    def __init__(self, pare, dump, out, text=None, ctx=256, windows=8):
        self.pare, self.dump, self.out, self.text, self.ctx, self.windows = pare, dump, out, text, ctx, windows

    def by_pare(self, path, mode, ids, dtype="<f4", n=None):
        np.asarray(ids, "<i8").tofile(f"{self.out}/ids")
        must(self.dump, path, "none", mode, n or ids.shape[1], f"{self.out}/ids", f"{self.out}/y")
        return np.fromfile(f"{self.out}/y", dtype)

    def in_transformers(self, name, folder, auto, limit=2e-3, relative=False):
        """limit: of the largest difference, in numbers or (relative) in spreads of the outputs."""
        config = json.load(open(f"{folder}/config.json"))
        ids = np.random.default_rng(1).integers(3, config["vocab_size"], (2, 60))
        ids[:, 0] = 1
        how = dict(quantization_config=CompressedTensorsConfig(dequantize=True), dtype=torch.float16) if "quantization_config" in config else dict(dtype=torch.float32)
        try: model, report = auto.from_pretrained(folder, output_loading_info=True, **how)
        except Exception as e: return check(f"{name}: loads in transformers", False, repr(e)[:600])
        left = {k: v for k, v in report.items() if v and not all("pooler" in str(x) or "position_ids" in str(x) for x in v)}
        with torch.no_grad(): want = model.float().eval()(torch.tensor(ids))[0].numpy()
        err = np.abs(self.by_pare(folder, "forward", ids).reshape(want.shape) - want).max() / (want.std() if relative else 1)
        check(f"{name}: transformers computes what pare does", err <= limit and not left, f"(difference {err:.1e}, spread {want.std():.2f}) {left or ''}")
        return model

    def in_llama(self, name, gguf, original):
        if not llama: return
        m, log = output_of(f"{llama}/llama-perplexity", "-m", gguf, "-f", self.text, "-c", self.ctx, "-b", self.ctx, "--chunks", self.windows, "-t", 1,
                           "-fa", "off", "-ctk", "f32", "-ctv", "f32", until=r"Final estimate: PPL = ([0-9.]+)")
        theirs, log = (float(m[1]), "") if m else (float("nan"), log[-1500:])
        must(self.pare, "verify", original, gguf, "--data", self.text, "--ctx", self.ctx, "--windows", self.windows, "--act", "int8-block", "--json", f"{self.out}/r.json", "--quiet")
        ours = json.load(open(f"{self.out}/r.json"))["metrics"]["ppl"]["value"]
        check(f"{name}: llama.cpp's perplexity is pare's", abs(ours / theirs - 1) <= 0.002, f"({ours:.4f}, {theirs:.4f}) {log}")

    def encoder_in_llama(self, name, gguf, sentences, least=0.99999):
        """llama.cpp takes gelu from a table in f16; where activations become int8 that flips a few of them."""
        if not llama: return
        open(f"{self.out}/s", "w").write("\n".join(sentences))
        m, log = output_of(f"{llama}/llama-embedding", "-m", gguf, "-f", f"{self.out}/s", "--pooling", "mean", "--embd-normalize", 2,
                           "--embd-output-format", "array", "-t", 1, "-fa", "off", until=r"\[\[.*\]\]", log=subprocess.DEVNULL)
        if not m: return check(f"{name}: llama-embedding runs", False, log[-600:])
        ours = np.array([l.split() for l in must(self.pare, "run", gguf, "--input", f"{self.out}/s", "--act", "int8-block", "--quiet").splitlines()], float)
        cos = (np.array(json.loads(m[0])) * ours).sum(1) / np.linalg.norm(ours, axis=1)  # theirs are of length 1
        check(f"{name}: llama.cpp's embeddings are pare's", least <= cos.min() <= cos.max() < 1.00001, f"(smallest cosine {cos.min():.6f})")
