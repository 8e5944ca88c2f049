/* SPDX-License-Identifier: Apache-2.0
 *
 * SparseGPT (arXiv 2301.00774, section 3.2): w_ij^2 / u_jj^2, the loss of removing a weight when those behind it may
 * make it good, taken on the weights as the sweep (calib/sweep.h) has corrected them so far. Two things differ from the
 * paper, both because models come out closer to the original (docs/results/prune.md): the sweep starts at the target
 * corrected for what earlier layers lost (calib/linalg.h), and the weights of a row compete, not those of all rows
 * (--scope layer is the paper's). */
#include "prune/criterion.h"

static void score(const pare_score_in *in, float *out) {
    for (size_t r = 0; r < in->rows; r++)
        for (size_t j = 0; j < in->cols; j++) {
            float w = in->w[r * in->ld + j];
            out[r * in->cols + j] = w * w * in->inv_diag[j];
        }
}

const pare_criterion pare_criterion_sparsegpt = {.name = "sparsegpt",
                                                 .text = "loss after the best correction, weights corrected",
                                                 .needs = PARE_NEEDS_SWEEP,
                                                 .want = PARE_STATS_CROSS | PARE_STATS_RESIDUAL | PARE_STATS_SPLIT,
                                                 .scope = PARE_SCOPE_ROW,
                                                 .score = score};
