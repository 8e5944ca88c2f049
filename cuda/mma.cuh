/* SPDX-License-Identifier: Apache-2.0
 *
 * Tensor-core products of a warp. Lane = 4 g + t (g 0..7, t 0..3). Registers hold, k ascending within a register:
 *
 *   m16n8k16, 16-bit floats    a[0] row g,   k 2t, 2t+1      a[1] row g+8, the same    a[2], a[3] the same at k + 8
 *                              b[0] column g, k 2t, 2t+1     b[1] at k + 8
 *   m16n8k32, int8             a[0] row g, k 4t .. 4t+3      a[1] row g+8              a[2], a[3] at k + 16
 *                              b[0] column g, k 4t .. 4t+3   b[1] at k + 16
 *   m16n8k16, int8             a[0], a[1] and b of the k < 16 half
 *   c                          c[0] row g, column 2t   c[1] column 2t+1   c[2], c[3] row g+8
 *
 * Sparse rows (mma.sp, sm_80 on): a holds two of every four columns, as above; indexes, four bits per four columns,
 * first | second << 2, ascending, columns upward from the low bits: m16n8k32, 16-bit floats    a as m16n8k16; b[i]
 * column g, k 8i + 2t, 2t+1; indexes: t 0 has columns 0..15, t 1 columns 16..31, of row g in the low half of the word
 * and of row g+8 in the high half m16n8k64, int8             a as m16n8k32; b[i] column g, k 16i + 4t .. 4t+3; indexes:
 * t 0 row g and t 1 row g+8 of columns 0..31, t 2 and t 3 the same of columns 32..63
 *
 * equal: int8 exactly; floats: products exact, sums in f32 in an order of the machine's own.
 * spec: PTX ISA, "Matrix Fragments for mma.m16n8k16 / mma.m16n8k32", "... for sparse mma.m16n8k32 / m16n8k64"; the
 * order of indexes is also that of CUTLASS's reorder_meta. */
#ifndef PARE_CUDA_MMA_CUH
#define PARE_CUDA_MMA_CUH

#include "cuda/dev.cuh"

#ifdef PARE_EMU
/* One warp's product: every lane gives a[4], b[2] and c[4], element values by `value`. */
template <class S, S (*value)(uint32_t reg, int i), int PER, int HALVES = 2>
static inline void emu_mma(S *c, const uint32_t *a, const uint32_t *b) {
    struct give {
        const uint32_t *a, *b;
        const S *c;
    } in = {a, b, c};
    S out[4];
    emu_collect(32, 0xffffffffu, "mma", &in, out, [](emu_lanes *l) {
        const int K = 4 * PER * HALVES;
        S wa[16][K], wb[8][K]; /* each value once */
        for (int k = 0; k < K; k++) {
            int owner = k / PER % 4, high = k / (4 * PER);
            for (int row = 0; row < 16; row++)
                wa[row][k] = value(((const give *)l->in[row % 8 * 4 + owner])->a[row / 8 + 2 * high], k % PER);
            for (int col = 0; col < 8; col++)
                wb[col][k] = value(((const give *)l->in[col * 4 + owner])->b[high], k % PER);
        }
        for (int lane = 0; lane < 32; lane++)
            for (int i = 0; i < 4; i++) {
                int row = lane / 4 + i / 2 * 8, col = 2 * (lane % 4) + i % 2;
                S sum = ((const give *)l->in[lane])->c[i];
                for (int k = 0; k < K; k++) sum += wa[row][k] * wb[col][k];
                ((S *)l->out[lane])[i] = sum;
            }
    });
    for (int i = 0; i < 4; i++) c[i] = out[i];
}
/* The same with a sparse a[4]; where: the lane that has the indexes of (row, group of four columns), and their shift.
 */
