# SPDX-License-Identifier: Apache-2.0
"""Recipes: prune, quantize and verify in one go, against the same commands one by one; zeros read by other packages.

usage: recipe.py PARE MODELS TEXT OUTDIR     (MODELS holds stories260k/)

Prints a line per check; exit 1 on a failure."""
import json, os, shutil, signal, subprocess, sys, time
import numpy as np
import gguf
from safetensors.numpy import load_file
from checks import check, finish

pare, models, text, out = sys.argv[1:5]
pare, src, text = os.path.abspath(pare), os.path.abspath(f"{models}/stories260k"), os.path.abspath(text)
shutil.rmtree(out, ignore_errors=True)
os.makedirs(out)


def run(*a, cmd="recipe", **k):
    return subprocess.run([pare, cmd, *map(str, a)], capture_output=True, text=True, **k)


def must(*a, cmd="recipe"):
    r = run(*a, "--quiet", cmd=cmd)
    if r.returncode: sys.exit(f"pare {cmd} {' '.join(map(str, a))}: exit {r.returncode}: {r.stderr}")


def recipe(name, steps, **more):
    j = {"model": src, "output": f"{name}.gguf", "calib": {"text": text, "windows": 24, "ctx": 128}, "steps": steps} | more
    open(f"{out}/{name}.json", "w").write(json.dumps(j))
    return f"{out}/{name}.json"


def read(f): return open(f, "rb").read()


prune = {"do": "prune", "method": "sparsegpt", "pattern": "2:4"}
gptq = {"do": "quantize", "to": "q8_0", "method": "gptq"}
verify = {"do": "verify", "windows": 4, "ctx": 128, "gates": {"max-kl": 3, "min-top1": 0.1}}
calib = ["--calib", text, "--calib-windows", 24, "--calib-ctx", 128]

# ---- the chain is what its commands are ----
r = run(recipe("chain", [prune, gptq, verify]), "--json", f"{out}/chain-report.json", "--report", f"{out}/chain.html", "--junit", f"{out}/chain.xml")
check("exit status 0, gates passed", r.returncode == 0 and "all 2 gates passed" in r.stdout, r.stderr[-200:])
must(src, "-o", f"{out}/alone", *calib, "--method", "sparsegpt", "--pattern", "2:4", cmd="prune")
must(f"{out}/alone", "-o", f"{out}/alone.gguf", *calib, "--to", "q8_0", "--method", "gptq", "--keep-zeros", cmd="quantize")
tensors = lambda f: {t.name: (t.tensor_type, bytes(t.data)) for t in gguf.GGUFReader(f).tensors}
check("the same tensors as prune and quantize alone", tensors(f"{out}/chain.gguf") == tensors(f"{out}/alone.gguf"))
name = gguf.GGUFReader(f"{out}/chain.gguf").fields["general.name"].contents()
check("the model is called as the first one is", name == "stories260k", name)
check("no folder of steps is left", not [f for f in os.listdir(out) if "pare-" in f], os.listdir(out))
j = json.load(open(f"{out}/chain-report.json"))
check("the report has all steps", [s["step"] for s in j["steps"]] == ["prune", "quantize", "verify"] and j["failed_gates"] == 0 and j["steps"][2]["report"]["passed"])
run(src, f"{out}/chain.gguf", "--windows", 4, "--ctx", 128, "--json", f"{out}/verify.json", cmd="verify")
kl = [x["metrics"]["kl_mean"]["value"] for x in (j["steps"][2]["report"], json.load(open(f"{out}/verify.json")))]
check("its numbers are pare verify's", kl[0] == kl[1], kl[0])
check("the page and the JUnit file are verify's", "<svg" in open(f"{out}/chain.html").read() and "<testcase" in open(f"{out}/chain.xml").read())

