/* SPDX-License-Identifier: Apache-2.0
 *
 * Shape rules of matrix products and normalizations. A `transposed` operand has its last two dimensions stored the
 * other way round. */
#include "graph/shape.h"

/* The logical matrix of an operand: rows and columns of its last two dimensions. */
static void matrix(const pare_tensor *t, int64_t *rows, int64_t *cols) {
    *rows = t->shape[t->ndim - 2], *cols = t->shape[t->ndim - 1];
    if (t->transposed) {
        int64_t swap = *rows;
        *rows = *cols, *cols = swap;
    }
}

pare_status pare_shape_MatMul(const pare_op_call *c, pare_diag *d) {
    const pare_tensor *a = c->in[0], *b = c->in[1];
    if (a->ndim < 1 || b->ndim < 1) return pare_shape_bad(d, c, "scalars cannot be multiplied so");
    if ((a->transposed && a->ndim < 2) || (b->transposed && b->ndim < 2))
        return pare_shape_bad(d, c, "a transposed vector");
    int64_t m = 1, k = a->shape[a->ndim - 1], kb = b->shape[0], n = 1, shape[PARE_MAX_DIMS];
    if (a->ndim > 1) matrix(a, &m, &k);
    if (b->ndim > 1) matrix(b, &kb, &n);
    if (k != kb) return pare_shape_bad(d, c, "the inner dimensions differ");
    int batch_a = a->ndim > 2 ? a->ndim - 2 : 0, batch_b = b->ndim > 2 ? b->ndim - 2 : 0;
    int batch = batch_a > batch_b ? batch_a : batch_b, out = batch;
    for (int i = 0; i < batch; i++) {
        int ia = i - (batch - batch_a), ib = i - (batch - batch_b);
        int64_t da = ia < 0 ? 1 : a->shape[ia], db = ib < 0 ? 1 : b->shape[ib];
        if (da != db && da != 1 && db != 1) return pare_shape_bad(d, c, "the batch dimensions do not broadcast");
        shape[i] = da == 1 ? db : da;
    }
    if (a->ndim > 1) shape[out++] = m;
    if (b->ndim > 1) shape[out++] = n;
    pare_shape_set(c, 0, pare_shape_value_type(a), out, shape);
    return PARE_OK;
}

pare_status pare_shape_Gemm(const pare_op_call *c, pare_diag *d) {
    const pare_tensor *a = c->in[0], *b = c->in[1], *bias = c->n_in > 2 ? c->in[2] : NULL;
    const pare_attr_gemm *at = c->attr;
    if (a->ndim != 2 || b->ndim != 2) return pare_shape_bad(d, c, "both operands must be matrices");
    int64_t m, k, kb, n, swap;
    matrix(a, &m, &k);
    matrix(b, &kb, &n);
    if (at && at->trans_a) swap = m, m = k, k = swap;
    if (at && at->trans_b) swap = kb, kb = n, n = swap;
    if (k != kb) return pare_shape_bad(d, c, "the inner dimensions differ");
    if (bias) {
        int64_t rows = bias->ndim > 1 ? bias->shape[bias->ndim - 2] : 1,
                cols = bias->ndim ? bias->shape[bias->ndim - 1] : 1;
        if (bias->ndim > 2 || (rows != 1 && rows != m) || (cols != 1 && cols != n))
            return pare_shape_bad(d, c, "the bias does not broadcast to the result");
    }
    pare_shape_set(c, 0, pare_shape_value_type(a), 2, (int64_t[]){m, n});
    return PARE_OK;
}

/* True when t broadcasts to x's dimensions from axis on. */
static bool scales(const pare_tensor *t, const pare_tensor *x, int axis) {
    if (t->ndim > x->ndim - axis) return false;
    for (int i = 0; i < t->ndim; i++) {
        int64_t dim = t->shape[t->ndim - 1 - i];
        if (dim != 1 && dim != x->shape[x->ndim - 1 - i]) return false;
    }
    return true;
}

pare_status pare_shape_LayerNormalization(const pare_op_call *c, pare_diag *d) {
    const pare_tensor *x = c->in[0];
    const pare_attr_norm *a = c->attr;
    int axis = pare_shape_axis(a ? a->axis : -1, x->ndim);
    if (axis < 0) return pare_shape_bad(d, c, "axis is outside the shape");
    if (!scales(c->in[1], x, axis) || (c->n_in > 2 && c->in[2] && !scales(c->in[2], x, axis)))
        return pare_shape_bad(d, c, "scale and bias do not fit the normalized dimensions");
    int64_t stat[PARE_MAX_DIMS];
    for (int k = 0; k < x->ndim; k++) stat[k] = k < axis ? x->shape[k] : 1;
    pare_shape_set(c, 0, pare_shape_value_type(x), x->ndim, x->shape);
    pare_shape_set(c, 1, &pare_qtype_f32, x->ndim, stat);
    pare_shape_set(c, 2, &pare_qtype_f32, x->ndim, stat);
    return PARE_OK;
}

pare_status pare_shape_RMSNormalization(const pare_op_call *c, pare_diag *d) {
    const pare_tensor *x = c->in[0];
    const pare_attr_norm *a = c->attr;
    int axis = pare_shape_axis(a ? a->axis : -1, x->ndim);
    if (axis < 0) return pare_shape_bad(d, c, "axis is outside the shape");
    if (!scales(c->in[1], x, axis)) return pare_shape_bad(d, c, "the scale does not fit the normalized dimensions");
    pare_shape_set(c, 0, pare_shape_value_type(x), x->ndim, x->shape);
    return PARE_OK;
}
