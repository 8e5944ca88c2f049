# SPDX-License-Identifier: Apache-2.0
# ONNX's own node tests through the CUDA backend, its kernels emulated on the host. What it does not support (integer
# arithmetic) is skipped by name; an operator of its table that passes none fails, but for ours, which ONNX does not have,
# and ConstantOfShape, whose value the reader of these tests does not take.
set -e
PY=${PARE_VENV:-$1/venv}/bin/python
"$PY" -c 'import onnx' 2>/dev/null || { echo "no python with onnx==1.22.0: make check installs it (or set PARE_VENV)"; exit 1; }
make -j2 --no-print-directory emu "$1/tests/tools/onnx_nodes" B="$1"
PARE_PLUGIN_CUDA=$(cd "$1" && pwd)/libpare-cuda-emu.so
export PARE_PLUGIN_CUDA
"$PY" tests/py/onnx_nodes.py core/ops.def "$1/onnx_nodes"
for seed in 1 2; do
    PARE_EMU_SEED=$seed "$1/tests/tools/onnx_nodes" "$1/onnx_nodes" --device cuda >"$1/onnx_nodes/cuda.txt" || { cat "$1/onnx_nodes/cuda.txt"; exit 1; }
    for op in $(sed -n 's/^PARE_CUDA_OP(\([A-Za-z]*\),.*/\1/p' cuda/ops_cuda.def); do
        ! grep -q "^PARE_OP($op, \"pare\"" core/ops.def && [ "$op" != ConstantOfShape ] || continue
        grep -q "^$op  *[1-9][0-9]* passed" "$1/onnx_nodes/cuda.txt" || { cat "$1/onnx_nodes/cuda.txt"; echo "$op: nothing passed"; exit 1; }
    done
done
cat "$1/onnx_nodes/cuda.txt"
