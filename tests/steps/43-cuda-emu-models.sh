# SPDX-License-Identifier: Apache-2.0
# Models on the emulated GPU, end to end: text, a planted fault and its layer, less memory than the model needs.
set -e
M=../shared/models/stories260k
[ -d $M ] || { echo "../shared is absent"; exit 77; }
make --no-print-directory emu "$1/pare" B="$1"
"${PARE_VENV:-$1/venv}/bin/python" tests/py/cuda_emu_models.py "$1/pare" "$1/libpare-cuda-emu.so" $M
