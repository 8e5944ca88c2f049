# SPDX-License-Identifier: Apache-2.0
# pare run, as a person uses it.
set -e
PY=${PARE_VENV:-$1/venv}/bin/python
make --no-print-directory all B="$1"
[ -d ../shared/models/stories260k ] || { echo "../shared/models/stories260k is not here"; exit 77; }
"$PY" tests/py/run_cli.py "$1/pare" ../shared/models/stories260k "$1/run_cli"
