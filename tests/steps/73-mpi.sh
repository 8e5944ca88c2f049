# SPDX-License-Identifier: Apache-2.0
# Several processes under mpirun: the bytes of one, going on with another number, one that dies or fails.
set -e
command -v mpirun >/dev/null && command -v mpicc >/dev/null || { echo "no mpirun or mpicc (openmpi-bin, libopenmpi-dev)"; exit 77; }
T=../shared/data/text/tiny.utf8
[ -d ../shared/models/stories260k ] && [ -f $T ] || { echo "../shared is absent"; exit 77; }
make --no-print-directory "$1/libpare-mpi.so" B="$1"
"${PARE_VENV:-$1/venv}/bin/python" tests/py/mpi.py "$1/pare" ../shared/models/stories260k $T "$1/mpi-test"
