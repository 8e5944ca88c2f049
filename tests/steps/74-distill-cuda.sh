# SPDX-License-Identifier: Apache-2.0
# pare distill on the emulated GPU: the CPU's losses, the same bytes in every run and after an interruption.
set -e
T=../shared/data/text/tiny.utf8
[ -d ../shared/models/stories260k ] && [ -f $T ] || { echo "../shared is absent"; exit 77; }
make --no-print-directory emu "$1/pare" B="$1"
"${PARE_VENV:-$1/venv}/bin/python" tests/py/distill_cuda.py "$1/pare" "$1/libpare-cuda-emu.so" ../shared/models $T \
    "$1/distill-cuda-test"
