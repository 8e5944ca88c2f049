/* SPDX-License-Identifier: Apache-2.0
 *
 * y = x W^T for two-of-four weights and any rule, made for one token or two: every weight is read once, in 16-byte
 * loads (cuda/sparse.cuh), and only activations that meet a stored weight are touched. A block takes a tile of 16 rows
 * and one token; its warps take chunks in turn and their sums are added in warp order. */
#include "cuda/formats.cuh"
#include "cuda/sparse.cuh"

#define WARPS 8

enum { F16, BF16, INT8, INT8_ACT };

typedef struct sparse_rows {
    pare_cuda_weight w;
    const float *x;
    pare_cuda_act8 a;
    float *y;
    int64_t m, k;
    int rule;
} sparse_rows;

/* Activation of column c; columns past the end meet zero weights. */
static __device__ __forceinline__ float act(const sparse_rows &s, const float *x, int c) {
    float v = c < s.k ? x[c] : 0.0f;
    return s.rule == PARE_CR_F16 ? pare_h2f(pare_f2h(v)) : s.rule == PARE_CR_BF16 ? pare_bf2f(pare_f2bf(v)) : v;
}

/* Two 16-bit values and the four columns they come from. */
template <int KIND>
static __device__ __forceinline__ float two_floats(const sparse_rows &s, const float *x, uint32_t v, uint32_t places,
                                                   int column, float sum) {
    float a = KIND == F16 ? pare_h2f((uint16_t)v) : pare_float(v << 16);
    float b = KIND == F16 ? pare_h2f((uint16_t)(v >> 16)) : pare_float(v & 0xffff0000u);
    sum = fmaf(a, act(s, x, column + (int)(places & 3)), sum);
    return fmaf(b, act(s, x, column + (int)(places >> 2 & 3)), sum);
}

/* Four bytes and the eight columns they come from, all under one scale. */
template <int KIND>
static __device__ __forceinline__ float four_bytes(const sparse_rows &s, const float *x, const int8_t *codes,
                                                   const float *x_scale, const uint8_t *scales, uint32_t v,
                                                   uint32_t places, int column, float sum) {
    int chunk = column / 32, whole = 0;
    if (column >= s.k) return sum;
    uint2 stored = pare_format_int8::fetch(s.w, scales, chunk);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int q = (int8_t)(v >> 8 * i), c = column + i / 2 * 4 + (int)(places >> 2 * i & 3);
        if (KIND == INT8_ACT) whole += q * codes[c]; /* padded to 256 columns */
        else sum = fmaf(pare_format_int8::value(s.w, stored, chunk, 0, q), act(s, x, c), sum);
    }
    if (KIND != INT8_ACT) return sum;
    return fmaf(pare_format_int8::scale_value(s.w, stored.x) * x_scale[chunk], (float)whole, sum);
}

template <int KIND> __global__ void __launch_bounds__(32 * WARPS) sparse_rows_kernel(sparse_rows s) {
    PARE_SHARED(float, red, WARPS *PARE_SPARSE_ROWS);
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, g = lane / 4, t = lane % 4, tile = (int)blockIdx.x;
    int64_t token = blockIdx.y;
    const float *x = s.x + token * s.k, *x_scale = s.a.scale + token * (s.a.k_pad / 32);
    const int8_t *codes = s.a.codes + token * s.a.k_pad;
    const uint8_t *low = s.w.low + (size_t)tile * s.w.low_row, *high = s.w.high + (size_t)tile * s.w.high_row;
    float sum[2] = {0.0f, 0.0f};
    for (int c = warp; c < s.w.slabs; c += WARPS) {
        uint4 v = pare_load_stream(low + (size_t)c * 512 + lane * 16);
        if (KIND == F16 || KIND == BF16) {
            uint2 p = *(const uint2 *)(high + c * 64 + g * 8);
            int at = 32 * c + 4 * t;
            sum[0] = two_floats<KIND>(s, x, v.x, p.x >> 4 * t, at, sum[0]);
            sum[0] = two_floats<KIND>(s, x, v.z, p.y >> 4 * t, at + 16, sum[0]);
            sum[1] = two_floats<KIND>(s, x, v.y, p.x >> (16 + 4 * t), at, sum[1]);
            sum[1] = two_floats<KIND>(s, x, v.w, p.y >> (16 + 4 * t), at + 16, sum[1]);
        } else {
            uint4 p = *(const uint4 *)(high + c * 128 + g * 16);
            int at = 64 * c + 8 * t, row = tile * PARE_SPARSE_ROWS + g;
            const uint8_t *s0 = s.w.scales + (size_t)min(row, s.w.n - 1) * s.w.scale_row;
            const uint8_t *s1 = s.w.scales + (size_t)min(row + 8, s.w.n - 1) * s.w.scale_row;
            sum[0] = four_bytes<KIND>(s, x, codes, x_scale, s0, v.x, p.x >> 8 * t, at, sum[0]);
            sum[0] = four_bytes<KIND>(s, x, codes, x_scale, s0, v.z, p.z >> 8 * t, at + 32, sum[0]);
            sum[1] = four_bytes<KIND>(s, x, codes, x_scale, s1, v.y, p.y >> 8 * t, at, sum[1]);
            sum[1] = four_bytes<KIND>(s, x, codes, x_scale, s1, v.w, p.w >> 8 * t, at + 32, sum[1]);
        }
    }
    for (int r = 0; r < 2; r++) {
        sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], 1);
        sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], 2);
        if (t == 0) red[warp * PARE_SPARSE_ROWS + g + 8 * r] = sum[r];
    }
    __syncthreads();
    int row = (int)threadIdx.x, to = tile * PARE_SPARSE_ROWS + row;
    if (row >= PARE_SPARSE_ROWS || to >= s.w.n) return;
    float all = 0.0f;
    for (int w = 0; w < WARPS; w++) all += red[w * PARE_SPARSE_ROWS + row];
    s.y[token * s.w.n + to] = all;
}

static bool int8_rule(const pare_cuda_mm *p) { return p->w.entry && p->rule >= PARE_CR_Q8_0; }

static bool can(const pare_cuda *dev, const pare_cuda_mm *p) { return p->format == PARE_CF_2OF4 && p->m <= 65535; }
static size_t workspace(const pare_cuda *dev, const pare_cuda_mm *p) {
    return int8_rule(p) ? pare_cuda_act8_bytes(p->m, p->k) : 0;
}

static void run(pare_cuda *dev, const pare_cuda_mm *p) {
    sparse_rows s = {};
    s.w = p->w, s.x = p->x, s.y = p->y, s.m = p->m, s.k = p->k, s.rule = p->rule;
    if (int8_rule(p)) s.a = pare_cuda_act8_make(dev, p->rule, p->x, p->m, p->k, p->workspace);
    dim3 grid((unsigned)pare_cuda_ceil(p->n, PARE_SPARSE_ROWS), (unsigned)p->m), block(32 * WARPS);
    if (int8_rule(p)) pare_launch<sparse_rows_kernel<INT8_ACT>>(dev->rt.stream, grid, block, 0, s);
    else if (p->w.entry) pare_launch<sparse_rows_kernel<INT8>>(dev->rt.stream, grid, block, 0, s);
    else if (p->plain == PARE_CT_F16) pare_launch<sparse_rows_kernel<F16>>(dev->rt.stream, grid, block, 0, s);
    else pare_launch<sparse_rows_kernel<BF16>>(dev->rt.stream, grid, block, 0, s);
}

const pare_cuda_mm_kernel pare_cuda_mm_sparse_rows = {"sparse_rows", can, workspace, run};
