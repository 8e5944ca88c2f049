# SPDX-License-Identifier: Apache-2.0
# The native AMX objects hold the tile instructions (tests/unit/test_amx.c runs the same sources in emulation).
set -e
[ "$(uname -m)" = x86_64 ] || { echo "not x86-64: no AMX objects"; exit 77; }
command -v objdump >/dev/null || { echo "no objdump"; exit 77; }
bad=0
has() { # object, instructions...
    o="$1/cpu/$2.o"
    [ -f "$o" ] || { echo "$o: not built"; exit 1; }
    objdump -d --no-show-raw-insn "$o" >"$1/amx.dis"
    shift 2
    for i; do
        n=$(grep -cw "$i" "$dis") || true
        echo "$o: $n $i"
        [ "$n" -gt 0 ] || { echo "$o: no $i"; bad=1; }
    done
    if grep -q '(bad)' "$dis"; then echo "$o: instructions objdump does not know"; bad=1; fi
}
dis=$1/amx.dis
has "$1" gemm_i8_amx ldtilecfg tilezero tileloadd tdpbsud tilestored tilerelease
has "$1" gemm_terms_amx ldtilecfg tilezero tileloadd tdpbf16ps tilestored tilerelease
has "$1" sgemm_amx ldtilecfg tilezero tileloadd tdpbf16ps tilestored tilerelease
rm -f "$dis"
exit $bad
