/* SPDX-License-Identifier: Apache-2.0
 *
 * W8A8 on Hopper: int8 weights with one scale per row times activations with one scale per token (rule TOKEN), wgmma
 * from shared memory, integer sums exact, both scales in the epilogue. A block makes 128 rows x 256 (few tokens: 64)
 * tokens from 128 columns a step; two warpgroups have 64 rows each. At step i its copies are there and step i - 2 is
 * read by nobody any more, so its place takes step i + STAGES - 2. */
#include "cuda/matmul.cuh"
#include "cuda/tiles_sm90.cuh"
#include "cuda/wgmma.cuh"

#define ROWS    128
#define DEPTH   128 /* bytes and columns of a step */
#define THREADS 256
#define LEAST   4 /* steps of a split */

template <int TN> struct ring {
    static constexpr int STAGES = TN == 256 ? 4 : 6, STAGE = (ROWS + TN) * DEPTH, BYTES = STAGES * STAGE;
};

typedef struct w8a8 {
    pare_cuda_weight w;
    const int8_t *x;
    const float *x_scale;
    int64_t x_row, x_scale_row; /* bytes; floats */
    int m, n;
    float *y;
    int32_t *parts; /* [splits][m][n] when there is more than one */
    pare_tiles tiles;
} w8a8;

static __device__ __forceinline__ float row_scale(const pare_cuda_weight &w, int n) {
    const uint8_t *p = w.scales + (int64_t)n * w.scale_row;
    if (w.scale_type == PARE_CT_F32) return *(const float *)p;
    uint16_t v = *(const uint16_t *)p;
    return w.scale_type == PARE_CT_F16 ? pare_h2f(v) : pare_bf2f(v);
}

/* COUNT rows of 128 bytes into shared memory; rows from `limit` on are zero. */
template <int COUNT>
static __device__ __forceinline__ void copy(uint8_t *to, const uint8_t *from, int64_t pitch, int first, int limit) {
    int piece = (int)threadIdx.x % 8, row = (int)threadIdx.x / 8;
    from += first * pitch + piece * 16;
#pragma unroll
    for (int j = 0; j < COUNT; j += THREADS / 8) {
        int r = row + j;
        bool in = first + r < limit;
        pare_cp_async<16>(to + pare_swizzle(r, piece), in ? from + r * pitch : from, in ? 16 : 0);
    }
}

template <int TN> static __device__ __forceinline__ void load(uint8_t *stage, const w8a8 &a, pare_walk &at) {
    if (at.more()) {
        copy<ROWS>(stage, a.w.low + at.step * DEPTH, a.w.low_row, at.row * ROWS, a.n);
        copy<TN>(stage + ROWS * DEPTH, (const uint8_t *)a.x + at.step * DEPTH, a.x_row, at.token * TN, a.m);
        at.next(a.tiles);
    }
    pare_cp_async_commit();
}

template <int TN>
static __device__ __forceinline__ void store(const w8a8 &a, const pare_walk &at, const int32_t (&acc)[TN / 2]) {
    int lane = (int)threadIdx.x % 32, g = lane / 4, t = lane % 4, n0 = at.row * ROWS + (int)threadIdx.x / 32 * 16 + g;
    float scale[2] = {n0 < a.n ? row_scale(a.w, n0) : 0.0f, n0 + 8 < a.n ? row_scale(a.w, n0 + 8) : 0.0f};
#pragma unroll
    for (int j = 0; j < TN / 8; j++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
            int token = at.token * TN + 8 * j + 2 * t + e;
            if (token >= a.m) continue;
            float x_scale = a.x_scale[token * a.x_scale_row];
#pragma unroll
            for (int h = 0; h < 2; h++) {
                int n = n0 + 8 * h;
                int64_t to = (int64_t)token * a.n + n;
                if (n >= a.n) continue;
                if (a.tiles.splits > 1) a.parts[at.split * (int64_t)a.m * a.n + to] = acc[4 * j + 2 * h + e];
                else a.y[to] = (float)acc[4 * j + 2 * h + e] * (scale[h] * x_scale);
            }
        }
}

static __device__ __forceinline__ void product(int32_t (&acc)[128], uint64_t w, uint64_t x, bool add) {
    pare_wgmma_s8_n256(acc, w, x, add);
}
static __device__ __forceinline__ void product(int32_t (&acc)[32], uint64_t w, uint64_t x, bool add) {
    pare_wgmma_s8_n64(acc, w, x, add);
}

