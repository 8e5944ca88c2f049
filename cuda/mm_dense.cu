/* SPDX-License-Identifier: Apache-2.0
 *
 * y = x W^T for f16 and bf16 weights on tensor cores (mma.sync). Rule NONE gets f32 grade out of 16-bit products: x is
 * cut into two f16 terms times a power of two per row, or three bf16 terms that are exactly x; a product of a weight
 * and a term is exact. A block makes 128 rows of W times TM tokens from 32 columns at a time (cp.async, three stages
 * deep); for NONE the sums of 128 columns are added to second ones, since tensor cores cut where they should round.
 * Where that makes too few blocks, k is split and another kernel adds the parts in their order. */
#include "cuda/dense_terms.cuh"
#include "cuda/mma.cuh"

#define ROWS    128
#define DEPTH   32
#define STAGES  3
#define THREADS 256
#define PITCH   40 /* 16-bit elements: 20 words, so that fragments meet all banks */
#define FLUSH   4  /* steps of DEPTH between two sums */
#define PER     2  /* blocks wanted per multiprocessor */
#define LEAST   8  /* steps of a split */

template <int TM> struct shape { /* warps over rows x tokens, and mma tiles of a warp */
    static constexpr int WN = TM >= 64 ? 2 : 1, WM = 8 / WN, MT = ROWS / WM / 16, NT = TM / WN / 8;
};

typedef struct dense {
    const uint16_t *w, *x; /* x: terms [TERMS][m][k_pad], zero past k */
    const float *row_scale;
    float *y, *parts;
    int64_t m, n, k, k_pad;
    int splits, per_split; /* steps of a split; the last may have fewer */
    bool aligned;          /* rows of w start at multiples of 16 bytes */
} dense;

/* Eight weights into shared memory, zero past the ends. */
static __device__ __forceinline__ void weights8(uint16_t *to, const dense &d, int64_t row, int64_t at) {
    if (d.aligned) {
        int have = row < d.n && at < d.k ? 16 : 0; /* k is a multiple of 8 here */
        pare_cp_async<16>(to, have ? d.w + row * d.k + at : d.w, have);
        return;
    }
    for (int i = 0; i < 8; i++) to[i] = row < d.n && at + i < d.k ? d.w[row * d.k + at + i] : (uint16_t)0;
}

template <int TERMS, int TM>
static __device__ __forceinline__ void stage(uint16_t *sw, const dense &d, int64_t n0, int64_t m0, int64_t k0) {
    uint16_t *sx = sw + ROWS * PITCH;
    for (int i = (int)threadIdx.x; i < ROWS * 4; i += THREADS)
        weights8(sw + i / 4 * PITCH + i % 4 * 8, d, n0 + i / 4, k0 + i % 4 * 8);
    for (int i = (int)threadIdx.x; i < TERMS * TM * 4; i += THREADS) {
        int term = i / (TM * 4), row = i / 4 % TM;
        bool in = m0 + row < d.m && k0 < d.k_pad;
        const uint16_t *from = in ? d.x + (term * d.m + m0 + row) * d.k_pad + k0 + i % 4 * 8 : d.x;
        pare_cp_async<16>(sx + (term * TM + row) * PITCH + i % 4 * 8, from, in ? 16 : 0);
    }
    pare_cp_async_commit();
}

