/* SPDX-License-Identifier: Apache-2.0
 *
 * LayerNormalizationGrad and RMSNormalizationGrad. With h = x normalized, r = 1 / its deviation and g = dY * scale, a
 * row of n elements has
 *   layer  dX = r (g - mean g - h mean(g h))        RMS  dX = r (g - h mean(g h))
 *   d scale = sum over rows of dY h                 d bias = sum over rows of dY
 * First a pass over rows, which keeps mean and r of each; then one over columns, whose rows are cut into runs that
 * depend on their number alone, and one that adds the runs in order. The second pass finds dY and x in L2 where they
 * fit. equal: the sums in double to a few units in the last place of the largest term; the same bits in every run. */
#include "cuda/backend.cuh"
#include "cuda/reduce.cuh"

#define RUNS   64 /* of rows */
#define SIDE   32
#define SLICES 8

typedef struct norm_grad_args {
    const float *dy, *x, *scale;
    float *dx, *d_scale, *d_bias;
    float *mean, *inv;               /* per row */
    float *share_scale, *share_bias; /* [runs][n] */
    int64_t rows, n, run;            /* run: rows of one */
    int runs;
    float eps;
} norm_grad_args;

template <bool LAYER> __global__ void __launch_bounds__(1024) norm_grad_row_kernel(norm_grad_args a) {
    int64_t r = (int64_t)blockIdx.x * blockDim.y + threadIdx.y;
    if (r >= a.rows) return;
    const float *x = a.x + r * a.n, *dy = a.dy + r * a.n;
    float n = (float)a.n, mean = 0, rest = 0;
    if (LAYER) {
        pare_sum s = {0, 0};
        for (int64_t i = threadIdx.x; i < a.n; i += blockDim.x) pare_add(s, x[i]);
        s = pare_row_reduce(s, pare_sum{0, 0});
        float q = s.hi / n;
        rest = (fmaf(-q, n, s.hi) + s.lo) / n;
        mean = q + rest, rest = (q - mean) + rest;
    }
    pare_sum square = {0, 0}, of_g = {0, 0}, of_gx = {0, 0};
    for (int64_t i = threadIdx.x; i < a.n; i += blockDim.x) {
        float v = (x[i] - mean) - rest, g = dy[i] * a.scale[i];
        pare_add_product(square, v, v);
        pare_add_product(of_gx, g, v);
        if (LAYER) pare_add(of_g, g);
    }
    square = pare_row_reduce(square, pare_sum{0, 0});
    of_gx = pare_row_reduce(of_gx, pare_sum{0, 0});
    if (LAYER) of_g = pare_row_reduce(of_g, pare_sum{0, 0});
    float inv = 1.0f / sqrtf((square.hi + square.lo) / n + a.eps);
    float mean_gh = (of_gx.hi + of_gx.lo) * inv / n, mean_g = (of_g.hi + of_g.lo) / n;
    for (int64_t i = threadIdx.x; i < a.n; i += blockDim.x) {
        float h = (x[i] - mean) * inv, g = dy[i] * a.scale[i];
        a.dx[r * a.n + i] = inv * ((LAYER ? g - mean_g : g) - h * mean_gh);
    }
    if (threadIdx.x == 0) a.mean[r] = mean, a.inv[r] = inv;
}

/* Block: SIDE columns of one run, a slice of its rows per threadIdx.y. */
__global__ void __launch_bounds__(SIDE *SLICES) norm_grad_column_kernel(norm_grad_args a) {
    PARE_SHARED(pare_sum, of_scale, SIDE * SLICES);
    PARE_SHARED(pare_sum, of_bias, SIDE * SLICES);
    int64_t i = (int64_t)blockIdx.x * SIDE + threadIdx.x, first = blockIdx.y * a.run;
    int64_t end = first + a.run < a.rows ? first + a.run : a.rows;
    int at = (int)(threadIdx.y * SIDE + threadIdx.x);
    pare_sum scale = {0, 0}, bias = {0, 0};
    for (int64_t r = first + threadIdx.y; i < a.n && r < end; r += SLICES) {
        float dy = a.dy[r * a.n + i];
        pare_add_product(scale, dy, (a.x[r * a.n + i] - a.mean[r]) * a.inv[r]);
        if (a.d_bias) pare_add(bias, dy);
    }
    of_scale[at] = scale, of_bias[at] = bias;
    __syncthreads();
    if (threadIdx.y || i >= a.n) return;
    for (int k = 1; k < SLICES; k++) {
        scale = pare_join(scale, of_scale[k * SIDE + threadIdx.x]);
        bias = pare_join(bias, of_bias[k * SIDE + threadIdx.x]);
    }
    if (a.d_scale) a.share_scale[blockIdx.y * a.n + i] = scale.hi + scale.lo;
    if (a.d_bias) a.share_bias[blockIdx.y * a.n + i] = bias.hi + bias.lo;
}

