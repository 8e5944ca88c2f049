# SPDX-License-Identifier: Apache-2.0
"""A line per check, and an exit status that counts them: what the test scripts here share."""
import os, signal, subprocess, sys, time

failures = 0


def check(what, ok, more=""):
    global failures
    failures += not ok
    print(f"{'ok    ' if ok else 'FAILED'} {what} {more}", flush=True)


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
