/* SPDX-License-Identifier: Apache-2.0
 *
 * Shape rules of the gradient operators: an operand's gradient has the operand's shape. */
#include "graph/shape.h"

#include "core/status.h"

static bool equal(const pare_tensor *a, const pare_tensor *b) {
    if (a->ndim != b->ndim) return false;
    for (int k = 0; k < a->ndim; k++)
        if (a->shape[k] != b->shape[k]) return false;
    return true;
}

static void gradient(const pare_op_call *c, int out, const pare_tensor *of) {
    pare_shape_set(c, out, &pare_qtype_f32, of->ndim, of->shape);
}

static pare_status elementwise(const pare_op_call *c, pare_diag *d) {
    if (!equal(c->in[0], c->in[1])) return pare_shape_bad(d, c, "dY and X differ in shape");
    gradient(c, 0, c->in[1]);
    return PARE_OK;
}

pare_status pare_shape_GeluGrad(const pare_op_call *c, pare_diag *d) { return elementwise(c, d); }
pare_status pare_shape_SwishGrad(const pare_op_call *c, pare_diag *d) { return elementwise(c, d); }

static pare_status norm(const pare_op_call *c, pare_diag *d) {
    const pare_tensor *x = c->in[1], *scale = c->in[2];
    const pare_attr_norm *a = c->attr;
    int axis = pare_shape_axis(a ? a->axis : -1, x->ndim);
    if (axis < 0) return pare_shape_bad(d, c, "axis is outside the shape");
    bool fits = equal(c->in[0], x) && scale->ndim == x->ndim - axis;
    for (int k = 0; fits && k < scale->ndim; k++) fits = scale->shape[k] == x->shape[axis + k];
    if (!fits) return pare_shape_bad(d, c, "dY must have X's shape, and the scale one value per normalized element");
    gradient(c, 0, x);
    gradient(c, 1, scale);
    gradient(c, 2, scale);
    return PARE_OK;
}

pare_status pare_shape_RMSNormalizationGrad(const pare_op_call *c, pare_diag *d) { return norm(c, d); }
pare_status pare_shape_LayerNormalizationGrad(const pare_op_call *c, pare_diag *d) { return norm(c, d); }

pare_status pare_shape_AttentionGrad(const pare_op_call *c, pare_diag *d) {
    pare_tensor y = {0};
    pare_op_call forward = {.op = PARE_OP_Attention, .attr = c->attr, .n_in = 7, .n_out = 1, .out = {&y}};
    for (int i = 0; i < 3; i++) forward.in[i] = c->in[2 + i];
    if (c->n_in > 5) forward.in[3] = c->in[5];
    if (c->n_in > 6) forward.in[6] = c->in[6];
    PARE_TRY(pare_infer_shapes(&forward, d));
    if (!equal(c->in[0], &y) || !equal(c->in[1], &y))
        return pare_shape_bad(d, c, "dY and Y must have the result's shape");
    for (int i = 0; i < 3; i++) gradient(c, i, c->in[2 + i]);
    return PARE_OK;
}
