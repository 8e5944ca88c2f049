# SPDX-License-Identifier: Apache-2.0
# Layers packed by the compressed-tensors package, read and decoded by pare: equal bit for bit.
set -e
"${PARE_VENV:-$1/venv}/bin/python" tests/py/peer_ct.py "$1/pare" "$1/peer_ct"
