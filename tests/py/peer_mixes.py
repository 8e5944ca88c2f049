# SPDX-License-Identifier: Apache-2.0
"""Mixes against llama-quantize, tensor by tensor.

usage: LLAMA_BIN=DIR peer_mixes.py PARE OUTDIR [--quick]

Makes sparse GGUF files of several shapes (llama, qwen2, bert; 4..80 blocks; grouped queries 1..8; tied and not; rows of
172..1536), asks `llama-quantize --dry-run` and `pare quantize --dry-run` for every mix and compares the type of every
tensor. Exit 1 on any difference."""
import json, os, re, subprocess, sys
import gguf

pare, out = sys.argv[1:3]
quick = "--quick" in sys.argv
tool = os.path.join(os.environ.get("LLAMA_BIN", ""), "llama-quantize")
if not os.path.exists(tool):
    print("set LLAMA_BIN to a folder with llama-quantize")
    sys.exit(77)
os.makedirs(out, exist_ok=True)
MIXES = "q2_k q3_k_s q3_k_m q3_k_l q4_k_s q4_k_m q5_k_s q5_k_m q6_k iq4_nl iq4_xs q4_0 q4_1 q5_0 q5_1 q8_0 f16 bf16 f32".split()
#        name arch layers dim heads kv ffn tied vocab
SHAPES = [
    ("small", "llama", 4, 256, 8, 8, 512, False, 64), ("tied", "llama", 8, 512, 8, 2, 1536, True, 64),
    ("odd-rows", "llama", 5, 64, 8, 4, 172, True, 64), ("rows-576", "llama", 30, 576, 9, 3, 1536, True, 64),
    ("gqa8", "llama", 32, 256, 8, 1, 768, False, 64), ("seventy", "llama", 80, 256, 8, 1, 512, False, 64),
    ("eighty-mha", "llama", 80, 256, 8, 8, 512, False, 64), ("qwen", "qwen2", 24, 256, 8, 2, 704, True, 64),
    ("qwen-80", "qwen2", 80, 256, 8, 1, 512, False, 64), ("minilm", "bert", 6, 384, 12, 12, 1536, True, 64),
    ("layers-7", "llama", 7, 1536, 12, 4, 256, False, 64), ("layers-17", "llama", 17, 288, 4, 1, 800, False, 64),
]

def make(path, arch, layers, dim, heads, kv, ffn, tied, vocab):
    w = gguf.GGUFWriter(path, arch)
    w.add_block_count(layers), w.add_context_length(128), w.add_embedding_length(dim), w.add_feed_forward_length(ffn)
    w.add_head_count(heads), w.add_head_count_kv(kv), w.add_vocab_size(vocab)
    if arch == "bert": w.add_layer_norm_eps(1e-12), w.add_token_type_count(2), w.add_causal_attention(False)
    else: w.add_layer_norm_rms_eps(1e-5)
    w.add_tokenizer_model("bert" if arch == "bert" else "llama")
    toks = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"] if arch == "bert" else ["<unk>", "<s>", "</s>"]
    toks += [f"t{i}" for i in range(vocab - len(toks))]
    w.add_token_list(toks), w.add_token_scores([0.0] * vocab), w.add_token_types([1] * vocab)
    if arch == "bert":
        for f, i in (("bos", 1), ("eos", 2), ("unk", 0), ("sep", 2), ("pad", 3), ("mask", 4)): getattr(w, f"add_{f}_token_id")(i)
    kvd, total = dim // heads * kv, 0
    def add(name, *shape, f32=False):
        nonlocal total
        f32 = f32 or len(shape) == 1
        n = 4 if f32 else 2
        for s in shape: n *= s
        w.add_tensor_info(name, shape, "float32" if f32 else "float16", n, gguf.GGMLQuantizationType.F32 if f32 else gguf.GGMLQuantizationType.F16)
        total += (n + 31) // 32 * 32
    import numpy as np
    real = w.add_tensor_info
    w.add_tensor_info = lambda name, shape, dt, n, raw: real(name, shape, np.dtype(dt), n, raw)
    add("token_embd.weight", vocab, dim)
    if arch == "bert":
        add("position_embd.weight", 128, dim, f32=True), add("token_types.weight", 2, dim, f32=True)
        add("token_embd_norm.weight", dim), add("token_embd_norm.bias", dim)
    else:
        add("output_norm.weight", dim)
        if not tied: add("output.weight", vocab, dim)
    for b in range(layers):
        p = f"blk.{b}."
        for n, r in (("q", dim), ("k", kvd), ("v", kvd), ("output", dim)): add(p + f"attn_{n}.weight", r, dim)
        if arch != "llama":
            for n, r in (("q", dim), ("k", kvd), ("v", kvd)): add(p + f"attn_{n}.bias", r)
        add(p + "ffn_up.weight", ffn, dim), add(p + "ffn_down.weight", dim, ffn)
        if arch == "bert":
            add(p + "attn_output.bias", dim), add(p + "ffn_up.bias", ffn), add(p + "ffn_down.bias", dim)
            for n in ("attn_output_norm", "layer_output_norm"): add(p + n + ".weight", dim), add(p + n + ".bias", dim)
        else: add(p + "ffn_gate.weight", ffn, dim), add(p + "attn_norm.weight", dim), add(p + "ffn_norm.weight", dim)
    w.write_header_to_file(), w.write_kv_data_to_file(), w.write_ti_data_to_file()
    w.fout[0].flush()
    end = w.fout[0].tell()
    w.close()
    os.truncate(path, (end + 31) // 32 * 32 + total)

def llama(path, mix):
    text = subprocess.run([tool, "--dry-run", path, mix.upper()], capture_output=True, text=True)
    log = text.stdout + text.stderr
    types = {}
    for m in re.finditer(r"\]\s+(\S+)\s+-\s+\[[^\]]*\],\s+type =\s*(\w+),(.*)", log):
        to = re.search(r"->\s*[\d.]+ MiB \((\w+)\)", m[3])
        types[m[1]] = (to[1] if to else m[2]).lower()
    return types, log, text.returncode

bad = same = 0
for name, *shape in SHAPES[:4] if quick else SHAPES:
    path = f"{out}/{name}.gguf"
    make(path, *shape)
    for mix in MIXES:
        want, log, rc = llama(path, mix)
        r = subprocess.run([pare, "quantize", path, "--to", mix, "--dry-run", "--quiet", "--json", "-"], capture_output=True, text=True)
        if r.returncode != 0: sys.exit(f"pare {name} {mix}: {r.stderr}")
        got = {t["name"]: t["to"] for t in json.loads(r.stdout)["plan"]}
        if not want and "fallback" in log:  # the tool gives up on rows that fit no block; we fall to f16
            print(f"{name} {mix}: llama-quantize fails, pare plans", sorted(set(got.values())))
            continue
        diff = [(t, want.get(t), got.get(t)) for t in sorted(want.keys() | got.keys()) if want.get(t) != got.get(t)]
        bad += len(diff)
        same += len(want) - len(diff)
        if diff: print(f"{name} {mix}: {len(diff)} of {len(want)} differ, first (tensor, llama-quantize, pare): {diff[0]}")
    os.remove(path)
print(f"{same} tensor decisions equal, {bad} differ")
sys.exit(1 if bad or not same else 0)
