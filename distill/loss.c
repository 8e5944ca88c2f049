/* SPDX-License-Identifier: Apache-2.0
 *
 * Losses in ONNX's words. */
#include "distill/loss.h"

static pare_value node(pare_graph *g, pare_op op, const void *attr, size_t bytes, int n, const pare_value *in) {
    return pare_graph_node(g, op, "loss", attr, bytes, n, in, 1);
}
static pare_value one(pare_graph *g, pare_op op, pare_value x) { return node(g, op, NULL, 0, 1, &x); }
static pare_value two(pare_graph *g, pare_op op, pare_value x, pare_value y) {
    return node(g, op, NULL, 0, 2, (pare_value[]){x, y});
}
static pare_value number(pare_graph *g, float v) { return pare_graph_const_f32(g, "loss.number", 0, NULL, &v); }
static pare_value times(pare_graph *g, pare_value x, float v) {
    return v == 1 ? x : two(g, PARE_OP_Mul, x, number(g, v));
}
static pare_value sum_all(pare_graph *g, pare_value x) {
    const pare_attr_reduce at = {.keepdims = false};
    return node(g, PARE_OP_ReduceSum, &at, sizeof at, 1, &x);
}
static pare_value sum_axis(pare_graph *g, pare_value x, int64_t axis, bool keepdims) {
    const pare_attr_reduce at = {.keepdims = keepdims};
    return node(g, PARE_OP_ReduceSum, &at, sizeof at, 2,
                (pare_value[]){x, pare_graph_const_i64(g, "loss.axis", 1, &axis)});
}
static pare_value log_softmax(pare_graph *g, pare_value x) {
    const pare_attr_softmax at = {.axis = -1};
    return node(g, PARE_OP_LogSoftmax, &at, sizeof at, 1, &x);
}

/* sum exp(p) (p - q) of logarithms */
static pare_value kl(pare_graph *g, pare_value log_p, pare_value log_q) {
    return sum_all(g, two(g, PARE_OP_Mul, one(g, PARE_OP_Exp, log_p), two(g, PARE_OP_Sub, log_p, log_q)));
}

pare_value pare_loss_divergence(pare_graph *g, pare_divergence kind, pare_value student, pare_value teacher,
                                float temperature) {
    pare_value s = log_softmax(g, times(g, student, 1 / temperature)),
               t = log_softmax(g, times(g, teacher, 1 / temperature)), loss;
    if (kind == PARE_JS) {
        pare_value both = two(g, PARE_OP_Add, one(g, PARE_OP_Exp, s), one(g, PARE_OP_Exp, t));
        pare_value m = one(g, PARE_OP_Log, times(g, both, 0.5f));
        loss = times(g, two(g, PARE_OP_Add, kl(g, t, m), kl(g, s, m)), 0.5f);
    } else loss = kind == PARE_KL_FORWARD ? kl(g, t, s) : kl(g, s, t);
    return times(g, loss, temperature * temperature);
}

pare_value pare_loss_cross_entropy(pare_graph *g, pare_value logits, pare_value labels) {
    const int64_t column[] = {-1, 1};
    const pare_attr_gather rows = {.axis = 0};
    pare_value p = log_softmax(g, logits);
    p = two(g, PARE_OP_Reshape, p, pare_graph_const_i64(g, "loss.column", 2, column));
    return times(g, sum_all(g, node(g, PARE_OP_Gather, &rows, sizeof rows, 2, (pare_value[]){p, labels})), -1);
}

pare_value pare_loss_mse(pare_graph *g, pare_value x, pare_value y, int64_t dim) {
    pare_value d = two(g, PARE_OP_Sub, x, y);
    return times(g, sum_all(g, two(g, PARE_OP_Mul, d, d)), 1 / (float)dim);
}

static pare_value length(pare_graph *g, pare_value x) {
    pare_value square = sum_axis(g, two(g, PARE_OP_Mul, x, x), -1, true);
    return one(g, PARE_OP_Sqrt, two(g, PARE_OP_Add, square, number(g, 1e-12f)));
}

pare_value pare_loss_cosine(pare_graph *g, pare_value x, pare_value y) {
    pare_value dot = sum_axis(g, two(g, PARE_OP_Mul, x, y), -1, true);
    pare_value cosine = two(g, PARE_OP_Div, dot, two(g, PARE_OP_Mul, length(g, x), length(g, y)));
    return sum_all(g, two(g, PARE_OP_Sub, number(g, 1), cosine));
}

pare_value pare_loss_pool(pare_graph *g, pare_value x, pare_value weights) {
    return sum_axis(g, two(g, PARE_OP_Mul, x, weights), 1, false);
}

pare_value pare_loss_total(pare_graph *g, int n, const pare_value *term, const float *weight, pare_value scale) {
    pare_value sum = PARE_NO_VALUE;
    for (int i = 0; i < n; i++) {
        pare_value x = times(g, term[i], weight[i]);
        sum = sum < 0 ? x : two(g, PARE_OP_Add, sum, x);
    }
    return two(g, PARE_OP_Mul, sum, scale);
}
