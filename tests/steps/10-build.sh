# SPDX-License-Identifier: Apache-2.0
make -j2 --no-print-directory all B="$1"
