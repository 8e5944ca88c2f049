# SPDX-License-Identifier: Apache-2.0
# pare quantize and convert: files opened by other packages, exact transcoding, threads, refusals, interruption.
set -e
[ -d ../shared/models/stories260k ] || { echo "../shared is absent"; exit 77; }
"${PARE_VENV:-$1/venv}/bin/python" tests/py/quantize.py "$1/pare" ../shared/models "$1/quantize"
