#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The table of docs/results/calibration.md: files of pare (gptq) and of llama-quantize with llama-imatrix, calibrated on
# the same text, judged by llama-perplexity's KL divergence to the f16 model on three texts that were not calibrated on.
# usage: kld_table.sh PARE LLAMA_BIN_DIR MODEL-f16.gguf TEXT_DIR OUT_DIR WINDOWS MIX...
# TEXT_DIR has wiki.utf8, c4.utf8, code.utf8. Lines go to OUT_DIR/table.txt; what is there already is not measured again.
set -e
pare=$1 bin=$2 model=$3 texts=$4 out=$5 windows=$6
shift 6
mkdir -p "$out"
touch "$out/table.txt"
head -c 700000 "$texts/wiki.utf8" >"$out/calib.txt"
cut_base() { # NAME BYTES CHUNKS: the end of a text, and what the f16 model says of it
    tail -c "$2" "$texts/$1.utf8" >"$out/$1.txt"
    [ -f "$out/$1.kld" ] || "$bin/llama-perplexity" -m "$model" -f "$out/$1.txt" -c 512 --chunks "$3" \
        --kl-divergence-base "$out/$1.kld" >"$out/$1.log" 2>&1
}
cut_base wiki 250000 60
cut_base c4 110000 24
cut_base code 60000 24
[ -f "$out/imatrix.gguf" ] || "$bin/llama-imatrix" -m "$model" -f "$out/calib.txt" -o "$out/imatrix.gguf" -c 512 \
    --chunks "$windows" >"$out/imatrix.log" 2>&1
judge() { # FILE LABEL
    for t in wiki c4 code; do
        "$bin/llama-perplexity" -m "$1" --kl-divergence-base "$out/$t.kld" --kl-divergence >"$out/$2.$t.log" 2>&1
        kld=$(sed -n 's/^Mean *KLD: *\([0-9.]*\) .*± *\([0-9.]*\).*/\1 \2/p' "$out/$2.$t.log")
        ppl=$(sed -n 's/^Mean PPL(Q) *: *\([0-9.]*\).*/\1/p' "$out/$2.$t.log")
        top=$(sed -n 's/^Same top p: *\([0-9.]*\).*/\1/p' "$out/$2.$t.log")
        echo "$2 $t bytes $(stat -c %s "$1") kld $kld ppl $ppl top $top" >>"$out/table.txt"
    done
}
for mix in "$@"; do
    if ! grep -q "^llama-$mix wiki" "$out/table.txt"; then
        "$bin/llama-quantize" --imatrix "$out/imatrix.gguf" "$model" "$out/peer.gguf" "$(echo "$mix" | tr a-z A-Z)" \
            >"$out/llama-$mix.log" 2>&1
        judge "$out/peer.gguf" "llama-$mix"
    fi
    if ! grep -q "^pare-$mix wiki" "$out/table.txt"; then
        "$pare" quantize "$model" -o "$out/pare.gguf" --force --to "$mix" --method gptq --calib "$out/calib.txt" \
            --calib-windows "$windows" --quiet --json "$out/pare-$mix.json"
        judge "$out/pare.gguf" "pare-$mix"
    fi
done
rm -f "$out/peer.gguf" "$out/pare.gguf"
cat "$out/table.txt"