# ---- zeros, as other packages see them ----
masks = {k: v == 0 for k, v in load_file(f"{out}/alone/model.safetensors").items()}
q = {t.name: gguf.dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(f"{out}/chain.gguf").tensors}
pairs = [(q[f"blk.{l}.{g}.weight"], masks[f"model.layers.{l}.mlp.{h}.weight"]) for l in range(5) for g, h in (("ffn_up", "up_proj"), ("ffn_gate", "gate_proj"), ("ffn_down", "down_proj"))]
check("gguf-py finds every zero of the pruned model in the quantized one", all((w[m] == 0).all() for w, m in pairs) and sum(m.sum() for _, m in pairs) > 70000)
must(f"{out}/alone", "-o", f"{out}/lost.gguf", *calib, "--to", "q8_0", "--method", "gptq", cmd="quantize")
lost = {t.name: gguf.dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(f"{out}/lost.gguf").tensors}["blk.0.ffn_up.weight"]
check("without --keep-zeros GPTQ gives some of them up", (lost[pairs[0][1]] == 0).mean() < 0.995, f"{(lost[pairs[0][1]] == 0).mean():.3f} stay")
for to, method in (("int8", "gptq"), ("int4:g32:asym", "gptq"), ("int4:g32", "awq"), ("int4:g64", "search"), ("int8:g32", "rtn")):
    r = run(recipe("zeros", [prune, {"do": "quantize", "to": to, "method": method}], output="zeros"), "--force", "--json", f"{out}/zeros-report.json", "--quiet")
    z = json.load(open(f"{out}/zeros-report.json"))["steps"][1]["job"]["pruned"] if r.returncode == 0 else {}
    check(f"{method} into {to} keeps them", z.get("tensors") == 35 and 2 * z["zeros"] >= z["weights"], z or r.stderr)

# ---- prune, heal, quantize, learn the scales, verify ----
heal = {"do": "distill", "steps": 30, "batch": 4, "ctx": 64, "lr": 2e-3}
scales = {"do": "distill", "steps": 8, "batch": 4, "ctx": 64, "lr": 1e-3, "train": "scales"}
judged = verify | {"gates": {"max-kl": 1.3}}
r = run(recipe("hurt", [prune, gptq, judged]), "--quiet")
check("pruned and not healed: the gate fails", r.returncode == 1, r.stdout)
r = run(recipe("healed", [prune, heal, gptq, scales, judged]), "--json", f"{out}/healed-report.json", "--quiet")
j = json.load(open(f"{out}/healed-report.json"))
kl = lambda i: [j["steps"][i]["distill"]["held_out"][k]["kl"] for k in ("before", "after")]
check("healed: the gate holds", r.returncode == 0 and j["failed_gates"] == 0, r.stderr)
check("each distillation brought the student closer", all(kl(i)[1] < kl(i)[0] for i in (1, 3)), f"{kl(1)}, {kl(3)}")
q = {t.name: gguf.dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(f"{out}/healed.gguf").tensors}
pairs = [(q[n], masks[m]) for l in range(5) for n, m in ((f"blk.{l}.ffn_up.weight", f"model.layers.{l}.mlp.up_proj.weight"), (f"blk.{l}.ffn_down.weight", f"model.layers.{l}.mlp.down_proj.weight"))]
check("every zero of the pruning is in the output", all((w[m] == 0).all() for w, m in pairs) and sum(m.sum() for _, m in pairs) > 50000)
r = run(recipe("student", [{"do": "distill", "layers": 3, "steps": 4, "ctx": 64}, {"do": "quantize", "to": "q8_0"}]), "--quiet")
check("a student of fewer layers as the first step", r.returncode == 0 and len([t for t in gguf.GGUFReader(f"{out}/student.gguf").tensors if "ffn_up" in t.name]) == 3, r.stderr)
recipe("stopped", [prune, heal | {"steps": 4000, "save_every": 5}, gptq])
p = subprocess.Popen([pare, "recipe", f"{out}/stopped.json", "--quiet"], stderr=subprocess.PIPE)
for _ in range(1200):
    if os.path.exists(f"{out}/stopped.gguf.pare-steps/2-distill.pare-train") or p.poll() is not None: break
    time.sleep(0.05)
p.send_signal(signal.SIGINT)
check("Ctrl-C while a student learns keeps its checkpoint", p.wait() not in (0, 1) and os.path.exists(f"{out}/stopped.gguf.pare-steps/2-distill.pare-train"), p.stderr.read()[-200:])

