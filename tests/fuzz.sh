#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every libFuzzer target for some seconds, on the corpus it left the last time. usage: fuzz.sh BUILD SECONDS
set -eu
export ASAN_OPTIONS=detect_leaks=1
for t in "$1"/fuzz/fuzz_*; do
    name=$(basename "$t")
    corpus="$1/fuzz-corpus/$name"
    mkdir -p "$corpus"
    "$1/san/fuzz-replay/$name" --seeds "$corpus"
    echo "== $name, $2 s, corpus $corpus"
    "$t" -max_total_time="$2" -timeout=20 -rss_limit_mb=1024 -malloc_limit_mb=256 -max_len=65536 -artifact_prefix="$1/fuzz-$name-" -print_final_stats=1 \
        "$corpus" 2>&1 | tail -n 12
done
