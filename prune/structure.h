/* SPDX-License-Identifier: Apache-2.0
 *
 * Which dimensions belong together: to take a channel out of one matrix, others must lose it too, and this finds them
 * for any graph from one rule per operator (structure_rules.c). The residual stream ties embedding columns, norms and
 * everything that reads or writes it; attention ties the rows of q, k and v to columns of the output projection, head
 * by head; a gate ties its two factors. (Dependency graph as in DepGraph, arXiv 2301.12900, down to single elements.)
 *
 * op:    from dimension `axis` of weight `start`, elements are joined along the nodes until nothing new is reached; the
 *        joined sets are the units, the least that can be taken out together
 * shape: a slot is one dimension of one value; unit[i] says which unit its element i belongs to, -1 = it stays
 * equal: removing units of channels that are zero everywhere leaves the outputs as they were, except through norms,
 *        whose mean runs over fewer channels then
 * fails: PARE_ERR_UNSUPPORTED naming the node that has no rule for what reaches it; PARE_ERR_NOMEM
 * owns:  pare_dimension_free */
#ifndef PARE_PRUNE_STRUCTURE_H
#define PARE_PRUNE_STRUCTURE_H

#include "graph/graph_impl.h"

/* What attention ties together: whole key/value groups with all their query heads, or each query head alone (then the
 * keys and values stay, and every group must lose as many: `sets`). */
typedef enum pare_head_mode { PARE_HEADS_GROUPS, PARE_HEADS_QUERY } pare_head_mode;

typedef struct pare_slot {
    pare_value value;
    int axis; /* of the shape as stored */
    int64_t size;
    int32_t *unit;
} pare_slot;

typedef struct pare_dimension {
    size_t n;
    pare_slot *slots; /* in the order in which they were reached; the first is the start */
    int32_t units;    /* numbered by their first element in the start */
    int32_t sets;     /* 1, or sets of units that must lose equally many */
    int32_t *set;     /* of each unit */
} pare_dimension;

pare_status pare_structure_find(const pare_graph *g, pare_value start, int axis, pare_head_mode mode,
                                pare_dimension *out, pare_diag *d);
void pare_dimension_free(pare_dimension *dim);
const pare_slot *pare_dimension_slot(const pare_dimension *dim, pare_value v, int axis); /* NULL: not part of it */

/* Indices of a slot that stay when keep[unit] is false for some units; returns how many. index may be NULL. */
size_t pare_slot_kept(const pare_slot *s, const bool *keep, uint32_t *index);

/* A linear that reads narrowed values: its columns are the dimension's, its rows are not. */
typedef struct pare_reader {
    int node;
    pare_value input, weight;
} pare_reader;
/* MatMuls by a stored matrix whose inner dimension is part of dim, in graph order; *out is the caller's (pare_free). */
pare_status pare_dimension_readers(const pare_graph *g, const pare_dimension *dim, pare_reader **out, size_t *n,
                                   pare_diag *d);
/* The same for norms over the dimension: their input and their scale. */
pare_status pare_dimension_norms(const pare_graph *g, const pare_dimension *dim, pare_reader **out, size_t *n,
                                 pare_diag *d);

#endif
