# SPDX-License-Identifier: Apache-2.0
# pare verify on two devices, with a plug-in that is the CPU's kernels in disguise, and with the emulated GPU.
set -e
M=../shared/models/stories260k
[ -d $M ] || { echo "../shared is absent"; exit 77; }
make --no-print-directory emu "$1/tests/tools/plugin_mock.so" B="$1"
"${PARE_VENV:-$1/venv}/bin/python" tests/py/verify_devices.py "$1/pare" "$1/tests/tools/plugin_mock.so" "$1/libpare.so" \
    "$1/libpare-cuda-emu.so" $M
