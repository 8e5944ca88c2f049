# SPDX-License-Identifier: Apache-2.0
"""pare under mpirun, two and more processes on this machine: the same bytes as one process, checkpoints that go on with
another number of processes, processes that fail or are killed, commands that are not shared.

usage: mpi.py PARE TEACHER TEXT OUTDIR"""
import importlib.util, json, os, signal, subprocess, sys, time
import gguf
import numpy as np
from safetensors.numpy import load_file
from checks import check, finish, fresh
from tiny_encoder import tiny_encoder

pare, teacher, text, out = sys.argv[1:5]
fresh(out)
train = f"{out}/train.txt"
open(train, "wb").write(open(text, "rb").read(120000))
# Processes that wait for one another must give way where there are fewer cores than processes.
env = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", OMPI_MCA_mpi_yield_when_idle="1")


def mpirun(n, *a, start=False):
    line = ["mpirun", "--oversubscribe", "-n", str(n), pare, *map(str, a)]
    if start: return subprocess.Popen(line, env=env, stderr=subprocess.PIPE, text=True)
    return subprocess.run(line, env=env, capture_output=True, text=True, timeout=120)


def one(*a):
    return subprocess.run([pare, *map(str, a)], capture_output=True, text=True)


def same(*names):
    first, *rest = (open(f"{out}/{n}", "rb").read() for n in names)
    return all(r == first for r in rest)


def said(r):  # what pare itself wrote to standard error, without mpirun's own words
    return [l for l in r.stderr.splitlines() if l.startswith("pare")]


def distill(o, *a, data=train, steps=8):
    return ["distill", "--teacher", teacher, "-o", f"{out}/{o}", "--data", data, "--ctx", 128, "--batch", 6, "--lr", "2e-3",
            "--steps", steps, "--keep-layers", "0-1,4", "--threads", 1, *a]


# ---- the bytes of one process ----
must = lambda r: r.returncode == 0 or sys.exit(f"{r.args}: exit {r.returncode}: {r.stderr}")
must(one(*distill("1.gguf", "--micro", 1, "--json", f"{out}/1.json", "--curve", f"{out}/1.svg", "--quiet")))
for n in (2, 4):  # 6 passes go round 4 processes twice, not evenly
    r = mpirun(n, *distill(f"{n}.gguf", "--micro", 1, "--json", f"{out}/{n}.json", "--curve", f"{out}/{n}.svg"))
    must(r)
    check(f"{n} processes: the bytes of one, in output, report and curve",
          all(same(f"1.{e}", f"{n}.{e}") for e in ("gguf", "json", "svg")))
    check(f"{n} processes: one of them speaks", r.stdout.count("wrote ") == 1 and r.stderr.count("going") == 0 and
          r.stderr.count("windows of") == 1)
for n, line in ((1, one), (2, lambda *a: mpirun(2, *a))):
    must(line(*distill(f"b{n}.gguf", "--micro", 1, "--blockwise", "--json", f"{out}/b{n}.json", "--quiet", steps=4)))
check("layer by layer", same("b1.gguf", "b2.gguf") and same("b1.json", "b2.json"))
must(one("prune", teacher, "-o", f"{out}/half", "--method", "magnitude", "--pattern", "2:4", "--quiet"))
heal = ["distill", "--teacher", teacher, "--student", f"{out}/half", "--data", train, "--ctx", 64, "--batch", 4, "--micro", 2,
        "--steps", 3, "--threads", 1, "--optimizer", "sgd", "--ema", "0.9", "--quiet", "-o"]
must(one(*heal, f"{out}/h1.gguf"))
must(mpirun(2, *heal, f"{out}/h2.gguf"))
check("zeros that stay, an average", same("h1.gguf", "h2.gguf"))


