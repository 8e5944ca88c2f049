# SPDX-License-Identifier: Apache-2.0
sh tests/lint.sh full
