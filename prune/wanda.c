/* SPDX-License-Identifier: Apache-2.0
 *
 * Wanda (arXiv 2306.11695, eq. 1): |w_ij| * ||x_j||, the norm over the tokens of the calibration data; weights of one
 * output compete with one another. The norm is taken as a root mean square, which orders the same. */
#include "prune/criterion.h"

#include <math.h>

static void score(const pare_score_in *in, float *out) {
    for (size_t r = 0; r < in->rows; r++)
        for (size_t j = 0; j < in->cols; j++)
            out[r * in->cols + j] = fabsf(in->w[r * in->ld + j]) * sqrtf(in->moment[j]);
}

const pare_criterion pare_criterion_wanda = {.name = "wanda",
                                             .text = "absolute value times the norm of the input",
                                             .needs = PARE_NEEDS_MOMENTS,
                                             .scope = PARE_SCOPE_ROW,
                                             .score = score};
