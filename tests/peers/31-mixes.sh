# SPDX-License-Identifier: Apache-2.0
# Every mix against llama-quantize, tensor by tensor. LLAMA_BIN: folder of llama.cpp's programs.
"${PARE_VENV:-$1/venv}/bin/python" tests/py/peer_mixes.py "$1/pare" "$1/peer_mixes"
