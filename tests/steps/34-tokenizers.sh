# SPDX-License-Identifier: Apache-2.0
# Tokenizers against the tokenizers package, and GGUF vocabularies against the tokenizer they were made from.
set -e
PY=${PARE_VENV:-$1/venv}/bin/python
"$PY" -c 'import tokenizers, gguf' 2>/dev/null || { echo "no python with tokenizers and gguf: run make check"; exit 1; }
[ -d ../shared/data/text ] || { echo "../shared is absent"; exit 77; }
make -j2 --no-print-directory "$1/tests/tools/tok_dump" B="$1"
"$PY" tests/py/tok_hf.py "$1" ../shared
"$PY" tests/py/tok_view.py "$1" ../shared
