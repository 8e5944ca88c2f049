/* SPDX-License-Identifier: Apache-2.0
 *
 * A parameter's part of a training step (core/update.h): one element a thread, since memory is all that it waits for.
 * equal: the CPU's bytes; squares to rounding of double. */
#include "cuda/update.cuh"

#include "cuda/dev.cuh"
#include "cuda/reduce.cuh"

#define THREADS 256

static __device__ __forceinline__ bool hidden(const uint8_t *mask, size_t i) {
    return mask && mask[i / 8] >> (i % 8) & 1;
}
static __device__ __forceinline__ size_t element(void) { return (size_t)blockIdx.x * THREADS + threadIdx.x; }

__global__ void __launch_bounds__(THREADS) add_kernel(pare_update u) {
    size_t i = element();
    if (i >= u.n) return;
    float g = hidden(u.mask, i) ? 0.0f : u.g[i];
    u.sum[i] = u.first ? g : u.sum[i] + g;
}

/* A block has a run. */
__global__ void __launch_bounds__(THREADS) square_kernel(pare_update u) {
    size_t first = (size_t)blockIdx.x * PARE_UPDATE_RUN,
           end = first + PARE_UPDATE_RUN < u.n ? first + PARE_UPDATE_RUN : u.n;
    double sum = 0;
    for (size_t i = first + threadIdx.x; i < end; i += THREADS)
        if (!hidden(u.mask, i)) sum += (double)u.g[i] * (double)u.g[i];
    sum = pare_row_reduce(sum, 0.0);
    if (threadIdx.x == 0) u.square[blockIdx.x] = sum;
}

template <bool ADAMW> __global__ void __launch_bounds__(THREADS) step_kernel(pare_update u) {
    size_t i = element();
    if (i >= u.n) return;
    bool zero = hidden(u.mask, i);
    float g = (zero ? 0.0f : u.g[i]) * u.scale, w = u.w[i], unit = u.unit ? u.unit[i] : 1.0f;
    if (ADAMW) {
        float m = u.beta1 * u.m[i] + (1.0f - u.beta1) * g, v = u.beta2 * u.v[i] + (1.0f - u.beta2) * (g * g);
        float step = m * u.fix1 / (sqrtf(v * u.fix2) + u.eps);
        u.m[i] = m, u.v[i] = v;
        w -= u.rate * unit * (step + u.decay * w);
    } else {
        float v = u.momentum * u.v[i] + g;
        u.v[i] = v;
        w -= u.rate * unit * unit * (v + u.decay * w);
    }
    if (zero) w = 0;
    u.w[i] = w;
    if (u.ema) u.ema[i] = u.keep * u.ema[i] + (1.0f - u.keep) * w;
}

pare_status pare_cuda_update(void *dev, const pare_update *u) {
    rt_device *rt = &((pare_cuda *)dev)->rt;
    char why[128];
    if (!u->n) return PARE_OK;
    rt_use(rt);
    dim3 all((unsigned)pare_cuda_ceil((int64_t)u->n, THREADS));
    dim3 runs((unsigned)pare_cuda_ceil((int64_t)u->n, PARE_UPDATE_RUN));
    switch (u->kind) {
    case PARE_UPDATE_ADD: pare_launch<add_kernel>(rt->stream, all, THREADS, 0, *u); break;
    case PARE_UPDATE_NORM: pare_launch<square_kernel>(rt->stream, runs, THREADS, 0, *u); break;
    case PARE_UPDATE_ADAMW: pare_launch<step_kernel<true>>(rt->stream, all, THREADS, 0, *u); break;
    case PARE_UPDATE_SGD: pare_launch<step_kernel<false>>(rt->stream, all, THREADS, 0, *u); break;
    }
    return rt_check(rt, why, sizeof why) ? PARE_OK : PARE_ERR_DEVICE;
}
