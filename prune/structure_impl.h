/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of the dependency analysis: what a rule sees and may do. */
#ifndef PARE_PRUNE_STRUCTURE_IMPL_H
#define PARE_PRUNE_STRUCTURE_IMPL_H

#include "core/op.h"
#include "prune/structure.h"

typedef struct pare_tracer pare_tracer;

/* A node as its rule sees it. Shapes are for some small sizes of batch, sequence and cache. */
typedef struct pare_rule_view {
    pare_tracer *t;
    const pare_graph_node_t *node;
    const pare_tensor *in[PARE_OP_MAX_IN]; /* NULL = absent; constants with data */
    const pare_tensor *out[PARE_OP_MAX_OUT];
    pare_head_mode mode;
} pare_rule_view;

/* Element i of n of a side is i / div * mul + off of its dimension. */
typedef struct pare_step {
    int64_t div, mul, off;
} pare_step;
#define PARE_STEP_EACH ((pare_step){1, 1, 0})

/* Joins elements of two dimensions, i = 0 .. n-1, if either has been reached; then the other is reached too. A
 * dimension that is reached and that its node's rule never names is one the rule cannot follow. */
void pare_join(pare_rule_view *v, pare_value a, int axis_a, pare_step step_a, pare_value b, int axis_b,
               pare_step step_b, int64_t n);
/* Units that are the elements of dimension (v, axis), `block` each, fall into sets of `per` blocks. */
void pare_join_sets(pare_rule_view *v, pare_value value, int axis, int64_t block, int64_t per);

typedef void pare_rule_fn(pare_rule_view *v);
pare_rule_fn *pare_rule_of(pare_op op); /* NULL: none */

#endif
