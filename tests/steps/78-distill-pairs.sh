# SPDX-License-Identifier: Apache-2.0
# A sentence encoder that learns from pairs of sentences, without its teacher.
set -e
PY=${PARE_VENV:-$1/venv}/bin/python
"$PY" -c 'import tokenizers' 2>/dev/null || { echo "no python with tokenizers: run make check-peers"; exit 77; }
"$PY" tests/py/distill_pairs.py "$1/pare" "$1/pairs-test"
