/* SPDX-License-Identifier: Apache-2.0
 *
 * Shape rules of operators that move data: Reshape, Transpose, Concat, Slice, Gather, and reductions. */
#include "graph/shape.h"

pare_status pare_shape_Reshape(const pare_op_call *c, pare_diag *d) {
    const pare_tensor *x = c->in[0];
    const pare_attr_reshape *a = c->attr;
    int64_t shape[PARE_MAX_DIMS], known = 1;
    int n, open = -1;
    if (!pare_shape_ints(c->in[1], shape, PARE_MAX_DIMS, &n))
        return pare_shape_bad(d, c, "the shape must be a constant");
    for (int i = 0; i < n; i++) {
        if (shape[i] == 0 && !(a && a->allowzero)) {
            if (i >= x->ndim) return pare_shape_bad(d, c, "a 0 in the shape copies a dimension that is not there");
            shape[i] = x->shape[i];
        }
        if (shape[i] == -1 && open >= 0) return pare_shape_bad(d, c, "more than one -1 in the shape");
        if (shape[i] < -1) return pare_shape_bad(d, c, "a negative dimension");
        if (shape[i] == -1) open = i;
        else if (__builtin_mul_overflow(known, shape[i], &known)) return pare_shape_bad(d, c, "the shape is too large");
    }
    int64_t elems = pare_tensor_elems(x);
    if (open >= 0) {
        if (!known || elems % known) return pare_shape_bad(d, c, "the elements do not fill the shape");
        shape[open] = elems / known;
        known *= shape[open];
    }
    if (known != elems) return pare_shape_bad(d, c, "the elements do not fill the shape");
    pare_shape_set(c, 0, x->type, n, shape);
    return PARE_OK;
}

pare_status pare_shape_Transpose(const pare_op_call *c, pare_diag *d) {
    const pare_tensor *x = c->in[0];
    const pare_attr_transpose *a = c->attr;
    int64_t shape[PARE_MAX_DIMS];
    unsigned seen = 0;
    if (a && a->n && a->n != x->ndim) return pare_shape_bad(d, c, "perm has another number of dimensions");
    for (int i = 0; i < x->ndim; i++) {
        int64_t from = a && a->n ? a->perm[i] : x->ndim - 1 - i;
        if (from < 0 || from >= x->ndim || (seen >> from & 1)) return pare_shape_bad(d, c, "perm is not a permutation");
        seen |= 1u << from;
        shape[i] = x->shape[from];
    }
    pare_shape_set(c, 0, x->type, x->ndim, shape);
    return PARE_OK;
}

pare_status pare_shape_Concat(const pare_op_call *c, pare_diag *d) {
    const pare_tensor *x = c->in[0];
    const pare_attr_concat *a = c->attr;
    int axis = a ? pare_shape_axis(a->axis, x->ndim) : -1;
    if (axis < 0) return pare_shape_bad(d, c, "axis is outside the shape");
    int64_t shape[PARE_MAX_DIMS];
    for (int k = 0; k < x->ndim; k++) shape[k] = x->shape[k];
    for (int i = 1; i < c->n_in; i++) {
        const pare_tensor *y = c->in[i];
        if (!y) return pare_shape_bad(d, c, "an operand is absent");
        if (y->ndim != x->ndim || y->type != x->type) return pare_shape_bad(d, c, "ranks or types differ");
        for (int k = 0; k < x->ndim; k++)
            if (k != axis && y->shape[k] != x->shape[k])
                return pare_shape_bad(d, c, "dimensions other than axis differ");
        if (__builtin_add_overflow(shape[axis], y->shape[axis], &shape[axis])) return pare_shape_bad(d, c, "too large");
    }
    pare_shape_set(c, 0, x->type, x->ndim, shape);
    return PARE_OK;
}

