/* SPDX-License-Identifier: Apache-2.0
 *
 * Tensor-core products (cuda/mm_codes.cuh) of the formats with blocks of 32 and minima. */
#include "cuda/mm_codes.cuh"

PARE_CODES_BLOCK(pare_format_q4_1)
PARE_CODES_BLOCK(pare_format_q5_1)
