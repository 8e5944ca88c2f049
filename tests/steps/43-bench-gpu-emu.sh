# SPDX-License-Identifier: Apache-2.0
# The program of make bench-gpu, tiny and over the emulator: every row is there, and the file is JSON. Its times say nothing.
set -e
make --no-print-directory "$1/emu/bench-gpu" B="$1"
"$1/emu/bench-gpu" --smoke --out "$1/bench-gpu-smoke.json" >"$1/bench-gpu-smoke.txt" || { cat "$1/bench-gpu-smoke.txt"; exit 1; }
python3 - "$1/bench-gpu-smoke.json" <<'END'
import json, sys
rows = json.load(open(sys.argv[1]))["rows"]
have = {r["what"] for r in rows}
want = {"q4_0", "q4_k", "int4:g128", "q8_0", "int8", "bf16", "attention"}
assert want <= have, want - have
assert all(r["replayed_s"] > 0 and r["launched_s"] > 0 and r["bytes"] > 0 and r["flops"] > 0 for r in rows), rows
assert any("W8A8" in r["group"] for r in rows)
print(f"{len(rows)} rows")
END
