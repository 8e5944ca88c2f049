/* SPDX-License-Identifier: Apache-2.0
 *
 * How each operator ties dimensions together. A rule names every pair that belongs together; what it does not name (the
 * rows of a gathered table, the axis of a softmax) cannot be narrowed through it. */
#include "prune/structure_impl.h"

#include "graph/shape.h"

static void same(pare_rule_view *v, pare_value a, int axis_a, pare_value b, int axis_b, int64_t n) {
    pare_join(v, a, axis_a, PARE_STEP_EACH, b, axis_b, PARE_STEP_EACH, n);
}

static void all_axes(pare_rule_view *v, int but) {
    for (int k = 0; k < v->out[0]->ndim; k++)
        if (k != but) same(v, v->node->in[0], k, v->node->out[0], k, v->out[0]->shape[k]);
}

static void rule_unary(pare_rule_view *v) { all_axes(v, -1); }

/* Operand i against the output, both counted from the last axis; a broadcast dimension of 1 is tied to nothing. */
static void broadcast(pare_rule_view *v, int i) {
    const pare_tensor *a = v->in[i], *y = v->out[0];
    for (int k = 1; a && k <= a->ndim; k++)
        if (a->shape[a->ndim - k] == y->shape[y->ndim - k])
            same(v, v->node->in[i], a->ndim - k, v->node->out[0], y->ndim - k, y->shape[y->ndim - k]);
}

static void rule_binary(pare_rule_view *v) {
    broadcast(v, 0);
    broadcast(v, 1);
}

static void rule_softmax(pare_rule_view *v) {
    all_axes(v, pare_shape_axis(((const pare_attr_softmax *)v->node->attr)->axis, v->in[0]->ndim));
}

static void rule_matmul(pare_rule_view *v) {
    const pare_tensor *a = v->in[0], *b = v->in[1], *y = v->out[0];
    pare_value va = v->node->in[0], vb = v->node->in[1], vy = v->node->out[0];
    if (a->ndim < 2 || b->ndim < 2) return;
    int inner = b->transposed ? b->ndim - 1 : b->ndim - 2, outer = b->transposed ? b->ndim - 2 : b->ndim - 1;
    same(v, va, a->ndim - 1, vb, inner, a->shape[a->ndim - 1]);
    same(v, vb, outer, vy, y->ndim - 1, y->shape[y->ndim - 1]);
    for (int k = 2; k <= a->ndim; k++) /* rows and batches */
        if (a->shape[a->ndim - k] == y->shape[y->ndim - k])
            same(v, va, a->ndim - k, vy, y->ndim - k, y->shape[y->ndim - k]);
    for (int k = 3; k <= b->ndim; k++)
        if (b->shape[b->ndim - k] == y->shape[y->ndim - k])
            same(v, vb, b->ndim - k, vy, y->ndim - k, y->shape[y->ndim - k]);
}

static void rule_gemm(pare_rule_view *v) {
    const pare_attr_gemm *at = v->node->attr;
    const pare_tensor *a = v->in[0], *y = v->out[0];
    bool tb = at->trans_b != v->in[1]->transposed; /* a stored transposed operand is already turned */
    same(v, v->node->in[0], at->trans_a ? 0 : 1, v->node->in[1], tb ? 1 : 0, a->shape[at->trans_a ? 0 : 1]);
    same(v, v->node->in[0], at->trans_a ? 1 : 0, v->node->out[0], 0, y->shape[0]);
    same(v, v->node->in[1], tb ? 0 : 1, v->node->out[0], 1, y->shape[1]);
    if (v->node->n_in > 2 && v->in[2]) broadcast(v, 2);
}

static void rule_norm(pare_rule_view *v) {
    const pare_tensor *x = v->in[0];
    int axis = pare_shape_axis(((const pare_attr_norm *)v->node->attr)->axis, x->ndim);
    all_axes(v, -1);
    for (int i = 1; i < v->node->n_in; i++) /* scale, bias */
        for (int k = axis; v->in[i] && k < x->ndim; k++)
            if (v->in[i]->ndim == x->ndim - axis) same(v, v->node->in[i], k - axis, v->node->in[0], k, x->shape[k]);
}

