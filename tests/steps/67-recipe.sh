# SPDX-License-Identifier: Apache-2.0
# pare recipe: the chain, gates, interruption, zeros through quantization, refusals.
set -e
M=../shared/models T=../shared/data/text/tiny.utf8
[ -d $M/stories260k ] && [ -f $T ] || { echo "../shared is absent"; exit 77; }
"${PARE_VENV:-$1/venv}/bin/python" tests/py/recipe.py "$1/pare" $M $T "$1/recipe-test"
