#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# `make check-gpu`: the CUDA backend on the card of this machine. Needs a driver, the CUDA toolkit, make and gcc, nothing else
# of the project; parts of the toolkit that are missing are skipped by name. Builds libpare-cuda.so for this card,
# compares every operator with the CPU's reference (device_parity, full set), then runs small shapes under
# compute-sanitizer. Full numbers go to $OUT (BUILD/gpu). exit: 0 passed, 1 failed, 4 no GPU, driver or toolkit.
set -u
B=${1:-build}
OUT=${OUT:-$B/gpu}
NVCC=${2:-nvcc}
BIN=$(dirname "$NVCC")
start=$(date +%s)

gone() { echo "check-gpu: $1" >&2 && exit 4; }
command -v "$NVCC" >/dev/null 2>&1 || gone "nvcc (the CUDA toolkit) is not here"
cap=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -d ' .')
case $cap in *[!0-9]* | '') cap=$("$BIN/__nvcc_device_query" 2>/dev/null | cut -d, -f1 | head -n 1) ;; esac
case $cap in *[!0-9]* | '') gone "no GPU with a driver can be used here" ;; esac
arch=$cap
[ "$cap" != 90 ] || arch=90a

mkdir -p "$OUT" || exit 1
table="$OUT/table.txt"
: >"$table"
failed=0
row() { printf '%-24s %-8s %5s s  %s\n' "$1" "$2" "$3" "$4" >>"$table"; }
# step NAME SECONDS COMMAND...: output to $OUT/NAME.txt
step() {
    name=$1 limit=$2 t0=$(date +%s)
    shift 2
    timeout "$limit" "$@" >"$OUT/$name.txt" 2>&1
    rc=$?
    dt=$(($(date +%s) - t0))
    case $rc in
    0) word=passed ;;
    124) word=FAILED && echo "no end after $limit s" >>"$OUT/$name.txt" ;;
    *) word=FAILED ;;
    esac
    [ $word = passed ] || failed=1
    row "$name" $word $dt "$(tail -n 1 "$OUT/$name.txt" | cut -c1-100)"
    [ $word = passed ] || tail -n 30 "$OUT/$name.txt"
    echo "$name: $word, $dt s"
}

echo "check-gpu: sm_$arch, $("$NVCC" --version | sed -n 's/.*release \([^,]*\).*/CUDA \1/p'), $(nproc) processors, numbers in $OUT"
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader >"$OUT/card.txt" 2>/dev/null
step build 420 make --no-print-directory -j"$(nproc)" CUDA_ARCHS="$arch" CUDA_PTX= NVCC="$NVCC" B="$B" \
    "$B/cuda-$arch/libpare-cuda.so" "$B/tests/tools/device_parity" "$B/tests/tools/device_update"
PARE_PLUGIN_CUDA="$B/cuda-$arch/libpare-cuda.so"
case $PARE_PLUGIN_CUDA in /*) ;; *) PARE_PLUGIN_CUDA="./$PARE_PLUGIN_CUDA" ;; esac
export PARE_PLUGIN_CUDA
parity="$B/tests/tools/device_parity"
if [ $failed = 0 ]; then
    step update 60 "$B/tests/tools/device_update"
    step parity-quick 120 "$parity" --json "$OUT/parity-quick.json"
    step parity-full 260 "$parity" --full --seconds 200 --json "$OUT/parity-full.json"
    sanitizer=$(command -v compute-sanitizer || command -v "$BIN/compute-sanitizer" || command -v "$BIN/../compute-sanitizer/compute-sanitizer")
    for tool in memcheck racecheck; do
        if [ -n "$sanitizer" ]; then
            step $tool 110 "$sanitizer" --tool $tool --error-exitcode 9 "$parity" --seconds 60 --seed 3
        else row $tool skipped 0 "compute-sanitizer is not in this toolkit"; fi
    done
fi
echo
[ ! -s "$OUT/parity-full.txt" ] || grep -v '^FAILED' "$OUT/parity-full.txt"
echo
cat "$OUT/card.txt" "$table"
echo "check-gpu: $([ $failed = 0 ] && echo passed || echo FAILED), $(($(date +%s) - start)) s"
exit $failed