# ---- the plan is what comes of it ----
narrow = [{"do": "prune", "pattern": "ffn", "stay": 96}, {"do": "prune", "pattern": "layers", "stay": 4}, {"do": "quantize", "to": "q4_0"}, verify]
r = run(recipe("narrow", narrow), "--dry-run", "--json", f"{out}/plan.json")
plan = json.load(open(f"{out}/plan.json"))
check("--dry-run writes nothing", r.returncode == 0 and not os.path.exists(f"{out}/narrow.gguf") and not os.path.exists(f"{out}/narrow.gguf.pare-steps"), r.stderr)
must(f"{out}/narrow.json", "--json", f"{out}/narrow-report.json")
got = json.load(open(f"{out}/narrow-report.json"))
sizes = [[[(t["name"], t["shape"], t["bytes_out"]) for t in s["job"]["plan"]] for s in x["steps"] if "job" in s] for x in (plan, got)]
check("its sizes are those of the run, tensor by tensor", [sorted(map(str, a)) for a in sizes[0][2:]] == [sorted(map(str, a)) for a in sizes[1][2:]] and [sum(t[2] for t in a) for a in sizes[0]] == [sum(t[2] for t in a) for a in sizes[1]])
check("smaller models need no zeros kept", "pruned" not in got["steps"][2]["job"] or not got["steps"][2]["job"]["pruned"])

# ---- gates ----
hard = verify | {"gates": {"max-kl": 1e-9}}
r = run(recipe("hard", [prune, gptq, hard]), "--quiet")
check("a failed gate: exit status 1, the output stays", r.returncode == 1 and os.path.exists(f"{out}/hard.gguf") and not os.path.exists(f"{out}/hard.gguf.pare-steps"))
r = run(recipe("early", [prune, hard, gptq]), "--quiet")
check("a failed gate before the end: the rest is left", r.returncode == 1 and not os.path.exists(f"{out}/early.gguf") and os.path.exists(f"{out}/early.gguf.pare-steps/1-prune/config.json"), r.stderr)
r = run(recipe("early", [prune, verify, gptq]), "--json", f"{out}/early-report.json")
j = json.load(open(f"{out}/early-report.json"))
check("with a gate that holds it goes on from there", r.returncode == 0 and [s["reused"] for s in j["steps"]] == [True, False, False] and "plan" in j["steps"][0]["job"], r.stderr[-200:])
check("and ends in the same bytes", read(f"{out}/early.gguf") == read(f"{out}/chain.gguf"))