template <int TN> __global__ void __launch_bounds__(THREADS, 1) w8a8_kernel(w8a8 a) {
    typedef ring<TN> R;
    PARE_DYNAMIC_SHARED(uint8_t, shared);
    int32_t acc[TN / 2];
    pare_walk loads, at;
    loads.start(a.tiles), at.start(a.tiles);
    for (int s = 0; s < R::STAGES - 2; s++) load<TN>(shared + s * R::STAGE, a, loads);
    int half = (int)threadIdx.x / 128 * 64 * DEPTH, slot = 0;
    for (; at.more(); at.next_tile(a.tiles)) {
        for (bool add = false; at.step < at.end; add = true, at.step++) {
            pare_cp_async_wait<R::STAGES - 3>();
            pare_fence_shared();
            __syncthreads();
            uint8_t *stage = shared + slot * R::STAGE;
            uint64_t w = pare_wgmma_operand(stage + half), x = pare_wgmma_operand(stage + ROWS * DEPTH);
            pare_wgmma_fence();
#pragma unroll
            for (int k = 0; k < DEPTH / 32; k++) product(acc, w + 2 * k, x + 2 * k, add || k);
            pare_wgmma_commit();
            load<TN>(shared + (slot + R::STAGES - 2) % R::STAGES * R::STAGE, a, loads);
            pare_wgmma_wait<1>();
            slot = slot + 1 < R::STAGES ? slot + 1 : 0;
        }
        pare_wgmma_wait<0>();
        pare_wgmma_keep(acc);
        store<TN>(a, at, acc);
    }
    pare_cp_async_wait<0>();
}

__global__ void __launch_bounds__(THREADS) w8a8_sum_kernel(w8a8 a) {
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x, all = (int64_t)a.m * a.n;
    if (i >= all) return;
    int32_t sum = 0;
    for (int s = 0; s < a.tiles.splits; s++) sum += a.parts[s * all + i];
    a.y[i] = (float)sum * (row_scale(a.w, (int)(i % a.n)) * a.x_scale[i / a.n * a.x_scale_row]);
}

static int tokens_of(const pare_cuda_mm *p) { return p->m <= 128 ? 64 : 256; }
static pare_tiles plan(const pare_cuda *dev, const pare_cuda_mm *p) {
    return pare_tiles_plan(p->n, ROWS, p->m, tokens_of(p), pare_cuda_ceil(p->k, DEPTH), dev->rt.sms, LEAST);
}
static size_t act_bytes(const pare_cuda_mm *p) { return (pare_cuda_act8_bytes(p->m, p->k) + 255) & ~(size_t)255; }

/* Sums of 2^17 products of 128 * 127 fit into 32 bits. */
static bool can(const pare_cuda *dev, const pare_cuda_mm *p) {
#if defined PARE_SM90A || defined PARE_EMU
    return dev->rt.arch == 90 && p->format == PARE_CF_INT8 && p->rule == PARE_CR_TOKEN && p->w.group_shift == 31 &&
           !p->w.asym && p->m > 16 && p->k <= 1 << 17 && p->m * p->n < (int64_t)1 << 40 && p->m < 1 << 24 &&
           p->n < 1 << 24;
#else
    return false; /* built without sm_90a */
#endif
}
static size_t workspace(const pare_cuda *dev, const pare_cuda_mm *p) {
    pare_tiles t = plan(dev, p);
    return act_bytes(p) + (t.splits > 1 ? (size_t)t.splits * (size_t)(p->m * p->n) * sizeof(int32_t) : 0);
}

template <int TN> static void launch(pare_cuda *dev, const w8a8 &a) {
    int64_t count = pare_tiles_count(&a.tiles);
    dim3 grid((unsigned)(count < dev->rt.sms ? count : dev->rt.sms));
    pare_launch<w8a8_kernel<TN>>(dev->rt.stream, grid, THREADS, ring<TN>::BYTES, a);
}

static void run(pare_cuda *dev, const pare_cuda_mm *p) {
    pare_cuda_act8 x = pare_cuda_act8_make(dev, p->rule, p->x, p->m, p->k, p->workspace);
    w8a8 a = {};
    a.w = p->w;
    a.x = x.codes, a.x_scale = x.scale;
    a.x_row = x.k_pad, a.x_scale_row = x.k_pad / 32;
    a.m = (int)p->m, a.n = (int)p->n;
    a.y = p->y, a.parts = (int32_t *)((char *)p->workspace + act_bytes(p));
    a.tiles = plan(dev, p);
    if (tokens_of(p) == 64) launch<64>(dev, a);
    else launch<256>(dev, a);
    if (a.tiles.splits > 1)
        pare_launch<w8a8_sum_kernel>(dev->rt.stream, dim3((unsigned)pare_cuda_ceil(p->m * p->n, THREADS)), THREADS, 0,
                                     a);
}

const pare_cuda_mm_kernel pare_cuda_mm_w8a8_sm90 = {"w8a8_sm90", can, workspace, run};
