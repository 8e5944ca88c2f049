/* SPDX-License-Identifier: Apache-2.0
 *
 * CUDA kernels on the host, for tests: the words of CUDA C that the kernels of cuda/ use, over a launcher that runs the
 * threads of a block as fibers of one thread, in a random order from a seed (PARE_EMU_SEED, printed with a failure).
 *
 * What a fiber waits for: a barrier of its block (or of a part of it), and the collectives of its warp or warpgroup:
 * a value given by every lane of the mask, one function that makes every lane's result, then all go on. Shared memory
 * is filled with 0xCD before a block and guarded on both sides. Asynchronous copies and wgmma take effect at their
 * issue or at the wait that covers them, by coin toss, so that a missing wait shows. Memory fences are nothing: blocks
 * may run on several host threads, but within one block there is one thread.
 *
 * errors: a barrier or collective that not all threads reach, writes around shared memory, misaligned accesses through
 * the wrappers: the launch ends, rt_sync (cuda/rt.cuh) gives the text. */
#ifndef PARE_CUDA_EMU_H
#define PARE_CUDA_EMU_H

#include <functional>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define __global__ static
#define __device__
#define __host__
#define __constant__    static
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __noinline__ __attribute__((noinline))

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct uint3 {
    unsigned x, y, z;
};
struct alignas(16) uint4 {
    uint32_t x, y, z, w;
};
struct alignas(8) uint2 {
    uint32_t x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) int4 {
    int x, y, z, w;
};
struct alignas(8) int2 {
    int x, y;
};
static inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) { return {x, y, z, w}; }
static inline uint2 make_uint2(uint32_t x, uint32_t y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }

/* ---- where a fiber is ---- */
struct emu_place {
    uint3 tid, bid;
    dim3 block, grid;
    unsigned linear; /* index in the block: x fastest */
    unsigned flags;  /* EMU_FENCED, EMU_UNSEEN: what wrappers check about the order of their calls */
};
#define EMU_FENCED 1u /* wgmma.fence since the last wait */
#define EMU_UNSEEN 2u /* cp.async has landed, not yet fenced for wgmma */
extern thread_local emu_place *emu_here;
#define threadIdx (emu_here->tid)
#define blockIdx  (emu_here->bid)
#define blockDim  (emu_here->block)
#define gridDim   (emu_here->grid)
#define warpSize  32

/* ---- launching ---- */
/* Runs body once per thread of the grid; shared_bytes of dynamic shared memory. name: for messages. Inside a recording
 * (cuda/rt.cuh) the launch is kept instead. */
void emu_launch(const char *name, dim3 grid, dim3 block, size_t shared_bytes, std::function<void()> body);
void *emu_dynamic_shared(void);
/* Static shared memory: the same bytes for every thread of the block; key names the declaration. */
void *emu_static_shared(const void *key, size_t bytes);

/* ---- waiting ---- */
void emu_barrier(int id, int threads); /* threads 0: all of the block */
/* Collective of the lanes in mask (bit = lane) of this warp, or of the warpgroup of 128 (mask ignored). in: this lane's
 * value; fn gets the values of all lanes (NULL for those not in the mask) and the places for their results. */
struct emu_lanes {
    int n;
    const void *in[128];
    void *out[128];
};
void emu_collect(int lanes, uint32_t mask, const char *kind, const void *in, void *out, void (*fn)(emu_lanes *v));
/* Work that takes effect now or at the wait that covers it. Queue 0: cp.async of this thread, in any order; 1: this
 * thread's part of wgmma, in order. */
void emu_async(std::function<void()> work, int queue);
void emu_async_commit(int queue);
void emu_async_wait(int queue, int pending); /* all but the last `pending` groups are done on return */
void emu_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
bool emu_coin(void);

static inline void __syncthreads(void) { emu_barrier(0, 0); }
static inline void __threadfence(void) {}
static inline void __threadfence_block(void) {}

