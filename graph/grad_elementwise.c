/* SPDX-License-Identifier: Apache-2.0
 *
 * Gradients of elementwise operators and of Softmax. Where the derivative is a simple function of the result, the
 * result is used: the operand need not be kept. */
#include "graph/grad_impl.h"

#include "graph/shape.h"

/* Add, Sub */
void pare_grad_of_add(pare_grad *b, const pare_graph_node_t *n, pare_value dy) {
    pare_grad_to_broadcast(b, n, 0, dy);
    if (!pare_grad_wants(b, n, 1)) return;
    pare_grad_to_broadcast(b, n, 1, n->op == PARE_OP_Sub ? pare_grad_times(b, dy, -1) : dy);
}

void pare_grad_of_mul(pare_grad *b, const pare_graph_node_t *n, pare_value dy) {
    for (int i = 0; i < 2; i++)
        if (pare_grad_wants(b, n, i))
            pare_grad_to_broadcast(b, n, i, pare_grad_2(b, PARE_OP_Mul, dy, pare_grad_in(b, n, 1 - i)));
}

/* y = a / c: da = dy / c, dc = -da y */
void pare_grad_of_div(pare_grad *b, const pare_graph_node_t *n, pare_value dy) {
    pare_value da = pare_grad_2(b, PARE_OP_Div, dy, pare_grad_in(b, n, 1));
    pare_grad_to_broadcast(b, n, 0, da);
    if (!pare_grad_wants(b, n, 1)) return;
    pare_value dc = pare_grad_2(b, PARE_OP_Mul, da, pare_grad_y(b, n));
    pare_grad_to_broadcast(b, n, 1, pare_grad_times(b, dc, -1));
}

void pare_grad_of_sqrt(pare_grad *b, const pare_graph_node_t *n, pare_value dy) {
    pare_value half = pare_grad_times(b, dy, 0.5f);
    pare_grad_to(b, n, 0, pare_grad_2(b, PARE_OP_Div, half, pare_grad_y(b, n)));
}

void pare_grad_of_exp(pare_grad *b, const pare_graph_node_t *n, pare_value dy) {
    pare_grad_to(b, n, 0, pare_grad_2(b, PARE_OP_Mul, dy, pare_grad_y(b, n)));
}

void pare_grad_of_log(pare_grad *b, const pare_graph_node_t *n, pare_value dy) {
    pare_grad_to(b, n, 0, pare_grad_2(b, PARE_OP_Div, dy, pare_grad_in(b, n, 0)));
}

/* 2 / sqrt(pi) exp(-x^2) */
void pare_grad_of_erf(pare_grad *b, const pare_graph_node_t *n, pare_value dy) {
    pare_value x = pare_grad_in(b, n, 0), square = pare_grad_2(b, PARE_OP_Mul, x, x);
    pare_value bell = pare_grad_1(b, PARE_OP_Exp, pare_grad_times(b, square, -1));
    pare_grad_to(b, n, 0, pare_grad_2(b, PARE_OP_Mul, dy, pare_grad_times(b, bell, 1.12837917f)));
}

static pare_value one_minus(pare_grad *b, pare_value x) {
    float one = 1;
    return pare_grad_2(b, PARE_OP_Sub, pare_graph_const_f32(b->g, "grad.one", 0, NULL, &one), x);
}

void pare_grad_of_sigmoid(pare_grad *b, const pare_graph_node_t *n, pare_value dy) {
    pare_value y = pare_grad_y(b, n), slope = pare_grad_2(b, PARE_OP_Mul, y, one_minus(b, y));
    pare_grad_to(b, n, 0, pare_grad_2(b, PARE_OP_Mul, dy, slope));
}

void pare_grad_of_tanh(pare_grad *b, const pare_graph_node_t *n, pare_value dy) {
    pare_value y = pare_grad_y(b, n), slope = one_minus(b, pare_grad_2(b, PARE_OP_Mul, y, y));
    pare_grad_to(b, n, 0, pare_grad_2(b, PARE_OP_Mul, dy, slope));
}

void pare_grad_of_relu(pare_grad *b, const pare_graph_node_t *n, pare_value dy) {
    pare_grad_to(b, n, 0, pare_grad_2(b, PARE_OP_Mul, dy, pare_grad_1(b, PARE_OP_Sign, pare_grad_y(b, n))));
}

/* Gelu, Swish: operators of their own. */
void pare_grad_of_fused(pare_grad *b, const pare_graph_node_t *n, pare_value dy) {
    pare_value in[] = {dy, pare_grad_in(b, n, 0)};
    bool gelu = n->op == PARE_OP_Gelu;
    size_t bytes = !n->attr ? 0 : gelu ? sizeof(pare_attr_gelu) : sizeof(pare_attr_swish);
    pare_grad_to(b, n, 0, pare_grad_node(b, gelu ? PARE_OP_GeluGrad : PARE_OP_SwishGrad, n->attr, bytes, 2, in, 1));
}

static int64_t softmax_axis(const pare_graph_node_t *n) {
    return n->attr ? ((const pare_attr_softmax *)n->attr)->axis : -1;
}

/* dx = y (dy - sum(dy y)) */
void pare_grad_of_softmax(pare_grad *b, const pare_graph_node_t *n, pare_value dy) {
    int64_t axis = softmax_axis(n);
    pare_value y = pare_grad_y(b, n);
    pare_value sum = pare_grad_reduce(b, pare_grad_2(b, PARE_OP_Mul, dy, y), 1, &axis, true);
    pare_grad_to(b, n, 0, pare_grad_2(b, PARE_OP_Mul, pare_grad_2(b, PARE_OP_Sub, dy, sum), y));
}

/* dx = dy - exp(y) sum(dy) */
void pare_grad_of_log_softmax(pare_grad *b, const pare_graph_node_t *n, pare_value dy) {
    int64_t axis = softmax_axis(n);
    pare_value sum = pare_grad_reduce(b, dy, 1, &axis, true);
    pare_value p = pare_grad_1(b, PARE_OP_Exp, pare_grad_y(b, n));
    pare_grad_to(b, n, 0, pare_grad_2(b, PARE_OP_Sub, dy, pare_grad_2(b, PARE_OP_Mul, p, sum)));
}
