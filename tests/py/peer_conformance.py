# SPDX-License-Identifier: Apache-2.0
"""Every grid and mix, three models: perplexity by llama-perplexity and by pare under the same windows.

usage: LLAMA_BIN=DIR peer_conformance.py PARE WORKDIR --model NAME=GGUF:TEXT:CTX [...] [--windows 20] [--types a,b] [-o TABLE.md]

For each model (an f16 or f32 GGUF) and each type pare writes a GGUF; stock llama-perplexity (-fa off, K and V cache f32) and
`pare verify --act int8-block` score it on the same windows with the same BOS rule and activation blocks. Allowed
difference: 0.05 % for f32/f16, 0.3 % for 8-bit, 1 % for smaller types. Writes a markdown table; exit 1 on a miss.
"""
import argparse, json, os, re, subprocess, sys

ap = argparse.ArgumentParser()
ap.add_argument("pare"), ap.add_argument("work")
ap.add_argument("--model", action="append", required=True)
ap.add_argument("--windows", type=int, default=20)
ap.add_argument("--types", default="f32,f16,bf16,q8_0,q4_0,q4_1,q5_0,q5_1,iq4_nl,iq4_xs,q2_k,q3_k_s,q3_k_m,q3_k_l,q4_k_s,q4_k_m,q5_k_s,q5_k_m,q6_k")
ap.add_argument("-o", "--out")
args = ap.parse_args()
llama = os.environ["LLAMA_BIN"]
os.makedirs(args.work, exist_ok=True)
limit = lambda t: 0.0005 if t in ("f32", "f16", "bf16") else 0.003 if t == "q8_0" else 0.01

def llama_ppl(gguf, text, ctx):
    for _ in range(4):  # the peer can lose the end of its output at exit
        r = subprocess.run([f"{llama}/llama-perplexity", "-m", gguf, "-f", text, "-c", str(ctx), "-b", str(ctx), "--chunks", str(args.windows), "-t", "2",
                            "-fa", "off", "-ctk", "f32", "-ctv", "f32"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
        m = re.search(r"Final estimate: PPL = ([0-9.]+)", r.stdout)
        if m: return float(m[1])
    raise SystemExit(f"llama-perplexity gave no estimate for {gguf}:\n{r.stdout[-2000:]}")

def pare_ppl(original, gguf, text, ctx):
    j = f"{args.work}/r.json"
    subprocess.run([args.pare, "verify", original, gguf, "--data", text, "--ctx", str(ctx), "--windows", str(args.windows), "--act", "int8-block",
                    "--json", j, "--quiet"], check=True, stdout=subprocess.DEVNULL)
    m = json.load(open(j))["metrics"]
    return m["ppl"]["value"], m["kl_mean"]["value"]

rows, bad = [], 0
for spec in args.model:
    name, rest = spec.split("=", 1)
    gguf, text, ctx = rest.rsplit(":", 2)
    for t in args.types.split(","):
        out = f"{args.work}/{name}-{t}.gguf"
        r = subprocess.run([args.pare, "quantize", gguf, "-o", out, "--to", t, "--quiet", "--force"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if r.returncode:
            rows.append((name, t, None, None, None, None, None, r.stderr.strip()[:80])); bad += 1
            continue
        a = llama_ppl(out, text, ctx)
        b, kl = pare_ppl(gguf, out, text, ctx)
        d = b / a - 1
        ok = abs(d) <= limit(t)
        bad += not ok
        rows.append((name, t, os.path.getsize(out), a, b, d, kl, "" if ok else "outside"))
        print(f"{name:16} {t:8} {os.path.getsize(out):>12} {a:10.4f} {b:10.4f} {100 * d:+8.3f} %  kl {kl:.5f} {rows[-1][-1]}", flush=True)
        os.remove(out)
text = ["| model | type | bytes | llama-perplexity | pare | difference | mean KL to the original | |", "|---|---|---|---|---|---|---|---|"]
for n, t, s, a, b, d, kl, note in rows:
    text.append(f"| {n} | {t} | - | - | - | - | - | {note} |" if s is None else f"| {n} | {t} | {s} | {a:.4f} | {b:.4f} | {100 * d:+.3f} % | {kl:.5f} | {note} |")
if args.out: open(args.out, "w").write("\n".join(text) + "\n")
print(f"{len(rows) - bad} passed, {bad} failed")
sys.exit(1 if bad else 0)
