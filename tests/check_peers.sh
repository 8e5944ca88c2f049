#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The steps of `make check-peers`: comparisons with programs that are too large for `make check` (torch, transformers).
STEPS=tests/peers exec sh tests/check.sh "$@"
