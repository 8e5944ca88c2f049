/* SPDX-License-Identifier: Apache-2.0
 *
 * ScatterND, and the operators that make a tensor of a shape: Shape, ConstantOfShape. A block owns a row of the output
 * and takes the updates that name it in their order, so that sums are the same in every run and no atomic is needed.
 * Indices are device memory: tuples that lie outside, which the CPU refuses, name nothing.
 * equal: the CPU's reference, bit for bit. */
#include "cuda/backend.cuh"
#include "cuda/dev.cuh"

#define THREADS 128

typedef struct scatter_nd_args {
    const float *x, *update;
    float *y;
    const void *indices;
    bool wide; /* i64 */
    int depth, how;
    int64_t dim[PARE_MAX_DIMS], tuples, unit; /* unit: elements of a row */
} scatter_nd_args;

static __device__ __forceinline__ int64_t row_of(const scatter_nd_args &a, int64_t i) {
    int64_t row = 0;
    for (int k = 0; k < a.depth; k++) {
        int64_t at =
            a.wide ? ((const int64_t *)a.indices)[i * a.depth + k] : ((const int32_t *)a.indices)[i * a.depth + k];
        if (at < 0) at += a.dim[k];
        if (at < 0 || at >= a.dim[k]) return -1;
        row = row * a.dim[k] + at;
    }
    return row;
}

static __device__ __forceinline__ float joined(float y, float u, int how) {
    switch (how) {
    case PARE_SCATTER_ADD: return y + u;
    case PARE_SCATTER_MUL: return y * u;
    case PARE_SCATTER_MAX: return u > y || u != u ? u : y;
    case PARE_SCATTER_MIN: return u < y || u != u ? u : y;
    default: return u;
    }
}

__global__ void __launch_bounds__(THREADS) scatter_nd_kernel(scatter_nd_args a) {
    PARE_SHARED(int, mine, THREADS);
    int64_t row = blockIdx.x, to = row * a.unit;
    for (int64_t e = threadIdx.x; e < a.unit; e += THREADS) a.y[to + e] = a.x[to + e];
    for (int64_t first = 0; first < a.tuples; first += THREADS) {
        int64_t i = first + threadIdx.x;
        __syncthreads(); /* the last flags are used up */
        mine[threadIdx.x] = i < a.tuples && row_of(a, i) == row;
        __syncthreads();
        for (int k = 0; k < THREADS; k++)
            if (mine[k])
                for (int64_t e = threadIdx.x; e < a.unit; e += THREADS)
                    a.y[to + e] = joined(a.y[to + e], a.update[(first + k) * a.unit + e], a.how);
    }
}

bool pare_cuda_scatter_nd_supports(const pare_cuda *dev, const pare_op_call *c) {
    return pare_cuda_is_f32(c->in[0]) && pare_cuda_is_f32(c->in[2]) && pare_cuda_is_f32(c->out[0]) &&
           pare_cuda_is_index(c->in[1]);
}

pare_status pare_cuda_scatter_nd_run(pare_cuda *dev, const pare_op_call *c, pare_diag *d) {
    const pare_tensor *x = c->in[0], *at = c->in[1], *u = c->in[2], *y = c->out[0];
    scatter_nd_args a = {};
    if (at->ndim < 1 || !pare_cuda_same_shape(x, y))
        return pare_cuda_fail(c, d, "indices have a dimension, and the output the data's shape");
    a.depth = (int)at->shape[at->ndim - 1];
    if (a.depth > x->ndim)
        return pare_cuda_fail(c, d, "tuples of %d index a tensor of %d dimensions", a.depth, x->ndim);
    a.tuples = pare_cuda_span(at, 0, at->ndim - 1), a.unit = pare_cuda_span(x, a.depth, x->ndim);
    if (pare_cuda_elems(u) != a.tuples * a.unit)
        return pare_cuda_fail(c, d, "updates should have %lld elements", (long long)(a.tuples * a.unit));
    for (int k = 0; k < a.depth; k++) a.dim[k] = x->shape[k];
    a.x = (const float *)x->data, a.update = (const float *)u->data, a.y = (float *)y->data;
    a.indices = at->data, a.wide = pare_cuda_is_i64(at);
    a.how = c->attr ? ((const pare_attr_scatter_nd *)c->attr)->reduction : PARE_SCATTER_SET;
    int64_t rows = pare_cuda_span(x, 0, a.depth);
    if (rows && a.unit) pare_launch<scatter_nd_kernel>(dev->rt.stream, dim3((unsigned)rows), THREADS, 0, a);
    return pare_cuda_check(dev, c, d);
}

/* ---- Shape, ConstantOfShape ---- */

typedef struct dims {
    int64_t v[PARE_MAX_DIMS];
} dims;

__global__ void shape_kernel(dims from, int64_t *y, int n) {
    if ((int)threadIdx.x < n) y[threadIdx.x] = from.v[threadIdx.x];
}

bool pare_cuda_shape_supports(const pare_cuda *dev, const pare_op_call *c) { return pare_cuda_is_i64(c->out[0]); }

pare_status pare_cuda_shape_run(pare_cuda *dev, const pare_op_call *c, pare_diag *d) {
    const pare_tensor *x = c->in[0];
    const pare_attr_shape *a = (const pare_attr_shape *)c->attr;
    int64_t start = a ? a->start : 0, end = a ? a->end : x->ndim;
    dims from = {};
    int n = 0;
    if (start < 0) start = start < -x->ndim ? 0 : start + x->ndim;
    if (end < 0) end = end < -x->ndim ? 0 : end + x->ndim;
    if (end > x->ndim) end = x->ndim;
    for (int64_t k = start; k < end; k++) from.v[n++] = x->shape[k];
    if (pare_cuda_elems(c->out[0]) != n) return pare_cuda_fail(c, d, "the output has another length");
    if (n) pare_launch<shape_kernel>(dev->rt.stream, dim3(1), 32, 0, from, (int64_t *)c->out[0]->data, n);
    return pare_cuda_check(dev, c, d);
}

__global__ void __launch_bounds__(THREADS) fill_kernel(float *y, int64_t n, float value) {
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < n) y[i] = value;
}

bool pare_cuda_fill_supports(const pare_cuda *dev, const pare_op_call *c) {
    return pare_cuda_is_index(c->in[0]) && pare_cuda_is_f32(c->out[0]);
}

pare_status pare_cuda_fill_run(pare_cuda *dev, const pare_op_call *c, pare_diag *d) {
    float value = c->attr ? ((const pare_attr_fill *)c->attr)->value : 0;
    int64_t n = pare_cuda_elems(c->out[0]);
    if (n)
        pare_launch<fill_kernel>(dev->rt.stream, dim3((unsigned)pare_cuda_ceil(n, THREADS)), THREADS, 0,
                                 (float *)c->out[0]->data, n, value);
    return pare_cuda_check(dev, c, d);
}
