/* SPDX-License-Identifier: Apache-2.0
 *
 * Tensor-core products (cuda/mm_codes.cuh) of q4_k, q5_k and q6_k. */
#include "cuda/mm_codes.cuh"

PARE_CODES_BLOCK(pare_format_q4_k)
PARE_CODES_BLOCK(pare_format_q5_k)
PARE_CODES_BLOCK(pare_format_q6_k)
