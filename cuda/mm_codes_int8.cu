/* SPDX-License-Identifier: Apache-2.0
 *
 * Tensor-core products (cuda/mm_codes.cuh) of grouped int8. */
#include "cuda/mm_codes.cuh"

PARE_CODES_GROUP(pare_format_int8)
PARE_CODES_GROUP(pare_format_int8_asym)
