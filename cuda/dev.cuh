/* SPDX-License-Identifier: Apache-2.0
 *
 * What kernels are written with: one wrapper per machine instruction, each with a plain C body for the emulator
 * (cuda/emu/). 16-bit floats are raw bits: uint16_t for one, uint32_t for a pair, first element low.
 * Build flags: -fmad=false, so a * b + c is two roundings; fmaf where one is wanted.
 * Launch: pare_launch<kernel<...>>(stream, grid, block, shared bytes, arguments...). */
#ifndef PARE_CUDA_DEV_CUH
#define PARE_CUDA_DEV_CUH

#ifdef PARE_EMU
#include "cuda/emu/emu.h"
#define PARE_DYNAMIC_SHARED(type, name) type *name = (type *)emu_dynamic_shared()
#define PARE_SHARED(type, name, n)                                                                                     \
    static const char name##_key = 0;                                                                                  \
    type *name = (type *)emu_static_shared(&name##_key, sizeof(type) * (n))
#else
#include <cuda_runtime.h>
#include <stdint.h>
/* One dynamic array for all kernels of a file: a template cannot redeclare it with another type. */
extern __shared__ __align__(1024) unsigned char pare_dynamic_shared[];
#define PARE_DYNAMIC_SHARED(type, name) type *name = reinterpret_cast<type *>(pare_dynamic_shared)
#define PARE_SHARED(type, name, n)                                                                                     \
    __shared__ __align__(16) type name##_array[n];                                                                     \
    type *name = name##_array
#endif

/* ---- launching ---- */

#ifdef PARE_EMU
template <auto K, class... A> static inline void pare_launch(void *, dim3 grid, dim3 block, size_t shared, A... args) {
    emu_launch(__PRETTY_FUNCTION__, grid, block, shared, [=] { K(args...); });
}
#else
template <auto K, class... A>
static inline void pare_launch(void *stream, dim3 grid, dim3 block, size_t shared, A... args) {
    static size_t allowed = 48u << 10; /* more must be asked for, once per kernel */
    if (shared > allowed &&
        cudaFuncSetAttribute((const void *)K, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared) == cudaSuccess)
        allowed = shared;
    K<<<grid, block, shared, (cudaStream_t)stream>>>(args...);
}
#endif

/* ---- 16-bit floats ---- */

__device__ __forceinline__ uint32_t pare_bits(float f) { return __float_as_uint(f); }
__device__ __forceinline__ float pare_float(uint32_t u) { return __uint_as_float(u); }

__device__ __forceinline__ float pare_h2f(uint16_t h) { /* f16 to f32, exact */
#ifdef PARE_EMU
    uint32_t s = (uint32_t)(h & 0x8000) << 16, m = h & 0x7fff;
    if (m >= 0x7c00) return pare_float(s | 0x7f800000u | (m & 0x3ff) << 13);
    return s ? -((float)0 + pare_float((m << 13)) * 0x1p112f) : pare_float(m << 13) * 0x1p112f;
#else
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
    return f;
#endif
}
__device__ __forceinline__ float pare_bf2f(uint16_t h) { return pare_float((uint32_t)h << 16); }

__device__ __forceinline__ uint16_t pare_f2h(float f) { /* to nearest even; overflow to infinity */
#ifdef PARE_EMU
    uint32_t u = pare_bits(f), s = u >> 16 & 0x8000, a = u & 0x7fffffff;
    if (a > 0x7f800000u) return (uint16_t)(s | 0x7fff);
    if (a >= 0x477ff000u) return (uint16_t)(s | 0x7c00);
    if (a < 0x38800000u) /* subnormal: adding 0.5 rounds at 2^-24 */
        return (uint16_t)(s | (pare_bits(pare_float(a) + 0.5f) - 0x3f000000u));
    a += 0xc8000fffu + (a >> 13 & 1);
    return (uint16_t)(s | a >> 13);
#else
    uint16_t h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
    return h;
#endif
}
__device__ __forceinline__ uint16_t pare_f2bf(float f) { /* to nearest even */
    uint32_t u = pare_bits(f);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
}
__device__ __forceinline__ uint32_t pare_f2h2(float low, float high) { /* a pair of f16 */
#ifdef PARE_EMU
    return pare_f2h(low) | (uint32_t)pare_f2h(high) << 16;
#elif __CUDA_ARCH__ >= 800
    uint32_t r;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
#else
    uint32_t r;
    asm("{.reg .f16 a, b;\n cvt.rn.f16.f32 a, %1;\n cvt.rn.f16.f32 b, %2;\n mov.b32 %0, {a, b};}"
        : "=r"(r)
        : "f"(low), "f"(high));
    return r;
#endif
}
__device__ __forceinline__ uint32_t pare_f2bf2(float low, float high) { /* a pair of bf16 */
#if !defined PARE_EMU && __CUDA_ARCH__ >= 800
    uint32_t r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
#else
    return pare_f2bf(low) | (uint32_t)pare_f2bf(high) << 16;
#endif
}

#ifdef PARE_EMU
#define PARE_HALF2_OP(name, ptx, expr)                                                                                 \
    static inline uint32_t name(uint32_t a, uint32_t b) {                                                              \
        uint32_t r = 0;                                                                                                \
        for (int i = 0; i < 2; i++) {                                                                                  \
            float x = pare_h2f((uint16_t)(a >> 16 * i)), y = pare_h2f((uint16_t)(b >> 16 * i));                        \
            r |= (uint32_t)pare_f2h(expr) << 16 * i;                                                                   \
        }                                                                                                              \
        return r;                                                                                                      \
    }
#else
#define PARE_HALF2_OP(name, ptx, expr)                                                                                 \
    __device__ __forceinline__ uint32_t name(uint32_t a, uint32_t b) {                                                 \
        uint32_t r;                                                                                                    \
        asm(ptx ".f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));                                                      \
        return r;                                                                                                      \
    }
#endif
PARE_HALF2_OP(pare_hadd2, "add.rn", x + y)
PARE_HALF2_OP(pare_hsub2, "sub.rn", x - y)
PARE_HALF2_OP(pare_hmul2, "mul.rn", x *y)
#undef PARE_HALF2_OP
__device__ __forceinline__ uint32_t pare_hfma2(uint32_t a, uint32_t b, uint32_t c) { /* a * b + c, rounded once */
#ifdef PARE_EMU
    uint32_t r = 0;
    for (int i = 0; i < 2; i++) { /* f16 products are exact in f32; a sum that is not is nowhere near f16's ties */
        float x = pare_h2f((uint16_t)(a >> 16 * i)) * pare_h2f((uint16_t)(b >> 16 * i));
        r |= (uint32_t)pare_f2h(x + pare_h2f((uint16_t)(c >> 16 * i))) << 16 * i;
    }
    return r;
#else
    uint32_t r;
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(c));
    return r;
#endif
}

/* ---- arithmetic ---- */

/* 2^x, 2 ulp; results below the normal numbers may be 0. */
__device__ __forceinline__ float pare_exp2(float x) {
#ifdef PARE_EMU
    return exp2f(x);
#else
    float r;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
#endif
}

/* ---- bits ---- */

/* (a & b) | c in one instruction */
__device__ __forceinline__ uint32_t pare_and_or(uint32_t a, uint32_t b, uint32_t c) {
#ifdef PARE_EMU
    return (a & b) | c;
#else
    uint32_t r;
    asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(r) : "r"(a), "r"(b), "r"(c));
    return r;
#endif
}

/* Four bytes out of a (0-3) and b (4-7). pre: the selector's four low nibbles are below 8, which __byte_perm makes sure
 * of with an instruction */
__device__ __forceinline__ uint32_t pare_pick(uint32_t a, uint32_t b, uint32_t selector) {
#ifdef PARE_EMU
    if (selector & 0x8888) emu_fail("a selector of bytes has a nibble above 7: %x", selector);
    return __byte_perm(a, b, selector);
#else
    uint32_t r;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(selector));
    return r;
#endif
}

