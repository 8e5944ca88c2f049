# SPDX-License-Identifier: Apache-2.0
# pare distill --blockwise on stories260k: what it gains, the same bytes, going on inside and between layers, memory.
set -e
T=../shared/data/text/tiny.utf8
[ -d ../shared/models/stories260k ] && [ -f $T ] || { echo "../shared is absent"; exit 77; }
"${PARE_VENV:-$1/venv}/bin/python" tests/py/distill_blocks.py "$1/pare" ../shared/models $T "$1/distill-blocks"
