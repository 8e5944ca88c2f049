#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Mistakes put into the CUDA kernels on purpose (tests/mutants/*.list), one at a time: each must be caught by device_parity
# on the emulated GPU. Usage: check_mutants.sh BUILD [words of names ...]. The table goes to BUILD/mutants.md as well.
set -e
B=${1:-build}
[ $# = 0 ] || shift
make --no-print-directory emu "$B/tests/tools/device_parity" B="$B"
exec python3 tests/py/mutants.py "$B" tests/mutants/*.list --only "$@"
