# SPDX-License-Identifier: Apache-2.0
# Every kernel of cuda/ on the host (cuda/emu/) against the CPU's reference, with the threads in two orders; the products
# once more as the oldest GPU does them.
set -e
make -j2 --no-print-directory emu "$1/tests/tools/device_parity" "$1/tests/tools/device_update" B="$1"
PARE_PLUGIN_CUDA="$1/libpare-cuda-emu.so" "$1/tests/tools/device_update"
for seed in 1 $(($(date +%s) % 100000)); do
    PARE_PLUGIN_CUDA="$1/libpare-cuda-emu.so" PARE_EMU_SEED=$seed "$1/tests/tools/device_parity" --seed "$seed" \
        --json "$1/check/cuda-emu-$seed.json"
done
PARE_EMU_ARCH=75 PARE_PLUGIN_CUDA="$1/libpare-cuda-emu.so" "$1/tests/tools/device_parity" --op MatMul --json "$1/check/cuda-emu-75.json"
