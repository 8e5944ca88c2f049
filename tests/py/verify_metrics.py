# SPDX-License-Identifier: Apache-2.0
"""Metrics of pare against numpy on the same numbers: verify_metrics.py BUILD (uses BUILD/tests/test_metrics)."""
import json
import subprocess
import sys
import tempfile

import numpy as np

V, N, W, S, D, K = 777, 60, 6, 50, 32, 5


def check(name, got, want, eps=1e-9):
    if not abs(got - want) <= eps * max(1.0, abs(want)):
        sys.exit(f"{name}: pare {got!r}, numpy {want!r}")


def ranks(x):
    order = np.argsort(x, kind="stable")
    r = np.empty(len(x))
    r[order] = np.arange(1, len(x) + 1)
    for v in np.unique(x):
        r[x == v] = r[x == v].mean()
    return r


def spearman(a, b):
    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


with tempfile.TemporaryDirectory() as d:
    subprocess.run([f"{sys.argv[1]}/tests/test_metrics", d], check=True)
    load = lambda name, t: np.fromfile(f"{d}/{name}", t)
    lm = json.load(open(f"{d}/lm.json"))["metrics"]
    p, q = (load(f"{x}.f32", "<f4").astype(np.float64).reshape(W * N, V) for x in "pq")
    nxt = load("next.i64", "<i8")
    log_soft = lambda x: x - x.max(1, keepdims=True) - np.log(np.exp(x - x.max(1, keepdims=True)).sum(1, keepdims=True))
    lp, lq = log_soft(p), log_soft(q)
    rows = np.arange(W * N)
    kl = (np.exp(lp) * (lp - lq)).sum(1)
    dp = np.exp(lq[rows, nxt]) - np.exp(lp[rows, nxt])
    cosine = (p * q).sum(1) / np.sqrt((p * p).sum(1) * (q * q).sum(1))
    want = {
        "ppl": (np.exp(-lp[rows, nxt].mean()), np.exp(-lq[rows, nxt].mean())),
        "ppl_ratio": (None, np.exp((lp[rows, nxt] - lq[rows, nxt]).mean())),
        "kl_mean": (None, kl.mean()), "kl_median": (None, np.median(kl)), "kl_max": (None, kl.max()),
        "kl_p90": (None, np.percentile(kl, 90)), "kl_p95": (None, np.percentile(kl, 95)),
        "kl_p99": (None, np.percentile(kl, 99)), "kl_p999": (None, np.percentile(kl, 99.9)),
        "top1": (None, (p.argmax(1) == q.argmax(1)).mean()),
        "accuracy": ((p.argmax(1) == nxt).mean(), (q.argmax(1) == nxt).mean()),
        "dp_mean": (None, dp.mean()), "dp_rms": (None, np.sqrt((dp * dp).mean())),
        "dp_p1": (None, np.percentile(dp, 1)), "dp_p5": (None, np.percentile(dp, 5)), "dp_median": (None, np.median(dp)),
        "dp_p95": (None, np.percentile(dp, 95)), "dp_p99": (None, np.percentile(dp, 99)),
        "sqnr": (None, 10 * np.log10((p * p).sum() / ((p - q) ** 2).sum())), "cosine_mean": (None, cosine.mean()),
    }
    assert set(want) == set(lm), set(want) ^ set(lm)
    for key, values in want.items():
        for column, value in enumerate(values):
            got = lm[key]["values"][column]
            if value is None:
                assert got is None, key
                continue
            check(key, got["value"], value)
            assert got["lo"] <= got["value"] <= got["hi"], (key, got)
    # The interval of a mean over windows: the normal approximation with the spread of window means, within a third.
    spread = kl.reshape(W, N).mean(1).std() / np.sqrt(W)
    width = lm["kl_mean"]["values"][1]["hi"] - lm["kl_mean"]["values"][1]["lo"]
    check("interval of kl_mean", width / (2 * 1.96 * spread), 1, 0.34)

    en = json.load(open(f"{d}/encoder.json"))["metrics"]
    e, f = (load(f"{x}.f32", "<f4").astype(np.float64).reshape(S, D) for x in "ef")
    gold = load("scores.f64", "<f8")
    unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
    ue, uf = unit(e), unit(f)
    cosine = (ue * uf).sum(1)
    near = []
    for u in (ue, uf):
        c = u @ u.T
        np.fill_diagonal(c, -2)
        near.append(np.argsort(-c, axis=1, kind="stable")[:, :K])
    overlap = np.mean([len(set(a) & set(b)) / K for a, b in zip(*near)])
    a, b = np.arange(S // 2), S - 1 - np.arange(S // 2)
    ce, cf = (ue[a] * ue[b]).sum(1), (uf[a] * uf[b]).sum(1)
    check("cosine_mean", en["cosine_mean"]["values"][1]["value"], cosine.mean())
    check("cosine_min", en["cosine_min"]["values"][1]["value"], cosine.min())
    check("cosine_p1", en["cosine_p1"]["values"][1]["value"], np.percentile(cosine, 1))
    check("overlap", en["overlap"]["values"][1]["value"], overlap)
    check("sqnr", en["sqnr"]["values"][1]["value"], 10 * np.log10((e * e).sum() / ((e - f) ** 2).sum()))
    check("spearman original", en["spearman"]["values"][0]["value"], spearman(ce, gold))
    check("spearman reduced", en["spearman"]["values"][1]["value"], spearman(cf, gold))
    check("spearman_models", en["spearman_models"]["values"][1]["value"], spearman(ce, cf))
print("every metric equals numpy's")
