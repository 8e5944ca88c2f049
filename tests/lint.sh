#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Arrows between rooms (who may include whom), SPDX lines, file length; exit 1 on any finding.
set -u
bad=0
allowed() { # room -> rooms it may include
    case $1 in
    core) echo "core quant/qtypes.def" ;;
    mpi) echo "core" ;;
    cpu | cuda | graph) echo "core $1" ;;
    formats) echo "core formats" ;;
    models) echo "core graph formats models" ;;
    calib) echo "core graph calib cpu/matmul.h" ;; # sgemm
    quant | prune | distill | verify) echo "core graph calib $1" ;;
    api) echo "core graph cpu formats models calib quant prune distill verify api" ;;
    tools) echo "tools" ;;
    esac
}
for room in core cpu cuda mpi graph formats models calib quant prune distill verify api tools; do
    ok=" $(allowed $room) pare "
    for f in $(git ls-files "$room/*.c" "$room/*.h" "$room/*.cu" "$room/*.cuh" "$room/*.cc" "$room/*.def"); do
        for inc in $(sed -n 's/^ *# *include "\([^"]*\)".*/\1/p' "$f"); do
            case "$ok" in
            *" ${inc%%/*} "* | *" $inc "*) ;;
            *) echo "$f: includes $inc: $room may include only:$ok" && bad=1 ;;
            esac
        done
    done
done
for f in $(git ls-files '*.c' '*.h' '*.cu' '*.cuh' '*.cc' '*.def' '*.sh' '*.py' Makefile); do
    head -n 3 "$f" | grep -q 'SPDX-License-Identifier: Apache-2.0' || { echo "$f: no SPDX line" && bad=1; }
done
for f in $(git ls-files '*.c' '*.h' '*.cu' '*.cuh' '*.cc'); do
    n=$(wc -l <"$f")
    [ "$n" -le 500 ] || { echo "$f: $n lines, look for a seam (500 at most)" && bad=1; }
done
if [ "${1:-}" = full ]; then # what costs time: formatting and clang-tidy
    clang-format --dry-run -Werror $(git ls-files "*.c" "*.h" "*.cu" "*.cuh" "*.cc") 2>&1 | grep error: | cut -d: -f1 | sort | uniq -c | sed "s/$/: not formatted, run make format/" | { ! grep . ; } || bad=1
    git ls-files '*.c' | grep -v '^tests/' |
        xargs -P "$(nproc)" -n 4 sh -c 'for f; do
            flags=""
            case $f in
            mpi/*) flags="-DPARE_BUILD_ID=\"\" $(mpicc --showme:compile 2>/dev/null)" || continue ;;
            *_avx2.c) flags="-mavx2 -mfma -mf16c" ;; *_avx512.c | *_vnni.c | *_vbmi2.c | *_bf16.c | *_amx.c)
                flags="-mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mavx512vbmi -mavx512vbmi2 -mbmi2 -mavx512bf16 -mamx-tile -mamx-int8 -mamx-bf16" ;; esac
            clang-tidy --quiet "$f" -- -std=gnu17 -fopenmp -Iinclude -I. -Ibuild $flags 2>/dev/null || exit 1
        done' sh || bad=1
fi
exit $bad
