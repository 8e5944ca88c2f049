/* SPDX-License-Identifier: Apache-2.0
 *
 * LayerNormalization and RMSNormalization over dimensions axis .. last; formulas of cpu/vec.h. A row that fits the
 * registers of its threads is read once, and scale and bias with it. Sums carry their rounding errors along; where
 * squares leave the range of f32 they are done again in double.
 * Scale and bias (f32, f16, bf16) are one value per normalized element, any other broadcast is done in a second pass.
 * equal: the CPU's reference to a few units in the last place of the result, for LayerNormalization of the largest
 * magnitude in |x - mean| * inv * |scale| + |bias| (mean and inverse of a row to one and two). */
#include "cuda/backend.cuh"
#include "cuda/reduce.cuh"

typedef struct vector { /* of scales, on the device */
    const void *p;      /* NULL: absent */
    pare_cuda_type type;
} vector;

typedef struct norm_args {
    const float *x;
    float *y, *mean, *inv;
    vector scale, bias;
    int64_t rows, n;
    float eps;
} norm_args;

static __device__ __forceinline__ float number(vector v, int64_t i) {
    if (v.type == PARE_CT_F32) return ((const float *)v.p)[i];
    uint16_t h = ((const uint16_t *)v.p)[i];
    return v.type == PARE_CT_F16 ? pare_h2f(h) : pare_bf2f(h);
}
/* Four numbers from i on, or four times `none`. */
static __device__ __forceinline__ float4 numbers(vector v, int64_t i, float none) {
    if (!v.p) return make_float4(none, none, none, none);
    if (v.type == PARE_CT_F32) return pare_load4((const float *)v.p + i);
    return make_float4(number(v, i), number(v, i + 1), number(v, i + 2), number(v, i + 3));
}

typedef struct moments {
    float mean, inv;
} moments;

/* A row in registers; thread t has elements 4 (t + p * threads) .. of vector p. */
struct row_regs {
    float4 v[PARE_ROW_REGS];
    int n;
    template <class F> __device__ __forceinline__ void each(F f) const {
        for (int p = 0; p < PARE_ROW_REGS; p++)
            if (4 * (int)(threadIdx.x + p * blockDim.x) < n) f(v[p].x), f(v[p].y), f(v[p].z), f(v[p].w);
    }
};
/* A row of any length or alignment, read again where it is needed. */
struct row_memory {
    const float *x;
    int64_t n;
    template <class F> __device__ __forceinline__ void each(F f) const {
        for (int64_t i = threadIdx.x; i < n; i += blockDim.x) f(x[i]);
    }
};

/* Double arithmetic is for rows whose squares, or their errors, are not in f32's range: on most GPUs it is so slow that
 * a division in every thread would take longer than the row. */

/* 1 / sqrt(mean square of x - hi - lo, plus eps) */
template <class R>
static __device__ __forceinline__ float inverse(const R &row, float hi, float lo, float n, float eps) {
    pare_sum s = {0, 0};
    row.each([&](float x) {
        float v = (x - hi) - lo;
        pare_add_product(s, v, v);
    });
    s = pare_row_reduce(s, pare_sum{0, 0});
    if (s.hi > 1e-25f && s.hi < 1e38f) return 1.0f / sqrtf((s.hi + s.lo) / n + eps);
    double t = 0, mean = (double)hi + lo;
    row.each([&](float x) { t += ((double)x - mean) * ((double)x - mean); });
    return (float)(1.0 / sqrt(pare_row_reduce(t, 0.0) / n + eps));
}

/* The mean, as hi + lo with hi nearest. */
template <class R> static __device__ __forceinline__ void average(const R &row, float n, float &hi, float &lo) {
    pare_sum s = {0, 0};
    row.each([&](float x) { pare_add(s, x); });
    s = pare_row_reduce(s, pare_sum{0, 0});
    if (fabsf(s.hi) < 1e38f && s.lo == s.lo) {
        float q = s.hi / n, rest = (fmaf(-q, n, s.hi) + s.lo) / n;
        hi = q + rest, lo = (q - hi) + rest;
        return;
    }
    double t = 0; /* partial sums left the range of f32 */
    row.each([&](float x) { t += x; });
    t = pare_row_reduce(t, 0.0) / n;
    hi = (float)t, lo = (float)(t - hi);
}

/* Mean and inverse deviation of the row, the same in all of its threads. */
template <bool LAYER, class R> static __device__ __forceinline__ moments measure(const R &row, float n, float eps) {
    float hi = 0, lo = 0;
    if (LAYER) average(row, n, hi, lo);
    return moments{hi, inverse(row, hi, lo, n, eps)};
}

