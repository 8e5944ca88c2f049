/* SPDX-License-Identifier: Apache-2.0
 *
 * Tensor-core products (cuda/mm_codes.cuh) of q2_k and q3_k. */
#include "cuda/mm_codes.cuh"

PARE_CODES_BLOCK(pare_format_q2_k)
PARE_CODES_BLOCK(pare_format_q3_k)
