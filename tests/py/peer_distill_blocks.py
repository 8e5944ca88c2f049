# SPDX-License-Identifier: Apache-2.0
"""Block-wise distillation in PyTorch: three of stories260k's five layers, one after another, each towards what the teacher
has before the next one that was kept, from what the trained layers before it give. The curves must agree step by step.

usage: peer_distill_blocks.py PARE TOK_DUMP MODELS TEXT OUTDIR"""
import json, sys
import numpy as np
import torch
from transformers import AutoModelForCausalLM
from checks import commands, fresh
from distill_order import order, rate, token_ids

pare, tok_dump, models, text, out = sys.argv[1:6]
teacher = f"{models}/stories260k"
fresh(out)
STEPS, CTX, BATCH, HELD, LR, TARGETS = 15, 128, 4, 8, 4e-3, (1, 3, 4)
_, must = commands(pare)
ids = token_ids(tok_dump, teacher, text)
train = (len(ids) - 1) // CTX - HELD


def batch(step):
    x = np.stack([ids[r:r + CTX] for r in (order(1, train, step * BATCH + i) * CTX for i in range(BATCH))])
    x[:, 0] = 1  # BOS, as the model's tokenizer says
    return torch.tensor(x)


def through(model, layer, h):
    """The residual stream through one layer, causal."""
    at = torch.arange(CTX)[None]
    return model.model.layers[layer](h, position_embeddings=model.model.rotary_emb(h, at), attention_mask=None, position_ids=at)


def first(x):  # newer versions of transformers return the tensor itself
    return x[0] if isinstance(x, tuple) else x


def curve(dtype):
    big = AutoModelForCausalLM.from_pretrained(teacher, attn_implementation="sdpa").to(dtype).eval()
    student = AutoModelForCausalLM.from_pretrained(f"{out}/cut", attn_implementation="sdpa").to(dtype)
    windows = [batch(s) for s in range(STEPS)]
    with torch.no_grad():
        mine, aim = [student.model.embed_tokens(w) for w in windows], [big.model.embed_tokens(w) for w in windows]
    got, reached = [], 0
    for layer, target in enumerate(TARGETS):
        with torch.no_grad():
            for l in range(reached, target + 1): aim = [first(through(big, l, h)) for h in aim]
        reached = target + 1
        own = list(student.model.layers[layer].parameters())
        o = torch.optim.AdamW([{"params": [p for p in own if p.ndim > 1], "weight_decay": 0.01}, {"params": [p for p in own if p.ndim == 1], "weight_decay": 0.0}],
                              lr=LR, betas=(0.9, 0.95), eps=1e-8)
        for step in range(STEPS):
            for g in o.param_groups: g["lr"] = rate(step, STEPS, LR)
            y, t = first(through(student, layer, mine[step])), aim[step]
            loss = ((y - t).square().sum(-1) / t.square().sum(-1)).mean()
            o.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(own, 1.0)
            o.step()
            got.append(loss.item())
        with torch.no_grad(): mine = [first(through(student, layer, h)) for h in mine]
    return got


must("prune", teacher, "-o", f"{out}/cut", "--pattern", "layers", "--drop", "1,3", "--no-heal")
must("distill", "--teacher", teacher, "--keep-layers", "0,2,4", "-o", f"{out}/student", "--data", text, "--ctx", CTX, "--batch", BATCH, "--steps", STEPS,
     "--lr", LR, "--blockwise", "--eval-windows", HELD, "--json", f"{out}/r.json")
mine = [c["loss"] for c in json.load(open(f"{out}/r.json"))["curve"]]
exact, single = curve(torch.float64), curve(torch.float32)
off = [max(abs(a - b) / b for a, b in zip(c, exact)) for c in (mine, single)]
print(f"{len(mine)} steps of three layers, loss {mine[0]:.4f} -> {mine[STEPS - 1]:.4f} in the first: pare within {off[0]:.1e} of torch in double, torch in single within {off[1]:.1e}")
sys.exit(off[0] > max(1e-4, 3 * off[1]) or len(mine) != len(exact))
