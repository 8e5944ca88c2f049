/* SPDX-License-Identifier: Apache-2.0
 *
 * ScatterND (opset 18), f32, and the operators that make a tensor of a shape: Shape, ConstantOfShape. A row that is
 * named by several tuples belongs to the first of them: its block finds the later ones and applies all updates in their
 * order, as the CPU does, so the bytes are the same in every run and no atomics are needed. Finding them reads all
 * names once per tuple: quadratic in the tuples, but they are numbers of four bytes that stay in the caches (4096
 * tokens: 64 MB from L2). Indices are device memory: tuples outside of the data, which the CPU refuses, are left out.
 * equal: exactly. */
#include "cuda/backend.cuh"
#include "cuda/dev.cuh"

#include <limits.h>

#define THREADS 128

typedef struct scatter_nd_args {
    const void *indices;
    bool wide; /* i64 */
    int depth;
    int64_t dim[PARE_MAX_DIMS];
    const float *update;
    float *y;
    int *name; /* per tuple: its row, or -1 */
    int tuples, how;
    int64_t unit; /* elements of a row */
} scatter_nd_args;

__global__ void __launch_bounds__(THREADS) scatter_nd_name_kernel(scatter_nd_args a) {
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x, row = 0;
    if (i >= a.tuples) return;
    for (int k = 0; k < a.depth; k++) {
        int64_t at =
            a.wide ? ((const int64_t *)a.indices)[i * a.depth + k] : ((const int32_t *)a.indices)[i * a.depth + k];
        if (at < 0) at += a.dim[k];
        if (at < 0 || at >= a.dim[k] || row < 0) row = -1;
        else row = row * a.dim[k] + at;
    }
    a.name[i] = (int)row;
}

static __device__ __forceinline__ float merged(float y, float u, int how) {
    switch (how) {
    case PARE_SCATTER_ADD: return y + u;
    case PARE_SCATTER_MUL: return y * u;
    case PARE_SCATTER_MAX: return u > y || u != u ? u : y;
    case PARE_SCATTER_MIN: return u < y || u != u ? u : y;
    default: return u;
    }
}

/* Block = tuple. `same`: the tuples of this chunk that name the block's row, in order. */
__global__ void __launch_bounds__(THREADS) scatter_nd_kernel(scatter_nd_args a) {
    PARE_SHARED(uint32_t, hits, THREADS / 32);
    PARE_SHARED(int, earlier, 1);
    int own = (int)blockIdx.x, name = a.name[own], tid = (int)threadIdx.x;
    if (tid == 0) *earlier = 0;
    __syncthreads();
    for (int j = tid; j < own; j += THREADS)
        if (a.name[j] == name) *earlier = 1; /* whoever writes, it is a 1 */
    __syncthreads();
    if (name < 0 || *earlier) return;
    float *y = a.y + name * a.unit;
    for (int first = own; first < a.tuples; first += THREADS) {
        int j = first + tid;
        uint32_t hit = __ballot_sync(0xffffffffu, j < a.tuples && a.name[j] == name);
        __syncthreads(); /* the last chunk's are still read */
        if (tid % 32 == 0) hits[tid / 32] = hit;
        __syncthreads();
        for (int64_t e = tid; e < a.unit; e += THREADS) {
            float v = y[e];
            for (int w = 0; w < THREADS / 32; w++)
                for (uint32_t left = hits[w]; left; left &= left - 1) {
                    int64_t from = first + 32 * w + __ffs((int)left) - 1;
                    v = merged(v, a.update[from * a.unit + e], a.how);
                }
            y[e] = v;
        }
    }
}

static int depth_of(const pare_op_call *c) {
    const pare_tensor *at = c->in[1];
    int64_t depth = at->ndim ? at->shape[at->ndim - 1] : 0;
    return depth >= 1 && depth <= c->in[0]->ndim ? (int)depth : 0;
}

bool pare_cuda_scatter_nd_supports(const pare_cuda *dev, const pare_op_call *c) {
    int depth = depth_of(c);
    return depth && pare_cuda_is_f32(c->in[0]) && pare_cuda_is_f32(c->in[2]) && pare_cuda_is_f32(c->out[0]) &&
           pare_cuda_is_index(c->in[1]) && pare_cuda_span(c->in[0], 0, depth) <= INT_MAX &&
           pare_cuda_elems(c->in[1]) / depth <= INT_MAX;
}

size_t pare_cuda_scatter_nd_workspace(const pare_cuda *dev, const pare_op_call *c) {
    return (size_t)(pare_cuda_elems(c->in[1]) / depth_of(c)) * sizeof(int);
}

pare_status pare_cuda_scatter_nd_run(pare_cuda *dev, const pare_op_call *c, pare_diag *d) {
    const pare_tensor *x = c->in[0], *at = c->in[1], *y = c->out[0];
    scatter_nd_args a = {};
    a.depth = depth_of(c), a.indices = at->data, a.wide = pare_cuda_is_i64(at);
    a.tuples = (int)(pare_cuda_elems(at) / a.depth), a.unit = pare_cuda_span(x, a.depth, x->ndim);
    a.update = (const float *)c->in[2]->data, a.y = (float *)y->data, a.name = (int *)c->workspace;
    a.how = c->attr ? (int)((const pare_attr_scatter_nd *)c->attr)->reduction : (int)PARE_SCATTER_SET;
    for (int k = 0; k < a.depth; k++) a.dim[k] = x->shape[k];
    if (!pare_cuda_same_shape(x, y) || pare_cuda_elems(c->in[2]) != a.tuples * a.unit)
        return pare_cuda_fail(c, d, "the updates do not fit the indices, or the output has another shape");
    size_t bytes = (size_t)pare_cuda_elems(x) * sizeof(float);
    if (bytes && x->data != y->data && !rt_copy(&dev->rt, y->data, x->data, bytes)) return pare_cuda_check(dev, c, d);
    if (!a.tuples || !a.unit || !bytes) return pare_cuda_check(dev, c, d);
    void *s = dev->rt.stream;
    pare_launch<scatter_nd_name_kernel>(s, dim3((unsigned)pare_cuda_ceil(a.tuples, THREADS)), THREADS, 0, a);
    pare_launch<scatter_nd_kernel>(s, dim3((unsigned)a.tuples), THREADS, 0, a);
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
