/* SPDX-License-Identifier: Apache-2.0
 *
 * Tensor-core products (cuda/mm_codes.cuh) of grouped int4. */
#include "cuda/mm_codes.cuh"

PARE_CODES_GROUP(pare_format_int4)
PARE_CODES_GROUP(pare_format_int4_asym)
