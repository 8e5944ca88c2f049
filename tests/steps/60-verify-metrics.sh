# SPDX-License-Identifier: Apache-2.0
# Every metric of pare verify against numpy.
set -e
make --no-print-directory "$1/tests/test_metrics" B="$1"
"${PARE_VENV:-$1/venv}/bin/python" tests/py/verify_metrics.py "$1"
