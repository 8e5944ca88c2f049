# SPDX-License-Identifier: Apache-2.0
"""pare verify on two devices: four columns, parity, the layer view that names a broken kernel, and devices that cannot be had.

usage: verify_devices.py PARE MOCK.so LIBPARE.so EMULATED.so STORIES260K

The second device is tests/tools/plugin_mock.c: the CPU's kernels behind the plug-in boundary, so its numbers must be equal
bit for bit, until it is told to break one matrix product. At last the kernels of cuda/, emulated.
"""
import json
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml

from tiny_encoder import tiny_encoder

pare, mock, lib, emulated, stories = map(os.path.abspath, sys.argv[1:6])
checks = 0


def run(*args, rc=0, say=None, plugin=mock, one_line=False, **env):
    global checks
    checks += 1
    e = {k: v for k, v in os.environ.items() if not k.startswith("PARE_")} | {"PARE_PLUGIN_CUDA": plugin} | env
    r = subprocess.run([pare, *args], capture_output=True, text=True, env=e)
    what = f"{env} pare {' '.join(args)}"
    if r.returncode != rc or (say and say not in r.stderr + r.stdout):
        sys.exit(f"{what}: exit {r.returncode}, expected {rc}{f' and the words {say!r}' if say else ''}\n"
                 f"{r.stdout[-3000:]}{r.stderr[-3000:]}")
    if one_line and (r.stdout or r.stderr.count("\n") != 1):
        sys.exit(f"{what}: one line on stderr was expected\n{r.stdout}{r.stderr}")
    return r


def verify(*args, **kw):
    return run("verify", stories, "q8.gguf", "--ctx", "64", "--windows", "6", "--quiet", *args, **kw)


def report(path):
    return json.load(open(path))


