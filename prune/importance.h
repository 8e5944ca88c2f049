/* SPDX-License-Identifier: Apache-2.0
 *
 * How much each unit of a dimension (prune/structure.h) matters: criteria behind one interface, one file each
 * (prune/importances.def), and the statistics of activations that some of them need.
 *
 * op:     score[u] += what unit u contributes, summed over all places where the dimension is read
 * shape:  score [dim->units]; larger = keep
 * equal:  the same bits at every thread count */
#ifndef PARE_PRUNE_IMPORTANCE_H
#define PARE_PRUNE_IMPORTANCE_H

#include "prune/structure.h"

/* Sums over the tokens of the calibration data, of the last dimension of one value. */
typedef struct pare_unit_stats {
    const pare_dimension *dim;
    const pare_slot *slot;    /* of the value, its last axis */
    const pare_reader *reads; /* who reads the value there */
    double tokens;
    double *norm;   /* [units]: sum of the L2 norm of the unit's channels (of one channel: its absolute value) */
    double *square; /* [channels]: sum of squares */
    double *mean;   /* [channels]: sum */
    double *taylor; /* [units]: sums, over windows and the unit's columns of what reads it, of (gradient * weight)^2 */
} pare_unit_stats;

/* All places that are watched in one pass; the executor's hook fills them. */
typedef struct pare_unit_watch {
    const pare_graph *g;
    size_t n;
    pare_unit_stats *v;
    double *token;   /* scratch of the longest dimension */
    const char *bad; /* a node with NaN or Inf */
} pare_unit_watch;

enum { PARE_UNITS_ACTIVATIONS = 1, PARE_UNITS_GRADIENTS = 2 };

typedef struct pare_importance {
    const char *name, *text;
    unsigned needs; /* without ACTIVATIONS, stats may have no tokens; without GRADIENTS, taylor is 0 */
    pare_status (*score)(const pare_graph *g, const pare_unit_stats *s, size_t n, double *score, pare_diag *d);
} pare_importance;

const pare_importance *pare_importance_by_name(const char *name); /* NULL: unknown */
const pare_importance *pare_importance_at(size_t i);              /* NULL past the last */

/* Adds the values that the readers of dim read. owns: pare_unit_watch_free; dim and readers must outlive the watch. */
pare_status pare_unit_watch_add(pare_unit_watch *w, const pare_graph *g, const pare_dimension *dim,
                                const pare_reader *readers, size_t n, pare_diag *d);
void pare_unit_watch_free(pare_unit_watch *w);
bool pare_unit_watch_hook(void *watch, int node, const char *name, pare_op op, const pare_tensor *out);

/* keep[u] = the `keep_n` units of the highest score, or keep_n / sets of each set; ties keep the lower number. */
pare_status pare_units_choose(const pare_dimension *dim, const double *score, int32_t keep_n, bool *keep, pare_diag *d);

/* Row r of a stored matrix as f32 (any storage format). */
void pare_weight_row(const pare_tensor *w, int64_t r, float *out);

#endif
