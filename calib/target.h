/* SPDX-License-Identifier: Apache-2.0
 *
 * The weights a solver aims at: those whose outputs on the reduced model's inputs come closest to the original's
 * outputs (and, for matrices that write the residual stream, to the original's stream), as far as the data can tell.
 *
 * op:     T = W + a (W C + R) inverse(H + damping), row by row 0 <= a <= 1; C, R as calib/walk.h sums them.
 *         A correction estimated from few tokens is partly noise, which adds up over the layers. With the sums of two
 *         halves of the tokens, B = W C + R and D = B inverse(H + damping) of each, the share of a half's correction
 *         that the other half confirms is c = (D1 B2 + D2 B1) / (D1 H2 D1 + D2 H1 D2), and of both together
 *         a = 2 c / (1 + c) (Spearman-Brown). Without two halves a = 1.
 * papers: GPTAQ, arXiv 2504.02692; QEP, arXiv 2504.09629, whose alpha is one number for all layers
 */
#ifndef PARE_CALIB_TARGET_H
#define PARE_CALIB_TARGET_H

#include "calib/walk.h"

/* target [rows, n] from w [rows, n]. u, order: of s->h (calib/linalg.h). *share: the mean of a; may be NULL.
 * fails: PARE_ERR_NOMEM */
pare_status pare_target_for(size_t rows, size_t n, const float *w, const pare_stats *s, const float *u,
                            const uint32_t *order, float *target, double *share, pare_diag *d);

#endif
