# SPDX-License-Identifier: Apache-2.0
"""The CUDA backend under whole models, emulated: greedy text equal to the CPU's, every planted fault named by the layer view,
and results that do not depend on how much memory the device has.

usage: cuda_emu_models.py PARE EMULATED.so STORIES260K
"""
import json
import os
import subprocess
import sys
import tempfile

pare, emulated, stories = map(os.path.abspath, sys.argv[1:4])


def run(*args, rc=0, **env):
    e = {k: v for k, v in os.environ.items() if not k.startswith("PARE_")} | {"PARE_PLUGIN_CUDA": emulated} | env
    r = subprocess.run([pare, *args], capture_output=True, text=True, env=e)
    if r.returncode != rc:
        sys.exit(f"{env} pare {' '.join(args)}: exit {r.returncode}, expected {rc}\n{r.stdout[-3000:]}{r.stderr[-3000:]}")
    return r.stdout


def text(model, device, **env):
    return run("run", model, "--prompt", "Once upon a time", "-n", "24", "--temp", "0", "--quiet", "--device", device, **env)


def verify(model, device, *args, **env):
    run("verify", stories, model, "--ctx", "16", "--windows", "2", "--quiet", "--device", device, "--json", "v.json", *args, **env)
    return json.load(open("v.json"))


with tempfile.TemporaryDirectory() as top:
    os.chdir(top)
    for to in ("q8_0", "q4_0"):
        run("quantize", stories, "-o", f"{to}.gguf", "--to", to, "--quiet")

    # Greedy text, with the threads of every block in two orders.
    for model in (stories, "q8_0.gguf", "q4_0.gguf"):
        want = text(model, "cpu")
        assert len(want) > 20, want
        for seed in ("1", "77"):
            got = text(model, "cuda", PARE_EMU_SEED=seed)
            assert got == want, (model, seed, got, want)

    # One scale of one weight off by one code. The tied embedding is number 0, then come the products that are stored with
    # scales (ffn_down, of 172 columns, is not), in the model's order.
    plain = verify("q8_0.gguf", "cpu,cuda", "--layers")
    assert plain["parity"]["reduced"]["first_diverging"] is None and plain["parity"]["original"]["first_diverging"] is None
    products = [n["name"] for n in plain["layers"] if n["what"] == "MatMul"]
    named = [products[-1]] + [p for p in products[:-1] if not p.endswith("ffn_down")]
    assert len(named) == 31
    for i in (0, 1, 5, 14, 19, 30):
        p = verify("q8_0.gguf", "cpu,cuda", "--layers", PARE_CUDA_FAULT=str(i))["parity"]
        assert p["reduced"]["first_diverging"] == named[i], (i, named[i], p["reduced"]["first_diverging"])
        assert p["original"]["first_diverging"] is None, "its weights have no scales"

    # Weights that do not fit come stage by stage: said, and nothing else changes.
    whole = verify("q8_0.gguf", "cuda")
    assert not any(c["streamed"] for c in whole["columns"])
    need = max(c["memory_bytes"] for c in whole["columns"])
    small = verify("q8_0.gguf", "cuda", PARE_CUDA_MEMORY=str(need * 6 // 10))
    assert small["columns"][0]["streamed"] and small["metrics"] == whole["metrics"]
    assert text(stories, "cuda", PARE_CUDA_MEMORY=str(need * 6 // 10)) == text(stories, "cuda")
print("models on the emulated GPU: text, faults and streaming as expected")
