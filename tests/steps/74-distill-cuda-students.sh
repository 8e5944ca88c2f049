# SPDX-License-Identifier: Apache-2.0
# On the emulated GPU: sentence encoders that learn, students of a config.json, learned projections, adapters.
set -e
PY=${PARE_VENV:-$1/venv}/bin/python
T=../shared/data/text/tiny.utf8
"$PY" -c 'import tokenizers' 2>/dev/null || { echo "no python with tokenizers: run make check-peers"; exit 77; }
[ -d ../shared/models/stories260k ] && [ -f $T ] || { echo "../shared is absent"; exit 77; }
make --no-print-directory emu "$1/pare" B="$1"
"$PY" tests/py/distill_cuda_students.py "$1/pare" "$1/libpare-cuda-emu.so" ../shared/models $T "$1/distill-cuda-students"
