/* SPDX-License-Identifier: Apache-2.0
 *
 * Elementwise functions of one f32 tensor: Sqrt, Erf, Sigmoid, Tanh, Relu, Gelu, Swish, Exp, Log, Sign; the formulas of
 * cpu/vec.h.
 * A thread reads its elements before it writes them, so output and input may be the same memory.
 * equal: Sqrt, Relu and Sign bit for bit to the CPU's reference, the others to a few units in the last place. */
#include "cuda/backend.cuh"
#include "cuda/dev.cuh"

#define THREADS   256
#define GELU_TANH PARE_OP_COUNT /* Gelu with its other formula */

template <int OP> static __device__ __forceinline__ float apply(float x, float alpha) {
    switch (OP) {
    case PARE_OP_Sqrt: return sqrtf(x);
    case PARE_OP_Erf: return erff(x);
    case PARE_OP_Sigmoid: return 1.0f / (1.0f + expf(-x));
    case PARE_OP_Tanh: return tanhf(x);
    case PARE_OP_Relu: return x < 0 ? 0 : x; /* NaN passes */
    case PARE_OP_Exp: return expf(x);
    case PARE_OP_Log: return logf(x);
    case PARE_OP_Sign: return x > 0 ? 1.0f : x < 0 ? -1.0f : x;
    case PARE_OP_Gelu: return 0.5f * x * (1.0f + erff(x * 0.70710678f));
    case GELU_TANH: return 0.5f * x * (1.0f + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
    default: return x / (1.0f + expf(-alpha * x));
    }
}

template <int OP>
__global__ void __launch_bounds__(THREADS) unary_kernel(const float *x, float *y, int64_t n, float alpha, bool vec) {
    int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * 4;
    if (vec && i + 4 <= n) {
        float4 v = pare_load4(x + i);
        v.x = apply<OP>(v.x, alpha), v.y = apply<OP>(v.y, alpha);
        v.z = apply<OP>(v.z, alpha), v.w = apply<OP>(v.w, alpha);
        pare_store4(y + i, v);
        return;
    }
    for (int64_t end = i + 4 < n ? i + 4 : n; i < end; i++) y[i] = apply<OP>(x[i], alpha);
}

bool pare_cuda_unary_supports(const pare_cuda *dev, const pare_op_call *c) {
    return pare_cuda_is_f32(c->in[0]) && pare_cuda_is_f32(c->out[0]);
}

pare_status pare_cuda_unary_run(pare_cuda *dev, const pare_op_call *c, pare_diag *d) {
    if (!pare_cuda_same_shape(c->in[0], c->out[0])) return pare_cuda_fail(c, d, "input and output differ in shape");
    int64_t n = pare_cuda_elems(c->in[0]);
    if (!n) return PARE_OK;
    const float *x = (const float *)c->in[0]->data;
    float *y = (float *)c->out[0]->data, alpha = 1.0f;
    bool vec = pare_cuda_unit(0, x) == 16 && pare_cuda_unit(0, y) == 16;
    void *stream = dev->rt.stream;
    dim3 grid((unsigned)pare_cuda_ceil(n, THREADS * 4));
    if (c->op == PARE_OP_Swish && c->attr) alpha = ((const pare_attr_swish *)c->attr)->alpha;
    bool tanh_approx = c->op == PARE_OP_Gelu && c->attr && ((const pare_attr_gelu *)c->attr)->tanh_approx;
    switch (tanh_approx ? GELU_TANH : c->op) {
#define CASE(op)                                                                                                       \
    case op: pare_launch<unary_kernel<op>>(stream, grid, THREADS, 0, x, y, n, alpha, vec); break;
        CASE(PARE_OP_Sqrt)
        CASE(PARE_OP_Erf)
        CASE(PARE_OP_Sigmoid)
        CASE(PARE_OP_Tanh)
        CASE(PARE_OP_Relu)
        CASE(PARE_OP_Exp)
        CASE(PARE_OP_Log)
        CASE(PARE_OP_Sign)
        CASE(PARE_OP_Gelu)
        CASE(GELU_TANH)
        CASE(PARE_OP_Swish)
#undef CASE
    default: break;
    }
    return pare_cuda_check(dev, c, d);
}
