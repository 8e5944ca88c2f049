# SPDX-License-Identifier: Apache-2.0
# Encoders with fewer heads and their channels: pare prune --pattern width, pare distill --hidden --heads.
set -e
PY=${PARE_VENV:-$1/venv}/bin/python
"$PY" -c 'import tokenizers' 2>/dev/null || { echo "no python with tokenizers: run make check-peers"; exit 77; }
"$PY" tests/py/distill_width.py "$1/pare" "$1/width-test"
