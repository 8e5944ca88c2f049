# SPDX-License-Identifier: Apache-2.0
"""The same recipe in PyTorch for a sentence encoder: MiniLM with layers 1, 3, 5, taught by cosine to the teacher's
embeddings, and without a teacher by pairs (NT-Xent), AdamW, the same sentences in the same order. The curves must agree step by
step, and the student in transformers must give pare's embeddings.

usage: peer_distill_encoder.py PARE MINILM TEXT OUTDIR"""
import copy, json, random, re, sys
import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from transformers import AutoModel
from checks import check, commands, finish, fresh
from distill_order import order, rate

pare, minilm, text, out = sys.argv[1:5]
fresh(out)
STEPS, BATCH, CTX, HELD, LR = 20, 16, 48, 32, 3e-4
_, must = commands(pare)
body = open(text, "rb").read(300000).decode(errors="ignore")
lines = list(dict.fromkeys(s.strip() for s in re.split(r"[.!?\n\t]", body) if 20 <= len(s.strip()) <= 200))[:1200]
random.Random(1).shuffle(lines)
open(f"{out}/sentences.txt", "w").write("\n".join(lines))
tok = Tokenizer.from_file(f"{minilm}/tokenizer.json")
tok.no_padding(), tok.enable_truncation(CTX)
ids = [tok.encode(s).ids for s in lines]
train = len(ids) - HELD


def embed(model, rows):
    n = max(map(len, rows))
    x = torch.tensor([r + [0] * (n - len(r)) for r in rows])
    mask = torch.tensor([[1] * len(r) + [0] * (n - len(r)) for r in rows])
    h = model(input_ids=x, attention_mask=mask).last_hidden_state
    return (h * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


def to_teacher(x, t):
    return (1 - F.cosine_similarity(x, t)).mean()


def to_partner(x, t):
    c = F.normalize(x, dim=1) @ F.normalize(x, dim=1).T / 0.05
    c = c.masked_fill(torch.eye(len(x), dtype=bool), -torch.inf)
    return F.cross_entropy(c, torch.arange(len(x)) ^ 1)


def curve(dtype, loss_of, steps, together):
    teacher = AutoModel.from_pretrained(minilm, attn_implementation="eager").to(dtype).eval()
    student = copy.deepcopy(teacher)
    student.encoder.layer = torch.nn.ModuleList(student.encoder.layer[i] for i in (1, 3, 5))
    parts = [p for n, p in student.named_parameters() if not n.startswith("pooler")]
    o = torch.optim.AdamW([{"params": [p for p in parts if p.ndim > 1], "weight_decay": 0.01}, {"params": [p for p in parts if p.ndim == 1], "weight_decay": 0.0}], lr=LR, betas=(0.9, 0.95), eps=1e-8)
    got = []
    for step in range(steps):
        for g in o.param_groups: g["lr"] = rate(step, steps, LR)
        seen = [divmod(step * BATCH + i, together) for i in range(BATCH)]
        rows = [ids[order(1, train // together, u) * together + k] for u, k in seen]
        with torch.no_grad(): t = embed(teacher, rows)
        loss = loss_of(embed(student, rows), t)
        o.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parts, 1.0)
        o.step()
        got.append(loss.item())
    return got


open(f"{out}/pairs.tsv", "w").write("\n".join(f"{a}\t{b}" for a, b in zip(lines[::2], lines[1::2])))
for name, data, steps, together, loss_of in (("embed", "sentences.txt", STEPS, 1, to_teacher), ("contrastive", "pairs.tsv", 8, 2, to_partner)):
    must("distill", "--teacher", minilm, "--keep-layers", "1,3,5", "-o", f"{out}/{name}", "--data", f"{out}/{data}", "--ctx", CTX, "--batch", BATCH,
         "--micro", BATCH, "--steps", steps, "--lr", LR, "--loss", name, "--eval-windows", HELD, "--json", f"{out}/r.json")
    mine = [c["loss"] for c in json.load(open(f"{out}/r.json"))["curve"]]
    exact, single = (curve(dtype, loss_of, steps, together) for dtype in (torch.float64, torch.float32))
    off = [max(abs(a - b) / b for a, b in zip(c, exact)) for c in (mine, single)]
    check(f"{name}, {steps} steps, loss {mine[0]:.4f} -> {mine[-1]:.4f}: the curve is torch's", off[0] < max(1e-4, 3 * off[1]),
          f"pare within {off[0]:.1e} of torch in double, torch in single within {off[1]:.1e}")
open(f"{out}/three.txt", "w").write("\n".join(lines[-3:]))
must("distill", "--teacher", minilm, "--hidden", 192, "-o", f"{out}/half", "--data", f"{out}/sentences.txt", "--ctx", CTX, "--batch", BATCH, "--steps", 2, "--lr", LR)
for name, sizes in (("embed", (384, 12, 3)), ("half", (192, 6, 6))):
    student, info = AutoModel.from_pretrained(f"{out}/{name}", output_loading_info=True)
    c = student.config
    check(f"{name}: what transformers reads", (c.hidden_size, c.num_attention_heads, c.num_hidden_layers) == sizes and not any(info.values()), info)
    must("run", f"{out}/{name}", "--input", f"{out}/three.txt", "--json", f"{out}/three.json")
    with torch.no_grad(): theirs = [F.normalize(embed(student.eval(), [i]), dim=1).numpy()[0] for i in ids[-3:]]
    ours = [np.array(j["embedding"]) for j in json.load(open(f"{out}/three.json"))]
    far = max(np.abs(a / np.linalg.norm(a) - b).max() for a, b in zip(ours, theirs))
    check(f"{name}: the student in transformers gives pare's embeddings", far < 1e-5, f"{far:.1e}")
finish()
