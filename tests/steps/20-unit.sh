# SPDX-License-Identifier: Apache-2.0
# Every cmocka program of tests/unit.
set -e
make -j2 --no-print-directory tests B="$1"
for t in "$1"/tests/test_*; do
    case $t in *.d) continue ;; esac
    echo "== $t"
    "$t"
done
