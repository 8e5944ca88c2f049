# SPDX-License-Identifier: Apache-2.0
# pare verify: protocol, gates by name, exit statuses, report files.
set -e
M=../shared/models/stories260k T=../shared/data/text/tiny.utf8
[ -d $M ] && [ -f $T ] || { echo "../shared is absent"; exit 77; }
"${PARE_VENV:-$1/venv}/bin/python" tests/py/verify_cli.py "$1/pare" $M $T
