/* SPDX-License-Identifier: Apache-2.0
 *
 * Tensor-core products of a warpgroup (wgmma, sm_90a): D [64][N] += A [64][K] B [N][K]^T, K = 16 f16 or 32 int8. The
 * 128 threads give the same call; the product runs in the background. Warp w of the four has rows 16 w .. 16 w + 15, in
 * fragments as in cuda/mma.cuh:
 *
 *   a   four registers, as of m16n8k16
 *   d   d[4 j], d[4 j + 1]: row g, columns 8 j + 2 t, + 1       d[4 j + 2], d[4 j + 3]: row g + 8
 *
 * Operands in shared memory: rows of 128 bytes (64 f16, 128 int8), k ascending, row r at r * 128, its pieces of 16
 * bytes in the order piece ^ (r % 8) (pare_swizzle): "K-major, 128-byte swizzle". The whole starts at a multiple of
 * 1024.
 *
 * Order of calls: what cp.async has brought is fenced by its thread (pare_fence_shared) before the barrier that shows
 * it to others; pare_wgmma_fence after registers were touched and before the first product; commit; wait before
 * registers or memory of the product are touched again. The emulator takes a product at its issue or at its wait by
 * coin toss, each thread for itself, and fails on a missing fence.
 *
 * equal: int8 exactly; floats: products exact, sums in f32 in an order of the machine's own, cut instead of rounded.
 * spec: PTX ISA, "Asynchronous Warpgroup Level Matrix Instructions". */
#ifndef PARE_CUDA_WGMMA_CUH
#define PARE_CUDA_WGMMA_CUH

#include "cuda/mma.cuh"

/* Byte of row r at which piece `piece` (16 bytes) of the row starts. */
__device__ __forceinline__ int pare_swizzle(int r, int piece) { return r * 128 + (piece ^ (r & 7)) * 16; }

/* Where an operand starts; + bytes / 16 goes on along k within the row of 128 bytes. */
__device__ __forceinline__ uint64_t pare_wgmma_operand(const void *shared) {
#ifdef PARE_EMU
    uint64_t at = (uint64_t)((const char *)shared - (const char *)emu_dynamic_shared());
    if (at & 15 || at > 227u << 10) emu_fail("an operand of wgmma at %llx of shared memory", (unsigned long long)at);
#else
    uint64_t at = (uint64_t)__cvta_generic_to_shared(shared);
#endif
    return (at & 0x3ffff) >> 4 | (uint64_t)1 << 16 | (uint64_t)(1024 >> 4) << 32 | (uint64_t)1 << 62;
}

__device__ __forceinline__ void pare_fence_shared(void) {
#ifdef PARE_EMU
    emu_here->flags &= ~EMU_UNSEEN;
#else
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}
__device__ __forceinline__ void pare_wgmma_fence(void) {
#ifdef PARE_EMU
    emu_here->flags |= EMU_FENCED;
#elif defined __CUDA_ARCH_FEAT_SM90_ALL
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}
__device__ __forceinline__ void pare_wgmma_commit(void) {
#ifdef PARE_EMU
    emu_async_commit(1);
#elif defined __CUDA_ARCH_FEAT_SM90_ALL
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}
/* All but the last LEFT groups of this warp are done. */
template <int LEFT> __device__ __forceinline__ void pare_wgmma_wait(void) {
#ifdef PARE_EMU
    emu_async_wait(1, LEFT);
    emu_here->flags &= ~EMU_FENCED;
    __syncwarp();
#elif defined __CUDA_ARCH_FEAT_SM90_ALL
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(LEFT) : "memory");
#endif
}
/* Keeps the compiler from moving uses of d over a wait. */
template <int N> __device__ __forceinline__ void pare_wgmma_keep(float (&d)[N]) {
#ifndef PARE_EMU
#pragma unroll
    for (int i = 0; i < N; i++) asm volatile("" : "+f"(d[i])::"memory");
#endif
}
template <int N> __device__ __forceinline__ void pare_wgmma_keep(int32_t (&d)[N]) {
#ifndef PARE_EMU
#pragma unroll
    for (int i = 0; i < N; i++) asm volatile("" : "+r"(d[i])::"memory");
#endif
}

#ifdef PARE_EMU
static inline uint32_t emu_wgmma_word(uint64_t operand, int row, int byte) {
    uint32_t at = (uint32_t)(operand & 0x3fff) << 4, v;
    if (operand >> 62 != 1) emu_fail("an operand of wgmma without the 128-byte swizzle");
    at += (uint32_t)(row / 8) * ((uint32_t)(operand >> 32 & 0x3fff) << 4) + (uint32_t)(row % 8 * 128 + byte);
    at ^= (at >> 7 & 7) << 4;
    memcpy(&v, (const char *)emu_dynamic_shared() + at, 4);
    return v;
}
/* This lane's part of the product: rows g and g + 8 of its warp, columns 8 j + 2 t and + 1. a of the four lanes of g.
 */
