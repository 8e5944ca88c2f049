/* SPDX-License-Identifier: Apache-2.0
 *
 * Sparse tensor-core products: two-of-four weights are the row operand of mma.sp, which does twice the columns of a
 * dense product in its time; tokens are the columns. Weights come in fragment order (cuda/sparse.cuh): one load of 16
 * bytes per lane, chunk and tile, no shared memory. Products of a chunk start from zero and are added to the sum in
 * f32. floats  x in terms (cuda/dense_terms.cuh), one to three products, small terms first int8    one scale per row
 * and token: sums stay integers over all of K; else per 32 columns, the other half of the chunk's activations taken as
 * 0 in turn paper: Mishra et al., arXiv 2104.08378. spec: PTX ISA, "Matrix multiply-accumulate operation using mma.sp".
 */
#include "cuda/dense_terms.cuh"
#include "cuda/formats.cuh"
#include "cuda/mma.cuh"
#include "cuda/sparse.cuh"

#define WARPS  4
#define NT     4 /* token tiles of a warp */
#define TOKENS (8 * NT)

typedef struct sparse_mm {
    pare_cuda_weight w;
    const uint16_t *terms;  /* floats: [TERMS][m][k_pad] */
    const float *row_scale; /* [m] or NULL */
    const int8_t *codes;    /* int8: [m][k_pad] */
    const float *x_scale;   /* per 32 columns */
    float *y;
    int64_t m, k_pad;
} sparse_mm;

/* Fragments of a chunk of this warp's tile. */
struct weights {
    uint32_t a[4], places;
    template <int WORDS> __device__ __forceinline__ void load(const pare_cuda_weight &w, int tile, int c) {
        int lane = (int)threadIdx.x % 32, g = lane / 4, t = lane % 4;
        uint4 v = pare_load_stream(w.low + (size_t)tile * w.low_row + (size_t)c * 512 + lane * 16);
        a[0] = v.x, a[1] = v.y, a[2] = v.z, a[3] = v.w;
        const uint32_t *high = (const uint32_t *)(w.high + (size_t)tile * w.high_row) + c * 8 * WORDS;
        places = t < WORDS ? high[g * WORDS + t] : 0;
    }
};

static __device__ __forceinline__ int64_t token_of(const sparse_mm &s, int n) {
    int64_t i = (int64_t)blockIdx.y * TOKENS + n * 8 + (int)threadIdx.x % 32 / 4;
    return i < s.m ? i : s.m - 1; /* tokens past the end are not stored */
}

static __device__ __forceinline__ void store(const sparse_mm &s, int tile, int n, const float (&v)[4], bool scaled) {
    int lane = (int)threadIdx.x % 32;
    for (int e = 0; e < 4; e++) {
        int row = tile * PARE_SPARSE_ROWS + lane / 4 + e / 2 * 8;
        int64_t token = (int64_t)blockIdx.y * TOKENS + n * 8 + 2 * (lane % 4) + e % 2;
        if (row < s.w.n && token < s.m) s.y[token * s.w.n + row] = scaled ? v[e] * s.row_scale[token] : v[e];
    }
}

