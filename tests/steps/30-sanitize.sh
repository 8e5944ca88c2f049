# SPDX-License-Identifier: Apache-2.0
# The unit tests once more, built with AddressSanitizer and UndefinedBehaviorSanitizer.
set -e
make -j2 --no-print-directory SAN=1 tests B="$1"
for t in "$1"/san/tests/test_*; do
    case $t in *.d) continue ;; esac
    echo "== $t"
    ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1 "$t"
done
