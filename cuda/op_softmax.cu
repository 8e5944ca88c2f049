/* SPDX-License-Identifier: Apache-2.0
 *
 * Softmax and LogSoftmax over any axis; a row that fits the registers of its threads is read once. Another axis than
 * the last: one thread per column, rare and kept plain. equal: the CPU's reference to a few units in the last place. */
#include "cuda/backend.cuh"
#include "cuda/reduce.cuh"

#define THREADS  256
#define INFINITE 0x7f800000u

static __device__ __forceinline__ float4 each4(float4 v, float max) {
    return make_float4(expf(v.x - max), expf(v.y - max), expf(v.z - max), expf(v.w - max));
}

/* n a multiple of 4, x and y at multiples of 16 bytes, n <= PARE_ROW_REGS * 4 * threads */
template <bool LOG>
__global__ void __launch_bounds__(1024) softmax_regs_kernel(const float *x, float *y, int64_t rows, int n) {
    int64_t r = (int64_t)blockIdx.x * blockDim.y + threadIdx.y;
    if (r >= rows) return;
    float4 v[PARE_ROW_REGS];
    pare_max max = {-pare_float(INFINITE)};
    for (int p = 0; p < PARE_ROW_REGS; p++) {
        int i = 4 * (int)(threadIdx.x + p * blockDim.x);
        if (i >= n) continue;
        v[p] = pare_load4(x + r * n + i);
        max.v = fmaxf(fmaxf(fmaxf(v[p].x, v[p].y), fmaxf(v[p].z, v[p].w)), max.v);
    }
    max = pare_row_reduce(max, pare_max{-pare_float(INFINITE)});
    pare_sum sum = {0, 0};
    for (int p = 0; p < PARE_ROW_REGS; p++) {
        if (4 * (int)(threadIdx.x + p * blockDim.x) >= n) continue;
        float4 e = each4(v[p], max.v); /* NaN, if any, is in the sum and so in the whole row */
        pare_add(sum, e.x), pare_add(sum, e.y), pare_add(sum, e.z), pare_add(sum, e.w);
        if (!LOG) v[p] = e;
    }
    sum = pare_row_reduce(sum, pare_sum{0, 0});
    float total = sum.hi + sum.lo, log_total = LOG ? logf(total) : 0;
    for (int p = 0; p < PARE_ROW_REGS; p++) {
        int i = 4 * (int)(threadIdx.x + p * blockDim.x);
        if (i >= n) continue;
        float4 w = v[p];
        if (LOG) w = make_float4(w.x - max.v, w.y - max.v, w.z - max.v, w.w - max.v);
        if (LOG) w = make_float4(w.x - log_total, w.y - log_total, w.z - log_total, w.w - log_total);
        else w = make_float4(w.x / total, w.y / total, w.z / total, w.w / total);
        pare_store4(y + r * n + i, w);
    }
}

/* Any length and alignment: y holds the exponentials meanwhile. */
template <bool LOG>
__global__ void __launch_bounds__(1024) softmax_memory_kernel(const float *x, float *y, int64_t rows, int64_t n) {
    int64_t r = (int64_t)blockIdx.x * blockDim.y + threadIdx.y;
    if (r >= rows) return;
    x += r * n, y += r * n;
    pare_max max = {-pare_float(INFINITE)};
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) max.v = fmaxf(max.v, x[i]);
    max = pare_row_reduce(max, pare_max{-pare_float(INFINITE)});
    pare_sum sum = {0, 0};
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
        float e = expf(x[i] - max.v);
        if (!LOG) y[i] = e;
        pare_add(sum, e);
    }
    sum = pare_row_reduce(sum, pare_sum{0, 0});
    float total = sum.hi + sum.lo, log_total = LOG ? logf(total) : 0;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) y[i] = LOG ? (x[i] - max.v) - log_total : y[i] / total;
}

template <bool LOG>
__global__ void __launch_bounds__(THREADS)
    softmax_column_kernel(const float *x, float *y, int64_t columns, int64_t n, int64_t inner) {
    int64_t c = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (c >= columns) return;
    int64_t outer = c / inner, at = outer * n * inner + (c - outer * inner);
    float max = -pare_float(INFINITE);
    for (int64_t k = 0; k < n; k++) max = fmaxf(max, x[at + k * inner]);
    pare_sum sum = {0, 0};
    for (int64_t k = 0; k < n; k++) {
        float e = expf(x[at + k * inner] - max);
        if (!LOG) y[at + k * inner] = e;
        pare_add(sum, e);
    }
    float total = sum.hi + sum.lo, log_total = LOG ? logf(total) : 0;
    for (int64_t k = 0; k < n; k++) {
        int64_t i = at + k * inner;
        y[i] = LOG ? (x[i] - max) - log_total : y[i] / total;
    }
}

template <bool LOG>
static void launch(pare_cuda *dev, const float *x, float *y, int64_t rows, int64_t n, int64_t inner) {
    void *stream = dev->rt.stream;
    dim3 block = pare_row_block(n), grid = pare_row_grid(rows, block);
    bool vec = n % 4 == 0 && pare_cuda_unit(0, x) == 16 && pare_cuda_unit(0, y) == 16;
    if (inner > 1)
        pare_launch<softmax_column_kernel<LOG>>(stream, dim3((unsigned)pare_cuda_ceil(rows, THREADS)), THREADS, 0, x, y,
                                                rows, n, inner);
    else if (vec && n <= PARE_ROW_MAX)
        pare_launch<softmax_regs_kernel<LOG>>(stream, grid, block, 0, x, y, rows, (int)n);
    else pare_launch<softmax_memory_kernel<LOG>>(stream, grid, block, 0, x, y, rows, n);
}

pare_status pare_cuda_softmax_run(pare_cuda *dev, const pare_op_call *c, pare_diag *d) {
    const pare_tensor *t = c->in[0];
    int axis = pare_cuda_axis(c->attr ? ((const pare_attr_softmax *)c->attr)->axis : -1, t->ndim);
    if (axis < 0 || !pare_cuda_same_shape(t, c->out[0]))
        return pare_cuda_fail(c, d, "the axis does not exist, or input and output differ in shape");
    int64_t n = t->shape[axis], inner = pare_cuda_span(t, axis + 1, t->ndim);
    int64_t rows = pare_cuda_span(t, 0, axis) * inner;
    if (!n || !rows) return PARE_OK;
    if (c->op == PARE_OP_LogSoftmax)
        launch<true>(dev, (const float *)t->data, (float *)c->out[0]->data, rows, n, inner);
    else launch<false>(dev, (const float *)t->data, (float *)c->out[0]->data, rows, n, inner);
    return pare_cuda_check(dev, c, d);
}
