/* SPDX-License-Identifier: Apache-2.0
 *
 * What the rules of graph/grad_rules.def are given, and what they share. A rule gets a copy of its node and the
 * gradient of its first output (no rule differentiates through another), and hands each operand's share to
 * pare_grad_to. */
#ifndef PARE_GRAPH_GRAD_IMPL_H
#define PARE_GRAPH_GRAD_IMPL_H

#include "graph/grad.h"
#include "graph/graph_impl.h"

typedef struct pare_grad {
    pare_graph *g;
    bool recompute;
    size_t n_values;        /* of the forward graph; the arrays below are this long */
    pare_tensor *shapes;    /* with symbols replaced by sizes above 1: ranks, and who broadcasts */
    bool *needed;           /* depends on something wanted */
    pare_value *home;       /* the first weight of the same memory, else itself */
    pare_value *sum;        /* the gradient so far (of homes), or PARE_NO_VALUE */
    pare_value *again;      /* the value computed again for the backward stage at hand, or PARE_NO_VALUE */
    int stage, stage_first; /* of the forward node whose rule runs */
    const char *what;       /* its name */
    pare_status status;
    char failed[200];
} pare_grad;

typedef void pare_grad_rule(pare_grad *b, const pare_graph_node_t *n, pare_value dy);
#define PARE_GRAD(op, rule) pare_grad_rule pare_grad_of_##rule;
#include "graph/grad_rules.def"
#undef PARE_GRAD

/* The rule cannot do this node. */
void pare_grad_refuse(pare_grad *b, const char *why);
/* Does operand i's gradient matter? */
bool pare_grad_wants(const pare_grad *b, const pare_graph_node_t *n, int i);
/* Operand i or the first output, as it is or computed again. */
pare_value pare_grad_in(pare_grad *b, const pare_graph_node_t *n, int i);
pare_value pare_grad_y(pare_grad *b, const pare_graph_node_t *n);
const pare_tensor *pare_grad_shape(const pare_grad *b, pare_value v);
/* Adds g, of operand i's shape, to its gradient. */
void pare_grad_to(pare_grad *b, const pare_graph_node_t *n, int i, pare_value g);
/* The same of a g of the output's shape (or of another, like), where the operand may have been broadcast: summed to its
 * shape. */
void pare_grad_to_broadcast(pare_grad *b, const pare_graph_node_t *n, int i, pare_value g);
void pare_grad_to_summed(pare_grad *b, const pare_graph_node_t *n, int i, pare_value g, const pare_tensor *like);

/* ---- nodes: named after the forward node ---- */
pare_value pare_grad_node(pare_grad *b, pare_op op, const void *attr, size_t attr_bytes, int n_in, const pare_value *in,
                          int n_out);
pare_value pare_grad_1(pare_grad *b, pare_op op, pare_value x);
pare_value pare_grad_2(pare_grad *b, pare_op op, pare_value x, pare_value y);
pare_value pare_grad_times(pare_grad *b, pare_value x, float factor);
pare_value pare_grad_ints(pare_grad *b, int n, const int64_t *v);
pare_value pare_grad_reshape(pare_grad *b, pare_value x, int n, const int64_t *shape);
/* The sizes of v, as they are in a run; x in that shape, its elements as they are. */
pare_value pare_grad_sizes(pare_grad *b, pare_value v);
pare_value pare_grad_shaped_as(pare_grad *b, pare_value x, pare_value v);
pare_value pare_grad_reduce(pare_grad *b, pare_value x, int n_axes, const int64_t *axes, bool keepdims);
pare_value pare_grad_gemm_node(pare_grad *b, pare_value x, bool trans_x, pare_value y, bool trans_y, float alpha);

#endif
