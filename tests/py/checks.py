# SPDX-License-Identifier: Apache-2.0
"""A line per check, and an exit status that counts them: what the test scripts here share."""
import sys

failures = 0


def check(what, ok, more=""):
    global failures
    failures += not ok
    print(f"{'ok    ' if ok else 'FAILED'} {what} {more}", flush=True)


def finish():
    """Says how many checks failed and exits; 1 if any did."""
    print(f"{failures} checks failed" if failures else "all checks passed")
    sys.exit(failures > 0)