def alike(what, o, *a):
    """One process and two: the same output, the same report, nothing beside them."""
    for n, line in ((1, one), (2, lambda *b: mpirun(2, *b))):
        r = line("distill", *a, "-o", f"{out}/{o}{n}.gguf", "--json", f"{out}/{o}{n}.json", "--threads", 1, "--steps", 4, "--quiet")
        must(r)
    c = [x["loss"] for x in json.load(open(f"{out}/{o}1.json"))["curve"]]
    left = [f for f in os.listdir(out) if f.startswith(o) and "pare-" in f]
    check(what, same(f"{o}1.gguf", f"{o}2.gguf") and same(f"{o}1.json", f"{o}2.json") and c[-1] < c[0] and not left, f"loss {c[0]:.4f} -> {c[-1]:.4f} {left or ''}")


open(f"{out}/few.txt", "wb").write(open(text, "rb").read(9000))
few = ["--teacher", teacher, "--data", f"{out}/few.txt", "--ctx", 64, "--batch", 4, "--micro", 2, "--lr", "2e-3"]
alike("adapters", "a", *few, "--student", f"{out}/half", "--train", "adapters", "--rank", 2, "--lr", "1e-2")
shape = json.load(open(f"{teacher}/config.json")) | dict(hidden_size=48, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
                                                        num_key_value_heads=4, head_dim=8)
json.dump(shape, open(f"{out}/small.json", "w"))
alike("a configuration, begun as parts of the teacher, layers compared with those they came from", "c", *few, "--student", f"{out}/small.json",
      "--loss", "kl=1,hidden=1")
alike("two cuts, one after the other", "k", *few, "--ffn", 96, "--keep-layers", "0,3")
alike("a configuration, begun at random", "r", *few, "--student", f"{out}/small.json", "--init", "random")
if importlib.util.find_spec("tokenizers"):
    encoder, words = tiny_encoder(f"{out}/encoder"), open(train, errors="ignore").read().replace("\n", " ").split(".")
    open(f"{out}/lines.txt", "w").write("\n".join(w.strip() for w in words[:300] if len(w) > 9))
    few = ["--teacher", encoder, "--data", f"{out}/lines.txt", "--batch", 12, "--micro", 3, "--eval-windows", 20, "--lr", "3e-3"]
    alike("a sentence encoder", "e", *few, "--keep-layers", 1, "--loss", "embed=1,similarity=1,relation=0.5", "--relation-heads", 4)
    shape = json.load(open(f"{encoder}/config.json")) | dict(hidden_size=24, intermediate_size=40, num_hidden_layers=1, initializer_range=0.3)
    json.dump(shape, open(f"{out}/thin.json", "w"))
    alike("a sentence encoder of a configuration, through projections", "t", *few, "--student", f"{out}/thin.json", "--loss", "embed=1,hidden=1")
else: print("no tokenizers: sentence encoders are left out")
must(mpirun(3, *distill("uneven.gguf", "--json", f"{out}/uneven.json")))
options = json.load(open(f"{out}/uneven.json"))["options"]
losses = [[c["loss"] for c in json.load(open(f"{out}/{n}.json"))["curve"]] for n in ("1", "uneven")]
check("passes are cut so that all have some, the loss stays", options["micro"] == 2 and
      all(abs(a - b) < 1e-4 * a for a, b in zip(*losses)))

# ---- interrupted, killed, gone on with another number ----
long = dict(steps=160)
must(one(*distill("whole.gguf", "--micro", 1, "--quiet", **long)))


def until(path, p):
    while p.poll() is None and not os.path.exists(path): time.sleep(0.01)


def stat(pid):  # state and parent
    try: return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[:2]
    except OSError: return "Z", "0"


def ends(pid):  # mpirun may be gone a moment before those it ended
    for _ in range(500):
        if stat(pid)[0] == "Z": return True
        time.sleep(0.01)
    return False


def ranks(p):  # the processes that mpirun started, by rank
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if stat(pid)[1] != str(p.pid): continue
        for w in open(f"/proc/{pid}/environ").read().split("\0"):
            if w.startswith("OMPI_COMM_WORLD_RANK="): found[int(w.split("=")[1])] = pid
    return found


