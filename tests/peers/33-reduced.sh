# SPDX-License-Identifier: Apache-2.0
# Pruned and GPTQ models in stock transformers (folders) and llama.cpp (GGUF). LLAMA_BIN: folder of llama.cpp's programs.
set -e
M=../shared/models T=../shared/data/text/tiny.utf8
[ -d $M/stories260k ] && [ -f $T ] || { echo "../shared is absent"; exit 77; }
make --no-print-directory "$1/tests/tools/logits_dump" B="$1"
"${PARE_VENV:-$1/venv}/bin/python" tests/py/peer_reduced.py "$1/pare" "$1/tests/tools/logits_dump" $M $T "$1/peer_reduced"
