/* SPDX-License-Identifier: Apache-2.0
 *
 * Nodes that the losses are written in. All carry the name "loss". */
#ifndef PARE_DISTILL_LOSS_IMPL_H
#define PARE_DISTILL_LOSS_IMPL_H

#include "distill/loss.h"

static inline pare_value pare_ln(pare_graph *g, pare_op op, const void *attr, size_t bytes, int n,
                                 const pare_value *in) {
    return pare_graph_node(g, op, "loss", attr, bytes, n, in, 1);
}
static inline pare_value pare_ln_one(pare_graph *g, pare_op op, pare_value x) { return pare_ln(g, op, NULL, 0, 1, &x); }
static inline pare_value pare_ln_two(pare_graph *g, pare_op op, pare_value x, pare_value y) {
    return pare_ln(g, op, NULL, 0, 2, (pare_value[]){x, y});
}
static inline pare_value pare_ln_number(pare_graph *g, float v) {
    return pare_graph_const_f32(g, "loss.number", 0, NULL, &v);
}
static inline pare_value pare_ln_times(pare_graph *g, pare_value x, float v) {
    return v == 1 ? x : pare_ln_two(g, PARE_OP_Mul, x, pare_ln_number(g, v));
}
static inline pare_value pare_ln_sum_all(pare_graph *g, pare_value x) {
    const pare_attr_reduce at = {.keepdims = false};
    return pare_ln(g, PARE_OP_ReduceSum, &at, sizeof at, 1, &x);
}
static inline pare_value pare_ln_sum_axis(pare_graph *g, pare_value x, int64_t axis, bool keepdims) {
    const pare_attr_reduce at = {.keepdims = keepdims};
    return pare_ln(g, PARE_OP_ReduceSum, &at, sizeof at, 2,
                   (pare_value[]){x, pare_graph_const_i64(g, "loss.axis", 1, &axis)});
}
static inline pare_value pare_ln_log_softmax(pare_graph *g, pare_value x) {
    const pare_attr_softmax at = {.axis = -1};
    return pare_ln(g, PARE_OP_LogSoftmax, &at, sizeof at, 1, &x);
}
static inline pare_value pare_ln_turned(pare_graph *g, pare_value x, int n, const int *perm) {
    pare_attr_transpose at = {.n = n};
    for (int k = 0; k < n; k++) at.perm[k] = perm[k];
    return pare_ln(g, PARE_OP_Transpose, &at, sizeof at, 1, &x);
}
/* Length of each row, never 0. */
static inline pare_value pare_ln_length(pare_graph *g, pare_value x) {
    pare_value square = pare_ln_sum_axis(g, pare_ln_two(g, PARE_OP_Mul, x, x), -1, true);
    return pare_ln_one(g, PARE_OP_Sqrt, pare_ln_two(g, PARE_OP_Add, square, pare_ln_number(g, 1e-12f)));
}
/* Rows of length 1. */
static inline pare_value pare_ln_unit(pare_graph *g, pare_value x) {
    return pare_ln_two(g, PARE_OP_Div, x, pare_ln_length(g, x));
}

#endif