with tempfile.TemporaryDirectory() as top:
    os.chdir(top)
    run("quantize", stories, "-o", "q8.gguf", "--to", "q8_0", "--quiet")

    # One device: two columns, as ever; and what both devices together say of the first one is the same.
    verify("--json", "one.json")
    one = report("one.json")
    assert len(one["columns"]) == 2 and "parity" not in one and "parity" not in one["metrics"]
    verify("--device", "cuda", "--json", "cuda.json")
    cuda = report("cuda.json")
    assert [c["device"] for c in cuda["columns"]] == ["cuda"] * 2 and cuda["metrics"] == one["metrics"]

    # Four columns, equal on both devices to the last bit; the same bytes at every number of threads and every time.
    for t in ("1", "2", "3"):
        verify("--device", "cpu,cuda", "--layers", "--min-parity", "60", "--max-kl", "0.1", "--json", f"t{t}.json", "--threads", t)
    assert open("t1.json").read() == open("t2.json").read() == open("t3.json").read()
    r = report("t2.json")
    assert [(c["role"], c["device"]) for c in r["columns"]] == [(m, d) for d in ("cpu", "cuda") for m in ("original", "reduced")]
    assert r["columns"][2]["device_text"] == "a mock of a GPU" and r["columns"][0]["device_text"]
    for key, m in r["metrics"].items():
        v = m["values"]
        assert len(v) == 4, key
        if key == "parity":
            assert v[:2] == [None, None] and v[2]["value"] == v[3]["value"] == "inf"
            continue
        assert v[:2] == one["metrics"][key]["values"], key
        assert v[3] == v[1], key
        assert m["value"] == v[1]["value"], key
    assert r["metrics"]["kl_max"]["values"][2]["value"] == 0 and r["metrics"]["kl_max"]["values"][1]["value"] > 0
    assert r["metrics"]["ppl"]["values"][2] == r["metrics"]["ppl"]["values"][0]
    assert [(g["metric"], g["column"]) for g in r["gates"]] == [("kl_mean", 1), ("kl_mean", 3), ("parity", 2), ("parity", 3)]
    for m in ("original", "reduced"):
        p = r["parity"][m]
        assert p["first_diverging"] is None and len(p["nodes"]) == len(r["layers"]) and p["sqnr_db"] == "inf"
        assert all(n["sqnr_db"] == "inf" and n["channel"] == -1 and not n["diverges"] for n in p["nodes"])
    verify("--device", "cpu,cuda", "--layers", say="first diverging node: none")
    verify("--device", "cpu,cuda", "--baseline", "one.json", "--tolerance", "0.01", say="baseline kl_mean")
    verify("--device", "cpu,cuda", "--baseline", "t2.json", "--tolerance", "0.01", say="baseline parity")
    verify("--baseline", "t2.json", rc=3, say="column 2")

    # Every matrix product broken in turn is the one that is named, on both models, whatever comes after it; and a limit on
    # parity fails although nothing but one column of one product is off by 1/128.
    names = [n["name"] for n in r["layers"] if n["what"] == "MatMul"]
    assert len(names) == 5 * 7 + 1
    for k in (0, 4, 13, 35):
        verify("--device", "cpu,cuda", "--layers", "--min-parity", "120", "--json", "broken.json", "--junit", "broken.xml",
               "--report", "broken.html", rc=1, PARE_MOCK_BREAK=str(k), say=f"first diverging node: {names[k]} MatMul")
        b = report("broken.json")
        for m in ("original", "reduced"):
            p = b["parity"][m]
            assert p["first_diverging"] == names[k], (k, p["first_diverging"])
            wrong = [n for n in p["nodes"] if n["sqnr_db"] != "inf"]
            assert [n["name"] for n in wrong] == [names[k]] and wrong[0]["diverges"] and wrong[0]["channel"] == 1
            assert 42.1 < wrong[0]["channel_db"] < 90, wrong  # 20 log10(128), and more where the column is a quiet one
            assert 40 < p["sqnr_db"] < 120
        failed = [g for g in b["gates"] if not g["pass"]]
        assert [g["column"] for g in failed] == [2, 3] and b["passed"] is False
        assert b["metrics"]["kl_max"]["values"][2]["value"] > 0
        assert b["layers"] == r["layers"], "original against reduced is the first device's business"
    suite = xml.parse("broken.xml").getroot().find("testsuite")
    properties = {p.get("name"): p.get("value") for p in suite.iter("property")}
    assert suite.get("failures") == "2" and properties["first_diverging_reduced"] == names[35]
    assert " on cuda" in properties["column2"] and " on cuda" in properties["column3"]
    page = open("broken.html").read()
    assert "Parity: cuda against cpu" in page and names[35] in page and "a mock of a GPU" in page and "http" not in page
    # Without the layer view parity is still said; as a gate it wants two devices.
    s = verify("--device", "cpu,cuda", PARE_MOCK_BREAK="4").stdout
    assert re.search(r"^  original  logits: SQNR [0-9.]+ dB, max error", s, re.M), s
    verify("--min-parity", "60", rc=2, say="--device cpu,cuda")

    # What the device does not run, the CPU runs, and every report says so.
    verify("--device", "cpu,cuda", "--layers", "--json", "refused.json", "--report", "refused.html", "--junit", "refused.xml",
           PARE_MOCK_REFUSE="Swish", say="5 nodes run by the CPU: blk.0.ffn_act blk.1.ffn_act")
    f = report("refused.json")
    want = [f"blk.{i}.ffn_act" for i in range(5)]
    assert [c["fallbacks"] for c in f["columns"]] == [[], [], want, want] and not any(c["streamed"] for c in f["columns"])
    assert f["metrics"] == r["metrics"] and f["parity"] == r["parity"]
    assert "memory_bytes" not in f["columns"][0]
    for c in (2, 3):  # the weights at least, and not much more than them at this size
        assert f["columns"][c]["weight_bytes"] < f["columns"][c]["memory_bytes"] < 40e6, f["columns"][c]
    assert "5 nodes run by the CPU" in open("refused.html").read() and "5 nodes run by the CPU" in open("refused.xml").read()

    # Sentence encoders.
    bert = tiny_encoder("bert")
    run("quantize", bert, "-o", "bert8", "--to", "int8", "--quiet")
    two = ("verify", bert, "bert8", "--quiet", "--device", "cpu,cuda", "--layers", "--min-parity", "100", "--min-spearman", "-1")
    run("verify", bert, "bert8", "--quiet", "--json", "e1.json")
    run(*two, "--json", "e.json")
    e, e1 = report("e.json"), report("e1.json")
    for key, m in e["metrics"].items():
        if key != "parity":
            assert m["values"][:2] == e1["metrics"][key]["values"] and m["values"][3] == m["values"][1], key
    assert e["metrics"]["cosine_min"]["values"][2]["value"] == 1 and e["metrics"]["cosine_min"]["values"][1]["value"] < 1
    assert [(g["metric"], g["column"]) for g in e["gates"]] == [("spearman", 1), ("spearman", 3), ("parity", 2), ("parity", 3)]
    assert all(e["parity"][m]["output"] == "embeddings" and e["parity"][m]["first_diverging"] is None for m in ("original", "reduced"))
    first = [n["name"] for n in e["layers"] if n["what"] == "MatMul"][7]
    run(*two, rc=1, PARE_MOCK_BREAK="7", say=f"first diverging node: {first} MatMul")

    # Devices that cannot be had, or are none: one line, and the right exit status.
    for cmd in (("verify", stories, "q8.gguf"), ("run", stories, "--prompt", "Once", "-n", "1")):
        run(*cmd, "--device", "cuda", plugin=f"{top}/nothing.so", rc=4, one_line=True, say="cannot be loaded")
        run(*cmd, "--device", "cuda", plugin=lib, rc=4, one_line=True, say="no plug-in of pare")
        run(*cmd, "--device", "cuda", PARE_MOCK_BUILD_ID="17-4", rc=4, one_line=True, say="another build of pare (17-4")
        run(*cmd, "--device", "abacus", rc=2, one_line=True, say="cpu and cuda")
    run("verify", stories, "q8.gguf", "--device", "cpu,cuda", plugin=stories + "/config.json", rc=4, one_line=True, say="cannot be loaded")
    for bad in ("cpu,cpu", "cpu,", ",", "cpu,cuda,cpu", ""):
        run("verify", stories, "q8.gguf", f"--device={bad}", rc=2, one_line=True, say="--device")
    run("verify", stories, "q8.gguf", "--weights", "--device", "cpu,cuda", rc=2, one_line=True, say="--weights")

    # The GPU's own kernels on the host: float noise, and nothing that diverges.
    small = ("verify", stories, "q8.gguf", "--ctx", "16", "--windows", "2", "--quiet", "--device", "cpu,cuda", "--layers")
    run(*small, "--min-parity", "90", "--json", "emu.json", plugin=emulated)
    g = report("emu.json")
    assert g["columns"][2]["device"] == "cuda" and len(g["parity"]["reduced"]["nodes"]) == len(g["layers"])
    assert g["parity"]["original"]["first_diverging"] is None and g["parity"]["reduced"]["first_diverging"] is None

    # What there is.
    assert re.match(r"cpu: .*\ncuda: a mock of a GPU\n$", run("inspect", "--devices").stdout)
    assert re.match(r"cpu: .*\nno GPU: .*no plug-in.*\n$", run("inspect", "--devices", plugin=lib).stdout)
    a, b = (run("run", stories, "--prompt", "Once upon", "-n", "16", "--temp", "0", "--device", d, "--quiet").stdout for d in ("cpu", "cuda"))
    assert a == b and len(a) > 20
    for cmd in ("verify", "run"):
        assert "--device" in run(cmd, "--help").stdout
print(f"{checks} runs as expected")
