# SPDX-License-Identifier: Apache-2.0
# ONNX's own node tests for every operator of core/ops.def, at every instruction level of this machine.
set -e
PY=${PARE_VENV:-$1/venv}/bin/python
"$PY" -c 'import onnx' 2>/dev/null || { echo "no python with onnx==1.22.0: make check installs it (or set PARE_VENV)"; exit 1; }
make --no-print-directory "$1/tests/tools/onnx_nodes" B="$1"
"$PY" tests/py/onnx_nodes.py core/ops.def "$1/onnx_nodes"
"$1/tests/tools/onnx_nodes" "$1/onnx_nodes"
