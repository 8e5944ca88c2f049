# SPDX-License-Identifier: Apache-2.0
# pare inspect: known and unknown architectures, JSON, errors and exit statuses.
set -e
"${PARE_VENV:-$1/venv}/bin/python" tests/py/inspect_cli.py "$1/pare" "$1/inspect"
