/* SPDX-License-Identifier: Apache-2.0
 *
 * Stored weights times f16 activations on Hopper: codes become f16 weights in the registers of wgmma's A operand, x is
 * its B operand. A block makes 256 rows x 128 tokens from 64 columns a step; each of the two warpgroups has 128 rows as
 * two tiles of 64. While the tensor cores work on one chunk (32 columns), the next one is decoded into the other half
 * of the fragments. F: format whose codes are read (cuda/formats.cuh); scales come decoded (cuda/w16.cuh).
 *
 * layout of a stage: x [128] rows of 128 bytes | low [2 chunks][256] | high [2][256] | scales [256][2 (HALVES: 4)] */
#ifndef PARE_CUDA_W4A16_SM90_CUH
#define PARE_CUDA_W4A16_SM90_CUH

#include "cuda/formats.cuh"
#include "cuda/tiles_sm90.cuh"
#include "cuda/w16.cuh"
#include "cuda/wgmma.cuh"

#define PARE_W16_ROWS    256
#define PARE_W16_TOKENS  128
#define PARE_W16_THREADS 256

typedef struct pare_w16_args {
    pare_cuda_weight w;
    pare_w16 t;
    int m, n;
    float *y;
    pare_tiles tiles;
} pare_w16_args;

template <class F> struct pare_w16_stage {
    static constexpr int ENTRY = F::HALVES ? 16 : 8, AT_LOW = PARE_W16_TOKENS * 128,
                         AT_HIGH = AT_LOW + 2 * PARE_W16_ROWS * F::LOW,
                         AT_SCALES = AT_HIGH + 2 * PARE_W16_ROWS * F::HIGH,
                         BYTES = (AT_SCALES + PARE_W16_ROWS * ENTRY + 1023) / 1024 * 1024, STAGES = 5;
};

/* Two chunks of SIZE bytes of every row of the tile, by copies of 16 bytes or of one chunk. */
template <int SIZE>
static __device__ __forceinline__ void pare_w16_plane(uint8_t *to, const uint8_t *base, int at, uint32_t pitch,
                                                      int first, int n) {
    constexpr int CP = SIZE < 16 ? SIZE : 16, PER = 2 * SIZE / CP; /* copies per row */
    int tid = (int)threadIdx.x, row = tid / PER, piece = tid % PER;
    const uint8_t *from = base + at + (int64_t)(first + row) * pitch + piece * CP;
    to += piece * CP / SIZE * PARE_W16_ROWS * SIZE + piece * CP % SIZE + row * SIZE;
#pragma unroll
    for (int r = 0; r < PARE_W16_ROWS; r += PARE_W16_THREADS / PER) {
        bool in = first + row + r < n;
        pare_cp_async<CP>(to + r * SIZE, in ? from + (int64_t)r * pitch : base, in ? CP : 0);
    }
}

template <class F>
static __device__ __forceinline__ void pare_w16_load(uint8_t *stage, const pare_w16_args &a, pare_walk &at) {
    typedef pare_w16_stage<F> S;
    if (at.more()) {
        int tid = (int)threadIdx.x, piece = tid % 8, row0 = at.row * PARE_W16_ROWS;
        int token = at.token * PARE_W16_TOKENS + tid / 8;
        const uint16_t *x = a.t.x + token * a.t.k_pad + at.step * 64 + piece * 8;
#pragma unroll
        for (int r = 0; r < PARE_W16_TOKENS; r += PARE_W16_THREADS / 8) {
            bool in = token + r < a.m;
            pare_cp_async<16>(stage + pare_swizzle(tid / 8 + r, piece), in ? x + r * a.t.k_pad : a.t.x, in ? 16 : 0);
        }
        pare_w16_plane<F::LOW>(stage + S::AT_LOW, a.w.low, at.step * 2 * F::LOW, a.w.low_row, row0, a.n);
        if constexpr (F::HIGH != 0)
            pare_w16_plane<F::HIGH>(stage + S::AT_HIGH, a.w.high, at.step * 2 * F::HIGH, a.w.high_row, row0, a.n);
        if (tid < PARE_W16_ROWS * S::ENTRY / 16)
            pare_cp_async<16>(stage + S::AT_SCALES + tid * 16,
                              (const uint8_t *)a.t.scales + (at.step * a.t.n_pad + row0) * S::ENTRY + tid * 16);
        at.next(a.tiles);
    }
    pare_cp_async_commit();
}

/* w = scale * code + minimum, rounded once; two columns. */
template <class F> static __device__ __forceinline__ uint32_t pare_w16_value(uint32_t codes, uint32_t scale) {
    uint32_t s = __byte_perm(scale, 0, 0x1010);
    return F::MINIMA ? pare_hfma2(codes, s, __byte_perm(scale, 0, 0x3232)) : pare_hmul2(codes, s);
}

