# SPDX-License-Identifier: Apache-2.0
# kill -9 at moments spread over runs; `make check-long`: 50 kills on outputs above 500 MB.
set -e
size="--mb 20 --kills 16"
[ -z "${LONG:-}" ] || size="--mb 520 --kills 50"
"${PARE_VENV:-$1/venv}/bin/python" tests/py/kill9.py "$1/pare" "$1/kill9" $size
