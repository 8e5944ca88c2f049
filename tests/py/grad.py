# SPDX-License-Identifier: Apache-2.0
"""Results and gradients of tests/tools/grad_dump.c against torch in double. usage: grad.py FILE.txt FILE.bin"""
import sys

import numpy as np
import torch
import torch.nn.functional as F

TOL = 4e-5  # of the largest element: f32 sums and differences of at most a few hundred terms


def attention(q, k, v, rest, note):
    heads, kv, causal, scale, nonpad, length, masked = note
    heads, kv = int(heads), int(kv)
    flat = q.ndim == 3
    if flat:
        q, k, v = (t.reshape(t.shape[0], t.shape[1], h, -1).transpose(1, 2) for t, h in ((q, heads), (k, kv), (v, kv)))
    k, v = k.repeat_interleave(heads // kv, 1), v.repeat_interleave(heads // kv, 1)
    s = q @ k.transpose(-1, -2) * (float(scale) or q.shape[-1] ** -0.5)
    nq, nk = s.shape[-2:]
    if int(masked):
        s = s + rest[0]
    if int(causal):
        s = s.masked_fill(torch.ones(nq, nk).triu(1).bool(), -torch.inf)
    if int(nonpad):  # of the last sequence; the others are whole
        hidden = torch.zeros(s.shape[0], 1, 1, nk, dtype=torch.bool)
        hidden[-1, ..., int(length):] = True
        s = s.masked_fill(hidden, -torch.inf)
    y = s.softmax(-1) @ v
    return y.transpose(1, 2).reshape(y.shape[0], nq, -1) if flat else y


def rotary(x, cos, sin, note):
    interleaved, heads = int(note[0]), int(note[1])
    b, t, _ = x.shape
    h = x.reshape(b, t, heads, -1)
    cos, sin = cos[:, :, None], sin[:, :, None]
    if interleaved:
        a, c = h[..., 0::2], h[..., 1::2]
        return torch.stack((cos * a - sin * c, sin * a + cos * c), -1).reshape(x.shape)
    a, c = h.chunk(2, -1)
    return torch.cat((cos * a - sin * c, sin * a + cos * c), -1).reshape(x.shape)


def reduction(f, x, note):
    axes = [int(a) for a in note[1:]] or list(range(x.ndim))
    return f(x, dim=axes, keepdim=bool(int(note[0])))


def gemm(a, b, c, note):
    beta, ta, tb = float(note[0]), int(note[1]), int(note[2])
    return 1.5 * (a.T if ta else a) @ (b.T if tb else b) + beta * c


def norm(x, scale, bias=None):
    axes = tuple(range(x.ndim - scale.ndim, x.ndim))
    if bias is None:
        return x * (x.square().mean(axes, keepdim=True) + 1e-3).rsqrt() * scale
    return F.layer_norm(x, scale.shape, scale, bias, 1e-3)


OPS = {
    "Add": lambda x, n: x[0] + x[1], "Sub": lambda x, n: x[0] - x[1], "Mul": lambda x, n: x[0] * x[1],
    "Div": lambda x, n: x[0] / x[1], "Sqrt": lambda x, n: x[0].sqrt(), "Erf": lambda x, n: torch.erf(x[0]),
    "Exp": lambda x, n: x[0].exp(), "Log": lambda x, n: x[0].log(), "Sigmoid": lambda x, n: x[0].sigmoid(),
    "Tanh": lambda x, n: x[0].tanh(), "Relu": lambda x, n: x[0].relu(),
    "Gelu": lambda x, n: F.gelu(x[0], approximate=n[0]), "Swish": lambda x, n: x[0] * (float(n[0]) * x[0]).sigmoid(),
    "Softmax": lambda x, n: x[0].softmax(int(n[0])), "LogSoftmax": lambda x, n: x[0].log_softmax(int(n[0])),
    "ReduceMean": lambda x, n: reduction(torch.mean, x[0], n), "ReduceSum": lambda x, n: reduction(torch.sum, x[0], n),
    "Expand": lambda x, n: x[0].expand([int(d) for d in n]),
    "Reshape": lambda x, n: x[0].reshape(x[0].shape[0], -1, 2),
    "Transpose": lambda x, n: x[0].permute([int(d) for d in n]),
    "Gather": lambda x, n: x[0][[int(i) for i in n]],
    "Tied": lambda x, n: x[0][[1, 0, 1]].tanh() @ x[0].T,
    "MatMul": lambda x, n: x[0] @ (x[1].T if n[0] == "T" else x[1]), "Gemm": lambda x, n: gemm(*x, n),
    "LayerNormalization": lambda x, n: norm(*x), "RMSNormalization": lambda x, n: norm(*x),
    "RotaryEmbedding": lambda x, n: rotary(*x, n), "Attention": lambda x, n: attention(*x[:3], x[3:], n),
}


def cases(txt, data):
    at, case = 0, None
    for line in open(txt):
        word, *rest = line.split()
        if word == "case":
            if case:
                yield case
            case = {"name": rest[0], "seed": rest[1], "note": rest[2:], "x": [], "g": []}
        else:
            kind, wanted, _, ndim, *dims = rest
            shape = [int(d) for d in dims]
            n = int(np.prod(shape))
            t = torch.tensor(data[at:at + n].astype(np.float64)).reshape(shape)
            at += n
            if kind == "x":
                case["x"].append(t.requires_grad_(wanted == "1"))
            elif kind == "g":
                case["g"].append(t)
            else:
                case[kind] = t
    yield case


def main(txt, binary):
    worst, count = {}, 0
    for c in cases(txt, np.fromfile(binary, np.float32)):
        y = OPS[c["name"]](c["x"], c["note"])
        assert y.shape == c["y"].shape, (c["name"], c["seed"], y.shape, c["y"].shape)
        (y * c["r"]).sum().backward()
        pairs = [(y.detach(), c["y"])] + list(zip([t.grad for t in c["x"] if t.requires_grad], c["g"], strict=True))
        for i, (want, got) in enumerate(pairs):
            error = float((want - got).abs().max() / (1e-3 + want.abs().max()))
            worst[c["name"]] = max(worst.get(c["name"], 0), error)
            assert error <= TOL, f"{c['name']} seed {c['seed']}: {'result' if not i else f'gradient {i - 1}'} off by {error:g}"
        count += 1
    assert set(worst) == set(OPS), set(OPS) ^ set(worst)
    print(f"gradients: {count} cases of {len(worst)} operators agree with torch; worst {max(worst.values()):.1e} "
          f"({max(worst, key=worst.get)})")


main(*sys.argv[1:])
