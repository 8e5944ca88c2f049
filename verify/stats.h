/* SPDX-License-Identifier: Apache-2.0
 *
 * Order statistics, ranks and the bootstrap (Efron and Tibshirani, 1993: percentile interval). A resample is given as
 * how often each unit (window, sentence, pair) was drawn, so that values are sorted once and every resample is linear.
 * Percentile rule: linear between the ranks around fraction * (n - 1), as llama.cpp and numpy's default do. */
#ifndef PARE_VERIFY_STATS_H
#define PARE_VERIFY_STATS_H

#include "pare/pare.h"

typedef struct pare_tagged {
    double value;
    uint32_t unit;
} pare_tagged;

void pare_tagged_sort(pare_tagged *v, size_t n); /* by value, then unit */
/* Percentiles of v (sorted), element i counted count[v[i].unit] times (NULL = once); fractions ascending in 0..1. All
 * NaN when nothing is counted. */
void pare_tagged_percentiles(const pare_tagged *v, size_t n, const uint32_t *count, const double *fractions,
                             size_t n_fractions, double *out);

/* Spearman's rank correlation of x and y (average ranks for ties) over n units given in both sorted orders, unit i
 * counted count[i] times (NULL = once); ranks_x, ranks_y: scratch of n. NaN when one side is constant. */
double pare_spearman(const pare_tagged *x, const pare_tagged *y, size_t n, const uint32_t *count, double *ranks_x,
                     double *ranks_y);

/* Computes n_stats statistics of a resample into out; count[i] = how often unit i was drawn. Thread-safe. */
typedef void pare_resample_fn(const void *ctx, const uint32_t *count, double *out);
#define PARE_RESAMPLES      1000
#define PARE_BOOTSTRAP_SEED UINT64_C(0x9a7e5eed)

/* 95 % intervals of n_stats statistics over PARE_RESAMPLES resamples of n_units units. Threaded; the same result for
 * every number of threads. Resamples in which a statistic is NaN are left out of its interval. */
pare_status pare_bootstrap(size_t n_units, size_t n_stats, pare_resample_fn *fn, const void *ctx, uint64_t seed,
                           double *lo, double *hi, pare_diag *d);

#endif