static void rule_transpose(pare_rule_view *v) {
    const pare_attr_transpose *at = v->node->attr;
    for (int k = 0; k < v->out[0]->ndim; k++) {
        int from = at && at->n ? (int)at->perm[k] : v->out[0]->ndim - 1 - k;
        same(v, v->node->in[0], from, v->node->out[0], k, v->out[0]->shape[k]);
    }
}

static void rule_concat(pare_rule_view *v) {
    int axis = pare_shape_axis(((const pare_attr_concat *)v->node->attr)->axis, v->out[0]->ndim);
    int64_t at = 0;
    for (int i = 0; i < v->node->n_in; i++)
        for (int k = 0; k < v->out[0]->ndim; k++) {
            int64_t n = v->in[i]->shape[k];
            pare_step to = {1, 1, k == axis ? at : 0};
            pare_join(v, v->node->in[i], k, PARE_STEP_EACH, v->node->out[0], k, to, n);
            if (k == axis) at += n;
        }
}

static void rule_slice(pare_rule_view *v) {
    int64_t axes[PARE_MAX_DIMS];
    int n = 0;
    bool known = v->node->n_in > 3 && v->in[3] && pare_shape_ints(v->in[3], axes, PARE_MAX_DIMS, &n);
    for (int k = 0; known && k < v->out[0]->ndim; k++) {
        bool cut = false;
        for (int i = 0; i < n; i++) cut |= pare_shape_axis(axes[i], v->out[0]->ndim) == k;
        if (!cut) same(v, v->node->in[0], k, v->node->out[0], k, v->out[0]->shape[k]);
    }
}

static void rule_gather(pare_rule_view *v) {
    const pare_tensor *t = v->in[0], *ids = v->in[1];
    int axis = pare_shape_axis(((const pare_attr_gather *)v->node->attr)->axis, t->ndim);
    for (int k = 0; k < t->ndim; k++)
        if (k != axis) same(v, v->node->in[0], k, v->node->out[0], k < axis ? k : k - 1 + ids->ndim, t->shape[k]);
}

/* Dimensions of equal product: one against one, or a flat one against blocks, which go whole. */
static void rule_reshape(pare_rule_view *v) {
    const pare_tensor *x = v->in[0], *y = v->out[0];
    for (int i = 0, j = 0; i < x->ndim && j < y->ndim;) {
        int i0 = i, j0 = j;
        int64_t a = x->shape[i++], b = y->shape[j++];
        while (a != b && i <= x->ndim && j <= y->ndim) {
            if (a < b && i < x->ndim) a *= x->shape[i++];
            else if (b < a && j < y->ndim) b *= y->shape[j++];
            else return;
        }
        pare_value vx = v->node->in[0], vy = v->node->out[0];
        if (i - i0 == 1 && j - j0 == 1) same(v, vx, i0, vy, j0, a);
        else if (i - i0 == 1) pare_join(v, vx, i0, PARE_STEP_EACH, vy, j0, (pare_step){a / y->shape[j0], 1, 0}, a);
        else if (j - j0 == 1) pare_join(v, vy, j0, PARE_STEP_EACH, vx, i0, (pare_step){a / x->shape[i0], 1, 0}, a);
    }
}

/* Heads as (axis, block): [batch, sequence, heads * size], or [batch, heads, sequence, size]. */
static int64_t heads_of(const pare_tensor *x, int64_t heads, int *axis) {
    *axis = x->ndim == 4 ? 1 : x->ndim - 1;
    return x->ndim == 4 ? 1 : x->shape[*axis] / heads;
}

static void whole_heads(pare_rule_view *v, pare_value x, int axis, int64_t block, int64_t n) {
    pare_join(v, x, axis, PARE_STEP_EACH, x, axis, (pare_step){block, block, 0}, n);
}

