#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The test steps of `make check` (LONG=1: `make check-long`), each timed; ends with "N passed, N failed, N skipped".
# A step is tests/steps/NN-name.sh (or another folder, STEPS): it gets the build folder as $1; exit 0 passed, 77 skipped, else failed.
set -u
B=${1:-build}
export CUDA_ARCHS="${CUDA_ARCHS:-75 90a}" # the oldest and the newest: compiling for all takes minutes
passed=0 failed=0 skipped=0
all=$(date +%s)
for step in "${STEPS:-tests/steps}"/*.sh; do
    name=$(basename "$step" .sh)
    t0=$(date +%s)
    LOG="$B/check/$name.log"
    mkdir -p "$B/check"
    sh "$step" "$B" >"$LOG" 2>&1
    rc=$?
    dt=$(($(date +%s) - t0))
    case $rc in
    0) passed=$((passed + 1)) word=passed ;;
    77) skipped=$((skipped + 1)) word="skipped: $(tail -n 1 "$LOG")" ;;
    *) failed=$((failed + 1)) word="FAILED ($LOG)" ;;
    esac
    printf '%-28s %4d s  %s\n' "$name" "$dt" "$word"
    [ "$rc" = 0 ] || [ "$rc" = 77 ] || tail -n 40 "$LOG"
done
echo "total $(($(date +%s) - all)) s"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
