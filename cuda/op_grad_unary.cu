/* SPDX-License-Identifier: Apache-2.0
 *
 * GeluGrad and SwishGrad: dX = dY f'(X), the formulas of cpu/op_grad_unary.c.
 * equal: the CPU's reference to a few units in the last place of |dY| (1 + |X|). */
#include "cuda/backend.cuh"
#include "cuda/dev.cuh"

#define THREADS 256

enum { GELU, GELU_TANH, SWISH };

template <int F> static __device__ __forceinline__ float slope(float x, float alpha) {
    if (F == SWISH) {
        float s = 1.0f / (1.0f + expf(-alpha * x));
        return s * (1.0f + alpha * x * (1.0f - s));
    }
    if (F == GELU) return 0.5f * (1.0f + erff(x * 0.70710678f)) + x * 0.39894228f * expf(-0.5f * x * x);
    float t = tanhf(0.79788456f * (x + 0.044715f * x * x * x));
    return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * (0.79788456f * (1.0f + 0.134145f * x * x));
}

template <int F>
__global__ void __launch_bounds__(THREADS)
    unary_grad_kernel(const float *dy, const float *x, float *dx, int64_t n, float alpha, bool vec) {
    int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * 4;
    if (vec && i + 4 <= n) {
        float4 g = pare_load4(dy + i), v = pare_load4(x + i);
        g.x *= slope<F>(v.x, alpha), g.y *= slope<F>(v.y, alpha);
        g.z *= slope<F>(v.z, alpha), g.w *= slope<F>(v.w, alpha);
        pare_store4(dx + i, g);
        return;
    }
    for (int64_t end = i + 4 < n ? i + 4 : n; i < end; i++) dx[i] = dy[i] * slope<F>(x[i], alpha);
}

bool pare_cuda_unary_grad_supports(const pare_cuda *dev, const pare_op_call *c) {
    return pare_cuda_is_f32(c->in[0]) && pare_cuda_is_f32(c->in[1]) && pare_cuda_is_f32(c->out[0]);
}

pare_status pare_cuda_unary_grad_run(pare_cuda *dev, const pare_op_call *c, pare_diag *d) {
    const float *dy = (const float *)c->in[0]->data, *x = (const float *)c->in[1]->data;
    float *dx = (float *)c->out[0]->data, alpha = 1.0f;
    if (!pare_cuda_same_shape(c->in[1], c->in[0]) || !pare_cuda_same_shape(c->in[1], c->out[0]))
        return pare_cuda_fail(c, d, "dY, X and dX differ in shape");
    int64_t n = pare_cuda_elems(c->in[1]);
    if (!n) return PARE_OK;
    bool vec = pare_cuda_unit(0, x) == 16 && pare_cuda_unit(0, dy) == 16 && pare_cuda_unit(0, dx) == 16;
    dim3 grid((unsigned)pare_cuda_ceil(n, THREADS * 4));
    void *stream = dev->rt.stream;
    if (c->op == PARE_OP_SwishGrad) {
        if (c->attr) alpha = ((const pare_attr_swish *)c->attr)->alpha;
        pare_launch<unary_grad_kernel<SWISH>>(stream, grid, THREADS, 0, dy, x, dx, n, alpha, vec);
    } else if (c->attr && ((const pare_attr_gelu *)c->attr)->tanh_approx)
        pare_launch<unary_grad_kernel<GELU_TANH>>(stream, grid, THREADS, 0, dy, x, dx, n, alpha, vec);
    else pare_launch<unary_grad_kernel<GELU>>(stream, grid, THREADS, 0, dy, x, dx, n, alpha, vec);
    return pare_cuda_check(dev, c, d);
}
