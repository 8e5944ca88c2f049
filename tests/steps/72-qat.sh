# SPDX-License-Identifier: Apache-2.0
# pare distill --train qat on stories260k: codes that learn, what is written, exact resuming, zeros, refusals.
set -e
T=../shared/data/text/tiny.utf8
[ -d ../shared/models/stories260k ] && [ -f $T ] || { echo "../shared is absent"; exit 77; }
"${PARE_VENV:-$1/venv}/bin/python" tests/py/qat.py "$1/pare" ../shared/models $T "$1/qat-test"
