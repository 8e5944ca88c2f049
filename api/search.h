/* SPDX-License-Identifier: Apache-2.0
 *
 * Searching for how much: the largest amount whose measured cost is within a limit, and how an amount is shared out
 * among parts of different sensitivity. Knows nothing of what is chosen (zeros, widths, grids).
 *
 * papers: shares as in the allocation of bits under a sum of convex costs (Shoham and Gersho 1988): at the best point
 *         one more weight costs the same everywhere */
#ifndef PARE_API_SEARCH_H
#define PARE_API_SEARCH_H

#include "pare/pare.h"

/* Cost of amount x; grows with x, but for noise. */
typedef pare_status pare_search_fn(void *ctx, int64_t x, double *cost, pare_diag *d);

typedef struct pare_search {
    int64_t least, most; /* amounts that may be chosen */
    double limit;
    int evaluations; /* at most */
    pare_search_fn *measure;
    void *ctx;
} pare_search;

typedef struct pare_search_result {
    bool found;      /* an amount within the limit was measured */
    int64_t x;       /* the largest of them; else the smallest amount measured */
    double cost;     /* its cost */
    int evaluations; /* that were made */
} pare_search_result;

/* op: bisection between the largest amount known to be within the limit and the smallest known to be beyond it; where
 *     both costs are known, at the point where the logarithm of the cost, taken as a line, meets the limit */
pare_status pare_search_run(const pare_search *s, pare_search_result *out, pare_diag *d);

/* How an amount is best shared out: part i, with weight[i] things in it, costs cost[i * n_amounts + k] when amounts[k]
 * of it go (0 < amounts < 1, rising). share[i]: how much of part i goes when as much as 1 of all goes, relative, such
 * that the mean over all things is 1; each within [0.5, 1.6]. A part that never cost anything gets the most. op: costs
 * are fitted as c_i a^p with one p for all; the sum is least where c_i p a_i^(p-1) / weight_i is the same */
void pare_search_shares(size_t n, size_t n_amounts, const double *amounts, const double *cost, const double *weight,
                        double *share);

#endif