static void rule_rotary(pare_rule_view *v) {
    const pare_attr_rotary *at = v->node->attr;
    const pare_tensor *x = v->in[0];
    int axis;
    if (x->ndim == 3 && at->num_heads < 1) return;
    int64_t block = heads_of(x, at->num_heads, &axis);
    all_axes(v, x->ndim == 4 ? 3 : -1);
    whole_heads(v, v->node->in[0], axis, block, x->shape[axis]);
}

static void rule_scatter(pare_rule_view *v) {
    int axis = pare_shape_axis(((const pare_attr_scatter *)v->node->attr)->axis, v->in[0]->ndim);
    all_axes(v, axis);
    for (int k = 0; k < v->out[0]->ndim; k++)
        if (k != axis) same(v, v->node->in[1], k, v->node->out[0], k, v->out[0]->shape[k]);
}

static void rule_attention(pare_rule_view *v) {
    const pare_attr_attention *at = v->node->attr;
    const pare_tensor *q = v->in[0], *k = v->in[1], *val = v->in[2], *y = v->out[0];
    const pare_value *in = v->node->in;
    int64_t hq = q->ndim == 4 ? q->shape[1] : at->q_num_heads, hk = k->ndim == 4 ? k->shape[1] : at->kv_num_heads;
    for (int i = 4; i < 6 && i < v->node->n_in; i++)
        if (v->in[i]) return; /* caches that are concatenated */
    if (hq < 1 || hk < 1 || v->node->n_out > 1) return;
    int aq, ak, av, ay;
    int64_t bq = heads_of(q, hq, &aq), bk = heads_of(k, hk, &ak), bv = heads_of(val, hk, &av),
            by = heads_of(y, hq, &ay);
    whole_heads(v, in[0], aq, bq, q->shape[aq]);
    whole_heads(v, v->node->out[0], ay, by, y->shape[ay]);
    pare_join(v, in[0], aq, (pare_step){1, bq, 0}, v->node->out[0], ay, (pare_step){1, by, 0}, hq);
    if (v->mode == PARE_HEADS_QUERY) {
        pare_join_sets(v, in[0], aq, bq, hq / hk);
        return;
    }
    whole_heads(v, in[1], ak, bk, k->shape[ak]);
    whole_heads(v, in[2], av, bv, val->shape[av]);
    pare_join(v, in[0], aq, (pare_step){1, bq, 0}, in[1], ak, (pare_step){hq / hk, bk, 0}, hq);
    pare_join(v, in[1], ak, (pare_step){1, bk, 0}, in[2], av, (pare_step){1, bv, 0}, hk);
}

pare_rule_fn *pare_rule_of(pare_op op) {
    static pare_rule_fn *const rules[PARE_OP_COUNT] = {
        [PARE_OP_Add] = rule_binary,
        [PARE_OP_Sub] = rule_binary,
        [PARE_OP_Mul] = rule_binary,
        [PARE_OP_Div] = rule_binary,
        [PARE_OP_Sqrt] = rule_unary,
        [PARE_OP_Erf] = rule_unary,
        [PARE_OP_Sigmoid] = rule_unary,
        [PARE_OP_Tanh] = rule_unary,
        [PARE_OP_Relu] = rule_unary,
        [PARE_OP_Gelu] = rule_unary,
        [PARE_OP_Swish] = rule_unary,
        [PARE_OP_Softmax] = rule_softmax,
        [PARE_OP_MatMul] = rule_matmul,
        [PARE_OP_Gemm] = rule_gemm,
        [PARE_OP_LayerNormalization] = rule_norm,
        [PARE_OP_RMSNormalization] = rule_norm,
        [PARE_OP_Transpose] = rule_transpose,
        [PARE_OP_Concat] = rule_concat,
        [PARE_OP_Slice] = rule_slice,
        [PARE_OP_Gather] = rule_gather,
        [PARE_OP_Reshape] = rule_reshape,
        [PARE_OP_RotaryEmbedding] = rule_rotary,
        [PARE_OP_TensorScatter] = rule_scatter,
        [PARE_OP_Attention] = rule_attention,
    };
    return rules[op];
}
