/* SPDX-License-Identifier: Apache-2.0
 *
 * ScatterND (opset 18), and the operators that make a tensor of a shape: Shape, ConstantOfShape. Where updates meet,
 * they are applied in the order of the indices, whatever the thread: work is cut over the rows that are written. */
#include "cpu/ops_cpu.h"

#include <string.h>

bool pare_cpu_shape_supports(const pare_op_call *c) { return c->out[0]->type == &pare_qtype_i64; }

pare_status pare_cpu_shape_run(const pare_op_call *c, pare_diag *d) {
    const pare_tensor *x = c->in[0], *y = c->out[0];
    const pare_attr_shape *a = c->attr;
    int64_t start = a ? a->start : 0, end = a ? a->end : x->ndim, n = 0;
    if (start < 0) start = start < -x->ndim ? 0 : start + x->ndim;
    if (end < 0) end = end < -x->ndim ? 0 : end + x->ndim;
    if (end > x->ndim) end = x->ndim;
    if (pare_tensor_elems(y) != (end > start ? end - start : 0))
        return pare_cpu_fail(c, d, "the output has another length");
    for (int64_t k = start; k < end; k++) ((int64_t *)y->data)[n++] = x->shape[k];
    return PARE_OK;
}

bool pare_cpu_fill_supports(const pare_op_call *c) { return pare_cpu_is_index(c->in[0]) && pare_cpu_is_f32(c->out[0]); }

pare_status pare_cpu_fill_run(const pare_op_call *c, pare_diag *d) {
    float value = c->attr ? ((const pare_attr_fill *)c->attr)->value : 0, *y = c->out[0]->data;
    int64_t n = pare_tensor_elems(c->out[0]);
    for (int64_t i = 0; i < n; i++) y[i] = value;
    return PARE_OK;
}

bool pare_cpu_scatter_nd_supports(const pare_op_call *c) {
    return pare_cpu_is_f32(c->in[0]) && pare_cpu_is_f32(c->in[2]) && pare_cpu_is_f32(c->out[0]) &&
           pare_cpu_is_index(c->in[1]);
}

typedef struct scatter_job {
    const pare_tensor *x, *indices;
    const float *update;
    float *y;
    int depth;
    size_t tuples, unit, rows, share; /* unit: elements that one tuple names; share: rows of them per item */
    pare_scatter how;
} scatter_job;

/* The row that tuple i names; -1: outside. */
static int64_t row_of(const scatter_job *j, size_t i) {
    int64_t row = 0;
    for (int k = 0; k < j->depth; k++) {
        int64_t at = pare_cpu_index(j->indices, (int64_t)i * j->depth + k), dim = j->x->shape[k];
        if (at < 0) at += dim;
        if (at < 0 || at >= dim) return -1;
        row = row * dim + at;
    }
    return row;
}

static void apply(float *y, const float *u, size_t n, pare_scatter how) {
    switch (how) {
    case PARE_SCATTER_SET: memcpy(y, u, n * sizeof *y); break;
    case PARE_SCATTER_ADD:
        for (size_t i = 0; i < n; i++) y[i] += u[i];
        break;
    case PARE_SCATTER_MUL:
        for (size_t i = 0; i < n; i++) y[i] *= u[i];
        break;
    case PARE_SCATTER_MAX:
        for (size_t i = 0; i < n; i++) y[i] = u[i] > y[i] || u[i] != u[i] ? u[i] : y[i];
        break;
    case PARE_SCATTER_MIN:
        for (size_t i = 0; i < n; i++) y[i] = u[i] < y[i] || u[i] != u[i] ? u[i] : y[i];
        break;
    }
}

static void scatter_item(void *ctx, size_t item) {
    const scatter_job *j = ctx;
    size_t first = item * j->share, end = first + j->share < j->rows ? first + j->share : j->rows;
    const float *x = j->x->data;
    if (j->y != x) memcpy(j->y + first * j->unit, x + first * j->unit, (end - first) * j->unit * sizeof *x);
    for (size_t i = 0; i < j->tuples; i++) {
        size_t row = (size_t)row_of(j, i);
        if (row >= first && row < end) apply(j->y + row * j->unit, j->update + i * j->unit, j->unit, j->how);
    }
}

pare_status pare_cpu_scatter_nd_run(const pare_op_call *c, pare_diag *d) {
    const pare_tensor *x = c->in[0], *indices = c->in[1];
    const pare_attr_scatter_nd *a = c->attr;
    int64_t depth = indices->ndim ? indices->shape[indices->ndim - 1] : 0;
    if (depth < 1 || depth > x->ndim || !pare_cpu_same_shape(x, c->out[0]))
        return pare_cpu_fail(c, d, "the indices are longer than the data's shape, or the output has another shape");
    scatter_job j = {.x = x, .indices = indices, .update = c->in[2]->data, .y = c->out[0]->data, .depth = (int)depth};
    j.tuples = (size_t)(pare_tensor_elems(indices) / depth);
    j.rows = (size_t)pare_cpu_span(x, 0, j.depth), j.unit = (size_t)pare_cpu_span(x, j.depth, x->ndim);
    j.how = a ? a->reduction : PARE_SCATTER_SET;
    if ((size_t)pare_tensor_elems(c->in[2]) != j.tuples * j.unit)
        return pare_cpu_fail(c, d, "the updates do not fit the indices");
    for (size_t i = 0; i < j.tuples; i++)
        if (row_of(&j, i) < 0) return pare_cpu_fail(c, d, "index tuple %zu is outside the data", i);
    j.share = (j.rows + 15) / 16; /* each item reads all indices: not too many */
    if (!j.share) return PARE_OK;
    pare_cpu_for((j.rows + j.share - 1) / j.share, j.share * j.unit + j.tuples * (1 + j.unit / 16), scatter_item, &j);
    return PARE_OK;
}
