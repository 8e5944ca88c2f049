# SPDX-License-Identifier: Apache-2.0
"""The same recipe in PyTorch: a student of three of stories260k's five layers, KL and cross-entropy, AdamW, the same
windows in the same order. The curves must agree step by step, and in bf16 (--precision bf16, torch.autocast) stay as near to
the exact one; then the speed of both on one shape.

usage: peer_distill.py PARE TOK_DUMP MODELS TEXT OUTDIR"""
import json, math, os, shutil, sys, time
import numpy as np
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from checks import commands, fresh
from distill_order import order, rate, token_ids

pare, tok_dump, models, text, out = sys.argv[1:6]
teacher = f"{models}/stories260k"
fresh(out)
STEPS, CTX, BATCH, HELD, LR = 30, 128, 4, 8, 2e-3
TERMS = {"kl": 1.0, "ce": 0.5}
_, must = commands(pare)
ids = token_ids(tok_dump, teacher, text)
n = (len(ids) - 1) // CTX
train = n - HELD


def batch(step, dtype):
    rows = [order(1, train, step * BATCH + i) * CTX for i in range(BATCH)]
    x, y = np.stack([ids[r:r + CTX] for r in rows]), np.stack([ids[r + 1:r + CTX + 1] for r in rows])
    x[:, 0] = 1  # BOS, as the model's tokenizer says
    return torch.tensor(x), torch.tensor(y)


def loss_of(student, big, x, y):
    s = student(x).logits
    loss = 0
    if big is not None:
        with torch.no_grad(): t = big(x).logits.log_softmax(-1)
        loss = TERMS["kl"] * (t.exp() * (t - s.log_softmax(-1))).sum(-1).mean()
    return loss + TERMS["ce"] * F.cross_entropy(s.flatten(0, 1), y.flatten())


def optimizer(model):
    parts = [{"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.01},
             {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0}]
    return torch.optim.AdamW(parts, lr=LR, betas=(0.9, 0.95), eps=1e-8)


def mixed(on):
    return torch.autocast("cpu", torch.bfloat16, enabled=on)


def curve(dtype, bf16=False):
    big = AutoModelForCausalLM.from_pretrained(teacher).to(dtype).eval()
    student = AutoModelForCausalLM.from_pretrained(f"{out}/cut").to(dtype)
    o, got = optimizer(student), []
    for step in range(STEPS):
        for g in o.param_groups: g["lr"] = rate(step, STEPS, LR)
        with mixed(bf16): loss = loss_of(student, big, *batch(step, dtype))
        o.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        o.step()
        got.append(loss.item())
    return got


def speed(threads, bf16=False):
    """Seconds of processor time a step: 10.8 M parameters, 4096 tokens, cross-entropy alone."""
    torch.set_num_threads(threads)
    c = LlamaConfig(vocab_size=512, hidden_size=384, intermediate_size=1024, num_hidden_layers=6, num_attention_heads=6, num_key_value_heads=6,
                    max_position_embeddings=1024, tie_word_embeddings=True)
    model = LlamaForCausalLM(c)
    model.save_pretrained(f"{out}/ten")
    for f in ("tokenizer.json", "tokenizer_config.json"): shutil.copyfile(f"{teacher}/{f}", f"{out}/ten/{f}")
    o, x = optimizer(model), torch.randint(0, 512, (16, 257))
    best = math.inf
    for _ in range(4):
        t = time.process_time()
        with mixed(bf16): loss = F.cross_entropy(model(x[:, :-1]).logits.flatten(0, 1), x[:, 1:].flatten())
        o.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        o.step()
        best = min(best, time.process_time() - t)
    return best, sum(p.numel() for p in model.parameters())


def ours(steps, threads, precision="f32"):
    t = os.times()
    must("distill", "--teacher", f"{out}/ten", "-o", f"{out}/ten-out", "--data", text, "--loss", "ce", "--ctx", 256, "--batch", 16, "--micro", 16,
         "--eval-windows", 1, "--steps", steps, "--warmup", 0, "--threads", threads, "--precision", precision, "--force")
    u = os.times()
    return u.children_user + u.children_system - t.children_user - t.children_system


must("prune", teacher, "-o", f"{out}/cut", "--pattern", "layers", "--drop", "2-3", "--no-heal")


def pares(name, precision):
    must("distill", "--teacher", teacher, "--keep-layers", "0-1,4", "-o", f"{out}/{name}", "--data", text, "--ctx", CTX, "--batch", BATCH, "--steps", STEPS,
         "--lr", LR, "--loss", "kl=1,ce=0.5", "--eval-windows", HELD, "--precision", precision, "--json", f"{out}/{name}.json")
    return [c["loss"] for c in json.load(open(f"{out}/{name}.json"))["curve"]]


mine, mine16 = pares("student", "f32"), pares("student16", "bf16")
exact, single, single16 = curve(torch.float64), curve(torch.float32), curve(torch.float32, True)
off = [max(abs(a - b) / b for a, b in zip(c, exact)) for c in (mine, single, mine16, single16)]
print(f"loss curve of {STEPS} steps, {mine[0]:.4f} -> {mine[-1]:.4f}: pare within {off[0]:.1e} of torch in double, torch in single within {off[1]:.1e}")
print(f"in bf16: pare within {off[2]:.1e} of torch in double, torch.autocast within {off[3]:.1e}")
bad = off[0] > max(1e-4, 3 * off[1]) or off[2] > 1.5 * off[3] or mine16 == mine
student = AutoModelForCausalLM.from_pretrained(f"{out}/student")
with torch.no_grad(): print("the student in transformers: loss on a held window %.4f" % float(loss_of(student, None, torch.tensor(ids[None, train * CTX:train * CTX + CTX]),
                                                                                torch.tensor(ids[None, train * CTX + 1:train * CTX + CTX + 1])) / TERMS["ce"]))
for bf16 in (False, True) if os.environ.get("SPEED") else ():
    seconds, params = speed(1, bf16)
    name = "bf16" if bf16 else "f32"
    step = (ours(5, 1, name) - ours(1, 1, name)) / 4
    print(f"one thread, {name}, {params / 1e6:.1f} M parameters, 4096 tokens a step, seconds of processor time: torch {seconds:.2f}, pare {step:.2f}: "
          f"{6 * params * 4096 / step / 1e9:.0f} GFLOP/s by 6 N T, {seconds / step:.2f} x torch")
sys.exit(bad)
