# SPDX-License-Identifier: Apache-2.0
# Students that a config.json describes: what they begin as, what they become, configurations that are refused.
set -e
T=../shared/data/text/tiny.utf8
[ -d ../shared/models/stories260k ] && [ -f $T ] || { echo "../shared is absent"; exit 77; }
make --no-print-directory "$1/pare" "$1/tests/tools/logits_dump" B="$1"
"${PARE_VENV:-$1/venv}/bin/python" tests/py/distill_config.py "$1/pare" "$1/tests/tools/logits_dump" ../shared/models $T \
    "$1/distill-config-test"
