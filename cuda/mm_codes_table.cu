/* SPDX-License-Identifier: Apache-2.0
 *
 * Tensor-core products (cuda/mm_codes.cuh) of the formats whose codes go through a table. */
#include "cuda/mm_codes.cuh"

PARE_CODES_BLOCK(pare_format_iq4_nl)
PARE_CODES_BLOCK(pare_format_iq4_xs)
PARE_CODES_BLOCK(pare_format_mxfp4)
