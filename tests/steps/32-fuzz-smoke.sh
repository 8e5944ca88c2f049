# SPDX-License-Identifier: Apache-2.0
# Every fuzz target for a few seconds under gcc's sanitizers: prefixes of its seeds, then mutations. Nothing may crash,
# hang, or allocate what the input only claims. `make fuzz` runs them longer, with libFuzzer.
set -e
seconds=3
[ -z "${LONG:-}" ] || seconds=60
make -j2 --no-print-directory SAN=1 fuzz-replay B="$1"
export ASAN_OPTIONS=detect_leaks=1:max_allocation_size_mb=256 UBSAN_OPTIONS=print_stacktrace=1
for t in "$1"/san/fuzz-replay/fuzz_*; do
    case $t in *.d) continue ;; esac
    "$t" $seconds "$(date +%s)"
done