p = mpirun(2, *distill("cut.gguf", "--micro", 1, "--save-every", 5, "--quiet", **long), start=True)
until(f"{out}/cut.gguf.pare-train", p)
victims = ranks(p)
os.kill(int(victims[1]), signal.SIGKILL)
t = time.time()
p.communicate(timeout=60)
check("one is killed: all end, the checkpoint stays", p.returncode != 0 and time.time() - t < 30 and
      os.path.exists(f"{out}/cut.gguf.pare-train") and ends(victims[0]), f"{time.time() - t:.1f} s")
at = os.stat(f"{out}/cut.gguf.pare-train").st_mtime
p = mpirun(3, *distill("cut.gguf", "--save-every", 5, "--quiet", **long), start=True)  # the checkpoint knows --micro
while p.poll() is None and os.stat(f"{out}/cut.gguf.pare-train").st_mtime == at: time.sleep(0.01)
p.send_signal(signal.SIGINT)
p.communicate(timeout=60)
kept = os.path.exists(f"{out}/cut.gguf.pare-train") and not os.path.exists(f"{out}/cut.gguf")
p = subprocess.Popen([pare, *map(str, distill("few.gguf", "--micro", 3, "--save-every", 1, "--quiet", **long))], stderr=subprocess.PIPE)
until(f"{out}/few.gguf.pare-train", p)
p.send_signal(signal.SIGINT)
p.communicate()
r = mpirun(3, *distill("few.gguf", **long))
check("more processes than the checkpoint has passes", r.returncode == 2 and len(said(r)) == 1 and "at most 2 processes" in said(r)[0], said(r))
os.remove(f"{out}/few.gguf.pare-train")
r = one(*distill("cut.gguf", **long))
check("interrupted at 2 and 3, gone on with by 1 without --micro: the bytes of one that was not", kept and r.returncode == 0 and
      "steps by earlier runs" in r.stdout and same("whole.gguf", "cut.gguf"), r.stderr[-200:])

# ---- calibration: every process its share of the windows ----
def quantize(o, *a): return ["quantize", teacher, "-o", f"{out}/{o}", "--to", "q4_0", "--calib", train, "--calib-windows", 32, "--threads", 1, *a]


def errors(name):
    return {r["name"]: r["output_error"] for r in json.load(open(f"{out}/{name}.json"))["plan"] if "output_error" in r}


for n in (1, 3):
    run = one if n == 1 else lambda *a: mpirun(n, *a)
    for method in ("gptq", "search"):
        r = run(*quantize(f"{method}{n}.gguf", "--method", method, "--json", f"{out}/{method}{n}.json", "--save-imatrix", f"{out}/{method}{n}.imatrix"))
        must(r)
        check(f"{method}, {n} processes: one of them speaks", r.stdout.count("wrote ") == 1 and r.stderr.count("calibrating on") == 1)
inputs = [{t.name: t.data for t in gguf.GGUFReader(f"{out}/search{n}.imatrix").tensors} for n in (1, 3)]
check("squares of the inputs: the same", len(inputs[0]) > 50 and all(np.allclose(v, inputs[1][k], rtol=1e-6, atol=0) for k, v in inputs[0].items()))
for method in ("gptq", "search"):  # a code on a tie may fall to the other side, so only what comes first is the same to rounding
    a, b = errors(f"{method}1"), errors(f"{method}3")
    check(f"{method}: errors", len(a) == 30 and all(abs(a[k] - b[k]) < 1e-4 * a[k] for k in a if k.startswith("blk.0.attn_"))
          and abs(sum(a.values()) - sum(b.values())) < 0.02 * sum(a.values()))
