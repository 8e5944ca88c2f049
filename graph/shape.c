/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of shape rules, and what they share. */
#include "graph/shape.h"

#include "core/status.h"

#include <stdio.h>

static pare_status (*const rules[PARE_OP_COUNT])(const pare_op_call *, pare_diag *) = {
#define PARE_OP(id, domain, opset, min_in, max_in, max_out) [PARE_OP_##id] = pare_shape_##id,
#include "core/ops.def"
#undef PARE_OP
};

pare_status pare_shape_bad(pare_diag *d, const pare_op_call *c, const char *what) {
    char shapes[256];
    size_t n = 0;
    shapes[0] = 0;
    for (int i = 0; i < c->n_in && n + 40 < sizeof shapes; i++) {
        n += (size_t)snprintf(shapes + n, sizeof shapes - n, "%s[", i ? " " : "");
        for (int k = 0; c->in[i] && k < c->in[i]->ndim && n + 24 < sizeof shapes; k++)
            n +=
                (size_t)snprintf(shapes + n, sizeof shapes - n, "%s%lld", k ? ", " : "", (long long)c->in[i]->shape[k]);
        n += (size_t)snprintf(shapes + n, sizeof shapes - n, "]");
    }
    return pare_fail(d, PARE_ERR_INPUT, NULL, NULL, "%s: %s; operand shapes: %s", pare_op_get(c->op)->name, what,
                     shapes);
}

int pare_shape_axis(int64_t axis, int ndim) {
    if (axis < -ndim || axis >= ndim) return -1;
    return (int)(axis < 0 ? axis + ndim : axis);
}

void pare_shape_set(const pare_op_call *c, int i, const pare_qtype *type, int ndim, const int64_t *shape) {
    if (i >= c->n_out || !c->out[i]) return;
    pare_tensor *t = c->out[i];
    t->type = type;
    t->ndim = ndim;
    t->transposed = false;
    for (int k = 0; k < ndim; k++) t->shape[k] = shape[k];
}

bool pare_shape_ints(const pare_tensor *t, int64_t *v, int max, int *n) {
    if (!t || !t->data || t->ndim > 1) return false;
    int64_t count = t->ndim ? t->shape[0] : 1;
    if (count > max) return false;
    for (int i = 0; i < (int)count; i++) {
        if (t->type == &pare_qtype_i64) v[i] = ((const int64_t *)t->data)[i];
        else if (t->type == &pare_qtype_i32) v[i] = ((const int32_t *)t->data)[i];
        else return false;
    }
    *n = (int)count;
    return true;
}

const pare_qtype *pare_shape_value_type(const pare_tensor *t) {
    return t->type->kind == PARE_QK_INT ? t->type : &pare_qtype_f32;
}

pare_status pare_infer_shapes(const pare_op_call *c, pare_diag *d) {
    const pare_op_info *info = pare_op_get(c->op);
    if (c->n_in < info->min_in || c->n_in > info->max_in || c->n_out > info->max_out)
        return pare_shape_bad(d, c, "wrong number of operands");
    for (int i = 0; i < info->min_in; i++)
        if (!c->in[i]) return pare_shape_bad(d, c, "a required operand is absent");
    PARE_TRY(rules[c->op](c, d));
    for (int i = 0; i < c->n_out; i++) { /* later sizes are products of these */
        int64_t elems = 1;
        for (int k = 0; c->out[i] && k < c->out[i]->ndim; k++)
            if (c->out[i]->shape[k] < 0 || __builtin_mul_overflow(elems, c->out[i]->shape[k], &elems) ||
                elems > INT64_MAX / 64)
                return pare_shape_bad(d, c, "the result is too large");
    }
    return PARE_OK;
}
