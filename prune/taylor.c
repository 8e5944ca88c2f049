/* SPDX-License-Identifier: Apache-2.0
 *
 * First-order Taylor expansion of the loss (Molchanov et al., Importance Estimation for Neural Network Pruning, arXiv
 * 1906.10771, eq. 8): what the loss of the text loses with a weight is (g w)^2, summed over the windows of the
 * calibration data, g the gradient of a window's loss. (w^2 E[g^2], the diagonal of the empirical Fisher matrix in
 * second-order criteria, is the same number: w does not change between windows.) */
#include "prune/criterion.h"

static void score(const pare_score_in *in, float *out) {
    for (size_t r = 0; r < in->rows; r++)
        for (size_t j = 0; j < in->cols; j++) {
            double w = in->w[r * in->ld + j];
            out[r * in->cols + j] = (float)(w * w * (double)in->gradient[r * in->ld + j]);
        }
}

const pare_criterion pare_criterion_taylor = {.name = "taylor",
                                              .text = "squared weight times squared gradient of the text's loss",
                                              .needs = PARE_NEEDS_GRADIENTS,
                                              .scope = PARE_SCOPE_LAYER,
                                              .comparable = true,
                                              .score = score};
