# SPDX-License-Identifier: Apache-2.0
# Files of the gguf and safetensors packages read by pare, and pare's read by them.
set -e
make --no-print-directory "$1/tests/tools/model_copy" B="$1"
"${PARE_VENV:-$1/venv}/bin/python" tests/py/formats.py "$1/tests/tools/model_copy" "$1/formats"