/* ---- memory ---- */

__device__ __forceinline__ uint4 pare_load_stream(const void *p) { /* 16 bytes, aligned, read once: do not keep in L1 */
#ifdef PARE_EMU
    if ((uintptr_t)p & 15) emu_fail("a load of 16 bytes at an address that is not a multiple of 16");
    return *(const uint4 *)p;
#else
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(p));
    return v;
#endif
}

/* Four floats at a multiple of 16 bytes. */
__device__ __forceinline__ float4 pare_load4(const float *p) {
#ifdef PARE_EMU
    if ((uintptr_t)p & 15) emu_fail("a load of 16 bytes at an address that is not a multiple of 16");
#endif
    return *(const float4 *)p;
}
__device__ __forceinline__ void pare_store4(float *p, float4 v) {
#ifdef PARE_EMU
    if ((uintptr_t)p & 15) emu_fail("a store of 16 bytes at an address that is not a multiple of 16");
#endif
    *(float4 *)p = v;
}

__device__ __forceinline__ void pare_prefetch(const void *p) { /* the line around p to L2; p must be readable */
#ifdef PARE_EMU
    (void)*(const volatile char *)p;
#else
    asm volatile("prefetch.global.L2 [%0];" ::"l"(p));
#endif
}

/* pare_load_stream for 8 and for 4 bytes. */
__device__ __forceinline__ uint2 pare_load_stream2(const void *p) {
#ifdef PARE_EMU
    if ((uintptr_t)p & 7) emu_fail("a load of 8 bytes at an address that is not a multiple of 8");
    return *(const uint2 *)p;
#else
    uint2 v;
    asm volatile("ld.global.nc.L1::no_allocate.v2.u32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "l"(p));
    return v;
#endif
}
__device__ __forceinline__ uint32_t pare_load_stream1(const void *p) {
#ifdef PARE_EMU
    if ((uintptr_t)p & 3) emu_fail("a load of 4 bytes at an address that is not a multiple of 4");
    return *(const uint32_t *)p;
#else
    uint32_t v;
    asm volatile("ld.global.nc.L1::no_allocate.u32 %0, [%1];" : "=r"(v) : "l"(p));
    return v;
#endif
}

/* Copies of 4, 8 or 16 bytes from global to shared memory in the background; `have` of them are read (0 to all), the
 * rest of the destination becomes 0. Before sm_80 they are done at once. */
template <int BYTES> __device__ __forceinline__ void pare_cp_async(void *shared, const void *global, int have = BYTES) {
    static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16, "cp.async moves 4, 8 or 16 bytes");
#ifdef PARE_EMU
    if (((uintptr_t)shared | (have ? (uintptr_t)global : 0)) & (BYTES - 1))
        emu_fail("an asynchronous copy of %d bytes is not aligned", BYTES);
    emu_async(
        [=] {
            memset(shared, 0, BYTES);
            memcpy(shared, global, (size_t)have);
        },
        0);
#elif __CUDA_ARCH__ >= 800
    uint32_t to = (uint32_t)__cvta_generic_to_shared(shared);
    if (BYTES == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(have) : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to), "l"(global), "n"(BYTES), "r"(have)
                     : "memory");
#else
    for (int i = 0; i < BYTES / 4; i++) ((uint32_t *)shared)[i] = 4 * i < have ? ((const uint32_t *)global)[i] : 0u;
#endif
}
__device__ __forceinline__ void pare_cp_async_commit(void) {
#ifdef PARE_EMU
    emu_async_commit(0);
#elif __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
/* This thread's copies, all but the last LEFT groups, are done; other threads see them after a barrier. */
template <int LEFT> __device__ __forceinline__ void pare_cp_async_wait(void) {
#ifdef PARE_EMU
    emu_async_wait(0, LEFT);
    emu_here->flags |= EMU_UNSEEN;
#elif __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
#endif
}

/* ---- sums over a warp, same order in every run ---- */

__device__ __forceinline__ float pare_warp_sum(float v) {
    for (int d = 16; d; d /= 2) v += __shfl_xor_sync(0xffffffffu, v, d);
    return v;
}
__device__ __forceinline__ float pare_warp_max(float v) {
    for (int d = 16; d; d /= 2) v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, d));
    return v;
}

#endif
