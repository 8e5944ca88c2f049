/* SPDX-License-Identifier: Apache-2.0
 *
 * Gradients of products, norms, rotations and attention. Y = A B gives dA = dY B' and dB = A' dY; Gemm reads its
 * operands either way round, so that nothing is transposed in memory. */
#include "graph/grad_impl.h"

/* Rows of the last dimension, which is a weight's and so a number. */
static pare_value as_rows(pare_grad *b, pare_value x, const pare_tensor *shape) {
    if (shape->ndim == 2) return x;
    return pare_grad_reshape(b, x, 2, (int64_t[]){-1, shape->shape[shape->ndim - 1]});
}

/* Rows of activations times one matrix. */
static void linear(pare_grad *b, const pare_graph_node_t *n, pare_value dy) {
    const pare_tensor *x = pare_grad_shape(b, n->in[0]), *w = pare_grad_shape(b, n->in[1]);
    pare_value rows = as_rows(b, dy, pare_grad_shape(b, n->out[0]));
    if (pare_grad_wants(b, n, 1)) {
        pare_value in = as_rows(b, pare_grad_in(b, n, 0), x);
        pare_grad_to(b, n, 1,
                     w->transposed ? pare_grad_gemm_node(b, rows, true, in, false, 1)
                                   : pare_grad_gemm_node(b, in, true, rows, false, 1));
    }
    if (!pare_grad_wants(b, n, 0)) return;
    pare_value dx = pare_grad_gemm_node(b, rows, false, pare_grad_in(b, n, 1), true, 1);
    pare_grad_to(b, n, 0, x->ndim == 2 ? dx : pare_grad_shaped_as(b, dx, n->in[0]));
}

static pare_value turned(pare_grad *b, pare_value x, int ndim) {
    pare_attr_transpose at = {.n = ndim};
    for (int k = 0; k < ndim; k++) at.perm[k] = k < ndim - 2 ? k : 2 * ndim - 3 - k;
    return pare_grad_node(b, PARE_OP_Transpose, &at, sizeof at, 1, &x, 1);
}

/* Batches of matrices, each side of which may be broadcast. */
static void batched(pare_grad *b, const pare_graph_node_t *n, pare_value dy) {
    for (int i = 0; i < 2; i++) {
        if (!pare_grad_wants(b, n, i)) continue;
        const pare_tensor *x = pare_grad_shape(b, n->in[i]), *other = pare_grad_shape(b, n->in[1 - i]);
        pare_tensor like = *pare_grad_shape(b, n->out[0]);
        pare_value o = turned(b, pare_grad_in(b, n, 1 - i), other->ndim);
        for (int k = 1; k <= 2; k++) like.shape[like.ndim - k] = x->shape[x->ndim - k];
        pare_grad_to_summed(b, n, i, i ? pare_grad_2(b, PARE_OP_MatMul, o, dy) : pare_grad_2(b, PARE_OP_MatMul, dy, o),
                            &like);
    }
}

void pare_grad_of_matmul(pare_grad *b, const pare_graph_node_t *n, pare_value dy) {
    const pare_tensor *x = pare_grad_shape(b, n->in[0]), *w = pare_grad_shape(b, n->in[1]);
    bool fixed = b->g->values[n->in[1]].kind == PARE_VALUE_WEIGHT || x->ndim == 2;
    if (x->ndim < 2 || w->ndim < 2 || x->transposed) pare_grad_refuse(b, "the operands must be matrices");
    else if (w->ndim == 2 && fixed) linear(b, n, dy);
    else if (w->transposed) pare_grad_refuse(b, "a batch of transposed matrices");
    else batched(b, n, dy);
}

