#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every libFuzzer target for some seconds, on the corpus it left the last time. usage: fuzz.sh BUILD SECONDS
set -eu
bad=0
export ASAN_OPTIONS=detect_leaks=1
for t in "$1"/fuzz/fuzz_*; do
    name=$(basename "$t")
    corpus="$1/fuzz-corpus/$name"
    mkdir -p "$corpus"
    "$1/san/fuzz-replay/$name" --seeds "$corpus"
    echo "== $name, $2 s, corpus $corpus"
    rc=0
    "$t" -max_total_time="$2" -timeout=20 -rss_limit_mb=1024 -malloc_limit_mb=256 -max_len=65536 -artifact_prefix="$1/fuzz-$name-" \
        "$corpus" >"$1/fuzz-$name.log" 2>&1 || rc=$?
    if [ $rc = 0 ]; then tail -n 1 "$1/fuzz-$name.log"; else tail -n 40 "$1/fuzz-$name.log" && bad=1; fi
done
exit $bad
