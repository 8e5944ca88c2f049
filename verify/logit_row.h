/* SPDX-License-Identifier: Apache-2.0
 *
 * What two rows of logits say about two distributions, in two passes over memory.
 * shape: p, q are n logits each (f32, any alignment). units: nats.
 * layout: sums are kept in 8 lanes, element i in lane i % 8, in double, each lane from low i to high i; lanes are added
 *   as ((0+1)+(2+3)) + ((4+5)+(6+7)). exp() is the polynomial of verify/logit_exp.h, every step one fused multiply-add.
 * equal: bit for bit between all variants. NaN or Inf anywhere makes pp, pq or diff2 non-finite.
 * fails: never. pre: n > 0. */
#ifndef PARE_VERIFY_LOGIT_ROW_H
#define PARE_VERIFY_LOGIT_ROW_H

#include <stddef.h>

typedef struct pare_logit_sums {
    float max_p, max_q;
    double z_p, z_q;      /* sum exp(p - max_p), the same for q */
    double cross;         /* sum exp(p - max_p) * ((p - max_p) - (q - max_q)) */
    double pp, pq, diff2; /* sum p*p, p*q, (p-q)^2 */
} pare_logit_sums;

typedef void pare_logit_row_fn(const float *p, const float *q, size_t n, pare_logit_sums *out);
#define PARE_KERNEL(op, isa, mask) pare_##op##_fn pare_##op##_##isa;
#include "verify/logit_row.def"
#undef PARE_KERNEL

pare_logit_row_fn *pare_logit_row_pick(void); /* the fastest that pare_cpu_mask() allows */

#endif
