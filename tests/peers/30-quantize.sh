# SPDX-License-Identifier: Apache-2.0
# Folders written by pare in transformers with compressed-tensors; every family to GGUF and back.
set -e
[ -d ../shared/models/stories260k ] || { echo "../shared is absent"; exit 77; }
"${PARE_VENV:-$1/venv}/bin/python" tests/py/peer_quantize.py "$1/pare" ../shared/models "$1/peer_quantize"