void pare_grad_of_gemm(pare_grad *b, const pare_graph_node_t *n, pare_value dy) {
    static const pare_attr_gemm plain = {1, 1, false, false};
    const pare_attr_gemm at = n->attr ? *(const pare_attr_gemm *)n->attr : plain;
    bool stored = pare_grad_shape(b, n->in[1])->transposed, turned_b = stored != at.trans_b; /* B lies as [N, K] */
    if (pare_grad_shape(b, n->in[0])->transposed || (stored && at.trans_a)) {
        pare_grad_refuse(b, "the left operand must lie as it is read");
        return;
    }
    if (n->n_in > 2 && pare_grad_wants(b, n, 2))
        pare_grad_to_broadcast(b, n, 2, at.beta == 1 ? dy : pare_grad_times(b, dy, at.beta));
    if (pare_grad_wants(b, n, 1)) {
        pare_value x = pare_grad_in(b, n, 0);
        pare_grad_to(b, n, 1,
                     turned_b ? pare_grad_gemm_node(b, dy, true, x, at.trans_a, at.alpha)
                              : pare_grad_gemm_node(b, x, !at.trans_a, dy, false, at.alpha));
    }
    if (!pare_grad_wants(b, n, 0)) return;
    pare_value w = pare_grad_in(b, n, 1);
    pare_grad_to(b, n, 0,
                 at.trans_a ? pare_grad_gemm_node(b, w, at.trans_b, dy, true, at.alpha)
                            : pare_grad_gemm_node(b, dy, false, w, !at.trans_b, at.alpha));
}

void pare_grad_of_norm(pare_grad *b, const pare_graph_node_t *n, pare_value dy) {
    bool layer = n->op == PARE_OP_LayerNormalization;
    pare_value in[] = {dy, pare_grad_in(b, n, 0), pare_grad_in(b, n, 1)};
    int outs = layer && pare_grad_wants(b, n, 2) ? 3 : pare_grad_wants(b, n, 1) ? 2 : 1;
    const pare_tensor *x = pare_grad_shape(b, n->in[0]), *scale = pare_grad_shape(b, n->in[1]);
    const pare_attr_norm *at = n->attr;
    int64_t axis = at ? at->axis : -1;
    if (scale->ndim != (axis < 0 ? -axis : x->ndim - axis)) pare_grad_refuse(b, "a scale that is broadcast");
    pare_value dx = pare_grad_node(b, layer ? PARE_OP_LayerNormalizationGrad : PARE_OP_RMSNormalizationGrad, at,
                                   at ? sizeof *at : 0, 3, in, outs);
    for (int i = 0; i < outs; i++) pare_grad_to(b, n, i, pare_graph_output(b->g, dx, i));
}

/* The rotation by the angles' negatives. */
void pare_grad_of_rotary(pare_grad *b, const pare_graph_node_t *n, pare_value dy) {
    pare_value in[4] = {dy, n->in[1], pare_grad_times(b, n->in[2], -1), n->n_in > 3 ? n->in[3] : PARE_NO_VALUE};
    if (pare_grad_wants(b, n, 1) || pare_grad_wants(b, n, 2)) pare_grad_refuse(b, "angles are constants");
    pare_grad_to(b, n, 0,
                 pare_grad_node(b, PARE_OP_RotaryEmbedding, n->attr, n->attr ? sizeof(pare_attr_rotary) : 0, n->n_in,
                                in, 1));
}

void pare_grad_of_attention(pare_grad *b, const pare_graph_node_t *n, pare_value dy) {
    const pare_attr_attention *at = n->attr;
    pare_value in[7] = {dy, pare_grad_y(b, n)};
    for (int i = 0; i < 4; i++) in[2 + i] = pare_grad_in(b, n, i);
    in[6] = n->n_in > 6 ? n->in[6] : PARE_NO_VALUE;
    if (pare_grad_wants(b, n, 3)) pare_grad_refuse(b, "the mask is a constant");
    if (at && at->softcap > 0) pare_grad_refuse(b, "softcap");
    if (n->n_in > 4 && (n->in[4] >= 0 || n->in[5] >= 0)) pare_grad_refuse(b, "past keys and values");
    pare_value dq = pare_grad_node(b, PARE_OP_AttentionGrad, at, at ? sizeof *at : 0, 7, in, 3);
    for (int i = 0; i < 3; i++) pare_grad_to(b, n, i, pare_graph_output(b->g, dq, i));
}
