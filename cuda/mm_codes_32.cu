/* SPDX-License-Identifier: Apache-2.0
 *
 * Tensor-core products (cuda/mm_codes.cuh) of the formats with blocks of 32 and a scale alone. */
#include "cuda/mm_codes.cuh"

PARE_CODES_BLOCK(pare_format_q4_0)
PARE_CODES_BLOCK(pare_format_q5_0)
PARE_CODES_BLOCK(pare_format_q8_0)