/* Number of elements of start:end:step along a dimension of `dim`, by ONNX's clamping rules. */
static int64_t slice_count(int64_t dim, int64_t start, int64_t end, int64_t step) {
    int64_t low = step > 0 ? 0 : -1, high = step > 0 ? dim : dim - 1;
    if (start < 0) start = start < -dim ? -1 : start + dim; /* INT64_MIN + dim would still be below every bound */
    if (end < 0) end = end < -dim ? -1 : end + dim;
    if (start < 0) start = 0; /* before the first element: clamped to it, also for negative steps */
    if (start > high) start = high;
    if (end < low) end = low;
    if (end > high && step > 0) end = high;
    if (end > dim) end = dim;
    if (step > 0) return end > start ? (end - start + step - 1) / step : 0;
    return start > end ? (start - end + (-step) - 1) / -step : 0;
}

pare_status pare_shape_Slice(const pare_op_call *c, pare_diag *d) {
    const pare_tensor *x = c->in[0];
    int64_t starts[PARE_MAX_DIMS], ends[PARE_MAX_DIMS], axes[PARE_MAX_DIMS], steps[PARE_MAX_DIMS], shape[PARE_MAX_DIMS];
    int n, n_ends, n_axes, n_steps;
    bool has_axes = c->n_in > 3 && c->in[3], has_steps = c->n_in > 4 && c->in[4];
    if (!pare_shape_ints(c->in[1], starts, PARE_MAX_DIMS, &n) ||
        !pare_shape_ints(c->in[2], ends, PARE_MAX_DIMS, &n_ends) ||
        (has_axes && !pare_shape_ints(c->in[3], axes, PARE_MAX_DIMS, &n_axes)) ||
        (has_steps && !pare_shape_ints(c->in[4], steps, PARE_MAX_DIMS, &n_steps)))
        return pare_shape_bad(d, c, "starts, ends, axes and steps must be constants");
    if (n_ends != n || (has_axes && n_axes != n) || (has_steps && n_steps != n) || n > x->ndim)
        return pare_shape_bad(d, c, "starts, ends, axes and steps differ in length");
    for (int k = 0; k < x->ndim; k++) shape[k] = x->shape[k];
    unsigned seen = 0;
    for (int i = 0; i < n; i++) {
        int axis = pare_shape_axis(has_axes ? axes[i] : i, x->ndim);
        int64_t step = has_steps ? steps[i] : 1;
        if (axis < 0 || (seen >> axis & 1)) return pare_shape_bad(d, c, "axes are outside the shape or repeated");
        if (step == 0 || step == INT64_MIN) return pare_shape_bad(d, c, "a step of 0");
        if (step > x->shape[axis] + 1) step = x->shape[axis] + 1; /* same result, no overflow */
        if (step < -x->shape[axis] - 1) step = -x->shape[axis] - 1;
        seen |= 1u << axis;
        shape[axis] = slice_count(x->shape[axis], starts[i], ends[i], step);
    }
    pare_shape_set(c, 0, x->type, x->ndim, shape);
    return PARE_OK;
}

pare_status pare_shape_Gather(const pare_op_call *c, pare_diag *d) {
    const pare_tensor *x = c->in[0], *index = c->in[1];
    const pare_attr_gather *a = c->attr;
    int axis = pare_shape_axis(a ? a->axis : 0, x->ndim), n = 0;
    if (axis < 0) return pare_shape_bad(d, c, "axis is outside the shape");
    if (index->type->kind != PARE_QK_INT) return pare_shape_bad(d, c, "indices must be integers");
    if (x->ndim + index->ndim - 1 > PARE_MAX_DIMS) return pare_shape_bad(d, c, "too many dimensions");
    int64_t shape[PARE_MAX_DIMS];
    for (int k = 0; k < axis; k++) shape[n++] = x->shape[k];
    for (int k = 0; k < index->ndim; k++) shape[n++] = index->shape[k];
    for (int k = axis + 1; k < x->ndim; k++) shape[n++] = x->shape[k];
    pare_shape_set(c, 0, pare_shape_value_type(x), n, shape);
    return PARE_OK;
}

