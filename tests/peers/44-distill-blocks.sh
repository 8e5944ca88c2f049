# SPDX-License-Identifier: Apache-2.0
# pare distill --blockwise against the same recipe in PyTorch: every step of every layer.
set -e
PY=${PARE_VENV:-$1/venv}/bin/python
T=../shared/data/text/tiny.utf8
[ -d ../shared/models/stories260k ] && [ -f $T ] || { echo "../shared is absent"; exit 77; }
"$PY" -c "import torch, transformers" 2>/dev/null || { echo "no python with torch and transformers: run make check-peers"; exit 1; }
make --no-print-directory "$1/pare" "$1/tests/tools/tok_dump" B="$1"
"$PY" tests/py/peer_distill_blocks.py "$1/pare" "$1/tests/tools/tok_dump" ../shared/models $T "$1/peer-distill-blocks"
