/* SPDX-License-Identifier: Apache-2.0
 *
 * One layer pruned: criterion and pattern put together, with or without the sweep that corrects what stays. */
#ifndef PARE_PRUNE_SOLVE_H
#define PARE_PRUNE_SOLVE_H

#include "core/qtype.h"
#include "prune/criterion.h"
#include "prune/pattern.h"

/* A limit for all layers together (PARE_SCOPE_GLOBAL): scores below it go, and of those equal to it the first `ties`,
 * in the order in which the layers are solved. */
typedef struct pare_prune_limit {
    float below;
    uint64_t ties;
} pare_prune_limit;

typedef struct pare_prune_layer {
    const char *name;
    size_t rows, n;
    const pare_criterion *criterion;
    const pare_pattern_spec *spec;
    pare_prune_scope scope;
    double sparsity;
    pare_prune_limit *limit; /* PARE_SCOPE_GLOBAL */
    const pare_stats *s;     /* of its input; NULL when the criterion needs no data */
    const float *u;          /* as in calib/sweep.h; NULL unless the criterion is swept */
    const float *gradient;   /* [rows, n], as in prune/criterion.h; NULL unless the criterion asks for it */
    const pare_qtype *type;  /* a grid to round to while sweeping, NULL = none */
    float *w;                /* [rows, n], finite. in: the weights; out: those that stay, zeros */
    void *out;               /* with type: rows of pare_row_bytes(type, n) */
} pare_prune_layer;

/* equal: the same bytes at every thread count. fails: PARE_ERR_NOMEM; PARE_ERR_INTERRUPTED */
pare_status pare_prune_solve(const pare_prune_layer *l, pare_diag *d);

/* Columns that the sweep must fix together so that both the pattern and the grid's groups (0 = none) come out whole;
 * 0 when there is no reasonable number. */
size_t pare_prune_step(const pare_pattern_spec *s, size_t group, size_t n);

/* ---- the limit for all layers: two looks at every score, 16 bits of it at a time ---- */
typedef struct pare_prune_rank pare_prune_rank;
pare_prune_rank *pare_prune_rank_new(void); /* NULL: no memory */
void pare_prune_rank_free(pare_prune_rank **r);
/* Scores (>= 0) of a layer; call for all layers, then _turn(k), then for all layers again, then _limit. */
void pare_prune_rank_add(pare_prune_rank *r, const float *score, size_t n);
void pare_prune_rank_turn(pare_prune_rank *r, uint64_t k); /* k: how many are to go in all */
pare_prune_limit pare_prune_rank_limit(const pare_prune_rank *r);

#endif
