# SPDX-License-Identifier: Apache-2.0
# What pare prune --method taylor makes zero and takes out, against gradients that torch computes for transformers' model.
set -e
PY=${PARE_VENV:-$1/venv}/bin/python
"$PY" -c 'import torch, transformers' 2>/dev/null || { echo "no python with torch and transformers: run make check-peers (or set PARE_VENV)"; exit 1; }
M=../shared/models T=../shared/data/text/tiny.utf8
[ -d $M/stories260k ] && [ -f $T ] || { echo "../shared is absent"; exit 77; }
make --no-print-directory "$1/tests/tools/tok_dump" B="$1"
"$PY" tests/py/prune_taylor.py "$1/pare" "$1/tests/tools/tok_dump" $M $T "$1/taylor-test" torch
