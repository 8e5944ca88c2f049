# SPDX-License-Identifier: Apache-2.0
# Storage formats against gguf-py.
set -e
make --no-print-directory "$1/tests/test_grids" B="$1"
"${PARE_VENV:-$1/venv}/bin/python" tests/py/grids.py "$1"
