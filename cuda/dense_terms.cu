/* SPDX-License-Identifier: Apache-2.0
 *
 * cuda/dense_terms.cuh: a block per row. */
#include "cuda/dense_terms.cuh"

#include "cuda/dev.cuh"

#define THREADS 256

/* The largest magnitude of a row, for all threads of the block; NaN is passed over, infinity is not. */
static __device__ __forceinline__ float row_max(const float *x, int64_t k) {
    PARE_SHARED(float, part, THREADS / 32);
    float v = 0.0f;
    for (int64_t i = threadIdx.x; i < k; i += THREADS) v = fmaxf(v, fabsf(x[i]));
    v = pare_warp_max(v);
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
    __syncthreads();
    v = part[0];
    for (int i = 1; i < THREADS / 32; i++) v = fmaxf(v, part[i]);
    return v;
}

/* 2^e with v * 2^e in [2^13, 2^14), and its inverse; 2^126 for less, as far as normal numbers go; 1 where v is not
 * finite. */
static __device__ __forceinline__ float scale_of(float v, float *inverse) {
    int e = max((int)(pare_bits(v) >> 23), 14); /* v >= 0 */
    *inverse = e < 255 ? pare_float((uint32_t)(e - 13) << 23) : 1.0f;
    return e < 255 ? pare_float((uint32_t)(267 - e) << 23) : 1.0f;
}

template <bool BF16, int TERMS> static __device__ __forceinline__ void cut(float v, uint16_t (&out)[3]) {
    if (TERMS == 1) {
        out[0] = BF16 ? pare_f2bf(v) : pare_f2h(v);
        return;
    }
    bool finite = (pare_bits(v) & 0x7f800000u) != 0x7f800000u;
#pragma unroll
    for (int i = 0; i < TERMS; i++) { /* bf16 is cut off, so that the terms do not overflow */
        out[i] = BF16 ? (finite ? (uint16_t)(pare_bits(v) >> 16) : pare_f2bf(v)) : pare_f2h(v);
        v = finite ? v - (BF16 ? pare_bf2f(out[i]) : pare_h2f(out[i])) : 0.0f;
    }
}

template <bool BF16, int TERMS>
__global__ void __launch_bounds__(THREADS) terms_kernel(const float *x, pare_cuda_dense_terms t, int64_t m, int64_t k) {
    for (int64_t row = blockIdx.x; row < m; row += gridDim.x) {
        const float *from = x + row * k;
        float scale = 1.0f;
        if (t.row_scale) {
            float inverse;
            __syncthreads(); /* the maxima of the row before are read */
            scale = scale_of(row_max(from, k), &inverse);
            if (threadIdx.x == 0) t.row_scale[row] = inverse;
        }
        for (int64_t i = threadIdx.x; i < t.k_pad; i += THREADS) {
            uint16_t out[3];
            cut<BF16, TERMS>(i < k ? from[i] * scale : 0.0f, out);
#pragma unroll
            for (int j = 0; j < TERMS; j++) t.terms[(j * m + row) * t.k_pad + i] = out[j];
        }
    }
}

__global__ void __launch_bounds__(THREADS) scale_kernel(float *y, const float *row_scale, int64_t n, int64_t all) {
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < all) y[i] *= row_scale[i / n];
}

static int count(const pare_cuda_mm *p) { return p->rule != PARE_CR_NONE ? 1 : p->plain == PARE_CT_F16 ? 2 : 3; }
static int64_t padded(const pare_cuda_mm *p) { return (p->k + 31) / 32 * 32; }
static size_t terms_bytes(const pare_cuda_mm *p) {
    return ((size_t)(count(p) * p->m * padded(p)) * 2 + 255) & ~(size_t)255;
}

size_t pare_cuda_dense_terms_bytes(const pare_cuda_mm *p) {
    return terms_bytes(p) + (count(p) == 2 ? (size_t)p->m * sizeof(float) : 0);
}

pare_cuda_dense_terms pare_cuda_dense_terms_make(pare_cuda *dev, const pare_cuda_mm *p) {
    pare_cuda_dense_terms t = {(uint16_t *)p->workspace, NULL, padded(p), count(p)};
    if (t.n == 2) t.row_scale = (float *)((char *)p->workspace + terms_bytes(p));
    dim3 grid((unsigned)(p->m < 1 << 20 ? p->m : 1 << 20));
    void *s = dev->rt.stream;
    if (p->plain == PARE_CT_F16 && t.n == 2)
        pare_launch<terms_kernel<false, 2>>(s, grid, THREADS, 0, p->x, t, p->m, p->k);
    else if (p->plain == PARE_CT_F16) pare_launch<terms_kernel<false, 1>>(s, grid, THREADS, 0, p->x, t, p->m, p->k);
    else if (t.n == 3) pare_launch<terms_kernel<true, 3>>(s, grid, THREADS, 0, p->x, t, p->m, p->k);
    else pare_launch<terms_kernel<true, 1>>(s, grid, THREADS, 0, p->x, t, p->m, p->k);
    return t;
}

void pare_cuda_scale_rows(pare_cuda *dev, float *y, const float *row_scale, int64_t m, int64_t n) {
    dim3 grid((unsigned)pare_cuda_ceil(m * n, THREADS));
    pare_launch<scale_kernel>(dev->rt.stream, grid, THREADS, 0, y, row_scale, n, m * n);
}