template <bool LAYER> static __device__ __forceinline__ float normal(float x, moments m, float scale, float bias) {
    return LAYER ? (x - m.mean) * m.inv * scale + bias : x * m.inv * scale;
}
static __device__ __forceinline__ void keep_moments(const norm_args &a, int64_t row, moments m) {
    if (threadIdx.x) return;
    if (a.mean) a.mean[row] = m.mean;
    if (a.inv) a.inv[row] = m.inv;
}

/* n a multiple of 4, everything at multiples of 16 bytes, n <= PARE_ROW_REGS * 4 * threads */
template <bool LAYER> __global__ void __launch_bounds__(1024) norm_regs_kernel(norm_args a) {
    int64_t r = (int64_t)blockIdx.x * blockDim.y + threadIdx.y;
    if (r >= a.rows) return;
    row_regs row;
    float4 scale[PARE_ROW_REGS], bias[PARE_ROW_REGS];
    row.n = (int)a.n;
    for (int p = 0; p < PARE_ROW_REGS; p++) { /* all loads at once: a decode step has one row and only waits */
        int i = 4 * (int)(threadIdx.x + p * blockDim.x);
        if (i >= row.n) continue;
        row.v[p] = pare_load4(a.x + r * a.n + i);
        scale[p] = numbers(a.scale, i, 1);
        if (LAYER) bias[p] = numbers(a.bias, i, 0);
        else bias[p] = make_float4(0, 0, 0, 0);
    }
    moments m = measure<LAYER>(row, (float)a.n, a.eps);
    for (int p = 0; p < PARE_ROW_REGS; p++) {
        int i = 4 * (int)(threadIdx.x + p * blockDim.x);
        if (i >= row.n) continue;
        float4 v = row.v[p], s = scale[p], b = bias[p];
        v.x = normal<LAYER>(v.x, m, s.x, b.x), v.y = normal<LAYER>(v.y, m, s.y, b.y);
        v.z = normal<LAYER>(v.z, m, s.z, b.z), v.w = normal<LAYER>(v.w, m, s.w, b.w);
        pare_store4(a.y + r * a.n + i, v);
    }
    keep_moments(a, r, m);
}

template <bool LAYER> __global__ void __launch_bounds__(1024) norm_memory_kernel(norm_args a) {
    int64_t r = (int64_t)blockIdx.x * blockDim.y + threadIdx.y;
    if (r >= a.rows) return;
    row_memory row = {a.x + r * a.n, a.n};
    moments m = measure<LAYER>(row, (float)a.n, a.eps);
    for (int64_t i = threadIdx.x; i < a.n; i += blockDim.x)
        a.y[r * a.n + i] = normal<LAYER>(row.x[i], m, a.scale.p ? number(a.scale, i) : 1.0f,
                                         LAYER && a.bias.p ? number(a.bias, i) : 0.0f);
    keep_moments(a, r, m);
}

/* ---- the second pass: y * scale + bias, each with a stride per dimension of y ---- */

typedef struct spread {
    int n;
    int64_t dim[PARE_MAX_DIMS], scale[PARE_MAX_DIMS], bias[PARE_MAX_DIMS]; /* last dimension first */
} spread;

__global__ void __launch_bounds__(256) norm_spread_kernel(spread w, float *y, vector scale, vector bias, int64_t n) {
    int64_t i = (int64_t)blockIdx.x * 256 + threadIdx.x, rest = i, is = 0, ib = 0;
    if (i >= n) return;
    for (int k = 0; k < w.n; k++) {
        int64_t at = rest % w.dim[k];
        rest /= w.dim[k];
        is += at * w.scale[k], ib += at * w.bias[k];
    }
    float v = y[i] * number(scale, is);
    y[i] = bias.p ? v + number(bias, ib) : v;
}

/* ---- the host's side ---- */

static bool is_vector(const pare_tensor *t) {
    pare_cuda_type type = pare_cuda_type_of(t->type);
    return type == PARE_CT_F32 || type == PARE_CT_F16 || type == PARE_CT_BF16;
}

bool pare_cuda_norm_supports(const pare_cuda *dev, const pare_op_call *c) {
    for (int i = 0; i < c->n_out; i++)
        if (c->out[i] && !pare_cuda_is_f32(c->out[i])) return false;
    const pare_attr_norm *attr = (const pare_attr_norm *)c->attr;
    int axis = pare_cuda_axis(attr ? attr->axis : -1, c->in[0]->ndim);
    if (axis >= 0 && pare_cuda_span(c->in[0], axis, c->in[0]->ndim) > 1 << 24) return false; /* counted in f32 */
    return pare_cuda_is_f32(c->in[0]) && is_vector(c->in[1]) && (c->n_in < 3 || !c->in[2] || is_vector(c->in[2]));
}

