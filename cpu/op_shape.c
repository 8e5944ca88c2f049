/* SPDX-License-Identifier: Apache-2.0
 *
 * Operators that only move elements: Reshape, Transpose, Expand, Concat, Slice; any element size. */
#include "cpu/ops_cpu.h"

#include <string.h>

bool pare_cpu_reshape_supports(const pare_op_call *c) { return c->in[0]->type == c->out[0]->type; }

pare_status pare_cpu_reshape_run(const pare_op_call *c, pare_diag *d) {
    const pare_tensor *x = c->in[0], *y = c->out[0];
    size_t bytes = pare_tensor_bytes(x);
    if (pare_tensor_elems(x) != pare_tensor_elems(y) || bytes != pare_tensor_bytes(y))
        return pare_cpu_fail(c, d, "%lld elements cannot become %lld", (long long)pare_tensor_elems(x),
                             (long long)pare_tensor_elems(y));
    if (bytes && x->data != y->data) memmove(y->data, x->data, bytes);
    return PARE_OK;
}

/* ---- strided copies: y is contiguous, x is walked with signed strides ---- */

typedef struct walk {
    const char *x;
    char *y;
    size_t size; /* bytes of the unit that moves */
    int n;
    int64_t dim[PARE_MAX_DIMS + 1], stride[PARE_MAX_DIMS + 1]; /* of y, outermost first; strides of x in bytes */
} walk;

static void copy_units(char *y, const char *x, size_t n, int64_t stride, size_t size) {
    if (stride == (int64_t)size) {
        memcpy(y, x, n * size);
    } else if (size == 4) {
        for (size_t i = 0; i < n; i++) memcpy(y + i * 4, x + (int64_t)i * stride, 4);
    } else {
        for (size_t i = 0; i < n; i++) memcpy(y + i * size, x + (int64_t)i * stride, size);
    }
}

static void walk_item(void *ctx, size_t i) {
    const walk *w = ctx;
    const char *x = w->x;
    size_t rest = i, last = (size_t)w->dim[w->n - 1];
    for (int k = w->n - 2; k >= 0; k--) {
        x += (int64_t)(rest % (size_t)w->dim[k]) * w->stride[k];
        rest /= (size_t)w->dim[k];
    }
    copy_units(w->y + i * last * w->size, x, last, w->stride[w->n - 1], w->size);
}

static void run_walk(walk *w) {
    int m = 0; /* drop dimensions of 1 and merge neighbours that are contiguous in x */
    for (int k = 0; k < w->n; k++) {
        if (w->dim[k] == 0) return;
        if (w->dim[k] == 1) continue;
        if (m && w->stride[m - 1] == w->stride[k] * w->dim[k])
            w->dim[m - 1] *= w->dim[k], w->stride[m - 1] = w->stride[k];
        else w->dim[m] = w->dim[k], w->stride[m] = w->stride[k], m++;
    }
    if (m == 0) w->dim[0] = 1, w->stride[0] = (int64_t)w->size, m = 1;
    w->n = m;
    size_t rows = 1;
    for (int k = 0; k < m - 1; k++) rows *= (size_t)w->dim[k];
    pare_cpu_for(rows, (size_t)w->dim[m - 1], walk_item, w);
}

bool pare_cpu_transpose_supports(const pare_op_call *c) {
    return c->in[0]->type == c->out[0]->type && pare_cpu_plain(c->in[0]);
}

pare_status pare_cpu_transpose_run(const pare_op_call *c, pare_diag *d) {
    const pare_tensor *x = c->in[0], *y = c->out[0];
    const pare_attr_transpose *attr = c->attr;
    walk w = {.x = x->data, .y = y->data, .size = x->type->block_bytes, .n = x->ndim};
    unsigned seen = 0;
    bool given = attr && attr->n > 0;
    if (y->ndim != x->ndim || (given && attr->n != x->ndim))
        return pare_cpu_fail(c, d, "perm must name each dimension once");
    for (int k = 0; k < x->ndim; k++) {
        int from = given ? pare_cpu_axis(attr->perm[k], x->ndim) : x->ndim - 1 - k;
        if (from < 0 || seen >> from & 1 || y->shape[k] != x->shape[from])
            return pare_cpu_fail(c, d, "perm must name each dimension once, and the output follow it");
        seen |= 1u << from;
        w.dim[k] = x->shape[from];
        w.stride[k] = pare_cpu_span(x, from + 1, x->ndim) * (int64_t)w.size;
    }
    run_walk(&w);
    return PARE_OK;
}

bool pare_cpu_expand_supports(const pare_op_call *c) {
    return c->in[0]->type == c->out[0]->type && pare_cpu_plain(c->in[0]);
}

/* The output's shape holds the answer to the second operand. */
pare_status pare_cpu_expand_run(const pare_op_call *c, pare_diag *d) {
    const pare_tensor *x = c->in[0], *y = c->out[0];
    walk w = {.x = x->data, .y = y->data, .size = x->type->block_bytes, .n = y->ndim};
    if (x->ndim > y->ndim) return pare_cpu_fail(c, d, "the output has fewer dimensions than the input");
    for (int k = 0; k < y->ndim; k++) {
        int from = k - (y->ndim - x->ndim);
        int64_t dim = from < 0 ? 1 : x->shape[from];
        if (dim != 1 && dim != y->shape[k]) return pare_cpu_fail(c, d, "the input does not broadcast to the output");
        w.dim[k] = y->shape[k];
        w.stride[k] = dim == 1 ? 0 : pare_cpu_span(x, from + 1, x->ndim) * (int64_t)w.size;
    }
    run_walk(&w);
    return PARE_OK;
}