__global__ void __launch_bounds__(SIDE *SLICES) norm_grad_sum_kernel(norm_grad_args a) {
    int64_t i = (int64_t)blockIdx.x * (SIDE * SLICES) + threadIdx.x;
    if (i >= a.n) return;
    pare_sum scale = {0, 0}, bias = {0, 0};
    for (int k = 0; k < a.runs; k++) {
        if (a.d_scale) pare_add(scale, a.share_scale[k * a.n + i]);
        if (a.d_bias) pare_add(bias, a.share_bias[k * a.n + i]);
    }
    if (a.d_scale) a.d_scale[i] = scale.hi + scale.lo;
    if (a.d_bias) a.d_bias[i] = bias.hi + bias.lo;
}

/* ---- the host's side ---- */

static int axis_of(const pare_op_call *c) {
    return pare_cuda_axis(c->attr ? ((const pare_attr_norm *)c->attr)->axis : -1, c->in[1]->ndim);
}

bool pare_cuda_norm_grad_supports(const pare_cuda *dev, const pare_op_call *c) {
    int axis = axis_of(c);
    for (int i = 0; i < 3; i++)
        if (!pare_cuda_is_f32(c->in[i]) || (i < c->n_out && c->out[i] && !pare_cuda_is_f32(c->out[i]))) return false;
    return axis >= 0 && pare_cuda_span(c->in[1], axis, c->in[1]->ndim) <= 1 << 24; /* counted in f32 */
}

size_t pare_cuda_norm_grad_workspace(const pare_cuda *dev, const pare_op_call *c) {
    int axis = axis_of(c);
    const pare_tensor *x = c->in[1];
    return (size_t)(2 * pare_cuda_span(x, 0, axis) + 2 * RUNS * pare_cuda_span(x, axis, x->ndim)) * sizeof(float);
}

static void launch(pare_cuda *dev, const norm_grad_args &a, bool layer) {
    void *s = dev->rt.stream;
    dim3 block = pare_row_block(a.n), grid = pare_row_grid(a.rows, block);
    if (layer) pare_launch<norm_grad_row_kernel<true>>(s, grid, block, 0, a);
    else pare_launch<norm_grad_row_kernel<false>>(s, grid, block, 0, a);
    if (!a.d_scale && !a.d_bias) return;
    pare_launch<norm_grad_column_kernel>(s, dim3((unsigned)pare_cuda_ceil(a.n, SIDE), (unsigned)a.runs),
                                         dim3(SIDE, SLICES), 0, a);
    pare_launch<norm_grad_sum_kernel>(s, dim3((unsigned)pare_cuda_ceil(a.n, SIDE * SLICES)), SIDE * SLICES, 0, a);
}

pare_status pare_cuda_norm_grad_run(pare_cuda *dev, const pare_op_call *c, pare_diag *d) {
    const pare_tensor *x = c->in[1];
    int axis = axis_of(c);
    if (!pare_cuda_same_shape(x, c->in[0]) || !pare_cuda_same_shape(x, c->out[0]))
        return pare_cuda_fail(c, d, "dY, X and dX differ in shape");
    norm_grad_args a = {};
    a.rows = pare_cuda_span(x, 0, axis), a.n = pare_cuda_span(x, axis, x->ndim);
    if (pare_cuda_elems(c->in[2]) != a.n)
        return pare_cuda_fail(c, d, "the scale should have %lld elements", (long long)a.n);
    for (int i = 1; i < c->n_out; i++)
        if (c->out[i] && pare_cuda_elems(c->out[i]) != a.n)
            return pare_cuda_fail(c, d, "output %d should have %lld elements", i, (long long)a.n);
    a.dy = (const float *)c->in[0]->data, a.x = (const float *)x->data, a.scale = (const float *)c->in[2]->data;
    a.dx = (float *)c->out[0]->data;
    if (c->n_out > 1 && c->out[1]) a.d_scale = (float *)c->out[1]->data;
    if (c->n_out > 2 && c->out[2]) a.d_bias = (float *)c->out[2]->data;
    a.eps = c->attr ? ((const pare_attr_norm *)c->attr)->epsilon : 1e-5f;
    a.run = pare_cuda_ceil(a.rows, RUNS);
    a.runs = a.run ? (int)pare_cuda_ceil(a.rows, a.run) : 0;
    a.mean = (float *)c->workspace, a.inv = a.mean + a.rows;
    a.share_scale = a.inv + a.rows, a.share_bias = a.share_scale + RUNS * a.n;
    if (a.rows && a.n) launch(dev, a, c->op == PARE_OP_LayerNormalizationGrad);
    for (float *sum : {a.d_scale, a.d_bias})
        if (sum && !a.rows && a.n) rt_zero(&dev->rt, sum, (size_t)a.n * sizeof(float));
    return pare_cuda_check(dev, c, d);
}
