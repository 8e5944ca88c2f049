/* SPDX-License-Identifier: Apache-2.0
 *
 * ReduceMean and ReduceSum (axes are an input, read in host memory). Dimensions that stay or go together are merged
 * first; then either threads of a row share an output (the last dimension goes), or a block has 32 outputs side by
 * side. Sums in double, in a fixed order. equal: the CPU's reference to one unit in the last place. */
#include "cuda/backend.cuh"
#include "cuda/reduce.cuh"

#define SIDE   32
#define SLICES 8

typedef struct dims { /* last dimension first */
    int n;
    int64_t dim[PARE_MAX_DIMS], stride[PARE_MAX_DIMS];
} dims;

typedef struct mean_args {
    const float *x;
    float *y;
    dims kept, gone;
    int64_t outputs, count; /* count: elements per output */
    double divisor;
} mean_args;

static __device__ __forceinline__ int64_t offset(const dims &w, int64_t i) {
    int64_t at = 0;
    if (!w.n) return 0;
    for (int k = 0; k < w.n - 1; k++) {
        int64_t rest = i / w.dim[k];
        at += (i - rest * w.dim[k]) * w.stride[k];
        i = rest;
    }
    return at + i * w.stride[w.n - 1];
}

__global__ void __launch_bounds__(1024) mean_row_kernel(mean_args a) {
    int64_t r = (int64_t)blockIdx.x * blockDim.y + threadIdx.y;
    if (r >= a.outputs) return;
    const float *x = a.x + offset(a.kept, r);
    double sum = 0;
    for (int64_t i = threadIdx.x; i < a.count; i += blockDim.x) sum += x[offset(a.gone, i)];
    sum = pare_row_reduce(sum, 0.0);
    if (threadIdx.x == 0) a.y[r] = (float)(sum / a.divisor);
}

__global__ void __launch_bounds__(SIDE *SLICES) mean_column_kernel(mean_args a) {
    PARE_SHARED(double, parts, SIDE *SLICES);
    int64_t r = (int64_t)blockIdx.x * SIDE + threadIdx.x;
    double sum = 0;
    if (r < a.outputs) {
        const float *x = a.x + offset(a.kept, r);
        for (int64_t i = threadIdx.y; i < a.count; i += SLICES) sum += x[offset(a.gone, i)];
    }
    parts[threadIdx.y * SIDE + threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y || r >= a.outputs) return;
    for (int k = 1; k < SLICES; k++) sum += parts[k * SIDE + threadIdx.x];
    a.y[r] = (float)(sum / a.divisor);
}

bool pare_cuda_reduce_mean_supports(const pare_cuda *dev, const pare_op_call *c) {
    const pare_tensor *axes = c->n_in > 1 ? c->in[1] : NULL;
    return pare_cuda_is_f32(c->in[0]) && pare_cuda_is_f32(c->out[0]) &&
           (!axes || (pare_cuda_is_index(axes) && (c->host[1] || !pare_cuda_elems(axes))));
}

static pare_status which_axes(const pare_op_call *c, bool gone[PARE_MAX_DIMS], pare_diag *d) {
    const pare_attr_reduce *attr = (const pare_attr_reduce *)c->attr;
    const pare_tensor *x = c->in[0], *axes = c->n_in > 1 ? c->in[1] : NULL;
    int64_t n = axes ? pare_cuda_elems(axes) : 0;
    for (int k = 0; k < x->ndim; k++) gone[k] = n == 0 && !(attr && attr->noop_with_empty_axes);
    for (int64_t i = 0; i < n; i++) {
        int64_t given = pare_cuda_host_index(c, 1, i);
        int axis = pare_cuda_axis(given, x->ndim);
        if (axis < 0) return pare_cuda_fail(c, d, "axis %lld of a tensor of %d dimensions", (long long)given, x->ndim);
        gone[axis] = true;
    }
    return PARE_OK;
}

/* Neighbours of the same kind are one dimension, since x is contiguous; sizes of 1 are none. */
static void split(const pare_tensor *x, const bool gone[PARE_MAX_DIMS], mean_args *a) {
    int64_t stride = 1;
    int last = -1;
    a->outputs = a->count = 1;
    for (int k = x->ndim - 1; k >= 0; stride *= x->shape[k], k--) {
        int64_t n = x->shape[k];
        dims *w = gone[k] ? &a->gone : &a->kept;
        *(gone[k] ? &a->count : &a->outputs) *= n;
        if (n == 1) continue;
        if (last == gone[k]) w->dim[w->n - 1] *= n;
        else w->dim[w->n] = n, w->stride[w->n] = stride, w->n++;
        last = gone[k];
    }
}

pare_status pare_cuda_reduce_mean_run(pare_cuda *dev, const pare_op_call *c, pare_diag *d) {
    bool gone[PARE_MAX_DIMS] = {};
    mean_args a = {};
    pare_status st = which_axes(c, gone, d);
    if (st != PARE_OK) return st;
    split(c->in[0], gone, &a);
    a.x = (const float *)c->in[0]->data, a.y = (float *)c->out[0]->data;
    if (pare_cuda_elems(c->out[0]) != a.outputs)
        return pare_cuda_fail(c, d, "the output should have %lld elements", (long long)a.outputs);
    if (!a.outputs) return PARE_OK;
    a.divisor = c->op == PARE_OP_ReduceMean ? (double)a.count : 1.0;
    bool row = !a.kept.n || (a.gone.n && a.gone.stride[0] == 1);
    dim3 block = pare_row_block(a.count);
    if (row) pare_launch<mean_row_kernel>(dev->rt.stream, pare_row_grid(a.outputs, block), block, 0, a);
    else
        pare_launch<mean_column_kernel>(dev->rt.stream, dim3((unsigned)pare_cuda_ceil(a.outputs, SIDE)),
                                        dim3(SIDE, SLICES), 0, a);
    return pare_cuda_check(dev, c, d);
}
