# SPDX-License-Identifier: Apache-2.0
# pare distill on sentence encoders: losses, exact resuming, threads, refusals.
set -e
PY=${PARE_VENV:-$1/venv}/bin/python
"$PY" -c 'import tokenizers' 2>/dev/null || { echo "no python with tokenizers: run make check-peers"; exit 77; }
"$PY" tests/py/distill_encoder.py "$1/pare" "$1/encoder-test"
