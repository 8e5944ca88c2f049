# SPDX-License-Identifier: Apache-2.0
# A distillation against the same recipe in PyTorch, step by step. SPEED=1: and how fast both are.
set -e
PY=${PARE_VENV:-$1/venv}/bin/python
T=../shared/data/text/tiny.utf8
"$PY" -c 'import torch, transformers' 2>/dev/null || { echo "no python with torch and transformers: run make check-peers"; exit 1; }
[ -d ../shared/models/stories260k ] && [ -f $T ] || { echo "../shared is absent"; exit 77; }
make --no-print-directory "$1/pare" "$1/tests/tools/tok_dump" B="$1"
"$PY" tests/py/peer_distill.py "$1/pare" "$1/tests/tools/tok_dump" ../shared/models $T "$1/peer-distill"