template <bool BF16, int TERMS, int TM, class S>
static __device__ __forceinline__ void multiply(float (&acc)[S::MT][S::NT][4], const uint16_t *sw, int wm, int wn) {
    int lane = (int)threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const uint16_t *sx = sw + ROWS * PITCH;
#pragma unroll
    for (int k = 0; k < DEPTH; k += 16) {
        uint32_t a[S::MT][4];
#pragma unroll
        for (int i = 0; i < S::MT; i++) {
            const uint16_t *p = sw + (wm * S::MT * 16 + i * 16 + g) * PITCH + k + 2 * t;
            a[i][0] = *(const uint32_t *)p, a[i][1] = *(const uint32_t *)(p + 8 * PITCH);
            a[i][2] = *(const uint32_t *)(p + 8), a[i][3] = *(const uint32_t *)(p + 8 * PITCH + 8);
        }
#pragma unroll
        for (int term = TERMS - 1; term >= 0; term--) /* small ones first */
#pragma unroll
            for (int j = 0; j < S::NT; j++) {
                const uint16_t *p = sx + (term * TM + wn * S::NT * 8 + j * 8 + g) * PITCH + k + 2 * t;
                uint32_t b[2] = {*(const uint32_t *)p, *(const uint32_t *)(p + 8)};
#pragma unroll
                for (int i = 0; i < S::MT; i++)
                    if (BF16) pare_mma_bf16(acc[i][j], a[i], b);
                    else pare_mma_f16(acc[i][j], a[i], b);
            }
    }
}

template <class S>
static __device__ __forceinline__ void flush(float (&sum)[S::MT][S::NT][4], float (&acc)[S::MT][S::NT][4]) {
#pragma unroll
    for (int i = 0; i < S::MT; i++)
#pragma unroll
        for (int j = 0; j < S::NT; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) sum[i][j][e] += acc[i][j][e], acc[i][j][e] = 0.0f;
}

template <class S>
static __device__ __forceinline__ void store(const dense &d, const float (&sum)[S::MT][S::NT][4], int64_t n0,
                                             int64_t m0) {
    int lane = (int)threadIdx.x % 32, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int j = 0; j < S::NT; j++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
            int64_t row = m0 + j * 8 + 2 * t + e;
            if (row >= d.m) continue;
            float scale = d.row_scale ? d.row_scale[row] : 1.0f;
            float *to = d.splits > 1 ? d.parts + ((int64_t)blockIdx.z * d.m + row) * d.n : d.y + row * d.n;
#pragma unroll
            for (int i = 0; i < S::MT; i++)
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    int64_t n = n0 + i * 16 + 8 * h + g;
                    if (n < d.n) to[n] = sum[i][j][2 * h + e] * scale;
                }
        }
}

template <bool BF16, int TERMS, int TM> __global__ void __launch_bounds__(THREADS) dense_kernel(dense d) {
    typedef shape<TM> S;
    constexpr int STAGE = (ROWS + TERMS * TM) * PITCH;
    PARE_DYNAMIC_SHARED(uint16_t, buffer);
    int warp = (int)threadIdx.x / 32, wm = warp % S::WM, wn = warp / S::WM;
    int64_t m0 = (int64_t)blockIdx.x * TM, n0 = (int64_t)blockIdx.y * ROWS, first = (int64_t)blockIdx.z * d.per_split;
    int64_t steps = min((int64_t)d.per_split, d.k_pad / DEPTH - first), k0 = first * DEPTH;
    float acc[S::MT][S::NT][4] = {}, sum[S::MT][S::NT][4] = {};
    for (int s = 0; s < STAGES - 1; s++) stage<TERMS, TM>(buffer + s * STAGE, d, n0, m0, k0 + s * DEPTH);
    for (int64_t i = 0; i < steps; i++) {
        pare_cp_async_wait<STAGES - 2>();
        __syncthreads(); /* stage i is there for all, and all are done with stage i - 1 */
        int64_t next = i + STAGES - 1;
        if (next < steps) stage<TERMS, TM>(buffer + next % STAGES * STAGE, d, n0, m0, k0 + next * DEPTH);
        else pare_cp_async_commit();
        multiply<BF16, TERMS, TM, S>(acc, buffer + i % STAGES * STAGE, wm, wn);
        if (TERMS > 1 && (i + 1) % FLUSH == 0) flush<S>(sum, acc);
    }
    pare_cp_async_wait<0>();
    flush<S>(sum, acc);
    store<S>(d, sum, n0 + wm * S::MT * 16, m0 + wn * S::NT * 8);
}

