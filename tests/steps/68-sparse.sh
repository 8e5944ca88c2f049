# SPDX-License-Identifier: Apache-2.0
# The compact layout of pruned models: decoded by numpy from its description, sizes, outputs, broken files.
set -e
T=../shared/data/text/tiny.utf8
[ -d ../shared/models/stories260k ] && [ -f $T ] || { echo "../shared is absent"; exit 77; }
"${PARE_VENV:-$1/venv}/bin/python" tests/py/sparse.py "$1/pare" ../shared/models $T "$1/sparse-test"
