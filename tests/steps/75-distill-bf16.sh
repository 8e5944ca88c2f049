# SPDX-License-Identifier: Apache-2.0
# pare distill --precision bf16 on stories260k: the curve and the result of f32, exact resuming, threads.
set -e
T=../shared/data/text/tiny.utf8
[ -d ../shared/models/stories260k ] && [ -f $T ] || { echo "../shared is absent"; exit 77; }
"${PARE_VENV:-$1/venv}/bin/python" tests/py/distill_bf16.py "$1/pare" ../shared/models $T "$1/distill-bf16"
