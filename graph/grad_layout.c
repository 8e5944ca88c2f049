/* SPDX-License-Identifier: Apache-2.0
 *
 * Gradients of operators that move, repeat or add up elements. */
#include "graph/grad_impl.h"

#include "graph/shape.h"

void pare_grad_of_reshape(pare_grad *b, const pare_graph_node_t *n, pare_value dy) {
    pare_grad_to(b, n, 0, pare_grad_shaped_as(b, dy, n->in[0]));
}

void pare_grad_of_expand(pare_grad *b, const pare_graph_node_t *n, pare_value dy) {
    pare_grad_to_broadcast(b, n, 0, dy);
}

void pare_grad_of_transpose(pare_grad *b, const pare_graph_node_t *n, pare_value dy) {
    const pare_attr_transpose *at = n->attr;
    pare_attr_transpose back = {.n = pare_grad_shape(b, n->out[0])->ndim};
    for (int k = 0; k < back.n; k++) back.perm[at && at->n ? at->perm[k] : back.n - 1 - k] = k;
    pare_grad_to(b, n, 0, pare_grad_node(b, PARE_OP_Transpose, &back, sizeof back, 1, &dy, 1));
}

/* Bit k: axis k is reduced. */
static unsigned reduced(const pare_graph *g, const pare_graph_node_t *n, int ndim) {
    const pare_attr_reduce *at = n->attr;
    int64_t axes[PARE_MAX_DIMS];
    int n_axes = 0;
    unsigned set = 0;
    if (n->n_in > 1 && n->in[1] >= 0) pare_shape_ints(&g->values[n->in[1]].tensor, axes, PARE_MAX_DIMS, &n_axes);
    for (int i = 0; i < n_axes; i++) set |= 1u << pare_shape_axis(axes[i], ndim);
    return n_axes || (at && at->noop_with_empty_axes) ? set : (1u << ndim) - 1;
}

/* dy with the reduced axes back, each of size 1. */
static pare_value with_axes(pare_grad *b, pare_value dy, unsigned set, int ndim) {
    int64_t shape[PARE_MAX_DIMS];
    int behind = 0;
    bool before = true; /* no reduced axis yet: dimensions are where they were */
    for (int k = 0; k < ndim; k++) {
        if (set >> k & 1) before = false, shape[k] = 1;
        else shape[k] = before ? 0 : (behind++, -1);
    }
    if (behind > 1) pare_grad_refuse(b, "without keepdims at most one dimension may follow those reduced");
    return pare_grad_reshape(b, dy, ndim, shape);
}

/* The size of axis k in a run, as an f32 number: a sum of ones. */
static pare_value size_of(pare_grad *b, pare_value x, int k) {
    const pare_attr_shape one = {k, k + 1};
    const pare_attr_fill ones = {1};
    const int64_t axis = 0;
    pare_value n = pare_grad_node(b, PARE_OP_Shape, &one, sizeof one, 1, &x, 1);
    n = pare_grad_node(b, PARE_OP_ConstantOfShape, &ones, sizeof ones, 1, &n, 1);
    return pare_grad_reduce(b, n, 1, &axis, false);
}

/* ReduceSum: dy for each element; ReduceMean: divided by their number. */
void pare_grad_of_reduce(pare_grad *b, const pare_graph_node_t *n, pare_value dy) {
    const pare_attr_reduce *at = n->attr;
    int ndim = pare_grad_shape(b, n->in[0])->ndim;
    unsigned set = reduced(b->g, n, ndim);
    if (at && !at->keepdims) dy = with_axes(b, dy, set, ndim);
    for (int k = 0; n->op == PARE_OP_ReduceMean && k < ndim; k++)
        if (set >> k & 1) dy = pare_grad_2(b, PARE_OP_Div, dy, size_of(b, n->in[0], k));
    pare_grad_to(b, n, 0, pare_grad_2(b, PARE_OP_Expand, dy, pare_grad_sizes(b, n->in[0])));
}

/* Rows of a table: dy is added to the rows it came from, into what is there already where something is. */
void pare_grad_of_gather(pare_grad *b, const pare_graph_node_t *n, pare_value dy) {
    const pare_attr_gather *at = n->attr;
    const pare_attr_scatter_nd add = {PARE_SCATTER_ADD};
    const pare_attr_fill zeros = {0};
    int64_t shape[PARE_MAX_DIMS] = {0};
    int ndim = pare_grad_shape(b, n->in[1])->ndim;
    if ((at && at->axis) || ndim + 1 > PARE_MAX_DIMS) {
        pare_grad_refuse(b, "rows are gathered along axis 0 only");
        return;
    }
    shape[ndim] = 1;
    pare_value *sum = &b->sum[b->home[n->in[0]]], ids = pare_grad_reshape(b, n->in[1], ndim + 1, shape), into = *sum;
    if (into < 0) {
        pare_value sizes = pare_grad_sizes(b, n->in[0]);
        into = pare_grad_node(b, PARE_OP_ConstantOfShape, &zeros, sizeof zeros, 1, &sizes, 1);
    }
    *sum = pare_grad_node(b, PARE_OP_ScatterND, &add, sizeof add, 3, (pare_value[]){into, ids, dy}, 1);
}
