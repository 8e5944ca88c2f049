# SPDX-License-Identifier: Apache-2.0
# pare prune: sensitivity of layers, pruning to a size or a quality.
set -e
M=../shared/models T=../shared/data/text/tiny.utf8
[ -d $M/stories260k ] && [ -f $T ] || { echo "../shared is absent"; exit 77; }
"${PARE_VENV:-$1/venv}/bin/python" tests/py/goals.py "$1/pare" $M $T "$1/goals-test"
