/* SPDX-License-Identifier: Apache-2.0
 *
 * How far one run of numbers is from another: sums in double, for tensors compared row by row and for node outputs.
 * Sums are kept in 8 lanes and added in a fixed order. */
#ifndef PARE_VERIFY_DIFF_H
#define PARE_VERIFY_DIFF_H

#include "verify/report.h"

typedef struct pare_diff {
    double pp, qq, pq, diff2; /* sum p^2, q^2, p q, (p - q)^2 */
    double max_error;         /* max |p - q| */
    uint64_t n;
    int bad; /* -1, or the first side (0 p, 1 q) that had a NaN or Inf */
} pare_diff;

void pare_diff_init(pare_diff *x);
void pare_diff_add(pare_diff *x, const float *p, const float *q, size_t n);
/* rows x cols numbers, rows in parallel; per_row: scratch of `rows`. The same sums for every number of threads. */
void pare_diff_add_rows(pare_diff *x, const float *p, const float *q, size_t rows, size_t cols, pare_diff *per_row);
void pare_diff_merge(pare_diff *x, const pare_diff *y);
double pare_diff_sqnr_db(const pare_diff *x); /* infinite when equal */
double pare_diff_cosine(const pare_diff *x);  /* 1 when equal, 0 against zeros */

#endif