# ---- interruption ----
steps = [prune, gptq | {"to": "q4_0"}, verify]
start = time.time()
must(recipe("whole", steps))
full, seen = time.time() - start, set()
for kind in (signal.SIGKILL, signal.SIGINT):
    for share in (0.25, 0.5, 0.7, 0.85):
        if os.path.exists(f"{out}/cut.gguf"): os.remove(f"{out}/cut.gguf")
        p = subprocess.Popen([pare, "recipe", recipe("cut", steps), "--quiet"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(share * full)
        p.send_signal(kind)
        p.wait()
        if p.returncode == 0: continue
        r = run(f"{out}/cut.json", "--threads", 1 if share == 0.5 else 2, "--json", f"{out}/cut-report.json")
        if r.returncode == 2 and "already exists" in r.stderr: continue  # killed between the rename and the note of it
        seen |= {"step"} if json.load(open(f"{out}/cut-report.json"))["steps"][0]["reused"] else set()
        seen |= {"matrix"} if "going on after" in r.stderr else set()
        same = r.returncode == 0 and read(f"{out}/cut.gguf") == read(f"{out}/whole.gguf")
        check(f"{kind.name} after {share:.2f} of the time, resumed: the same bytes", same and not os.path.exists(f"{out}/cut.gguf.pare-steps"), r.stderr[-200:] if not same else "")
check("finished steps or matrices were found again", bool(seen), seen)
r = run(recipe("twice", [prune, hard, gptq]), "--quiet")
other = recipe("twice", [{"do": "prune", "method": "wanda", "sparsity": 0.4}, verify, gptq])
r = run(other, "--json", f"{out}/twice-report.json")
check("a step with other options is done again", r.returncode == 0 and not json.load(open(f"{out}/twice-report.json"))["steps"][0]["reused"], r.stderr[-200:])


# ---- refusals ----
def refused(what, status, says, name="bad", steps=None, raw=None, args=(), **more):
    f = recipe(name, steps if steps is not None else [prune, gptq], **more)
    if raw is not None: open(f, "w").write(raw)
    r = run(f, *args, "--quiet")
    line = r.stderr.strip().split("\n")
    check(f"refused: {what}", r.returncode == status and says in r.stderr and len(line) == 1 and not os.path.exists(f"{out}/bad.gguf.pare-steps"), r.stderr.strip()[-250:])


refused("no JSON", 3, "line 2, column", raw='{"model": "x",\n "steps": [}')
refused("a key twice", 3, "duplicate", raw='{"model": "x", "model": "y"}')
refused("an unknown key", 3, "steps[0].patern: there is no key `patern`; did you mean `pattern`?", steps=[{"do": "prune", "patern": "2:4"}])
refused("an unknown key at the top", 3, "did you mean `output`", outptu="x")
refused("an unknown step", 3, "steps[1].do: there is no step `quantise`; did you mean `quantize`?", steps=[prune, {"do": "quantise", "to": "q8_0"}])
refused("a step that says nothing", 3, "there are prune, distill, quantize, verify", steps=[{"to": "q8_0"}])
refused("an unknown gate", 3, "steps[1].gates.max-klm", steps=[prune, {"do": "verify", "gates": {"max-klm": 1}}])
refused("a word for a number", 3, "steps[0].sparsity: a number was expected", steps=[prune | {"sparsity": "half"}])
refused("a number for a list", 3, "keep", keep=5)
refused("no steps", 3, "steps: a list", steps=[])
refused("a look before anything is made", 3, "steps[0]", steps=[verify, prune])
refused("a calibration text per step", 3, "steps[0].calib", steps=[prune | {"calib": text}])
refused("an unknown method, before any work", 2, "steps[1].method", steps=[prune, gptq | {"method": "gptx"}])
refused("a grid without a zero after zeros", 2, "no exact 0", steps=[prune, {"do": "quantize", "to": "q4_1"}])
refused("a gate of another kind of model", 2, "steps[1]", steps=[prune, {"do": "verify", "gates": {"min-spearman": 0.5}}])
refused("a ratio that is none", 2, "steps[0].sparsity", steps=[prune | {"pattern": "unstructured", "sparsity": 1.5}])
refused("pruning after rounding", 2, "prune the original", steps=[{"do": "quantize", "to": "int8"}, prune])
refused("a text that is not there", 3, "no-text", calib={"text": "no-text"})
refused("data that is not there", 3, "no-data", steps=[prune, verify | {"data": "no-data"}])
refused("a model that is not there", 3, "no-model", model="no-model")
refused("layers of the teacher after another step", 2, "steps[1].layers", steps=[prune, {"do": "distill", "layers": 2}])
refused("a loss that is none", 2, "steps[1].loss", steps=[prune, {"do": "distill", "loss": "klm=1"}])
refused("scales and another format", 2, "steps[1].to", steps=[prune, {"do": "distill", "train": "scales", "to": "f16"}])
refused("an output that exists", 2, "--force", args=("-o", f"{out}/whole.gguf"))
refused("the model as output", 2, "input", args=("-o", src, "--force"), steps=[prune])
r = run(f"{out}/absent.json", "--quiet")
check("refused: a recipe that is not there", r.returncode == 3 and "absent.json" in r.stderr, r.stderr.strip())
os.makedirs(f"{out}/full.gguf.pare-steps"), open(f"{out}/full.gguf.pare-steps/mine", "w").write("mine")
r = run(recipe("full", [prune, gptq]), "--quiet")
check("refused: a folder of somebody's at the place of the steps", r.returncode == 2 and os.path.exists(f"{out}/full.gguf.pare-steps/mine"), r.stderr.strip())
shutil.copy("docs/examples/sparse-q8.json", out), shutil.copy("docs/examples/narrow-q4.json", out), shutil.copy("docs/examples/heal-q8.json", out)
for name in ("sparse-q8", "narrow-q4", "heal-q8"):
    r = run(f"{out}/{name}.json", src, "-o", f"{out}/{name}.gguf", "--calib", text, "--dry-run")
    check(f"the example {name} can be planned", r.returncode == 0, r.stderr.strip())
finish()