template <class S, S (*value)(uint32_t reg, int i), int PER, void (*where)(int row, int group, int *lane, int *shift)>
static inline void emu_mma_sp(S *c, const uint32_t *a, const uint32_t *b, uint32_t places) {
    struct give {
        const uint32_t *a, *b;
        const S *c;
        uint32_t places;
    } in = {a, b, c, places};
    S out[4];
    emu_collect(32, 0xffffffffu, "mma.sp", &in, out, [](emu_lanes *l) {
        const int K = 16 * PER;
        S wa[16][K / 2], wb[8][K];
        int from[16][K / 2]; /* the column of a stored value */
        for (int row = 0; row < 16; row++)
            for (int i = 0; i < K / 2; i++) {
                int lane, shift, t = i / PER % 4, high = i / (4 * PER);
                where(row, i / 2, &lane, &shift);
                int two = (int)(((const give *)l->in[row % 8 * 4 + lane])->places >> shift & 15);
                if ((two & 3) >= two >> 2) emu_fail("mma.sp: indexes %d and %d in row %d", two & 3, two >> 2, row);
                from[row][i] = i / 2 * 4 + (i % 2 ? two >> 2 : two & 3);
                wa[row][i] = value(((const give *)l->in[row % 8 * 4 + t])->a[row / 8 + 2 * high], i % PER);
            }
        for (int col = 0; col < 8; col++)
            for (int k = 0; k < K; k++)
                wb[col][k] = value(((const give *)l->in[col * 4 + k / PER % 4])->b[k / (4 * PER)], k % PER);
        for (int lane = 0; lane < 32; lane++)
            for (int i = 0; i < 4; i++) {
                int row = lane / 4 + i / 2 * 8, col = 2 * (lane % 4) + i % 2;
                S sum = ((const give *)l->in[lane])->c[i];
                for (int k = 0; k < K / 2; k++) sum += wa[row][k] * wb[col][from[row][k]];
                ((S *)l->out[lane])[i] = sum;
            }
    });
    for (int i = 0; i < 4; i++) c[i] = out[i];
}
static inline void emu_sp_half(int row, int group, int *lane, int *shift) {
    *lane = group / 4, *shift = row / 8 * 16 + group % 4 * 4;
}
static inline void emu_sp_byte(int row, int group, int *lane, int *shift) {
    *lane = group / 8 * 2 + row / 8, *shift = group % 8 * 4;
}
static inline float emu_half_value(uint32_t r, int i) { return pare_h2f((uint16_t)(r >> 16 * i)); }
static inline float emu_bf16_value(uint32_t r, int i) { return pare_bf2f((uint16_t)(r >> 16 * i)); }
static inline int32_t emu_s8_value(uint32_t r, int i) { return (int8_t)(r >> 8 * i); }
#endif

/* Four 8 x 8 matrices of 16-bit numbers from shared memory: lane 8 i + r gives the address of row r of matrix i (16
 * bytes, aligned); v[i] of lane 4 g + t gets row g, columns 2t, 2t+1 of matrix i. TRANS: rows 2t, 2t+1 of column g. */
template <bool TRANS> __device__ __forceinline__ void pare_ldmatrix4(uint32_t (&v)[4], const void *row) {
#ifdef PARE_EMU
    if ((uintptr_t)row & 15) emu_fail("ldmatrix at an address that is not a multiple of 16");
    emu_collect(32, 0xffffffffu, TRANS ? "ldmatrix.trans" : "ldmatrix", &row, v, [](emu_lanes *l) {
        for (int lane = 0; lane < 32; lane++)
            for (int i = 0; i < 4; i++) {
                uint32_t both = 0;
                for (int e = 0; e < 2; e++) {
                    int r = TRANS ? lane % 4 * 2 + e : lane / 4, c = TRANS ? lane / 4 : lane % 4 * 2 + e;
                    both |= (uint32_t)(*(const uint16_t *const *)l->in[8 * i + r])[c] << 16 * e;
                }
                ((uint32_t *)l->out[lane])[i] = both;
            }
    });
#else
    uint32_t at = (uint32_t)__cvta_generic_to_shared(row);
    if (TRANS)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3])
                     : "r"(at)
                     : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3])
                     : "r"(at)
                     : "memory");