/* Bytes of one step along `axis`: whole rows unless the axis is the last. 0 when a block format cannot be cut there. */
static size_t step_bytes(const pare_tensor *t, int axis) {
    if (axis == t->ndim - 1) return pare_cpu_plain(t) ? t->type->block_bytes : 0;
    return (size_t)pare_cpu_span(t, axis + 1, t->ndim - 1) * pare_row_bytes(t->type, (size_t)pare_tensor_cols(t));
}

bool pare_cpu_concat_supports(const pare_op_call *c) {
    int axis = c->attr ? pare_cpu_axis(((const pare_attr_concat *)c->attr)->axis, c->out[0]->ndim) : -1;
    if (axis < 0) return false;
    for (int i = 0; i < c->n_in; i++)
        if (!c->in[i] || c->in[i]->type != c->out[0]->type) return false;
    return axis < c->out[0]->ndim - 1 || pare_cpu_plain(c->out[0]);
}

pare_status pare_cpu_concat_run(const pare_op_call *c, pare_diag *d) {
    const pare_tensor *y = c->out[0];
    int axis = pare_cpu_axis(((const pare_attr_concat *)c->attr)->axis, y->ndim);
    int64_t total = 0, outer = pare_cpu_span(y, 0, axis);
    for (int i = 0; i < c->n_in; i++) {
        const pare_tensor *x = c->in[i];
        bool fits = x->ndim == y->ndim;
        for (int k = 0; fits && k < y->ndim; k++) fits = k == axis || x->shape[k] == y->shape[k];
        if (!fits) return pare_cpu_fail(c, d, "input %d differs from the output outside axis %d", i, axis);
        total += x->shape[axis];
    }
    if (total != y->shape[axis])
        return pare_cpu_fail(c, d, "inputs of %lld in all for an output of %lld", (long long)total,
                             (long long)y->shape[axis]);
    size_t step = step_bytes(y, axis), at = 0;
    for (int i = 0; i < c->n_in; i++) {
        size_t bytes = (size_t)c->in[i]->shape[axis] * step;
        for (int64_t o = 0; bytes && o < outer; o++)
            memcpy((char *)y->data + (size_t)(o * total) * step + at, (const char *)c->in[i]->data + (size_t)o * bytes,
                   bytes);
        at += bytes;
    }
    return PARE_OK;
}

bool pare_cpu_slice_supports(const pare_op_call *c) {
    for (int i = 1; i < c->n_in; i++)
        if (c->in[i] && !pare_cpu_is_index(c->in[i])) return false;
    return c->in[0]->type == c->out[0]->type && pare_cpu_plain(c->in[0]);
}

static int64_t clamp(int64_t v, int64_t lo, int64_t hi) { return v < lo ? lo : v > hi ? hi : v; }

/* ONNX's (numpy's) rule: negative bounds count from the end, both are clamped, the sign of step gives the direction.
 * Returns the first index and sets *n. */
static int64_t slice_range(int64_t dim, int64_t start, int64_t end, int64_t step, int64_t *n) {
    if (start < 0) start += dim;
    if (end < 0) end += dim;
    int64_t top = step < 0 ? dim - 1 : dim, low = step < 0 ? -1 : 0;
    start = clamp(start, step < 0 ? -1 : 0, top), end = clamp(end, low, top);
    int64_t span = step > 0 ? end - start : start - end;
    int64_t size = step > 0 ? step : step == INT64_MIN ? INT64_MAX : -step;
    *n = span > 0 ? (span - 1) / size + 1 : 0;
    return start;
}

pare_status pare_cpu_slice_run(const pare_op_call *c, pare_diag *d) {
    const pare_tensor *x = c->in[0], *y = c->out[0], *starts = c->in[1], *ends = c->in[2];
    const pare_tensor *axes = c->n_in > 3 ? c->in[3] : NULL, *steps = c->n_in > 4 ? c->in[4] : NULL;
    walk w = {.x = x->data, .y = y->data, .size = x->type->block_bytes, .n = x->ndim};
    int64_t n = pare_tensor_elems(starts);
    if (pare_tensor_elems(ends) != n || (axes && pare_tensor_elems(axes) != n) ||
        (steps && pare_tensor_elems(steps) != n) || n > x->ndim || y->ndim != x->ndim)
        return pare_cpu_fail(c, d, "starts, ends, axes and steps must have one entry per sliced dimension");
    for (int k = 0; k < x->ndim; k++)
        w.dim[k] = x->shape[k], w.stride[k] = pare_cpu_span(x, k + 1, x->ndim) * (int64_t)w.size;
    for (int64_t i = 0; i < n; i++) {
        int axis = pare_cpu_axis(axes ? pare_cpu_index(axes, i) : i, x->ndim);
        int64_t step = steps ? pare_cpu_index(steps, i) : 1, count;
        if (axis < 0 || step == 0) return pare_cpu_fail(c, d, "an axis does not exist or a step is 0");
        int64_t first = slice_range(x->shape[axis], pare_cpu_index(starts, i), pare_cpu_index(ends, i), step, &count);
        if (count) w.x += first * w.stride[axis];
        w.dim[axis] = count;
        if (count > 1) w.stride[axis] *= step;
    }
    for (int k = 0; k < x->ndim; k++)
        if (y->shape[k] != w.dim[k])
            return pare_cpu_fail(c, d, "dimension %d of the slice is %lld, the output says %lld", k,
                                 (long long)w.dim[k], (long long)y->shape[k]);
    run_walk(&w);
    return PARE_OK;
}
