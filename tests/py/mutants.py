# SPDX-License-Identifier: Apache-2.0
"""Applies each mutation of a list to a scratch copy of cuda/, rebuilds what it touches of the emulated plug-in and runs
device_parity, with one seed after the other until a case fails. A mutation that survives all seeds, no longer fits the
source or does not compile is an error.

A list has entries of the form
    == NAME: what is wrong
    file: cuda/x.cu
    test: arguments of device_parity
    objects: x, y          (optional: which objects of a header's users are rebuilt; default all)
    --- old
    TEXT
    --- new
    TEXT
TEXT must occur exactly once in the file."""
import argparse
import os
import re
import shutil
import subprocess
import sys
import time

SEEDS = 4
LIMIT = 240  # seconds of one run: a kernel that never ends is caught as well


def entries(path):
    for part in re.split(r"^== ", open(path).read(), flags=re.M)[1:]:
        head, old, new = re.split(r"^--- (?:old|new)\n", part, flags=re.M)
        lines = head.strip().split("\n")
        name, what = lines[0].split(": ", 1)
        fields = dict(line.split(": ", 1) for line in lines[1:])
        yield {"name": name, "what": what, "old": old.rstrip("\n"), "new": new.rstrip("\n"), **fields}


def includes(path, seen):
    if path in seen or not os.path.exists(path):
        return seen
    seen.add(path)
    for name in re.findall(r'^\s*#\s*include "([^"]+)"', open(path).read(), flags=re.M):
        includes(name, seen)
    return seen


def users(path):
    units = ["cuda/" + f for f in sorted(os.listdir("cuda")) if f.endswith(".cu") and f != "rt.cu"]
    return [u for u in units if path in includes(u, set())]


def rebuild(build, scratch, m):
    """None, or what is wrong. Objects of the unchanged source are taken over; only the ones removed here are made (no
    object depends on headers then: CUDA_HDR)."""
    text = open(m["file"]).read()
    if text.count(m["old"]) != 1:
        return f"its old text occurs {text.count(m['old'])} times in {m['file']}"
    shutil.rmtree(scratch, ignore_errors=True)
    for folder in ("cuda", "core", "include"):
        shutil.copytree(folder, f"{scratch}/{folder}")
    shutil.copy("Makefile", scratch)
    shutil.copytree(f"{build}/emu", f"{scratch}/build/emu", ignore=shutil.ignore_patterns("tests", "bench*"))
    with open(f"{scratch}/{m['file']}", "w") as f:
        f.write(text.replace(m["old"], m["new"]))
    only = [o.strip() for o in m["objects"].split(",")] if "objects" in m else None
    touched = [u for u in users(m["file"]) if not only or os.path.basename(u)[:-3] in only]
    for u in touched:
        os.remove(f"{scratch}/build/emu/{os.path.basename(u)[:-3]}.o")
    done = subprocess.run(["make", "-C", scratch, "--no-print-directory", "emu", "B=build", "CUDA_HDR="],
                          capture_output=True, text=True)
    return None if done.returncode == 0 else "it does not compile: " + done.stderr.strip()[-400:]


def run(build, plugin, m, seed):
    """What caught it, or None."""
    env = dict(os.environ, PARE_PLUGIN_CUDA=plugin, PARE_EMU_SEED=str(seed))
    command = [f"{build}/tests/tools/device_parity", "--first", "--seed", str(seed), *m["test"].split()]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return f"no end in {LIMIT} s"
    if done.returncode < 0:
        return f"signal {-done.returncode}"
    if done.returncode == 1:
        lines = [line for line in done.stderr.split("\n") if line.startswith("FAILED")]
        if lines:
            return re.sub(r"^FAILED ", "", lines[0])
    if done.returncode != 0 or re.search(r"parity: 0 cases", done.stdout):
        sys.exit(f"device_parity {m['test']} ends with {done.returncode}: {done.stdout}{done.stderr}")
    return None


def main():
    p = argparse.ArgumentParser()
    p.add_argument("build")
    p.add_argument("lists", nargs="+")
    p.add_argument("--only", nargs="*")
    a = p.parse_args()
    build = os.path.abspath(a.build)
    scratch, table, bad, count = f"{build}/mutants", [], 0, 0
    for m in (m for path in a.lists for m in entries(path)):
        if a.only and not any(word in m["name"] for word in a.only):
            continue
        start, count = time.time(), count + 1
        wrong, caught, seed = rebuild(build, scratch, m), None, 0
        while not wrong and not caught and seed < SEEDS:
            seed += 1
            caught = run(build, f"{scratch}/build/libpare-cuda-emu.so", m, seed)
        bad += not caught
        said = caught.replace("|", "/")[:150] if caught else f"**{wrong or 'SURVIVED'}**"
        table.append(f"| {m['name']} | {m['what']} | {m['file']} | {seed if caught else ''} | {said} |")
        print(f"{'caught' if caught else 'NOT CAUGHT'} {m['name']} ({time.time() - start:.0f} s, seed {seed}): {said}", flush=True)
    head = ["| mutant | what is wrong | file | seed | caught by |", "|---|---|---|---|---|"]
    with open(f"{build}/mutants.md", "w") as f:
        f.write("\n".join(head + table) + "\n")
    print(f"{count} mutants, {count - bad} caught, {bad} not")
    shutil.rmtree(scratch, ignore_errors=True)
    return bad > 0 or not count


if __name__ == "__main__":
    sys.exit(main())