#endif
}

__device__ __forceinline__ void pare_mma_f16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#ifdef PARE_EMU
    emu_mma<float, emu_half_value, 2>(c, a, b);
#elif __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else /* two of k8 */
    for (int h = 0; h < 2; h++)
        asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[2 * h]), "r"(a[2 * h + 1]), "r"(b[h]));
#endif
}

/* Needs sm_80: callers ask the device first. */
__device__ __forceinline__ void pare_mma_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#ifdef PARE_EMU
    emu_mma<float, emu_bf16_value, 2>(c, a, b);
#elif __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    __trap();
#endif
}

__device__ __forceinline__ void pare_mma_s8(int32_t (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#ifdef PARE_EMU
    emu_mma<int32_t, emu_s8_value, 4>(c, a, b);
#elif __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else /* four of m8n8k16 */
    for (int h = 0; h < 2; h++)
        for (int r = 0; r < 2; r++)
            asm("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0,%1}, {%2}, {%3}, {%0,%1};"
                : "+r"(c[2 * r]), "+r"(c[2 * r + 1])
                : "r"(a[2 * h + r]), "r"(b[h]));
#endif
}

__device__ __forceinline__ void pare_mma_s8_k16(int32_t (&c)[4], uint32_t a0, uint32_t a1, uint32_t b) {
#ifdef PARE_EMU
    const uint32_t a[2] = {a0, a1};
    emu_mma<int32_t, emu_s8_value, 4, 1>(c, a, &b);
#elif __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a0), "r"(a1), "r"(b));
#else
    asm("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0,%1}, {%2}, {%3}, {%0,%1};"
        : "+r"(c[0]), "+r"(c[1])
        : "r"(a0), "r"(b));
    asm("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0,%1}, {%2}, {%3}, {%0,%1};"
        : "+r"(c[2]), "+r"(c[3])
        : "r"(a1), "r"(b));
#endif
}

/* Sparse rows. Need sm_80: callers ask the device first. */
#if !defined(PARE_EMU) && __CUDA_ARCH__ >= 800
#define PARE_MMA_SP(shape, reg)                                                                                        \
    asm("mma.sp::ordered_metadata.sync.aligned." shape                                                                 \
        " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9,%10,%11}, {%0,%1,%2,%3}, %12, 0x0;"                                     \
        : "+" reg(c[0]), "+" reg(c[1]), "+" reg(c[2]), "+" reg(c[3])                                                   \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(b[2]), "r"(b[3]), "r"(places))
#else
#define PARE_MMA_SP(shape, reg) __trap()
#endif

__device__ __forceinline__ void pare_mma_sp_f16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[4],
                                                uint32_t places) {
#ifdef PARE_EMU
    emu_mma_sp<float, emu_half_value, 2, emu_sp_half>(c, a, b, places);
#else
    PARE_MMA_SP("m16n8k32.row.col.f32.f16.f16.f32", "f");
#endif
}

__device__ __forceinline__ void pare_mma_sp_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[4],
                                                 uint32_t places) {
#ifdef PARE_EMU
    emu_mma_sp<float, emu_bf16_value, 2, emu_sp_half>(c, a, b, places);
#else
    PARE_MMA_SP("m16n8k32.row.col.f32.bf16.bf16.f32", "f");
#endif
}

__device__ __forceinline__ void pare_mma_sp_s8(int32_t (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[4],
                                               uint32_t places) {
#ifdef PARE_EMU
    emu_mma_sp<int32_t, emu_s8_value, 4, emu_sp_byte>(c, a, b, places);
#else
    PARE_MMA_SP("m16n8k64.row.col.s32.s8.s8.s32", "r");
#endif
}
#undef PARE_MMA_SP

#endif
