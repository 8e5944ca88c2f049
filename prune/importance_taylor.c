/* SPDX-License-Identifier: Apache-2.0
 *
 * First-order Taylor expansion for whole units (Molchanov et al., arXiv 1906.10771, eq. 8 and the sum over a set of
 * parameters below it): (gradient times weight)^2 of the loss of a window, summed over windows, places where the unit
 * is read and the weights that read it. The square of the sum over the weights, a gate on the unit, chose worse neurons
 * and query heads (docs/results/prune-structured.md). */
#include "prune/importance.h"

static pare_status score(const pare_graph *g, const pare_unit_stats *s, size_t n, double *out, pare_diag *d) {
    for (size_t i = 0; i < n; i++)
        for (int32_t u = 0; u < s[i].dim->units; u++) out[u] += s[i].taylor[u];
    return PARE_OK;
}

const pare_importance pare_importance_taylor = {"taylor", "squared gradient times squared weight of what reads it",
                                                PARE_UNITS_GRADIENTS, score};
