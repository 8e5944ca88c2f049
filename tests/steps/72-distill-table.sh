# SPDX-License-Identifier: Apache-2.0
# What distillation and healing are worth on stories260k, 30 steps; LONG=1: 400.
set -e
T=../shared/data/text/tiny.utf8
[ -d ../shared/models/stories260k ] && [ -f $T ] || { echo "../shared is absent"; exit 77; }
steps=30
[ -z "${LONG:-}" ] || steps=400
"${PARE_VENV:-$1/venv}/bin/python" tests/py/distill_table.py "$1/pare" ../shared/models $T "$1/distill-table" $steps
