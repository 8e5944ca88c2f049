# SPDX-License-Identifier: Apache-2.0
# MiniLM in int8 and int4 against a numpy reference (100 pairs of STS-B dev; LONG=1: all 1,500).
set -e
PY=${PARE_VENV:-$1/venv}/bin/python
[ -f ../shared/data/stsb/sts-dev.csv ] || { echo "../shared is absent"; exit 77; }
pairs=100
[ -z "${LONG:-}" ] || pairs=0
"$PY" tests/py/minilm.py "$1/pare" ../shared/data/stsb/sts-dev.csv "$1/minilm" --pairs $pairs