template <class T> static inline T emu_shuffle(uint32_t mask, T v, int from) {
    struct give {
        T v;
        int from;
    } g = {v, from};
    T r = v;
    emu_collect(32, mask, "shuffle", &g, &r, [](emu_lanes *l) {
        for (int i = 0; i < 32; i++) {
            if (!l->in[i]) continue;
            int f = ((const give *)l->in[i])->from;
            if (f < 0 || f > 31) f = i;
            if (!l->in[f]) emu_fail("shuffle reads lane %d, which is not in the mask", f);
            *(T *)l->out[i] = ((const give *)l->in[f])->v;
        }
    });
    return r;
}
static inline int emu_lane(void) { return (int)(emu_here->linear % 32); }
template <class T> static inline T __shfl_sync(uint32_t m, T v, int lane, int width = 32) {
    return emu_shuffle(m, v, emu_lane() / width * width + (lane & (width - 1)));
}
template <class T> static inline T __shfl_xor_sync(uint32_t m, T v, int x, int width = 32) {
    int f = emu_lane() ^ x;
    return emu_shuffle(m, v, f / width == emu_lane() / width ? f : emu_lane());
}
template <class T> static inline T __shfl_down_sync(uint32_t m, T v, unsigned d, int width = 32) {
    int f = emu_lane() + (int)d;
    return emu_shuffle(m, v, f / width == emu_lane() / width ? f : emu_lane());
}
template <class T> static inline T __shfl_up_sync(uint32_t m, T v, unsigned d, int width = 32) {
    int f = emu_lane() - (int)d;
    return emu_shuffle(m, v, f >= emu_lane() / width * width ? f : emu_lane());
}
static inline void __syncwarp(uint32_t mask = 0xffffffffu) {
    emu_collect(32, mask, "syncwarp", emu_here, NULL, [](emu_lanes *) {});
}
static inline uint32_t __ballot_sync(uint32_t mask, int p) {
    uint32_t r = 0;
    emu_collect(32, mask, "ballot", &p, &r, [](emu_lanes *l) {
        uint32_t b = 0;
        for (int i = 0; i < 32; i++) b |= l->in[i] && *(const int *)l->in[i] ? 1u << i : 0u;
        for (int i = 0; i < 32; i++)
            if (l->out[i]) *(uint32_t *)l->out[i] = b;
    });
    return r;
}
static inline int __any_sync(uint32_t mask, int p) { return __ballot_sync(mask, p) != 0; }
static inline int __all_sync(uint32_t mask, int p) { return __ballot_sync(mask, p) == mask; }

/* ---- arithmetic ---- */
static inline int __dp4a(int a, int b, int c) {
    for (int i = 0; i < 4; i++) c += (int)(int8_t)((uint32_t)a >> (8 * i)) * (int)(int8_t)((uint32_t)b >> (8 * i));
    return c;
}
static inline uint32_t __byte_perm(uint32_t a, uint32_t b, uint32_t s) {
    uint64_t both = (uint64_t)b << 32 | a;
    uint32_t r = 0;
    for (int i = 0; i < 4; i++) r |= (uint32_t)(both >> (8 * (s >> (4 * i) & 7)) & 255) << (8 * i);
    return r;
}
static inline float __int_as_float(int v) {
    float f;
    memcpy(&f, &v, 4);
    return f;
}
static inline float __uint_as_float(uint32_t v) { return __int_as_float((int)v); }
static inline int __float_as_int(float f) {
    int v;
    memcpy(&v, &f, 4);
    return v;
}
static inline uint32_t __float_as_uint(float f) { return (uint32_t)__float_as_int(f); }
static inline int __float2int_rn(float f) { return (int)rintf(f); }
static inline int __clz(int v) { return v ? __builtin_clz((unsigned)v) : 32; }
static inline int __ffs(int v) { return __builtin_ffs(v); }
static inline int __popc(unsigned v) { return __builtin_popcount(v); }
static inline float rsqrtf(float v) { return 1.0f / sqrtf(v); }
template <class T> static inline T min(T a, T b) { return b < a ? b : a; }
template <class T> static inline T max(T a, T b) { return a < b ? b : a; }
template <class T> static inline T __ldg(const T *p) { return *p; }
static inline int atomicAdd(int *p, int v) { return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST); }
static inline unsigned atomicAdd(unsigned *p, unsigned v) { return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST); }

#endif
