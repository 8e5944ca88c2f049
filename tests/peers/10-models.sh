# SPDX-License-Identifier: Apache-2.0
# Logits, hidden states and greedy tokens of every family against transformers, from folders and from GGUF files.
set -e
PY=${PARE_VENV:-$1/venv}/bin/python
"$PY" -c 'import torch, transformers' 2>/dev/null || { echo "no python with torch and transformers: run make check-peers"; exit 1; }
make --no-print-directory all "$1/tests/tools/logits_dump" B="$1"
stories=../shared/models/stories260k
[ -d "$stories" ] || stories=-
smol=$1/smollm2
if [ -f ../shared/tools/make_smollm2.py ]; then
    [ -f "$smol/hf/model.safetensors" ] || "$PY" ../shared/tools/make_smollm2.py "$smol"
else smol=-; fi
"$PY" tests/py/peers_models.py "$1" "$stories" "$smol"
