/* SPDX-License-Identifier: Apache-2.0
 *
 * Magnitude: a weight is worth its absolute value (Han et al., arXiv 1506.02626). Needs no data. */
#include "prune/criterion.h"

#include <math.h>

static void score(const pare_score_in *in, float *out) {
    for (size_t r = 0; r < in->rows; r++)
        for (size_t j = 0; j < in->cols; j++) out[r * in->cols + j] = fabsf(in->w[r * in->ld + j]);
}

const pare_criterion pare_criterion_magnitude = {.name = "magnitude",
                                                 .text = "absolute value; no data",
                                                 .scope = PARE_SCOPE_LAYER,
                                                 .comparable = true,
                                                 .score = score};
