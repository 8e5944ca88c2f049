# SPDX-License-Identifier: Apache-2.0
"""A line per check, and an exit status that counts them: what the test scripts here share."""
import os, shutil, signal, subprocess, sys, time

failures = 0


def check(what, ok, more=""):
    global failures
    failures += not ok
    print(f"{'ok    ' if ok else 'FAILED'} {what} {more}", flush=True)


def fresh(folder):
    """An empty folder in the place of what was there."""
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)


def two_texts(text, folder, at, held):
    """Paths of the text up to the first line end behind character `at`, to learn from, and of the next `held`."""
    body = open(text, "rb").read().decode(errors="ignore")
    cut = body.index("\n", at)
    paths = f"{folder}/train.txt", f"{folder}/held.txt"
    for path, part in zip(paths, (body[:cut], body[cut:cut + held])): open(path, "w").write(part)
    return paths


def commands(pare):
    """run(*arguments) gives the finished process, must(*arguments) ends the script where it failed."""
    def run(*a, quiet=True, env=None):
        return subprocess.run([pare, *map(str, a)] + ["--quiet"] * quiet, capture_output=True, text=True, env=env)

    def must(*a, env=None):
        r = run(*a, env=env)
        if r.returncode: sys.exit(f"pare {' '.join(map(str, a))}: exit {r.returncode}: {r.stderr}")

    return run, must


def interrupt(command, output, env=None, until=None, sign=signal.SIGINT):
    """Ctrl-C to a training run once its first checkpoint is there (or until() holds): did it end as interrupted, without
    an output?"""
    until = until or (lambda: os.path.exists(f"{output}.pare-train"))
    p = subprocess.Popen(list(map(str, command)), stderr=subprocess.DEVNULL, env=env)
    while p.poll() is None and not until():
        time.sleep(0.002)
    p.send_signal(sign)
    return p.wait() in (130, -signal.SIGKILL) and not os.path.exists(output)


def finish():
    """Says how many checks failed and exits; 1 if any did."""
    print(f"{failures} checks failed" if failures else "all checks passed")
    sys.exit(failures > 0)
