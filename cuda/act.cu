/* SPDX-License-Identifier: Apache-2.0
 *
 * Activations rounded to int8 codes in memory (cuda/matmul.cuh): a warp per slab. */
#include "cuda/act.cuh"

#define WARPS 8

static pare_cuda_act8 place(int64_t m, int64_t k, void *mem) {
    pare_cuda_act8 a;
    a.k_pad = pare_cuda_ceil(k, PARE_CUDA_SLAB) * PARE_CUDA_SLAB;
    a.codes = (int8_t *)mem;
    a.scale = (float *)((char *)mem + m * a.k_pad);
    a.sums = a.scale + m * (a.k_pad / 32);
    return a;
}

size_t pare_cuda_act8_bytes(int64_t m, int64_t k) {
    size_t padded = (size_t)m * (size_t)(pare_cuda_ceil(k, PARE_CUDA_SLAB) * PARE_CUDA_SLAB);
    return padded + padded / 32 * sizeof(float) + padded / 16 * sizeof(float);
}

/* A warp per slab; for TOKEN, which looks at the whole row first, a block per row. */
template <int RULE>
__global__ void __launch_bounds__(32 * WARPS) act8_kernel(const float *x, int64_t m, int64_t k, pare_cuda_act8 a) {
    PARE_SHARED(float, largest, WARPS);
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    int64_t slabs = a.k_pad / PARE_CUDA_SLAB, first = (int64_t)blockIdx.x * WARPS + warp, last = m * slabs, step = last;
    float row_largest = 0.0f;
    if (RULE == PARE_CR_TOKEN) {
        first = blockIdx.x * slabs, last = first + slabs, first += warp, step = WARPS;
        for (int64_t c = threadIdx.x; c < k; c += 32 * WARPS) {
            float one[4] = {x[blockIdx.x * k + c], 0.0f, 0.0f, 0.0f};
            row_largest = fmaxf(row_largest, pare_act_largest(one));
        }
        row_largest = pare_act_largest_of<32>(row_largest);
        if (lane == 0) largest[warp] = row_largest;
        __syncthreads();
        for (int i = 0; i < WARPS; i++) row_largest = fmaxf(row_largest, largest[i]);
    }
    for (int64_t s = first; s < last; s += step) {
        int64_t row = s / slabs, at = s % slabs * PARE_CUDA_SLAB;
        float v[2][4];
        pare_act_part<1> r[2];
        for (int i = 0; i < 8; i++) {
            int64_t c = at + i / 4 * 128 + 4 * lane + i % 4;
            v[i / 4][i % 4] = c < k ? x[row * k + c] : 0.0f;
        }
        pare_act_int8<RULE>(v, row_largest, r);
        for (int p = 0; p < 2; p++) {
            int64_t c = s * PARE_CUDA_SLAB + 128 * p + 4 * lane;
            *(uint32_t *)(a.codes + c) = r[p].digits[0];
            if (lane % 8 == 0) a.scale[c / 32] = r[p].scale;
            if (lane % 4 == 0) a.sums[c / 16] = r[p].extra;
        }
    }
}

pare_cuda_act8 pare_cuda_act8_make(pare_cuda *dev, pare_cuda_rule rule, const float *x, int64_t m, int64_t k,
                                   void *mem) {
    pare_cuda_act8 a = place(m, k, mem);
    dim3 grid((unsigned)pare_cuda_ceil(m * (a.k_pad / PARE_CUDA_SLAB), WARPS)), rows((unsigned)m);
    void *stream = dev->rt.stream;
    if (rule == PARE_CR_Q8_0) pare_launch<act8_kernel<PARE_CR_Q8_0>>(stream, grid, 32 * WARPS, 0, x, m, k, a);
    else if (rule == PARE_CR_Q8_1) pare_launch<act8_kernel<PARE_CR_Q8_1>>(stream, grid, 32 * WARPS, 0, x, m, k, a);
    else if (rule == PARE_CR_Q8_K) pare_launch<act8_kernel<PARE_CR_Q8_K>>(stream, grid, 32 * WARPS, 0, x, m, k, a);
    else pare_launch<act8_kernel<PARE_CR_TOKEN>>(stream, rows, 32 * WARPS, 0, x, m, k, a);
    return a;
}
