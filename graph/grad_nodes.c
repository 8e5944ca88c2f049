/* SPDX-License-Identifier: Apache-2.0
 *
 * What the rules share: operands as they are or computed again, sums of gradients, and short forms for nodes. */
#include "graph/grad_impl.h"

#include "core/status.h"

#include <stdio.h>

void pare_grad_refuse(pare_grad *b, const char *why) {
    if (b->status != PARE_OK) return;
    b->status = PARE_ERR_UNSUPPORTED;
    snprintf(b->failed, sizeof b->failed, "%s", why);
}

bool pare_grad_wants(const pare_grad *b, const pare_graph_node_t *n, int i) {
    return i < n->n_in && n->in[i] >= 0 && b->needed[n->in[i]];
}

const pare_tensor *pare_grad_shape(const pare_grad *b, pare_value v) { return &b->shapes[v]; }

/* v, or its copy in this backward stage when its stage's values were not kept. What other stages made has been. */
static pare_value available(pare_grad *b, pare_value v) {
    int made = b->g->values[v].node;
    if (!b->recompute || made < b->stage_first || b->g->nodes[made].stage != b->stage) return v;
    if (b->again[v] >= 0) return b->again[v];
    pare_graph_node_t n = b->g->nodes[made];
    pare_value in[PARE_OP_MAX_IN];
    char name[200];
    for (int k = 0; k < n.n_in; k++) in[k] = n.in[k] < 0 ? PARE_NO_VALUE : available(b, n.in[k]);
    snprintf(name, sizeof name, "again.%s", n.name);
    pare_value y = pare_graph_node_like(b->g, made, name, in);
    for (int k = 0; y >= 0 && k < n.n_out; k++) b->again[n.out[k]] = pare_graph_output(b->g, y, k);
    return b->again[v];
}

pare_value pare_grad_in(pare_grad *b, const pare_graph_node_t *n, int i) {
    return i < n->n_in && n->in[i] >= 0 ? available(b, n->in[i]) : PARE_NO_VALUE;
}
pare_value pare_grad_y(pare_grad *b, const pare_graph_node_t *n) { return available(b, n->out[0]); }

void pare_grad_to(pare_grad *b, const pare_graph_node_t *n, int i, pare_value g) {
    if (!pare_grad_wants(b, n, i)) return;
    pare_value *sum = &b->sum[b->home[n->in[i]]];
    *sum = *sum < 0 ? g : pare_grad_2(b, PARE_OP_Add, *sum, g);
}

void pare_grad_to_broadcast(pare_grad *b, const pare_graph_node_t *n, int i, pare_value g) {
    pare_grad_to_summed(b, n, i, g, &b->shapes[n->out[0]]);
}

void pare_grad_to_summed(pare_grad *b, const pare_graph_node_t *n, int i, pare_value g, const pare_tensor *y) {
    if (!pare_grad_wants(b, n, i)) return;
    const pare_tensor *x = &b->shapes[n->in[i]];
    int64_t axes[PARE_MAX_DIMS];
    int lead = y->ndim - x->ndim, m = 0;
    for (int k = 0; k < lead; k++) axes[k] = k;
    if (lead) g = pare_grad_reduce(b, g, lead, axes, false);
    for (int k = 0; k < x->ndim; k++)
        if (x->shape[k] == 1 && y->shape[k + lead] != 1) axes[m++] = k;
    if (m) g = pare_grad_reduce(b, g, m, axes, true);
    pare_grad_to(b, n, i, g);
}

pare_value pare_grad_node(pare_grad *b, pare_op op, const void *attr, size_t attr_bytes, int n_in, const pare_value *in,
                          int n_out) {
    char name[200];
    snprintf(name, sizeof name, "grad.%s", b->what);
    return pare_graph_node(b->g, op, name, attr, attr_bytes, n_in, in, n_out);
}

pare_value pare_grad_1(pare_grad *b, pare_op op, pare_value x) { return pare_grad_node(b, op, NULL, 0, 1, &x, 1); }

pare_value pare_grad_2(pare_grad *b, pare_op op, pare_value x, pare_value y) {
    return pare_grad_node(b, op, NULL, 0, 2, (pare_value[]){x, y}, 1);
}

pare_value pare_grad_times(pare_grad *b, pare_value x, float factor) {
    return pare_grad_2(b, PARE_OP_Mul, x, pare_graph_const_f32(b->g, "grad.factor", 0, NULL, &factor));
}

pare_value pare_grad_ints(pare_grad *b, int n, const int64_t *v) {
    return pare_graph_const_i64(b->g, "grad.ints", n, v);
}

pare_value pare_grad_reshape(pare_grad *b, pare_value x, int n, const int64_t *shape) {
    return pare_grad_2(b, PARE_OP_Reshape, x, pare_grad_ints(b, n, shape));
}

pare_value pare_grad_sizes(pare_grad *b, pare_value v) { return pare_grad_1(b, PARE_OP_Shape, v); }

pare_value pare_grad_shaped_as(pare_grad *b, pare_value x, pare_value v) {
    pare_attr_reshape at = {.allowzero = true};
    pare_value in[] = {x, pare_grad_sizes(b, v)};
    return pare_grad_node(b, PARE_OP_Reshape, &at, sizeof at, 2, in, 1);
}

pare_value pare_grad_reduce(pare_grad *b, pare_value x, int n_axes, const int64_t *axes, bool keepdims) {
    pare_attr_reduce at = {.keepdims = keepdims};
    pare_value in[] = {x, pare_grad_ints(b, n_axes, axes)};
    return pare_grad_node(b, PARE_OP_ReduceSum, &at, sizeof at, 2, in, 1);
}

pare_value pare_grad_gemm_node(pare_grad *b, pare_value x, bool trans_x, pare_value y, bool trans_y, float alpha) {
    pare_attr_gemm at = {.alpha = alpha, .beta = 1, .trans_a = trans_x, .trans_b = trans_y};
    return pare_grad_node(b, PARE_OP_Gemm, &at, sizeof at, 2, (pare_value[]){x, y}, 1);
}
