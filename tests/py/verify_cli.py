# SPDX-License-Identifier: Apache-2.0
"""pare verify from outside: every gate passing and failing by name, exit statuses, report files, protocol.

usage: verify_cli.py PARE STORIES260K TEXT

Reduced models are made here without pare: the original's weights cut to a few bits of mantissa. The perplexity must be
the one that llama-perplexity prints for the original (5.6998: -c 256, 8 chunks, -fa off, K and V cache f32).
"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml

import numpy as np
from gguf import GGUFReader
from safetensors.numpy import load_file, save_file

from tiny_encoder import tiny_encoder

pare, stories, text = sys.argv[1:4]
checks = 0


def run(*args, rc=0, say=None, threads=2):
    global checks
    checks += 1
    r = subprocess.run([pare, "verify", *args, "--threads", str(threads)], capture_output=True, text=True)
    if r.returncode != rc or (say and say not in r.stderr + r.stdout):
        sys.exit(f"pare verify {' '.join(args)}: exit {r.returncode}, expected {rc}"
                 f"{f' and the words {say!r}' if say else ''}\n{r.stdout[-3000:]}{r.stderr[-3000:]}")
    return r


def cut(x, bits):
    """f32 with only `bits` explicit bits of mantissa, rounded."""
    u = x.astype(np.float32).view(np.uint32)
    drop = 23 - bits
    return ((u + (1 << (drop - 1))) >> drop << drop).astype(np.uint32).view(np.float32)


def cut_gguf(src, dst, change):
    shutil.copyfile(src, dst)
    os.chmod(dst, 0o644)
    where = [(t.name, int(t.data_offset), np.array(t.data)) for t in GGUFReader(src).tensors]
    with open(dst, "r+b") as f:
        for name, offset, data in where:
            f.seek(offset)
            f.write(np.ascontiguousarray(change(name, data)).tobytes())


def folder(src, dst, change=None):
    shutil.copytree(src, dst, ignore=shutil.ignore_patterns("*.gguf"))
    for name in os.listdir(dst):
        os.chmod(f"{dst}/{name}", 0o644)
    if change:
        w = load_file(f"{dst}/model.safetensors")
        save_file({k: change(k, v) for k, v in w.items()}, f"{dst}/model.safetensors", metadata={"format": "pt"})
    return dst


def schema(path, kind):
    r = json.load(open(path))
    assert r["schema"] == "pare-verify-1" and r["kind"] == kind, path
    assert set(r) >= {"pare", "protocol", "columns", "metrics", "gates", "passed"}
    assert [c["role"] for c in r["columns"]] == ["original", "reduced"]
    for key, m in r["metrics"].items():
        assert m["better"] in ("higher", "lower", "neither") and len(m["values"]) == 2, key
        assert m["value"] == m["values"][1]["value"], key
        for v in m["values"]:
            if v and isinstance(v["lo"], float) and isinstance(v["hi"], float):
                assert v["lo"] <= v["hi"], (key, v)
    for g in r["gates"]:
        assert set(g) >= {"name", "metric", "column", "bound", "limit", "value", "pass", "interval_straddles"}
    assert r["passed"] == all(g["pass"] for g in r["gates"])
    return r


def gates(original, reduced, cases, *args):
    """Each gate alone: passes with a loose limit, fails with a tight one, and says so by name."""
    for name, loose, tight in cases:
        for limit, rc, word in ((loose, 0, "PASS"), (tight, 1, "FAIL")):
            r = run(original, reduced, f"--{name}", str(limit), "--junit", "gate.xml", "--quiet", *args, rc=rc)
            if not re.search(rf"^{word} +{name} ", r.stdout, re.M):
                sys.exit(f"--{name} {limit}: no line `{word} {name}` in\n{r.stdout}")
            suite = xml.parse("gate.xml").getroot().find("testsuite")
            case = suite.find("testcase")
            assert suite.get("tests") == "1" and suite.get("failures") == str(rc) and case.get("name") == name
            assert (case.find("failure") is not None) == (rc == 1)


with tempfile.TemporaryDirectory() as top:
    stories, text, pare = map(os.path.abspath, (stories, text, pare))
    os.chdir(top)
    f32 = f"{stories}/stories260k-f32.gguf"
    cut_gguf(f32, "cut.gguf", lambda name, x: cut(x, 2) if x.ndim == 2 else x)
    short = ("--data", text, "--ctx", "128", "--windows", "6")

    # Protocol: the peer's digits; a folder and its GGUF are the same model.
    run(stories, f32, "--data", text, "--ctx", "256", "--windows", "8", "--json", "same.json")
    r = schema("same.json", "lm")
    assert abs(r["metrics"]["ppl"]["values"][0]["value"] - 5.6998) < 1e-4, r["metrics"]["ppl"]
    assert r["metrics"]["kl_max"]["value"] < 1e-9 and r["metrics"]["top1"]["value"] == 1
    assert r["protocol"]["scored"] == 8 * 127 and r["protocol"]["context"] == 256

    # The same bytes at every number of threads; every view at once.
    for t in (1, 2, 3):
        run(stories, "cut.gguf", *short, "--layers", "--json", f"t{t}.json", "--report", "r.html", "--max-kl", "0.5", threads=t)
    one = open("t1.json", "rb").read()
    assert one == open("t2.json", "rb").read() == open("t3.json", "rb").read(), "reports differ between numbers of threads"
    r = schema("t1.json", "lm")
    assert len(r["layers"]) > 50 and any(x["flagged"] for x in r["layers"]) and r["first_differing"]
    assert min(float(x["sqnr_db"]) for x in r["layers"]) > 5, "q and k must be compared in the same row order"
    assert sum(r["kl_histogram"]["counts"]) == r["protocol"]["scored"]
    page = open("r.html").read()
    assert page.startswith("<!DOCTYPE html>") and page.count("<svg") == 2 and "http" not in page
    kl = r["metrics"]["kl_mean"]
    assert kl["lo"] < kl["value"] < kl["hi"]

    gates(stories, "cut.gguf", [("max-kl", 1, 0), ("max-kl99", 10, 1e-6), ("min-top1", 0.1, 1), ("max-ppl", 1000, 1), ("max-ppl-ratio", 2, 0.5),
                                ("min-cosine", 0.5, 1), ("min-sqnr", 1, 90)], *short)
    gates(stories, "cut.gguf", [("min-cosine", 0.9, 1), ("min-sqnr", 5, 90), ("max-error", 10, 1e-9)], "--weights")
    middle = str(kl["value"] * 1.001)  # inside the interval
    run(stories, "cut.gguf", *short, "--max-kl", middle, say="straddles")
    run(stories, "cut.gguf", *short, "--max-kl", middle, "--strict", rc=1)
    run(stories, "cut.gguf", *short, "--gate", "kl_median<=1", "--gate", "accuracy>=0.9", rc=1, say="1 of 2 gates FAILED")

    # Baselines.
    run(stories, "cut.gguf", *short, "--baseline", "t1.json", say="baseline kl_mean")
    cut_gguf(f32, "worse.gguf", lambda name, x: cut(x, 1) if x.ndim == 2 else x)
    run(stories, "worse.gguf", *short, "--baseline", "t1.json", "--tolerance", "0.02", rc=1, say="FAIL")
    run(stories, "worse.gguf", *short, "--baseline", "t1.json", "--tolerance", "9", say="passed")

    # Files that pare itself makes.
    for to, rc in (("q8_0", 0), ("q4_0", 1)):
        subprocess.run([pare, "quantize", stories, "-o", f"{to}.gguf", "--to", to, "--quiet"], check=True, stdout=subprocess.DEVNULL)
        run(stories, f"{to}.gguf", *short, "--act", "int8-block", "--max-kl", "0.01", rc=rc, say="max-kl")
        run(stories, f"{to}.gguf", "--weights", "--min-sqnr", "15", say="PASS")
    run(stories, "cut.gguf", "--data", text, "--ctx", "64", "--windows", "6", "--baseline", "t1.json", rc=3, say="context")
    run(stories, "cut.gguf", "--baseline", "t1.json", "--weights", rc=3, say="kind")

    # Encoders.
    bert = tiny_encoder("bert")
    folder(bert, "bert-cut", lambda name, x: cut(x, 1) if x.ndim == 2 else x)
    open("lines.txt", "w").write("a dog barks at night\nthe cat sleeps\nrain falls on the hills\nfour boats left the harbour\n")
    gates(bert, "bert-cut", [("min-cosine", -1, 1), ("min-spearman", -1, 1), ("min-overlap", 0, 1), ("min-sqnr", -20, 90)])
    for t in (1, 2):
        run(bert, "bert-cut", "--layers", "--json", f"e{t}.json", threads=t)
    assert open("e1.json", "rb").read() == open("e2.json", "rb").read()
    r = schema("e1.json", "encoder")
    assert r["protocol"]["pairs"] == 133 and 0.5 < r["metrics"]["cosine_mean"]["value"] < 1
    run(bert, bert, "--json", "-", "--min-spearman", "-1", say='"spearman_models"')
    run(bert, "bert-cut", "--data", "lines.txt", "--min-overlap", "0")
    run(bert, "bert-cut", "--data", "lines.txt", "--min-spearman", "0", rc=2, say="no metric `spearman`")

    # What the user got wrong: 2. What is wrong with a file: 3. What the machine could not do: 4.
    run(stories, rc=2)
    run(stories, f32, "--min-spearman", "0.5", rc=2, say="no metric")
    run(stories, f32, "--min-top1", "95", rc=2, say="share")
    run(stories, f32, "--max-kl", "nan", rc=2)
    run(stories, f32, "--gate", "kl_mean=3", rc=2)
    run(stories, f32, "--gate", "nonsense<=3", rc=2, say="kl_p99")
    run(stories, f32, "--ctx", "100000", rc=2, say="512")
    run(stories, f32, "--act", "int3", rc=2, say="int8-block")
    run(stories, f32, "--device", "abacus", rc=2, say="cpu")
    run(stories, f32, *short[:4], "--windows", "1", "--max-kl", "1", "--strict", rc=2, say="interval")
    run(bert, stories, rc=3, say="sentence encoder")
    run(stories, "nothing.gguf", rc=3)
    run(stories, f32, "--data", "nothing.txt", rc=3)
    run(stories, f32, "--data", "lines.txt", rc=3, say="tokens")
    run(stories, f32, *short, "--json", "/dev/full", rc=4)
    run(stories, f32, *short, "--json", "no-such-folder/x.json", rc=4, say="does not exist")
    assert not [n for n in os.listdir() if ".tmp" in n]
    cut_gguf(f32, "nan.gguf", lambda name, x: np.where(np.arange(x.size).reshape(x.shape) == 7, np.nan, x).astype(x.dtype)
             if name == "blk.2.ffn_norm.weight" else x)
    run(stories, "nan.gguf", *short, rc=3, say="NaN")
    run(stories, "nan.gguf", "--weights", rc=3, say="NaN")
    folder(stories, "other")
    t = open("other/tokenizer.json").read()
    j = json.loads(t)
    swap = {v: k for k, v in j["model"]["vocab"].items()}
    j["model"]["vocab"] = {("@@" if i == 300 else k): i for k, i in j["model"]["vocab"].items()}
    j["model"]["merges"] = [m for m in j["model"]["merges"] if "".join(m if isinstance(m, list) else m.split(" ")) != swap[300]
                            and swap[300] not in (m if isinstance(m, list) else m.split(" "))]
    json.dump(j, open("other/tokenizer.json", "w"))
    run(stories, "other", *short, rc=3, say="token id 300")
print(f"{checks} runs as expected")
