# SPDX-License-Identifier: Apache-2.0
# Gradients of every operator that has one, on random shapes, against torch in double.
set -e
PY=${PARE_VENV:-$1/venv}/bin/python
"$PY" -c 'import torch' 2>/dev/null || { echo "no python with torch: run make check-peers (or set PARE_VENV)"; exit 1; }
make --no-print-directory "$1/tests/tools/grad_dump" B="$1"
"$1/tests/tools/grad_dump" 40 "$1/grad.txt" "$1/grad.bin"
"$PY" tests/py/grad.py "$1/grad.txt" "$1/grad.bin"