template <class S, S (*value)(uint32_t reg, int i), int PER, int N>
static inline void emu_wgmma_lane(S *d, const uint32_t *const *a, uint64_t oa, uint64_t ob, bool add) {
    int lane = emu_lane(), g = lane / 4, t = lane % 4, warp = (int)(emu_here->linear % 128 / 32);
    S va[2][8 * PER], vb[8 * PER];
    for (int h = 0; h < 2; h++)
        for (int k = 0; k < 8 * PER; k++) {
            int owner = k / PER % 4, high = k / (4 * PER);
            uint32_t word = a ? a[owner][h + 2 * high] : emu_wgmma_word(oa, 16 * warp + g + 8 * h, k / PER * 4);
            va[h][k] = value(word, k % PER);
        }
    for (int j = 0; j < N / 4; j++) {
        for (int k = 0; k < 8 * PER; k++)
            vb[k] = value(emu_wgmma_word(ob, j / 2 * 8 + 2 * t + j % 2, k / PER * 4), k % PER);
        for (int h = 0; h < 2; h++) {
            S *to = d + j / 2 * 4 + 2 * h + j % 2, sum = add ? *to : (S)0;
            for (int k = 0; k < 8 * PER; k++) sum += va[h][k] * vb[k];
            *to = sum;
        }
    }
}
template <class S, S (*value)(uint32_t reg, int i), int PER, int N>
static inline void emu_wgmma(S *d, const uint32_t *a, uint64_t oa, uint64_t ob, bool add) {
    struct give {
        const uint32_t *a;
        uint64_t oa, ob;
        bool add;
    } in = {a, oa, ob, add};
    struct quad {
        const uint32_t *a[4];
    } q = {};
    if (!(emu_here->flags & EMU_FENCED)) emu_fail("wgmma without a fence since the last wait");
    if (emu_here->flags & EMU_UNSEEN) emu_fail("wgmma after a copy to shared memory that was not fenced");
    emu_collect(128, 0, "wgmma", &in, &q, [](emu_lanes *l) {
        const give *first = (const give *)l->in[0];
        for (int i = 0; i < 128; i++) {
            const give *v = (const give *)l->in[i];
            if (v->oa != first->oa || v->ob != first->ob || v->add != first->add)
                emu_fail("threads of a warpgroup give different calls of wgmma");
            for (int k = 0; k < 4; k++) ((quad *)l->out[i])->a[k] = ((const give *)l->in[i / 4 * 4 + k])->a;
        }
    });
    emu_async([=] { emu_wgmma_lane<S, value, PER, N>(d, a ? q.a : NULL, oa, ob, add); }, 1);
}
#else
/* Lists of registers for the text of the instructions. */
#define PARE_L0 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15"
#define PARE_L1 "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define PARE_L2 "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47"
#define PARE_L3 "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define PARE_L4 "%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79"
#define PARE_L5 "%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95"
#define PARE_L6 "%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111"
#define PARE_L7 "%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"
#define PARE_D8(c, d, i)                                                                                               \
    c((d)[i]), c((d)[(i) + 1]), c((d)[(i) + 2]), c((d)[(i) + 3]), c((d)[(i) + 4]), c((d)[(i) + 5]), c((d)[(i) + 6]),   \
        c((d)[(i) + 7])
#define PARE_D32(c, d, i) PARE_D8(c, d, i), PARE_D8(c, d, (i) + 8), PARE_D8(c, d, (i) + 16), PARE_D8(c, d, (i) + 24)
#define PARE_D64(c, d)    PARE_D32(c, d, 0), PARE_D32(c, d, 32)
#define PARE_D128(c, d)   PARE_D64(c, d), PARE_D32(c, d, 64), PARE_D32(c, d, 96)
#define PARE_LIST64       "{" PARE_L0 "," PARE_L1 "," PARE_L2 "," PARE_L3 "}"
#define PARE_LIST128      "{" PARE_L0 "," PARE_L1 "," PARE_L2 "," PARE_L3 "," PARE_L4 "," PARE_L5 "," PARE_L6 "," PARE_L7 "}"
#endif

/* add: D += A B, else D = A B; the same in all threads. */

/* A from registers, 128 columns */
__device__ __forceinline__ void pare_wgmma_f16_n128(float (&d)[64], const uint32_t (&a)[4], uint64_t b, bool add) {
#ifdef PARE_EMU
    emu_wgmma<float, emu_half_value, 2, 128>(d, a, 0, b, add);
#elif defined __CUDA_ARCH_FEAT_SM90_ALL
    asm volatile("{.reg .pred p;\n setp.ne.b32 p, %69, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 " PARE_LIST64
                 ", {%64,%65,%66,%67}, %68, p, 1, 1, 0;}"
                 : PARE_D64("+f", d)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"((int)add));
#endif
}
__device__ __forceinline__ void pare_wgmma_s8_n64(int32_t (&d)[32], uint64_t a, uint64_t b, bool add) {
#ifdef PARE_EMU
    emu_wgmma<int32_t, emu_s8_value, 4, 64>(d, NULL, a, b, add);
#elif defined __CUDA_ARCH_FEAT_SM90_ALL
    asm volatile("{.reg .pred p;\n setp.ne.b32 p, %34, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n64k32.s32.s8.s8 {" PARE_L0 "," PARE_L1 "}, %32, %33, p;}"
                 : PARE_D32("+r", d, 0)
                 : "l"(a), "l"(b), "r"((int)add));
#endif
}
__device__ __forceinline__ void pare_wgmma_s8_n256(int32_t (&d)[128], uint64_t a, uint64_t b, bool add) {
#ifdef PARE_EMU
    emu_wgmma<int32_t, emu_s8_value, 4, 256>(d, NULL, a, b, add);
#elif defined __CUDA_ARCH_FEAT_SM90_ALL
    asm volatile("{.reg .pred p;\n setp.ne.b32 p, %130, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n256k32.s32.s8.s8 " PARE_LIST128 ", %128, %129, p;}"
                 : PARE_D128("+r", d)
                 : "l"(a), "l"(b), "r"((int)add));
#endif
}

#endif
