# SPDX-License-Identifier: Apache-2.0
# pare prune: numpy's Wanda and SparseGPT, files opened by other packages, threads, refusals.
set -e
T=../shared/data/text/tiny.utf8
[ -d ../shared/models/stories260k ] && [ -f $T ] || { echo "../shared is absent"; exit 77; }
make --no-print-directory "$1/tests/tools/tok_dump" B="$1"
"${PARE_VENV:-$1/venv}/bin/python" tests/py/prune.py "$1/pare" "$1/tests/tools/tok_dump" ../shared/models $T "$1/prune-test"
