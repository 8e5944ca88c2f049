# SPDX-License-Identifier: Apache-2.0
# pare quantize --method autoround on stories260k: better than gptq, killed and resumed, threads, zeros, a stock reader.
set -e
T=../shared/data/text/tiny.utf8
[ -d ../shared/models/stories260k ] && [ -f $T ] || { echo "../shared is absent"; exit 77; }
"${PARE_VENV:-$1/venv}/bin/python" tests/py/autoround.py "$1/pare" ../shared/models $T "$1/autoround"
