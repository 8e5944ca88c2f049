/* SPDX-License-Identifier: Apache-2.0
 *
 * Closed-form healing: after channels of its input are gone, the linear that reads them is fitted anew so that its
 * outputs on the channels that stay come closest to the original's.
 *
 * op:     W' = W_K + s (T - W_K H_KK) inverse(H_KK + lambda I),  T = W (H + C)_K [+ R_K]:
 *         least squares with ridge towards W_K, the kept columns of W. lambda (damping times the mean of diag H_KK) and
 *         the step s, 0..1, are those that do best on tokens that were not fitted; then all tokens are. Where nothing
 *         gains there, W' = W_K.
 * shape:  w [rows, n]; sums of h [n, n] lower triangle of sum x_q x_q^T, c [n, n] sum (x_f - x_q) x_q^T or NULL (0),
 *         r [rows, n] sum (r_f - r_q) x_q^T or NULL; keep [nk] ascending columns, out [rows, nk]; f is the original's
 *         stream, q that of the model with everything before already narrowed (calib/walk.h)
 * equal:  the same bits at every thread count
 * fails:  PARE_ERR_NOMEM; PARE_ERR_INPUT when the statistics are not finite
 * Bias:   with mean_f and mean_q (sums over tokens, [n]) the bias that makes the mean output equal again is
 *         b + (W mean_f - W'_K mean_q) / tokens. */
#ifndef PARE_PRUNE_HEAL_H
#define PARE_PRUNE_HEAL_H

#include "pare/pare.h"

#include <stdint.h>

typedef struct pare_heal_sums {
    const float *h, *c, *r;
} pare_heal_sums;

typedef struct pare_heal {
    size_t rows, n, nk;
    const float *w;
    const uint32_t *keep;
    pare_heal_sums fit, judge;
} pare_heal;

/* *damping, *step (may be NULL): what was chosen; step 0: nothing gained. */
pare_status pare_heal_fit(const pare_heal *k, float *out, double *damping, double *step, pare_diag *d);

#endif
