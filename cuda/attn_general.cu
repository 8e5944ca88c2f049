/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention for any head size: a block per query, keys a tile at a time, the result in memory is the accumulator (its
 * thread's own element). For shapes that the fast kernels do not take; nothing here is tuned. */
#include "cuda/attention.cuh"

#define THREADS 128
#define WARPS   (THREADS / 32)

/* Over the block; `room` holds WARPS floats. */
template <bool MAX> static __device__ __forceinline__ float block_fold(float v, float *room) {
    v = MAX ? pare_warp_max(v) : pare_warp_sum(v);
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = v;
    __syncthreads();
    v = room[0];
    for (int i = 1; i < WARPS; i++) v = MAX ? fmaxf(v, room[i]) : v + room[i];
    __syncthreads();
    return v;
}

__global__ void __launch_bounds__(THREADS) attn_general_kernel(pare_cuda_attn a) {
    PARE_SHARED(float, p, THREADS);
    PARE_SHARED(float, room, WARPS);
    int tid = (int)threadIdx.x, lane = tid % 32, i = (int)(blockIdx.x % a.q.n);
    int head = (int)(blockIdx.x / a.q.n % a.q.heads), b = (int)(blockIdx.x / a.q.n / a.q.heads), h = head / a.group;
    const float *q = pare_attn_row(a.q, b, head, i);
    float *y = pare_attn_row(a.y, b, head, i), m = -INFINITY, l = 0;
    int see = pare_attn_visible(a, b, i);
    int64_t mask_row = pare_attn_mask_row(a, b, head, i);
    for (int e = tid; e < a.v.size; e += THREADS) y[e] = 0;
    for (int first = 0; first < see; first += THREADS) {
        int n = min(THREADS, see - first);
        for (int j = tid / 32; j < n; j += WARPS) {
            const float *k = pare_attn_key(a, b, h, first + j);
            float dot = 0;
            for (int e = lane; e < a.q.size; e += 32) dot = fmaf(q[e], k[e], dot);
            dot = pare_warp_sum(dot);
            if (lane == 0) p[j] = pare_attn_masked(a, dot * a.scale, mask_row, first + j);
        }
        __syncthreads();
        float s = tid < n ? p[tid] : -INFINITY, top = fmaxf(m, block_fold<true>(s, room));
        float keep = pare_attn_exp(m, top), x = pare_attn_exp(s, top);
        p[tid] = x;
        l = l * keep + block_fold<false>(x, room); /* its barriers show p to all */
        m = top;
        for (int e = tid; e < a.v.size; e += THREADS) {
            float o = y[e] * keep;
            for (int j = 0; j < n; j++) o = fmaf(p[j], pare_attn_value(a, b, h, first + j)[e], o);
            y[e] = o;
        }
        __syncthreads();
    }
    float inv = l != 0 ? 1.0f / l : 0; /* no key seen: zeros */
    for (int e = tid; e < a.v.size; e += THREADS) y[e] *= inv;
}

void pare_cuda_attn_general(pare_cuda *dev, const pare_cuda_attn *a) {
    dim3 grid((unsigned)((int64_t)a->batch * a->q.heads * a->q.n));
    pare_launch<attn_general_kernel>(dev->rt.stream, grid, THREADS, 0, *a);
}
