# SPDX-License-Identifier: Apache-2.0
# Two processes with an emulated GPU each: gradients from device to device, the bytes of one process.
set -e
command -v mpirun >/dev/null && command -v mpicc >/dev/null || { echo "no mpirun or mpicc (openmpi-bin, libopenmpi-dev)"; exit 77; }
T=../shared/data/text/tiny.utf8
[ -d ../shared/models/stories260k ] && [ -f $T ] || { echo "../shared is absent"; exit 77; }
make --no-print-directory emu "$1/pare" "$1/libpare-mpi.so" "$1/tests/tools/nccl_emu.so" B="$1"
"${PARE_VENV:-$1/venv}/bin/python" tests/py/mpi_gpu.py "$1/pare" "$1/libpare-cuda-emu.so" "$1/tests/tools/nccl_emu.so" \
    ../shared/models/stories260k $T "$1/mpi-gpu-test"
