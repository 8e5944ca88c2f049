# SPDX-License-Identifier: Apache-2.0
# Calibrated quantization: numpy's GPTQ, interrupt and resume, importance matrices, refusals.
set -e
[ -d ../shared/models/stories260k ] || { echo "../shared is absent"; exit 77; }
"${PARE_VENV:-$1/venv}/bin/python" tests/py/gptq.py "$1/pare" ../shared/models "$1/gptq"
