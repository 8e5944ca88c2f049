/* SPDX-License-Identifier: Apache-2.0
 *
 * TensorScatter: rows of an update go into a cache, from the write index of their batch entry on (modulo the capacity
 * in circular mode). Any element type; when output and cache are the same memory only the new rows are written.
 * Indices are device memory: rows that do not fit, which the CPU refuses, are not written. equal: exactly. */
#include "cuda/backend.cuh"
#include "cuda/dev.cuh"

#define THREADS 256

typedef struct scatter_args {
    const void *update, *where;
    void *y;
    bool wide, circular;                 /* i64 indices */
    int64_t per_batch, cap, n, row, all; /* row: units; all: units of the update */
} scatter_args;

template <class U> __global__ void __launch_bounds__(THREADS) scatter_kernel(scatter_args a) {
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= a.all) return;
    int64_t line = i / a.row, unit = i - line * a.row, outer = line / a.n, r = line - outer * a.n, at = 0;
    int64_t b = outer / a.per_batch;
    if (a.where) at = a.wide ? ((const int64_t *)a.where)[b] : ((const int32_t *)a.where)[b];
    if (a.circular) {
        at = (at % a.cap + a.cap) % a.cap + r;
        at -= at < a.cap ? 0 : a.cap;
    } else {
        if (at < 0 || at > a.cap - a.n) return;
        at += r;
    }
    ((U *)a.y)[(outer * a.cap + at) * a.row + unit] = ((const U *)a.update)[i];
}

bool pare_cuda_tensor_scatter_supports(const pare_cuda *dev, const pare_op_call *c) {
    const pare_attr_scatter *attr = (const pare_attr_scatter *)c->attr;
    const pare_tensor *x = c->in[0];
    if (pare_cuda_axis(attr ? attr->axis : -2, x->ndim) < 1) return false;
    if (c->n_in > 2 && c->in[2] && !pare_cuda_is_index(c->in[2])) return false;
    return pare_cuda_plain(x) && c->in[1]->type == x->type && c->out[0]->type == x->type;
}

pare_status pare_cuda_tensor_scatter_run(pare_cuda *dev, const pare_op_call *c, pare_diag *d) {
    const pare_tensor *past = c->in[0], *update = c->in[1], *where = c->n_in > 2 ? c->in[2] : NULL, *y = c->out[0];
    const pare_attr_scatter *attr = (const pare_attr_scatter *)c->attr;
    int axis = pare_cuda_axis(attr ? attr->axis : -2, past->ndim);
    bool fits = update->ndim == past->ndim && pare_cuda_same_shape(past, y);
    for (int k = 0; fits && k < past->ndim; k++)
        fits = k == axis ? update->shape[k] <= past->shape[k] : update->shape[k] == past->shape[k];
    if (!fits)
        return pare_cuda_fail(c, d, "update must have the cache's shape, with at most its length along the axis");
    if (where && pare_cuda_elems(where) != past->shape[0])
        return pare_cuda_fail(c, d, "one write index per batch entry, please");
    size_t size = past->type->block_bytes, bytes = (size_t)pare_cuda_elems(past) * size;
    size_t row = (size_t)pare_cuda_span(past, axis + 1, past->ndim) * size;
    if (bytes && y->data != past->data && !rt_copy(&dev->rt, y->data, past->data, bytes))
        return pare_cuda_check(dev, c, d);
    size_t unit = pare_cuda_unit(row, update->data), of_y = pare_cuda_unit(row, y->data);
    if (of_y < unit) unit = of_y;
    scatter_args a = {};
    a.update = update->data, a.y = y->data, a.where = where ? where->data : NULL;
    a.wide = pare_cuda_is_i64(where), a.circular = attr && attr->circular;
    a.per_batch = pare_cuda_span(past, 1, axis), a.cap = past->shape[axis], a.n = update->shape[axis];
    a.row = (int64_t)(row / unit), a.all = pare_cuda_elems(update) * (int64_t)size / (int64_t)unit;
    if (!a.all) return PARE_OK;
    dim3 grid((unsigned)pare_cuda_ceil(a.all, THREADS));
    void *stream = dev->rt.stream;
    switch (unit) {
    case 16: pare_launch<scatter_kernel<uint4>>(stream, grid, THREADS, 0, a); break;
    case 8: pare_launch<scatter_kernel<uint2>>(stream, grid, THREADS, 0, a); break;
    case 4: pare_launch<scatter_kernel<uint32_t>>(stream, grid, THREADS, 0, a); break;
    case 2: pare_launch<scatter_kernel<uint16_t>>(stream, grid, THREADS, 0, a); break;
    default: pare_launch<scatter_kernel<uint8_t>>(stream, grid, THREADS, 0, a); break;
    }
    return pare_cuda_check(dev, c, d);
}