pare_status pare_shape_Shape(const pare_op_call *c, pare_diag *d) {
    int64_t n = pare_shape_extent(c, NULL);
    pare_shape_set(c, 0, &pare_qtype_i64, 1, &n);
    return PARE_OK;
}

int64_t pare_shape_extent(const pare_op_call *c, int64_t *dims) {
    const pare_tensor *x = c->in[0];
    const pare_attr_shape *a = c->attr;
    int64_t start = a ? a->start : 0, end = a ? a->end : x->ndim, n = 0;
    if (start < 0) start = start < -x->ndim ? 0 : start + x->ndim;
    if (end < 0) end = end < -x->ndim ? 0 : end + x->ndim;
    if (end > x->ndim) end = x->ndim;
    for (int64_t k = start; k < end; k++, n++)
        if (dims) dims[n] = x->shape[k];
    return n;
}

pare_status pare_shape_ConstantOfShape(const pare_op_call *c, pare_diag *d) {
    int64_t shape[PARE_MAX_DIMS];
    int n;
    if (!pare_shape_ints(c->in[0], shape, PARE_MAX_DIMS, &n))
        return pare_shape_bad(d, c, "the shape must be a constant");
    for (int k = 0; k < n; k++)
        if (shape[k] < 0) return pare_shape_bad(d, c, "a negative dimension");
    pare_shape_set(c, 0, &pare_qtype_f32, n, shape);
    return PARE_OK;
}

pare_status pare_shape_ScatterND(const pare_op_call *c, pare_diag *d) {
    const pare_tensor *x = c->in[0], *index = c->in[1], *update = c->in[2];
    if (index->type->kind != PARE_QK_INT || index->ndim < 1) return pare_shape_bad(d, c, "indices must be integers");
    int64_t depth = index->shape[index->ndim - 1];
    if (depth < 1 || depth > x->ndim) return pare_shape_bad(d, c, "an index tuple is longer than the data's shape");
    if (update->type != x->type || update->ndim != index->ndim - 1 + x->ndim - (int)depth)
        return pare_shape_bad(d, c, "data and updates differ in type or rank");
    for (int k = 0; k < update->ndim; k++) {
        bool outer = k < index->ndim - 1;
        int64_t want = outer ? index->shape[k] : x->shape[k - (index->ndim - 1) + (int)depth];
        if (update->shape[k] != want) return pare_shape_bad(d, c, "the updates do not fit indices and data");
    }
    pare_shape_set(c, 0, x->type, x->ndim, x->shape);
    return PARE_OK;
}

pare_status pare_shape_ReduceSum(const pare_op_call *c, pare_diag *d) { return pare_shape_ReduceMean(c, d); }

pare_status pare_shape_ReduceMean(const pare_op_call *c, pare_diag *d) {
    const pare_tensor *x = c->in[0];
    const pare_attr_reduce *a = c->attr;
    int64_t axes[PARE_MAX_DIMS], shape[PARE_MAX_DIMS];
    int n_axes = 0, n = 0;
    bool keep = !a || a->keepdims, given = c->n_in > 1 && c->in[1];
    if (given && !pare_shape_ints(c->in[1], axes, PARE_MAX_DIMS, &n_axes))
        return pare_shape_bad(d, c, "the axes must be a constant");
    unsigned reduce = 0;
    for (int i = 0; i < n_axes; i++) {
        int axis = pare_shape_axis(axes[i], x->ndim);
        if (axis < 0) return pare_shape_bad(d, c, "axes are outside the shape");
        reduce |= 1u << axis;
    }
    if (!n_axes && !(a && a->noop_with_empty_axes)) reduce = ~0u;
    for (int k = 0; k < x->ndim; k++) {
        if (!(reduce >> k & 1)) shape[n++] = x->shape[k];
        else if (keep) shape[n++] = 1;
    }
    pare_shape_set(c, 0, pare_shape_value_type(x), n, shape);
    return PARE_OK;
}
