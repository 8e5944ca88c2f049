/* SPDX-License-Identifier: Apache-2.0
 *
 * Parts of split keys to one result: y = sum_i exp(m_i - m) o_i / sum_i exp(m_i - m) l_i, i ascending. A block per
 * row. Reads what the splits wrote, which is little against the keys and values (1 / 64 or less of a chunk's bytes for
 * one row). */
#include "cuda/attention.cuh"

#define THREADS 128

__global__ void __launch_bounds__(THREADS) attn_merge_kernel(pare_cuda_attn a, int splits, const float *part) {
    PARE_SHARED(float, weight, PARE_ATTN_SPLITS);
    int tid = (int)threadIdx.x, dv = a.v.size, row = (int)(blockIdx.x % a.rows), pair = (int)(blockIdx.x / a.rows);
    int b = pair / a.k.heads, h = pair % a.k.heads;
    int all = pare_attn_visible(a, b, a.q.n - 1), chunk = pare_attn_chunk(all, splits),
        used = (all + chunk - 1) / chunk;
    int64_t step = (int64_t)a.rows * (dv + 2);
    part += (int64_t)pair * splits * step;
    const float *ml = part + (int64_t)a.rows * dv + 2 * row;
    float m = -INFINITY, l = 0;
    for (int i = 0; i < used; i++) m = fmaxf(m, ml[i * step]);
    if (tid < used) weight[tid] = pare_attn_exp(ml[tid * step], m);
    __syncthreads();
    for (int i = 0; i < used; i++) l = fmaf(weight[i], ml[i * step + 1], l);
    float inv = l != 0 ? 1.0f / l : 0; /* no key seen: zeros */
    float *y = pare_attn_row(a.y, b, h * a.group + row % a.group, row / a.group);
    for (int e = tid; e < dv; e += THREADS) {
        float o = 0;
        for (int i = 0; i < used; i++)
            if (weight[i] != 0) o = fmaf(weight[i], part[i * step + (int64_t)row * dv + e], o); /* 0: not written */
        y[e] = o * inv;
    }
}

void pare_cuda_attn_merge(pare_cuda *dev, const pare_cuda_attn *a, int splits, const float *part) {
    dim3 grid((unsigned)(pare_cuda_attn_pairs(a) * a->rows));
    pare_launch<attn_merge_kernel>(dev->rt.stream, grid, THREADS, 0, *a, splits, part);
}
