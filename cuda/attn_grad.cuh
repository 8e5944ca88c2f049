/* SPDX-License-Identifier: Apache-2.0
 *
 * The pieces of AttentionGrad (cuda/op_attention_grad.cu): square tiles of SIDE queries or keys in shared memory, and
 * products of tiles in f32. A thread has 4 rows, ty + r * TX, of its block's own side, and 4 columns, tx + c * TX, of
 * the side that is walked; of an accumulator [SIDE][CAP] it has the same rows and float4s at 4 (tx + c * TX).
 * Rows of a tile are 4 floats longer than they need be: float4s of eight neighbouring rows lie in different banks. */
#ifndef PARE_CUDA_ATTN_GRAD_CUH
#define PARE_CUDA_ATTN_GRAD_CUH

#include "cuda/attention.cuh"

typedef struct pare_attn_grad {
    pare_cuda_attn a;
    pare_cuda_attn_view dy, dq, dk, dv;
    float *top, *inv, *dot; /* per batch, head and query: the largest score, 1 / sum exp(score - top), dY . Y */
} pare_attn_grad;

template <int SIDE, int CAP> struct pare_attn_tiles {
    enum { TX = SIDE / 4, THREADS = TX * TX, ROW = CAP + 4, WEIGHTS = SIDE + 4, COLUMNS = CAP / (4 * TX) };
    static size_t bytes() { return (size_t)(4 * SIDE * ROW + SIDE * WEIGHTS) * sizeof(float); }

    /* Rows first .. of head h, zeros beyond n rows and beyond size up to a multiple of 4. */
    static __device__ __forceinline__ void load(float *tile, const pare_cuda_attn_view &v, int b, int h, int first) {
        int wide = (v.size + 3) / 4 * 4;
        for (int i = (int)threadIdx.x; i < SIDE * CAP; i += THREADS) {
            int r = i / CAP, e = i % CAP;
            if (e < wide)
                tile[r * ROW + e] = first + r < v.n && e < v.size ? pare_attn_row(v, b, h, first + r)[e] : 0.0f;
        }
    }

    /* s[r][c] = own row r . other row c over `size` elements. */
    static __device__ __forceinline__ void scores(float s[4][4], const float *own, const float *other, int size) {
        int tx = (int)threadIdx.x % TX, ty = (int)threadIdx.x / TX;
#pragma unroll
        for (int r = 0; r < 4; r++)
#pragma unroll
            for (int c = 0; c < 4; c++) s[r][c] = 0;
        for (int e = 0; e < size; e += 4) {
            float4 x[4], y[4];
#pragma unroll
            for (int r = 0; r < 4; r++) {
                x[r] = pare_load4(own + (ty + r * TX) * ROW + e);
                y[r] = pare_load4(other + (tx + r * TX) * ROW + e);
            }
#pragma unroll
            for (int r = 0; r < 4; r++)
#pragma unroll
                for (int c = 0; c < 4; c++) {
                    s[r][c] = fmaf(x[r].x, y[c].x, s[r][c]), s[r][c] = fmaf(x[r].y, y[c].y, s[r][c]);
                    s[r][c] = fmaf(x[r].z, y[c].z, s[r][c]), s[r][c] = fmaf(x[r].w, y[c].w, s[r][c]);
                }
        }
    }

    /* w[own row][other row] of this thread. */
    static __device__ __forceinline__ void keep(float *w, const float s[4][4]) {
        int tx = (int)threadIdx.x % TX, ty = (int)threadIdx.x / TX;
#pragma unroll
        for (int r = 0; r < 4; r++)
#pragma unroll
            for (int c = 0; c < 4; c++) w[(ty + r * TX) * WEIGHTS + tx + c * TX] = s[r][c];
    }

    static __device__ __forceinline__ void step(float4 &sum, float w, float4 v) {
        sum.x = fmaf(w, v.x, sum.x), sum.y = fmaf(w, v.y, sum.y);
        sum.z = fmaf(w, v.z, sum.z), sum.w = fmaf(w, v.w, sum.w);
    }
    /* sum[own row] += w[own row][j] other[j], j in order. Columns beyond size are junk that store leaves out. */
    static __device__ __forceinline__ void add(float4 sum[4][COLUMNS], const float *w, const float *other, int size) {
        int tx = (int)threadIdx.x % TX, ty = (int)threadIdx.x / TX;
        for (int j = 0; j < SIDE; j += 4) {
            float4 x[4];
#pragma unroll
            for (int r = 0; r < 4; r++) x[r] = pare_load4(w + (ty + r * TX) * WEIGHTS + j);
#pragma unroll
            for (int c = 0; c < COLUMNS; c++) {
                int e = 4 * (tx + c * TX);
                if (e >= size) continue;
                const float *at = other + j * ROW + e;
                float4 v0 = pare_load4(at), v1 = pare_load4(at + ROW), v2 = pare_load4(at + 2 * ROW),
                       v3 = pare_load4(at + 3 * ROW);
#pragma unroll
                for (int r = 0; r < 4; r++) {
                    step(sum[r][c], x[r].x, v0), step(sum[r][c], x[r].y, v1);
                    step(sum[r][c], x[r].z, v2), step(sum[r][c], x[r].w, v3);
                }
            }
        }
    }
    static __device__ __forceinline__ void clear(float4 sum[4][COLUMNS]) {
#pragma unroll
        for (int r = 0; r < 4; r++)
#pragma unroll
            for (int c = 0; c < COLUMNS; c++) sum[r][c] = make_float4(0, 0, 0, 0);
    }
    static __device__ __forceinline__ void store(const pare_cuda_attn_view &v, int b, int h, int first,
                                                 const float4 sum[4][COLUMNS], float scale) {
        int tx = (int)threadIdx.x % TX, ty = (int)threadIdx.x / TX;
#pragma unroll
        for (int r = 0; r < 4; r++) {
            int i = first + ty + r * TX;
            if (i >= v.n) continue;
            float *to = pare_attn_row(v, b, h, i);
#pragma unroll
            for (int c = 0; c < COLUMNS; c++) {
                int e = 4 * (tx + c * TX);
                if (e < v.size) to[e] = sum[r][c].x * scale;
                if (e + 1 < v.size) to[e + 1] = sum[r][c].y * scale;
                if (e + 2 < v.size) to[e + 2] = sum[r][c].z * scale;
                if (e + 3 < v.size) to[e + 3] = sum[r][c].w * scale;
            }
        }
    }
};

/* Query i's score of key j from their product, -inf where it is not seen. see: keys that i sees. */
__device__ __forceinline__ float pare_attn_grad_score(const pare_cuda_attn &a, float dot, int64_t mask_row, int j,
                                                      int see) {
    return j < see ? pare_attn_masked(a, dot * a.scale, mask_row, j) : -INFINITY;
}
__device__ __forceinline__ int64_t pare_attn_grad_at(const pare_cuda_attn &a, int b, int h, int i) {
    return ((int64_t)b * a.q.heads + h) * a.q.n + i;
}

#endif
