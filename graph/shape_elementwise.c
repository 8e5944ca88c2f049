/* SPDX-License-Identifier: Apache-2.0
 *
 * Shape rules of elementwise operators: numpy broadcasting for two operands, unchanged for one. */
#include "graph/shape.h"

#include "core/status.h"

static pare_status broadcast(const pare_op_call *c, pare_diag *d) {
    const pare_tensor *a = c->in[0], *b = c->in[1];
    int ndim = a->ndim > b->ndim ? a->ndim : b->ndim;
    int64_t shape[PARE_MAX_DIMS];
    for (int i = 0; i < ndim; i++) {
        int ia = i - (ndim - a->ndim), ib = i - (ndim - b->ndim);
        int64_t da = ia < 0 ? 1 : a->shape[ia], db = ib < 0 ? 1 : b->shape[ib];
        if (da != db && da != 1 && db != 1) return pare_shape_bad(d, c, "the shapes do not broadcast");
        shape[i] = da == 1 ? db : da;
    }
    if (pare_shape_value_type(a) != pare_shape_value_type(b)) return pare_shape_bad(d, c, "the types differ");
    pare_shape_set(c, 0, pare_shape_value_type(a), ndim, shape);
    return PARE_OK;
}

static pare_status same(const pare_op_call *c, pare_diag *d) {
    pare_shape_set(c, 0, pare_shape_value_type(c->in[0]), c->in[0]->ndim, c->in[0]->shape);
    return PARE_OK;
}

pare_status pare_shape_Add(const pare_op_call *c, pare_diag *d) { return broadcast(c, d); }
pare_status pare_shape_Sub(const pare_op_call *c, pare_diag *d) { return broadcast(c, d); }
pare_status pare_shape_Mul(const pare_op_call *c, pare_diag *d) { return broadcast(c, d); }
pare_status pare_shape_Div(const pare_op_call *c, pare_diag *d) { return broadcast(c, d); }
pare_status pare_shape_Sqrt(const pare_op_call *c, pare_diag *d) { return same(c, d); }
pare_status pare_shape_Erf(const pare_op_call *c, pare_diag *d) { return same(c, d); }
pare_status pare_shape_Exp(const pare_op_call *c, pare_diag *d) { return same(c, d); }
pare_status pare_shape_Log(const pare_op_call *c, pare_diag *d) { return same(c, d); }
pare_status pare_shape_Sign(const pare_op_call *c, pare_diag *d) { return same(c, d); }
pare_status pare_shape_Sigmoid(const pare_op_call *c, pare_diag *d) { return same(c, d); }
pare_status pare_shape_Tanh(const pare_op_call *c, pare_diag *d) { return same(c, d); }
pare_status pare_shape_Relu(const pare_op_call *c, pare_diag *d) { return same(c, d); }
pare_status pare_shape_Gelu(const pare_op_call *c, pare_diag *d) { return same(c, d); }
pare_status pare_shape_Swish(const pare_op_call *c, pare_diag *d) { return same(c, d); }

pare_status pare_shape_LogSoftmax(const pare_op_call *c, pare_diag *d) { return pare_shape_Softmax(c, d); }

pare_status pare_shape_Expand(const pare_op_call *c, pare_diag *d) {
    pare_tensor like = *c->in[1];
    if (!pare_shape_ints(c->in[1], like.shape, PARE_MAX_DIMS, &like.ndim))
        return pare_shape_bad(d, c, "the shape must be a constant");
    for (int k = 0; k < like.ndim; k++)
        if (like.shape[k] < 0) return pare_shape_bad(d, c, "a negative dimension");
    like.type = c->in[0]->type;
    pare_op_call both = *c;
    both.in[1] = &like;
    PARE_TRY(broadcast(&both, d));
    c->out[0]->type = c->in[0]->type;
    return PARE_OK;
}

pare_status pare_shape_Softmax(const pare_op_call *c, pare_diag *d) {
    const pare_attr_softmax *a = c->attr;
    if (a && pare_shape_axis(a->axis, c->in[0]->ndim) < 0) return pare_shape_bad(d, c, "axis is outside the shape");
    return same(c, d);
}
