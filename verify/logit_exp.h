/* SPDX-License-Identifier: Apache-2.0
 *
 * exp(x) for x <= 0 in double: x = k ln 2 + r with |r| <= ln 2 / 2, exp(r) by its Taylor series to r^11 (relative error
 * below 1e-14), times 2^k. Below -700 the result is 0. Written with explicit fused multiply-adds, so that scalar and
 * vector code give the same bits. */
#ifndef PARE_VERIFY_LOGIT_EXP_H
#define PARE_VERIFY_LOGIT_EXP_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "verify/logit_row.h"

#define PARE_EXP_LOG2E  0x1.71547652b82fep+0
#define PARE_EXP_LN2_HI 0x1.62e42fefa39efp-1
#define PARE_EXP_LN2_LO 0x1.abc9e3b39803fp-56
#define PARE_EXP_MIN    (-700.0)
#define PARE_EXP_TERMS  12
static const double pare_exp_coef[PARE_EXP_TERMS] = {/* 1/11!, 1/10!, ..., 1/1!, 1/0! */
                                                     1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320,
                                                     1.0 / 5040,     1.0 / 720,     1.0 / 120,    1.0 / 24,
                                                     1.0 / 6,        1.0 / 2,       1.0,          1.0};

static inline double pare_exp_neg(double x) {
    if (!(x >= PARE_EXP_MIN)) return x < PARE_EXP_MIN ? 0 : x; /* NaN stays NaN */
    double k = nearbyint(x * PARE_EXP_LOG2E);
    double r = __builtin_fma(-k, PARE_EXP_LN2_LO, __builtin_fma(-k, PARE_EXP_LN2_HI, x));
    double y = pare_exp_coef[0];
    for (int i = 1; i < PARE_EXP_TERMS; i++) y = __builtin_fma(y, r, pare_exp_coef[i]);
    uint64_t bits;
    memcpy(&bits, &y, 8);
    bits += (uint64_t)(int64_t)k << 52;
    memcpy(&y, &bits, 8);
    return y;
}

/* One element into lane `j` of the six sums: sum[0] z_p, [1] z_q, [2] cross, [3] pp, [4] pq, [5] diff2. */
static inline void pare_logit_element(double sum[6][8], size_t j, double p, double q, double max_p, double max_q) {
    double x = p - max_p, y = q - max_q, e = pare_exp_neg(x), f = pare_exp_neg(y), diff = p - q;
    sum[0][j] += e;
    sum[1][j] += f;
    sum[2][j] = __builtin_fma(e, x - y, sum[2][j]);
    sum[3][j] = __builtin_fma(p, p, sum[3][j]);
    sum[4][j] = __builtin_fma(p, q, sum[4][j]);
    sum[5][j] = __builtin_fma(diff, diff, sum[5][j]);
}

static inline double pare_lanes_add(const double v[8]) {
    return ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
}

static inline void pare_logit_finish(double sum[6][8], float max_p, float max_q, pare_logit_sums *out) {
    *out = (pare_logit_sums){max_p,
                             max_q,
                             pare_lanes_add(sum[0]),
                             pare_lanes_add(sum[1]),
                             pare_lanes_add(sum[2]),
                             pare_lanes_add(sum[3]),
                             pare_lanes_add(sum[4]),
                             pare_lanes_add(sum[5])};
}

#endif
