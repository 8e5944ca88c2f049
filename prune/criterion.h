/* SPDX-License-Identifier: Apache-2.0
 *
 * Criteria: how much a weight is worth. A criterion sees a slice of a layer's weights and what it asked for about the
 * columns; it knows no pattern. prune/criteria.def lists them, one file each. */
#ifndef PARE_PRUNE_CRITERION_H
#define PARE_PRUNE_CRITERION_H

#include "calib/walk.h"

/* What a criterion asks for. */
enum {
    PARE_NEEDS_MOMENTS = 1, /* mean square of each input */
    PARE_NEEDS_SWEEP = 2,   /* scores are taken while the columns are swept, and weights that stay make good the loss */
    PARE_NEEDS_GRADIENTS = 4,
    PARE_NEEDS_WALK = PARE_NEEDS_MOMENTS | PARE_NEEDS_SWEEP /* layers are pruned one after another, on what is left */
};

/* Which weights compete with one another for being kept, where the pattern leaves the choice. */
typedef enum pare_prune_scope { PARE_SCOPE_ROW, PARE_SCOPE_LAYER, PARE_SCOPE_GLOBAL } pare_prune_scope;

typedef struct pare_score_in {
    const float *w; /* [rows, cols], distance ld */
    size_t rows, cols, ld;
    const float *moment;   /* [cols]: mean of x_j^2; NULL unless asked for */
    const float *inv_diag; /* [cols]: 1 / u_jj^2 (calib/sweep.h); NULL unless swept */
    const float *gradient; /* [rows, cols], distance ld: sum over windows of the squared gradient of the loss; NULL
                              unless asked for */
} pare_score_in;

typedef struct pare_criterion {
    const char *name, *text; /* text: half a line for --help */
    unsigned needs;          /* 0: no data at all */
    unsigned want;           /* PARE_STATS_... of the walk */
    pare_prune_scope scope;  /* its own, unless the user names another */
    bool comparable;         /* scores of different layers mean the same: a global scope makes sense */
    /* score [rows, cols], dense: finite or +Inf, never NaN; the smallest go first. */
    void (*score)(const pare_score_in *in, float *score);
} pare_criterion;

#define PARE_CRITERION(sym) extern const pare_criterion sym;
#include "prune/criteria.def"
#undef PARE_CRITERION

const pare_criterion *pare_criterion_at(size_t i);              /* NULL past the last */
const pare_criterion *pare_criterion_by_name(const char *name); /* NULL when unknown */

#endif
