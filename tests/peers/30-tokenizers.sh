# SPDX-License-Identifier: Apache-2.0
# GGUF vocabularies against llama-tokenize. PARE_LLAMA: the folder of llama.cpp's programs; PARE_LLAMA_VOCABS: its source's
# folder models (ggml-vocab-*.gguf), or any folder of GGUF files.
set -e
PY=${PARE_VENV:-$1/venv}/bin/python
tool=${PARE_LLAMA:-$1/llama/bin}/llama-tokenize
[ -x "$tool" ] || { echo "no llama-tokenize in ${PARE_LLAMA:-$1/llama/bin}: set PARE_LLAMA"; exit 77; }
[ -d ../shared/data/text ] || { echo "../shared is absent"; exit 77; }
make -j2 --no-print-directory "$1/tests/tools/tok_dump" B="$1"
[ -f "$1/tokenizers/deepseek3.json" ] || "$PY" tests/py/tok_hf.py "$1" ../shared
"$PY" tests/py/tok_view.py --llama "$tool" "$1" ../shared
set -- "$1" ../shared/models/stories260k/*.gguf
for f in "${PARE_LLAMA_VOCABS:-$1/llama/models}"/*.gguf; do
    case $f in *"*"* | *gemma-4* | *nomic-bert-moe*) continue ;; esac # models gemma4 and t5, which are refused by name
    set -- "$@" "$f"
done
"$PY" tests/py/tok_llama.py "$tool" "$1" ../shared $(shift; echo "$@")
