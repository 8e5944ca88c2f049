# SPDX-License-Identifier: Apache-2.0
# Importance matrices against llama-imatrix and llama-quantize. LLAMA_BIN: folder of llama.cpp's programs.
"${PARE_VENV:-$1/venv}/bin/python" tests/py/peer_imatrix.py "$1/pare" ../shared/models "$1/peer_imatrix"
