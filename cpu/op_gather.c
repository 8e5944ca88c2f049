/* SPDX-License-Identifier: Apache-2.0
 *
 * Gather along an axis, and TensorScatter (opset 24), its writing twin for key-value caches.
 * Gather reads any storage format: when the output is f32 and the data is not, the chosen rows are decoded, so that an
 * embedding table stays quantized. The table's stored shape counts, `transposed` or not. */
#include "cpu/ops_cpu.h"

#include <string.h>

bool pare_cpu_gather_supports(const pare_op_call *c) {
    const pare_tensor *x = c->in[0], *y = c->out[0];
    int axis = pare_cpu_axis(c->attr ? ((const pare_attr_gather *)c->attr)->axis : 0, x->ndim);
    if (axis < 0 || !pare_cpu_is_index(c->in[1])) return false;
    if (axis == x->ndim - 1 && !pare_cpu_plain(x)) return false;
    return x->type == y->type || (pare_cpu_is_f32(y) && pare_cpu_decodable(x));
}

typedef struct gather_job {
    const pare_tensor *x, *indices, *y;
    int64_t n_index, dim;
    size_t unit_cols, units;  /* a unit is a run of columns of one row: the row, or one element on the last axis */
    size_t unit_in, unit_out; /* bytes */
} gather_job;

static void gather_item(void *ctx, size_t i) {
    const gather_job *j = ctx;
    size_t outer = i / (size_t)j->n_index;
    int64_t at = pare_cpu_index(j->indices, (int64_t)(i % (size_t)j->n_index));
    if (at < 0) at += j->dim;
    const char *from = (const char *)j->x->data + (outer * (size_t)j->dim + (size_t)at) * j->units * j->unit_in;
    char *to = (char *)j->y->data + i * j->units * j->unit_out;
    if (j->x->type == j->y->type) {
        memcpy(to, from, j->units * j->unit_in);
        return;
    }
    for (size_t u = 0; u < j->units; u++)
        j->x->type->decode(j->x->type, from + u * j->unit_in, (float *)(to + u * j->unit_out), j->unit_cols);
}

pare_status pare_cpu_gather_run(const pare_op_call *c, pare_diag *d) {
    const pare_tensor *x = c->in[0], *indices = c->in[1], *y = c->out[0];
    int axis = pare_cpu_axis(c->attr ? ((const pare_attr_gather *)c->attr)->axis : 0, x->ndim);
    gather_job j = {.x = x, .indices = indices, .y = y, .n_index = pare_tensor_elems(indices), .dim = x->shape[axis]};
    bool last = axis == x->ndim - 1;
    j.unit_cols = last ? 1 : (size_t)pare_tensor_cols(x);
    j.units = last ? 1 : (size_t)pare_cpu_span(x, axis + 1, x->ndim - 1);
    j.unit_in = pare_row_bytes(x->type, j.unit_cols);
    j.unit_out = pare_row_bytes(y->type, j.unit_cols);
    size_t outer = (size_t)pare_cpu_span(x, 0, axis), n = outer * (size_t)j.n_index;
    if ((size_t)pare_tensor_elems(y) != n * j.units * j.unit_cols)
        return pare_cpu_fail(c, d, "the output has another size");
    for (int64_t i = 0; i < j.n_index; i++) {
        int64_t at = pare_cpu_index(indices, i);
        if (at < -j.dim || at >= j.dim)
            return pare_cpu_fail(c, d, "index %lld of %lld along axis %d", (long long)at, (long long)j.dim, axis);
    }
    if (j.unit_out > 0 && j.units > 0) pare_cpu_for(n, j.units * j.unit_cols, gather_item, &j);
    return PARE_OK;
}

bool pare_cpu_tensor_scatter_supports(const pare_op_call *c) {
    const pare_tensor *x = c->in[0];
    int axis = pare_cpu_axis(c->attr ? ((const pare_attr_scatter *)c->attr)->axis : -2, x->ndim);
    if (axis < 1 || c->in[1]->type != x->type || c->out[0]->type != x->type) return false;
    if (c->n_in > 2 && c->in[2] && !pare_cpu_is_index(c->in[2])) return false;
    return pare_cpu_plain(x) || axis < x->ndim - 1;
}

/* Rows first .. first+n-1 of the update go to cache rows at .. (modulo capacity in circular mode). */
pare_status pare_cpu_tensor_scatter_run(const pare_op_call *c, pare_diag *d) {
    const pare_tensor *past = c->in[0], *update = c->in[1], *where = c->n_in > 2 ? c->in[2] : NULL, *y = c->out[0];
    const pare_attr_scatter *attr = c->attr;
    int axis = pare_cpu_axis(attr ? attr->axis : -2, past->ndim);
    bool circular = attr && attr->circular, fits = update->ndim == past->ndim && pare_cpu_same_shape(past, y);
    for (int k = 0; fits && k < past->ndim; k++)
        fits = k == axis ? update->shape[k] <= past->shape[k] : update->shape[k] == past->shape[k];
    if (!fits) return pare_cpu_fail(c, d, "update must have the cache's shape, with at most its length along the axis");
    int64_t cap = past->shape[axis], n = update->shape[axis], batch = past->shape[0];
    if (where && pare_tensor_elems(where) != batch)
        return pare_cpu_fail(c, d, "one write index per batch entry, please");
    for (int64_t b = 0; where && b < batch; b++) {
        int64_t at = pare_cpu_index(where, b);
        if (!circular && (at < 0 || at > cap - n))
            return pare_cpu_fail(c, d, "%lld rows at %lld do not fit a cache of %lld", (long long)n, (long long)at,
                                 (long long)cap);
    }
    if (y->data != past->data) memcpy(y->data, past->data, pare_tensor_bytes(past)); /* in place: only the new rows */
    size_t row = axis == past->ndim - 1 ? past->type->block_bytes
                                        : (size_t)pare_cpu_span(past, axis + 1, past->ndim - 1) *
                                              pare_row_bytes(past->type, (size_t)pare_tensor_cols(past));
    int64_t per_batch = pare_cpu_span(past, 1, axis);
    for (int64_t o = 0; o < batch * per_batch; o++) {
        int64_t at = where ? pare_cpu_index(where, o / per_batch) : 0;
        if (circular) at = (at % cap + cap) % cap;
        int64_t head = n < cap - at ? n : cap - at; /* rows before the wrap */
        char *to = (char *)y->data + (size_t)(o * cap) * row;
        const char *from = (const char *)update->data + (size_t)(o * n) * row;
        memcpy(to + (size_t)at * row, from, (size_t)head * row);
        memcpy(to, from + (size_t)head * row, (size_t)(n - head) * row);
    }
    return PARE_OK;
}
