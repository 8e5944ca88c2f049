/* SPDX-License-Identifier: Apache-2.0
 *
 * Activations as one or two f16 terms (cuda/matmul.cuh). A thread rounds four columns; four threads make a sum of 16.
 * With two terms x / row_scale = h + l, h its nearest f16 and l the nearest f16 to the rest, which is exact in f32. The
 * scale is 2^-126 at least: below that x / row_scale is a multiple of 2^-23, which f16 has. */
#include "cuda/dev.cuh"
#include "cuda/matmul.cuh"

#define FEW_ROWS 64 /* below it a row gets a block of 1024, since there are processors to spare */

size_t pare_cuda_terms_bytes(int64_t m, int64_t k, int n_terms) {
    int64_t pad = pare_cuda_ceil(k, PARE_CUDA_SLAB) * PARE_CUDA_SLAB;
    return (size_t)(pare_cuda_ceil(2 * n_terms * m * pad, 256) * 256 + pare_cuda_ceil(4 * m, 256) * 256 + m * pad / 4);
}

/* Columns 4 i .. 4 i + 3 of a row, zero past its end. */
static __device__ __forceinline__ float4 four(const float *x, int64_t k, int64_t i, bool aligned) {
    if (aligned) return 4 * i < k ? ((const float4 *)x)[i] : make_float4(0, 0, 0, 0);
    float v[4];
    for (int j = 0; j < 4; j++) v[j] = 4 * i + j < k ? x[4 * i + j] : 0.0f;
    return make_float4(v[0], v[1], v[2], v[3]);
}

/* Infinities and NaN do not count: they stay what they are under any scale. */
static __device__ __forceinline__ float finite_abs(float v) {
    float a = fabsf(v);
    return a <= 3.402823466e38f ? a : 0.0f;
}

static __device__ float row_largest(const float *x, int64_t k, bool aligned, float *share) {
    float big = 0.0f;
    for (int64_t i = threadIdx.x; 4 * i < k; i += blockDim.x) {
        float4 v = four(x, k, i, aligned);
        big = fmaxf(fmaxf(big, fmaxf(finite_abs(v.x), finite_abs(v.y))), fmaxf(finite_abs(v.z), finite_abs(v.w)));
    }
    big = pare_warp_max(big);
    if (threadIdx.x % 32 == 0) share[threadIdx.x / 32] = big;
    __syncthreads();
    for (unsigned w = 0; w < blockDim.x / 32; w++) big = fmaxf(big, share[w]);
    return big;
}

template <int TERMS>
__global__ void __launch_bounds__(1024)
    terms_kernel(const float *x, int64_t k, int64_t k_pad, int64_t term, uint16_t *out, float *row_scale, float *sums) {
    PARE_SHARED(float, share, 32);
    int64_t row = blockIdx.x;
    bool aligned = k % 4 == 0;
    float scale = 1.0f, up = 1.0f;
    x += row * k;
    if (TERMS == 2) { /* the largest magnitude in [2^13, 2^14) */
        float big = row_largest(x, k, aligned, share);
        int e = (int)(pare_bits(big) >> 23); /* biased; 0 and subnormals end at the floor */
        e = max(e - 13, 1);
        scale = pare_float((uint32_t)e << 23), up = pare_float((uint32_t)(254 - e) << 23);
    }
    if (threadIdx.x == 0) row_scale[row] = scale;
    out += row * k_pad, sums += row * (k_pad / 16);
    for (int64_t i = threadIdx.x; 4 * i < k_pad; i += blockDim.x) { /* whole warps: k_pad is a multiple of 256 */
        float4 v = four(x, k, i, aligned);
        float f[4] = {v.x * up, v.y * up, v.z * up, v.w * up}, sum = 0.0f;
        uint16_t h[4];
        for (int j = 0; j < 4; j++) {
            h[j] = pare_f2h(f[j]);
            sum += TERMS == 2 ? f[j] : pare_h2f(h[j]);
        }
        *(uint2 *)(out + 4 * i) = make_uint2(h[0] | (uint32_t)h[1] << 16, h[2] | (uint32_t)h[3] << 16);
        if (TERMS == 2) {
            uint16_t l[4];
            for (int j = 0; j < 4; j++) l[j] = fabsf(f[j]) < 65504.0f ? pare_f2h(f[j] - pare_h2f(h[j])) : 0;
            *(uint2 *)(out + term + 4 * i) = make_uint2(l[0] | (uint32_t)l[1] << 16, l[2] | (uint32_t)l[3] << 16);
        }
        sum += __shfl_xor_sync(0xffffffffu, sum, 1);
        sum += __shfl_xor_sync(0xffffffffu, sum, 2);
        if (threadIdx.x % 4 == 0) sums[i / 4] = sum;
    }
}

pare_cuda_terms pare_cuda_terms_make(pare_cuda *dev, int n_terms, const float *x, int64_t m, int64_t k, void *mem) {
    pare_cuda_terms t;
    t.k_pad = pare_cuda_ceil(k, PARE_CUDA_SLAB) * PARE_CUDA_SLAB;
    t.n_terms = n_terms;
    t.terms = (uint16_t *)mem;
    t.row_scale = (float *)((uint8_t *)mem + pare_cuda_ceil(2 * n_terms * m * t.k_pad, 256) * 256);
    t.sums = (float *)((uint8_t *)t.row_scale + pare_cuda_ceil(4 * m, 256) * 256);
    dim3 grid((unsigned)m), block(m < FEW_ROWS && t.k_pad > 1024 ? 1024 : 256);
    if (n_terms == 2)
        pare_launch<terms_kernel<2>>(dev->rt.stream, grid, block, 0, x, k, t.k_pad, m * t.k_pad, t.terms, t.row_scale,
                                     t.sums);
    else
        pare_launch<terms_kernel<1>>(dev->rt.stream, grid, block, 0, x, k, t.k_pad, m * t.k_pad, t.terms, t.row_scale,
                                     t.sums);
    return t;
}