__global__ void __launch_bounds__(THREADS) dense_sum_kernel(dense d) {
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x, all = d.m * d.n;
    if (i >= all) return;
    float sum = 0.0f;
#pragma unroll 4
    for (int s = 0; s < d.splits; s++) sum += d.parts[s * all + i];
    d.y[i] = sum;
}

static bool wide(const pare_cuda_mm *p) { return p->m > 16; }

/* Splits of k that give every multiprocessor its blocks. */
static void plan(const pare_cuda *dev, const pare_cuda_mm *p, dense *d) {
    int64_t steps = pare_cuda_ceil(p->k, DEPTH);
    int64_t tiles = pare_cuda_ceil(p->m, wide(p) ? 64 : 16) * pare_cuda_ceil(p->n, ROWS);
    int64_t splits = min((int64_t)PER * dev->rt.sms / tiles, steps / LEAST);
    d->per_split = (int)pare_cuda_ceil(steps, splits > 1 ? splits : 1);
    d->splits = (int)pare_cuda_ceil(steps, d->per_split);
}

template <bool BF16, int TERMS, int TM> static void launch(pare_cuda *dev, const dense &d) {
    size_t shared = (size_t)STAGES * (ROWS + TERMS * TM) * PITCH * 2;
    dim3 grid((unsigned)pare_cuda_ceil(d.m, TM), (unsigned)pare_cuda_ceil(d.n, ROWS), (unsigned)d.splits);
    pare_launch<dense_kernel<BF16, TERMS, TM>>(dev->rt.stream, grid, THREADS, shared, d);
    if (d.splits > 1)
        pare_launch<dense_sum_kernel>(dev->rt.stream, dim3((unsigned)pare_cuda_ceil(d.m * d.n, THREADS)), THREADS, 0,
                                      d);
}

static bool can(const pare_cuda *dev, const pare_cuda_mm *p) {
    return p->format == PARE_CF_NONE && (p->plain == PARE_CT_F16 || (p->plain == PARE_CT_BF16 && dev->rt.arch >= 80)) &&
           pare_cuda_ceil(p->n, ROWS) <= 65535;
}

static size_t terms_bytes(const pare_cuda_mm *p) { return (pare_cuda_dense_terms_bytes(p) + 255) & ~(size_t)255; }
static size_t workspace(const pare_cuda *dev, const pare_cuda_mm *p) {
    dense d;
    plan(dev, p, &d);
    return terms_bytes(p) + (d.splits > 1 ? (size_t)(d.splits * p->m * p->n) * sizeof(float) : 0);
}

static void run(pare_cuda *dev, const pare_cuda_mm *p) {
    pare_cuda_dense_terms t = pare_cuda_dense_terms_make(dev, p);
    dense d = {(const uint16_t *)p->plain_w, t.terms, t.row_scale, p->y, NULL, p->m, p->n, p->k, t.k_pad, 1, 0, false};
    d.parts = (float *)((char *)p->workspace + terms_bytes(p));
    plan(dev, p, &d);
    d.aligned = p->k % 8 == 0 && ((uintptr_t)p->plain_w & 15) == 0;
    bool many = wide(p);
    if (p->plain == PARE_CT_F16) {
        if (t.n == 2) many ? launch<false, 2, 64>(dev, d) : launch<false, 2, 16>(dev, d);
        else many ? launch<false, 1, 64>(dev, d) : launch<false, 1, 16>(dev, d);
    } else if (t.n == 3) many ? launch<true, 3, 64>(dev, d) : launch<true, 3, 16>(dev, d);
    else many ? launch<true, 1, 64>(dev, d) : launch<true, 1, 16>(dev, d);
}

const pare_cuda_mm_kernel pare_cuda_mm_dense = {"dense", can, workspace, run};