template <bool BF16, int TERMS> __global__ void __launch_bounds__(32 * WARPS) sparse_floats_kernel(sparse_mm s) {
    int tile = (int)blockIdx.x * WARPS + (int)threadIdx.x / 32, t = (int)threadIdx.x % 4;
    if (tile * PARE_SPARSE_ROWS >= s.w.n) return;
    float acc[NT][4] = {};
    weights now, next;
    next.load<2>(s.w, tile, 0);
    for (int c = 0; c < s.w.slabs; c++) {
        now = next;
        if (c + 1 < s.w.slabs) next.load<2>(s.w, tile, c + 1);
#pragma unroll
        for (int n = 0; n < NT; n++) {
            float p[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
            for (int term = TERMS - 1; term >= 0; term--) { /* small ones first */
                const uint16_t *x = s.terms + ((int64_t)term * s.m + token_of(s, n)) * s.k_pad + 32 * c + 2 * t;
                uint32_t b[4];
#pragma unroll
                for (int i = 0; i < 4; i++) b[i] = *(const uint32_t *)(x + 8 * i);
                if (BF16) pare_mma_sp_bf16(p, now.a, b, now.places);
                else pare_mma_sp_f16(p, now.a, b, now.places);
            }
#pragma unroll
            for (int e = 0; e < 4; e++) acc[n][e] += p[e];
        }
    }
    for (int n = 0; n < NT; n++) store(s, tile, n, acc[n], s.row_scale != nullptr);
}

/* The scale of a row's columns from 32 * chunk on. */
static __device__ __forceinline__ float scale_of(const pare_cuda_weight &w, int row, int chunk) {
    const uint8_t *scales = w.scales + (size_t)min(row, w.n - 1) * w.scale_row;
    return 32 * chunk < w.k ? pare_format_int8::scale(w, scales, chunk, 0).x : 0.0f;
}

/* WHOLE: one scale per row of weights and per token. */
template <bool WHOLE> __global__ void __launch_bounds__(32 * WARPS) sparse_int8_kernel(sparse_mm s) {
    int tile = (int)blockIdx.x * WARPS + (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32, t = lane % 4;
    int row = tile * PARE_SPARSE_ROWS + lane / 4;
    if (tile * PARE_SPARSE_ROWS >= s.w.n) return;
    float acc[NT][4] = {};
    int32_t whole[NT][4] = {};
    weights now, next;
    next.load<4>(s.w, tile, 0);
    for (int c = 0; c < s.w.slabs; c++) {
        now = next;
        if (c + 1 < s.w.slabs) next.load<4>(s.w, tile, c + 1);
#pragma unroll
        for (int n = 0; n < NT; n++) {
            const int8_t *x = s.codes + token_of(s, n) * s.k_pad + 64 * c + 4 * t;
            uint32_t b[4];
#pragma unroll
            for (int i = 0; i < 4; i++) b[i] = *(const uint32_t *)(x + 16 * i);
            if (WHOLE) {
                pare_mma_sp_s8(whole[n], now.a, b, now.places);
                continue;
            }
            int64_t token0 = (int64_t)blockIdx.y * TOKENS + n * 8 + 2 * t;
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const uint32_t part[4] = {half ? 0 : b[0], half ? 0 : b[1], half ? b[2] : 0, half ? b[3] : 0};
                int32_t d[4] = {0, 0, 0, 0};
                pare_mma_sp_s8(d, now.a, part, now.places);
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    int64_t token = min(token0 + e % 2, s.m - 1);
                    float by =
                        scale_of(s.w, row + e / 2 * 8, 2 * c + half) * s.x_scale[token * (s.k_pad / 32) + 2 * c + half];
                    acc[n][e] = fmaf(by, (float)d[e], acc[n][e]);
                }
            }
        }
    }
    for (int n = 0; n < NT; n++) {
        int64_t token0 = (int64_t)blockIdx.y * TOKENS + n * 8 + 2 * t;
        for (int e = 0; WHOLE && e < 4; e++)
            acc[n][e] = (float)whole[n][e] *
                        (scale_of(s.w, row + e / 2 * 8, 0) * s.x_scale[min(token0 + e % 2, s.m - 1) * (s.k_pad / 32)]);
        store(s, tile, n, acc[n], false);
    }
}

/* ---- host ---- */
static bool int8(const pare_cuda_mm *p) { return p->w.entry != 0; }

static bool can(const pare_cuda *dev, const pare_cuda_mm *p) {
    return p->format == PARE_CF_2OF4 && p->m >= 3 && dev->rt.arch >= 80 && pare_cuda_ceil(p->m, TOKENS) <= 65535 &&
           (!int8(p) || p->rule >= PARE_CR_Q8_0);
}

static size_t workspace(const pare_cuda *dev, const pare_cuda_mm *p) {
    return int8(p) ? pare_cuda_act8_bytes(p->m, p->k) : pare_cuda_dense_terms_bytes(p);
}

static void run(pare_cuda *dev, const pare_cuda_mm *p) {
    sparse_mm s = {};
    s.w = p->w, s.y = p->y, s.m = p->m;
    dim3 grid((unsigned)pare_cuda_ceil(p->n, WARPS * PARE_SPARSE_ROWS), (unsigned)pare_cuda_ceil(p->m, TOKENS));
    dim3 block(32 * WARPS);
    void *stream = dev->rt.stream;
    if (int8(p)) {
        pare_cuda_act8 a = pare_cuda_act8_make(dev, p->rule, p->x, p->m, p->k, p->workspace);
        s.codes = a.codes, s.x_scale = a.scale, s.k_pad = a.k_pad;
        if (p->rule == PARE_CR_TOKEN && p->w.group_shift == 31)
            pare_launch<sparse_int8_kernel<true>>(stream, grid, block, 0, s);
        else pare_launch<sparse_int8_kernel<false>>(stream, grid, block, 0, s);
        return;
    }
    pare_cuda_dense_terms t = pare_cuda_dense_terms_make(dev, p);
    s.terms = t.terms, s.row_scale = t.row_scale, s.k_pad = t.k_pad;
    if (p->plain == PARE_CT_F16) {
        if (t.n == 2) pare_launch<sparse_floats_kernel<false, 2>>(stream, grid, block, 0, s);
        else pare_launch<sparse_floats_kernel<false, 1>>(stream, grid, block, 0, s);
    } else if (t.n == 3) pare_launch<sparse_floats_kernel<true, 3>>(stream, grid, block, 0, s);
    else pare_launch<sparse_floats_kernel<true, 1>>(stream, grid, block, 0, s);
}

const pare_cuda_mm_kernel pare_cuda_mm_sparse = {"sparse", can, workspace, run};