/* A chunk of this lane's rows (row, + 8, + 64, + 72) as fragments [tile][columns 0-15, 16-31][4]. */
template <class F>
static __device__ __forceinline__ void pare_w16_decode(uint32_t (&a)[2][2][4], const uint8_t *stage, int chunk, int row,
                                                       int t) {
    typedef pare_w16_stage<F> S;
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            int r = row + 64 * i + 8 * h, at = chunk * PARE_W16_ROWS + r;
            uint32_t lo, hi, p, q;
            F::codes(stage + S::AT_LOW + at * F::LOW, stage + S::AT_HIGH + at * F::HIGH, t, lo, hi);
            const uint32_t *scales = (const uint32_t *)(stage + S::AT_SCALES + r * S::ENTRY) + chunk * (S::ENTRY / 8);
            uint32_t s0 = scales[0], s1 = F::HALVES ? scales[1] : s0;
            pare_bytes_to_halves(lo, p, q);
            a[i][0][h] = pare_w16_value<F>(p, s0), a[i][0][2 + h] = pare_w16_value<F>(q, s0);
            pare_bytes_to_halves(hi, p, q);
            a[i][1][h] = pare_w16_value<F>(p, s1), a[i][1][2 + h] = pare_w16_value<F>(q, s1);
        }
}

/* acc of rows n0 .. n0 + 63 of this warpgroup */
static __device__ __forceinline__ void pare_w16_store(const pare_w16_args &a, const pare_walk &at, int n0,
                                                      const float (&acc)[64]) {
    int lane = (int)threadIdx.x % 32, t = lane % 4, n = n0 + (int)threadIdx.x % 128 / 32 * 16 + lane / 4;
    bool whole = a.tiles.splits == 1;
    float factor[2] = {whole && n < a.n ? a.t.factor[n] : 1.0f, whole && n + 8 < a.n ? a.t.factor[n + 8] : 1.0f};
    float *to = whole ? a.y : a.t.parts + at.split * (int64_t)a.m * a.n;
#pragma unroll
    for (int j = 0; j < PARE_W16_TOKENS / 8; j++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
            int token = at.token * PARE_W16_TOKENS + 8 * j + 2 * t + e;
            if (token >= a.m) continue;
#pragma unroll
            for (int h = 0; h < 2; h++)
                if (n + 8 * h < a.n) to[(int64_t)token * a.n + n + 8 * h] = acc[4 * j + 2 * h + e] * factor[h];
        }
}

template <class F> __global__ void __launch_bounds__(PARE_W16_THREADS, 1) pare_w16_kernel(pare_w16_args a) {
    typedef pare_w16_stage<F> S;
    PARE_DYNAMIC_SHARED(uint8_t, shared);
    float acc[2][64];
    uint32_t f[2][2][2][4]; /* [chunk][tile][16 columns][4] */
    pare_walk loads, at;
    loads.start(a.tiles), at.start(a.tiles);
    for (int s = 0; s < S::STAGES - 2; s++) pare_w16_load<F>(shared + s * S::BYTES, a, loads);
    int tid = (int)threadIdx.x, half = tid / 128 * 128, slot = 0; /* half: first row of the warpgroup */
    int row = half + tid % 128 / 32 * 16 + tid % 32 / 4;
    for (; at.more(); at.next_tile(a.tiles)) {
        for (bool add = false; at.step < at.end; add = true, at.step++) {
            pare_cp_async_wait<S::STAGES - 3>();
            pare_fence_shared();
            __syncthreads();
            uint8_t *stage = shared + slot * S::BYTES;
            uint64_t x = pare_wgmma_operand(stage);
#pragma unroll
            for (int c = 0; c < 2; c++) {
                pare_w16_decode<F>(f[c], stage, c, row, tid % 4);
                pare_wgmma_fence();
#pragma unroll
                for (int k = 0; k < 2; k++)
#pragma unroll
                    for (int i = 0; i < 2; i++)
                        pare_wgmma_f16_n128(acc[i], f[c][i][k], x + 4 * c + 2 * k, add || c || k);
                pare_wgmma_commit();
                if (c == 0) pare_w16_load<F>(shared + (slot + S::STAGES - 2) % S::STAGES * S::BYTES, a, loads);
                pare_wgmma_wait<1>();
            }
            slot = slot + 1 < S::STAGES ? slot + 1 : 0;
        }
        pare_wgmma_wait<0>();
#pragma unroll
        for (int i = 0; i < 2; i++) {
            pare_wgmma_keep(acc[i]);
            pare_w16_store(a, at, at.row * PARE_W16_ROWS + half + 64 * i, acc[i]);
        }
    }
    pare_cp_async_wait<0>();
}

/* The launch of a format's kernel: one function per family of codes. */
template <class F> static void pare_w16_launch(pare_cuda *dev, const pare_w16_args &a) {
    int64_t count = pare_tiles_count(&a.tiles);
    dim3 grid((unsigned)(count < dev->rt.sms ? count : dev->rt.sms));
    pare_launch<pare_w16_kernel<F>>(dev->rt.stream, grid, PARE_W16_THREADS,
                                    pare_w16_stage<F>::STAGES * pare_w16_stage<F>::BYTES, a);
}

#endif