/* One value per normalized element: t's shape, leading ones dropped, equals x's from axis on. */
static bool per_element(const pare_tensor *t, const pare_tensor *x, int axis) {
    if (!t) return true;
    if (t->ndim > x->ndim) return false;
    for (int k = 0; k < x->ndim; k++) {
        int64_t dim = k < t->ndim ? t->shape[t->ndim - 1 - k] : 1;
        if (dim != (x->ndim - 1 - k >= axis ? x->shape[x->ndim - 1 - k] : 1)) return false;
    }
    return true;
}

/* Strides with which t broadcasts to y, last dimension first; false when it does not. */
static bool strides(const pare_tensor *t, const pare_tensor *y, int64_t out[PARE_MAX_DIMS]) {
    int64_t stride = 1;
    if (t && t->ndim > y->ndim) return false;
    for (int k = 0; k < y->ndim; k++) {
        int64_t dim = t && k < t->ndim ? t->shape[t->ndim - 1 - k] : 1;
        if (dim != 1 && dim != y->shape[y->ndim - 1 - k]) return false;
        out[k] = dim == 1 ? 0 : stride;
        stride *= dim;
    }
    return true;
}

static vector vector_of(const pare_tensor *t) {
    return t ? vector{t->data, pare_cuda_type_of(t->type)} : vector{NULL, PARE_CT_F32};
}

static void launch_rows(pare_cuda *dev, const norm_args &a, bool layer) {
    dim3 block = pare_row_block(a.n), grid = pare_row_grid(a.rows, block);
    bool regs = a.n % 4 == 0 && a.n <= PARE_ROW_MAX;
    for (const void *p : {(const void *)a.x, (const void *)a.y, a.scale.p, a.bias.p})
        regs = regs && pare_cuda_unit(0, p) == 16; /* NULL is a multiple, too */
    void *stream = dev->rt.stream;
    if (regs && layer) pare_launch<norm_regs_kernel<true>>(stream, grid, block, 0, a);
    else if (regs) pare_launch<norm_regs_kernel<false>>(stream, grid, block, 0, a);
    else if (layer) pare_launch<norm_memory_kernel<true>>(stream, grid, block, 0, a);
    else pare_launch<norm_memory_kernel<false>>(stream, grid, block, 0, a);
}

pare_status pare_cuda_norm_run(pare_cuda *dev, const pare_op_call *c, pare_diag *d) {
    const pare_attr_norm *attr = (const pare_attr_norm *)c->attr;
    const pare_tensor *x = c->in[0], *y = c->out[0], *scale = c->in[1], *bias = c->n_in > 2 ? c->in[2] : NULL;
    int axis = pare_cuda_axis(attr ? attr->axis : -1, x->ndim);
    if (axis < 0 || !pare_cuda_same_shape(x, y))
        return pare_cuda_fail(c, d, "the axis does not exist, or the output has another shape");
    norm_args a = {};
    spread w = {};
    a.x = (const float *)x->data, a.y = (float *)y->data, a.eps = attr ? attr->epsilon : 1e-5f;
    a.rows = pare_cuda_span(x, 0, axis), a.n = pare_cuda_span(x, axis, x->ndim);
    for (int i = 1; i < c->n_out; i++)
        if (c->out[i] && pare_cuda_elems(c->out[i]) != a.rows)
            return pare_cuda_fail(c, d, "output %d should have %lld elements", i, (long long)a.rows);
    if (c->n_out > 1 && c->out[1]) a.mean = (float *)c->out[1]->data;
    if (c->n_out > 2 && c->out[2]) a.inv = (float *)c->out[2]->data;
    bool fused = per_element(scale, x, axis) && per_element(bias, x, axis);
    if (!fused && (!strides(scale, y, w.scale) || !strides(bias, y, w.bias)))
        return pare_cuda_fail(c, d, "scale or bias does not broadcast to the input");
    if (!a.rows || !a.n) return PARE_OK;
    a.scale = vector_of(fused ? scale : NULL), a.bias = vector_of(fused ? bias : NULL);
    launch_rows(dev, a, c->op == PARE_OP_LayerNormalization);
    if (!fused) {
        int64_t n = a.rows * a.n;
        w.n = y->ndim;
        for (int k = 0; k < y->ndim; k++) w.dim[k] = y->shape[y->ndim - 1 - k];
        pare_launch<norm_spread_kernel>(dev->rt.stream, dim3((unsigned)pare_cuda_ceil(n, 256)), 256, 0, w,
                                        (float *)y->data, vector_of(scale), vector_of(bias), n);
    }
    return pare_cuda_check(dev, c, d);
}
