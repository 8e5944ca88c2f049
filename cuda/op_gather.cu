/* SPDX-License-Identifier: Apache-2.0
 *
 * Gather along an axis. Rows in any storage format are decoded on the way, so that an embedding table stays quantized;
 * plain elements are copied, f16 and bf16 to f32 where the output is f32.
 * equal: bit for bit to the CPU. Constant indices are checked; of computed ones, those out of range give NaN, or 0 in
 *        integers */
#include "cuda/formats.cuh"

#define THREADS 128

/* Where output row (outer, i, u) comes from: row (outer * dim + indices[i]) * units + u. */
typedef struct gather_at {
    const void *indices;
    bool wide; /* i64, else i32 */
    int64_t n_index, dim, units;
} gather_at;

/* -1: out of range */
static __device__ __forceinline__ int64_t source_row(const gather_at &a, int64_t row) {
    int64_t u = row % a.units, i = row / a.units % a.n_index, outer = row / a.units / a.n_index;
    int64_t at = a.wide ? ((const int64_t *)a.indices)[i] : ((const int32_t *)a.indices)[i];
    if (at < 0) at += a.dim;
    return at < 0 || at >= a.dim ? -1 : (outer * a.dim + at) * a.units + u;
}

template <class F>
__global__ void __launch_bounds__(THREADS) gather_stored_kernel(gather_at a, pare_cuda_weight w, float *y) {
    int64_t row = blockIdx.x, from = source_row(a, row);
    float *out = y + row * w.k;
    for (int item = (int)threadIdx.x; item < w.slabs * 32; item += THREADS) {
        int chunk = item / 4, t = item % 4;
        float v[8];
        if (from >= 0) {
            uint32_t q[2];
            auto s = F::fetch(w, w.scales + from * w.scale_row, chunk);
            F::codes(w.low + from * w.low_row + chunk * F::LOW, w.high + from * w.high_row + chunk * F::HIGH, t, q[0],
                     q[1]);
            for (int i = 0; i < 8; i++) v[i] = F::value(w, s, chunk, i / 4, (int8_t)(q[i / 4] >> 8 * (i % 4)));
        }
        for (int i = 0; i < 8; i++) {
            int column = 32 * chunk + 16 * (i / 4) + 4 * t + i % 4;
            if (column < w.k) out[column] = from >= 0 ? v[i] : NAN;
        }
    }
}

static __device__ __forceinline__ float to_float(float v, int) { return v; }
static __device__ __forceinline__ float to_float(uint16_t v, int type) {
    return type == PARE_CT_F16 ? pare_h2f(v) : pare_bf2f(v);
}

template <class T>
__global__ void __launch_bounds__(THREADS)
    gather_float_kernel(gather_at a, const T *x, int type, int64_t cols, float *y, int64_t n) {
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n) return;
    int64_t from = source_row(a, i / cols);
    y[i] = from < 0 ? NAN : to_float(x[from * cols + i % cols], type);
}
template <class T>
__global__ void __launch_bounds__(THREADS) gather_copy_kernel(gather_at a, const T *x, int64_t cols, T *y, int64_t n) {
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n) return;
    int64_t from = source_row(a, i / cols);
    y[i] = from < 0 ? T(0) : x[from * cols + i % cols];
}

static int gather_axis(const pare_op_call *c) {
    return pare_cuda_axis(c->attr ? ((const pare_attr_gather *)c->attr)->axis : 0, c->in[0]->ndim);
}
static bool is_float(pare_cuda_type t) { return t == PARE_CT_F32 || t == PARE_CT_F16 || t == PARE_CT_BF16; }

bool pare_cuda_gather_supports(const pare_cuda *dev, const pare_op_call *c) {
    const pare_tensor *x = c->in[0], *y = c->out[0];
    pare_cuda_type tx = pare_cuda_type_of(x->type), ty = pare_cuda_type_of(y->type),
                   ti = pare_cuda_type_of(c->in[1]->type);
    int axis = gather_axis(c);
    if (axis < 0 || (ti != PARE_CT_I64 && ti != PARE_CT_I32)) return false;
    if (pare_cuda_format_of(x->type) != PARE_CF_NONE) return ty == PARE_CT_F32 && axis < x->ndim - 1;
    return ty == PARE_CT_F32 ? is_float(tx) : tx == ty && (ty == PARE_CT_I64 || ty == PARE_CT_I32);
}

static void gather_plain(pare_cuda *dev, const pare_op_call *c, const gather_at &a, int64_t cols, int64_t n) {
    pare_cuda_type tx = pare_cuda_type_of(c->in[0]->type);
    const void *x = c->in[0]->data;
    void *y = c->out[0]->data, *stream = dev->rt.stream;
    dim3 grid((unsigned)pare_cuda_ceil(n, THREADS));
    if (tx == PARE_CT_F32)
        pare_launch<gather_float_kernel<float>>(stream, grid, THREADS, 0, a, (const float *)x, 0, cols, (float *)y, n);
    else if (tx == PARE_CT_I64)
        pare_launch<gather_copy_kernel<int64_t>>(stream, grid, THREADS, 0, a, (const int64_t *)x, cols, (int64_t *)y,
                                                 n);
    else if (tx == PARE_CT_I32)
        pare_launch<gather_copy_kernel<int32_t>>(stream, grid, THREADS, 0, a, (const int32_t *)x, cols, (int32_t *)y,
                                                 n);
    else
        pare_launch<gather_float_kernel<uint16_t>>(stream, grid, THREADS, 0, a, (const uint16_t *)x, (int)tx, cols,
                                                   (float *)y, n);
}

pare_status pare_cuda_gather_run(pare_cuda *dev, const pare_op_call *c, pare_diag *d) {
    const pare_tensor *x = c->in[0], *y = c->out[0];
    pare_cuda_format format = pare_cuda_format_of(x->type);
    int axis = gather_axis(c);
    bool last = axis == x->ndim - 1, wide = pare_cuda_is_i64(c->in[1]);
    int64_t cols = last ? 1 : pare_cuda_cols(x), n = pare_cuda_elems(y);
    gather_at a = {c->in[1]->data, wide, pare_cuda_elems(c->in[1]), x->shape[axis],
                   last ? 1 : pare_cuda_span(x, axis + 1, x->ndim - 1)};
    if (n != pare_cuda_span(x, 0, axis) * a.n_index * a.units * cols)
        return pare_cuda_fail(c, d, "the output has another size");
    for (int64_t i = 0; c->host[1] && i < a.n_index; i++) {
        int64_t at = wide ? ((const int64_t *)c->host[1])[i] : ((const int32_t *)c->host[1])[i];
        if (at < -a.dim || at >= a.dim)
            return pare_cuda_fail(c, d, "index %lld of %lld along axis %d", (long long)at, (long long)a.dim, axis);
    }
    if (!n) return PARE_OK;
    if (format == PARE_CF_NONE) {
        gather_plain(dev, c, a, cols, n);
        return pare_cuda_check(dev, c, d);
    }
    pare_cuda_weight w = pare_cuda_weight_view(x);
    dim3 grid((unsigned)(n / cols));
#define PARE_GATHER(cf, asymmetric, F)                                                                                 \
    if (format == cf && w.asym == asymmetric)                                                                          \
        pare_launch<gather_stored_kernel<F>>(dev->rt.stream, grid, THREADS, 0, a, w, (float *)y->data);
    PARE_FORMATS(PARE_GATHER)
#undef PARE_GATHER
    return pare_cuda_check(dev, c, d);
}