must(one("prune", teacher, "-o", f"{out}/p1", "--method", "sparsegpt", "--pattern", "2:4", "--calib", train, "--calib-windows", 32))
must(mpirun(2, "prune", teacher, "-o", f"{out}/p2", "--method", "sparsegpt", "--pattern", "2:4", "--calib", train, "--calib-windows", 32))
a, b = (load_file(f"{out}/{p}/model.safetensors") for p in ("p1", "p2"))
check("sparsegpt at 2: the same zeros", all((a[k] == 0).sum() == (b[k] == 0).sum() and ((a[k] == 0) != (b[k] == 0)).mean() < 0.01 for k in a))
p = mpirun(2, *quantize("j.gguf", "--method", "gptq", "--quiet", "--calib-windows", 128), start=True)
journal = f"{out}/j.gguf.pare-journal"
while p.poll() is None and not (os.path.exists(journal) and os.stat(journal).st_size > 50000): time.sleep(0.005)
os.kill(int(ranks(p)[1]), signal.SIGKILL)
p.communicate(timeout=60)
kept = os.path.exists(journal) and not os.path.exists(f"{out}/j.gguf")
r = mpirun(3, *quantize("j.gguf", "--method", "gptq", "--calib-windows", 128, "--json", f"{out}/j.json"))
check("one is killed; three go on", kept and r.returncode == 0 and "going on after" in r.stderr and not os.path.exists(journal), r.stderr[-300:])
must(one(*quantize("w.gguf", "--method", "gptq", "--calib-windows", 128, "--json", f"{out}/w.json")))
a, b = errors("j"), errors("w")
check("with what one process makes", abs(sum(a.values()) - sum(b.values())) < 0.02 * sum(b.values()))
r = mpirun(2, *quantize("little.gguf", "--method", "gptq", "--calib-windows", 2))
check("less data than processes", r.returncode == 2 and "do not go round" in r.stderr, said(r))
for name, a in (("n", ["--pattern", "ffn", "--sparsity", "0.2"]), ("m", ["--method", "magnitude", "--pattern", "2:4"])):
    r = mpirun(2, "prune", teacher, "-o", f"{out}/{name}2", *a)
    must(r)
    must(one("prune", teacher, "-o", f"{out}/{name}1", *a))
    check("prune without a walk: by the first process", r.stdout.count("wrote ") == 1 and same(f"{name}1/model.safetensors", f"{name}2/model.safetensors"))

# ---- failures ----
r = mpirun(2, *distill("never", data=f"{out}/none.txt"))
check("all fail alike: one message", r.returncode == 3 and len(said(r)) == 1 and "none.txt" in said(r)[0], said(r))
a, b = ([pare, *map(str, distill("never", data=d))] for d in (train, f"{out}/none.txt"))
r = subprocess.run(["mpirun", "--oversubscribe", "-n", "1", *a, ":", "-n", "1", *b], env=env, capture_output=True, text=True, timeout=60)
check("one fails: its message, the others end", r.returncode == 3 and len(said(r)) == 1 and "none.txt" in said(r)[0], said(r))
a, b = ([pare, *map(str, distill("never", "--seed", s))] for s in (1, 2))
r = subprocess.run(["mpirun", "--oversubscribe", "-n", "1", *a, ":", "-n", "1", *b], env=env, capture_output=True, text=True, timeout=60)
check("other options in one of them", r.returncode == 3 and len(said(r)) == 1 and "process 1 has other" in said(r)[0], said(r))
r = mpirun(2, *distill("never", "--batch", 1))
check("less windows than processes", r.returncode == 2 and len(said(r)) == 1 and "do not go round" in said(r)[0], said(r))
r = mpirun(2, "distill", "--what")
check("wrong usage: one message", r.returncode == 2 and len(said(r)) == 1, said(r))
check("nothing half-written", not [f for f in os.listdir(out) if "never" in f or "tmp" in f or "pare-train" in f or f == "little.gguf"])
env["PARE_PLUGIN_MPI"] = f"{out}/none.so"
r = mpirun(2, *distill("never"))
check("without its plug-in", r.returncode == 4 and len(said(r)) == 1 and "none.so" in said(r)[0], said(r))

# ---- what is not shared ----
r = mpirun(2, "quantize", teacher, "-o", f"{out}/q.gguf", "--to", "q4_0")
must(r)
must(one("quantize", teacher, "-o", f"{out}/q1.gguf", "--to", "q4_0", "--quiet"))
check("other commands: the first process alone", r.stdout.count("wrote") <= 1 and same("q.gguf", "q1.gguf"))
finish()
