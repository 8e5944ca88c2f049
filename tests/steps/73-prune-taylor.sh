# SPDX-License-Identifier: Apache-2.0
# pare prune --method taylor on stories260k: zeros, smaller models, sensitivity, a recipe, threads, refusals.
set -e
M=../shared/models T=../shared/data/text/tiny.utf8
[ -d $M/stories260k ] && [ -f $T ] || { echo "../shared is absent"; exit 77; }
"${PARE_VENV:-$1/venv}/bin/python" tests/py/prune_taylor.py "$1/pare" "$1/tests/tools/tok_dump" $M $T "$1/taylor-test"
