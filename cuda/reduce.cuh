/* SPDX-License-Identifier: Apache-2.0
 *
 * Sums and maxima over the threads of a row, in one fixed order. A row belongs to all threads of a block; where
 * blockDim.x is 32, to a warp, and a block has blockDim.y rows and no barrier (a warp without a row may leave early).
 *
 * pare_sum carries its rounding errors along (Knuth's two-sum): about 46 bits, as the CPU's sums in double for what
 * becomes an f32, at a few f32 additions per element; double arithmetic is 32 or 64 times slower on most GPUs. */
#ifndef PARE_CUDA_REDUCE_CUH
#define PARE_CUDA_REDUCE_CUH

#include "cuda/dev.cuh"

struct pare_sum { /* hi + lo */
    float hi, lo;
};

__device__ __forceinline__ void pare_add(pare_sum &s, float v) {
    float t = s.hi + v, z = t - s.hi;
    s.lo += (s.hi - (t - z)) + (v - z);
    s.hi = t;
}
__device__ __forceinline__ void pare_add_product(pare_sum &s, float a, float b) {
    float p = a * b;
    pare_add(s, p);
    s.lo += fmaf(a, b, -p);
}

/* What a reduction does with two partial results; same result when they change places. */
__device__ __forceinline__ pare_sum pare_join(pare_sum a, pare_sum b) {
    float lo = a.lo + b.lo;
    a.lo = 0;
    pare_add(a, b.hi);
    a.lo += lo;
    return a;
}
__device__ __forceinline__ double pare_join(double a, double b) { return a + b; }
struct pare_max {
    float v;
};
__device__ __forceinline__ pare_max pare_join(pare_max a, pare_max b) { return pare_max{fmaxf(a.v, b.v)}; }

__device__ __forceinline__ pare_sum pare_from_lane(pare_sum a, int x) {
    return pare_sum{__shfl_xor_sync(0xffffffffu, a.hi, x), __shfl_xor_sync(0xffffffffu, a.lo, x)};
}
__device__ __forceinline__ double pare_from_lane(double a, int x) { return __shfl_xor_sync(0xffffffffu, a, x); }
__device__ __forceinline__ pare_max pare_from_lane(pare_max a, int x) {
    return pare_max{__shfl_xor_sync(0xffffffffu, a.v, x)};
}

/* Every thread of the row gets the result. none: the value that changes nothing. */
template <class T> __device__ __forceinline__ T pare_row_reduce(T v, T none) {
    PARE_SHARED(T, parts, 32);
    for (int d = 16; d; d /= 2) v = pare_join(v, pare_from_lane(v, d));
    if (blockDim.x == 32) return v;
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    __syncthreads(); /* the row's last reduction may still be read */
    if (lane == 0) parts[warp] = v;
    __syncthreads();
    v = lane < (int)blockDim.x / 32 ? parts[lane] : none;
    for (int d = 16; d; d /= 2) v = pare_join(v, pare_from_lane(v, d));
    return v;
}

/* ---- the launch shape: threads of a row, rows of a block ---- */

/* Two vectors of four per thread, so that a row of up to 8192 floats stays in registers. */
#define PARE_ROW_REGS 2
#define PARE_ROW_MAX  (1024 * 4 * PARE_ROW_REGS)
static inline dim3 pare_row_block(int64_t n) {
    int64_t threads = (n + 4 * PARE_ROW_REGS - 1) / (4 * PARE_ROW_REGS);
    threads = threads > 1024 ? 1024 : (threads + 31) / 32 * 32;
    return threads <= 32 ? dim3(32, 8) : dim3((unsigned)threads);
}
static inline dim3 pare_row_grid(int64_t rows, dim3 block) { return dim3((unsigned)((rows + block.y - 1) / block.y)); }

#endif
