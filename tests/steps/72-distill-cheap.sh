# SPDX-License-Identifier: Apache-2.0
# pare distill on stories260k with less work: the teacher's distributions kept, adapters.
set -e
T=../shared/data/text/tiny.utf8
[ -d ../shared/models/stories260k ] && [ -f $T ] || { echo "../shared is absent"; exit 77; }
"${PARE_VENV:-$1/venv}/bin/python" tests/py/distill_cheap.py "$1/pare" ../shared/models $T "$1/distill-cheap"
