# SPDX-License-Identifier: Apache-2.0
# Students that a config.json describes, in stock transformers, the gguf package and llama.cpp (LLAMA_BIN: its programs).
set -e
PY=${PARE_VENV:-$1/venv}/bin/python
M=../shared/models T=../shared/data/text/tiny.utf8
"$PY" -c 'import torch, transformers' 2>/dev/null || { echo "no python with torch and transformers: run make check-peers"; exit 1; }
[ -d $M/stories260k ] && [ -f $T ] || { echo "../shared is absent"; exit 77; }
make --no-print-directory "$1/pare" "$1/tests/tools/logits_dump" B="$1"
"$PY" tests/py/peer_students.py "$1/pare" "$1/tests/tools/logits_dump" $M $T "$1/peer-students"
