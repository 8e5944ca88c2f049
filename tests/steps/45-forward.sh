# SPDX-License-Identifier: Apache-2.0
# Every model family run against a numpy reference.
set -e
PY=${PARE_VENV:-$1/venv}/bin/python
"$PY" -c 'import numpy, safetensors' 2>/dev/null || { echo "no python with numpy and safetensors: run make check"; exit 1; }
make --no-print-directory "$1/tests/tools/logits_dump" B="$1"
stories=../shared/models/stories260k
[ -d "$stories" ] || stories=-
"$PY" tests/py/forward.py "$1/tests/tools/logits_dump" "$1/forward" "$stories"
