/* SPDX-License-Identifier: Apache-2.0
 *
 * Tensor-core products of stored weights and tokens, for more tokens than the GEMV takes. Weights are the row operand
 * of mma.sync, tokens its columns; codes are exact in f16 and int8, so only x is rounded. Per chunk of 32 columns (16
 * where half chunks have scales) products start from zero and go as acc += scale * product into f32:
 *   f16     (rules NONE: two terms of x, F16: one)   acc += minimum * sums, at the end times row_scale
 *   int8    product exact in int32, acc += scale * (x scale * product) + minimum * sums
 * Lane t of a row reads the columns 4t .. 4t+3 and 16+4t .. of a chunk, of weights and of tokens: the k order of the
 * tensor product is free as long as both agree, so nothing is shuffled.
 *
 * Work: (tile, stage of K) pairs in one line, dealt to as many blocks as the device holds, so that all of them end
 * together whatever N and K are; a tile that several blocks share goes through `parts` and is added in block order.
 * paper: Frantar et al., MARLIN, 2024 (striped partitioning; nibbles to f16 by logic) */
#ifndef PARE_CUDA_MM_CODES_CUH
#define PARE_CUDA_MM_CODES_CUH

#include "cuda/mm_fragments.cuh"
#include "cuda/mma.cuh"

/* acc += scale * product + minimum * sum, for rows g, g+8 and tokens 2t, 2t+1. */
template <bool MINIMA>
__device__ __forceinline__ void pare_codes_add(float (&acc)[4], const float (&p)[4], float s0, float s1, float m0,
                                               float m1, float2 sum) {
    acc[0] = fmaf(s0, p[0], acc[0]), acc[1] = fmaf(s0, p[1], acc[1]);
    acc[2] = fmaf(s1, p[2], acc[2]), acc[3] = fmaf(s1, p[3], acc[3]);
    if (MINIMA) {
        acc[0] = fmaf(m0, sum.x, acc[0]), acc[1] = fmaf(m0, sum.y, acc[1]);
        acc[2] = fmaf(m1, sum.x, acc[2]), acc[3] = fmaf(m1, sum.y, acc[3]);
    }
}

/* What minima multiply, for entry e of the stage. */
template <class T> __device__ __forceinline__ float2 pare_codes_sums(const uint8_t *s, int token, int e) {
    if constexpr (!T::MINIMA) return make_float2(0.0f, 0.0f);
    const float *at = (const float *)(s + T::AT_SUMS) + token;
    if (T::F::HALVES) return *(const float2 *)(at + e * T::TOKENS);
    float2 a = *(const float2 *)(at + 2 * e * T::TOKENS), b = *(const float2 *)(at + (2 * e + 1) * T::TOKENS);
    return make_float2(a.x + b.x, a.y + b.y);
}

/* One chunk: c of the stage, its entries j .. of the scales at hand. */
template <class T, int COUNT>
__device__ __forceinline__ void
pare_codes_chunk_f16(const uint8_t *s, int row0, int token0, int c, int j, const float (&scale)[T::MT * 2][COUNT],
                     const float (&minimum)[T::MT * 2][COUNT], typename T::sum (&acc)[T::MT][T::NT][4]) {
    typedef typename T::F F;
    int g = (int)threadIdx.x % 32 / 4, t = (int)threadIdx.x % 4;
    uint32_t a[T::MT][2][4];
#pragma unroll
    for (int i = 0; i < T::MT * 2; i++) {
        int row = row0 + i * 8 + g;
        uint32_t v[4];
        pare_code_halves<F>(s + row * T::LOW_ROW + c * F::LOW, s + T::AT_HIGH + row * T::HIGH_ROW + c * F::HIGH, t, v);
#pragma unroll
        for (int e = 0; e < 4; e++)
            a[i / 2][e / 2][i % 2 + e % 2 * 2] =
                T::ROUNDED ? pare_codes_rounded<T>(v[e], pare_bits(minimum[i][j])) : v[e];
    }
#pragma unroll
    for (int n = 0; n < T::NT; n++) {
        uint32_t b[T::X_TERMS][2][2];
#pragma unroll
        for (int i = 0; i < T::X_TERMS * 2; i++) {
            uint2 v = *(const uint2 *)(s + T::AT_X + (i / 2 * T::TOKENS + token0 + n * 8 + g) * T::X_ROW + c * 64 +
                                       i % 2 * 32 + t * 8);
            b[i / 2][i % 2][0] = v.x, b[i / 2][i % 2][1] = v.y;
        }
        constexpr int PARTS = F::HALVES ? 2 : 1;
#pragma unroll
        for (int h = 0; h < PARTS; h++) {
            float2 sum = pare_codes_sums<T>(s, token0 + n * 8 + 2 * t, c * PARTS + h);
#pragma unroll
            for (int i = 0; i < T::MT; i++) {
                float p[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
                for (int term = T::X_TERMS - 1; term >= 0; term--) /* small ones first */
#pragma unroll
                    for (int k = h; k < (F::HALVES ? h + 1 : 2); k++) pare_mma_f16(p, a[i][k], b[term][k]);
                pare_codes_add<T::MINIMA>(acc[i][n], p, scale[2 * i][j + h], scale[2 * i + 1][j + h],
                                          minimum[2 * i][j + h], minimum[2 * i + 1][j + h], sum);
            }
        }
    }
}

template <class T, int COUNT>
__device__ __forceinline__ void
pare_codes_chunk_i8(const uint8_t *s, int row0, int token0, int c, int j, const float (&scale)[T::MT * 2][COUNT],
                    const float (&minimum)[T::MT * 2][COUNT], typename T::sum (&acc)[T::MT][T::NT][4]) {
    typedef typename T::F F;
    int g = (int)threadIdx.x % 32 / 4, t = (int)threadIdx.x % 4;
    uint32_t a[T::MT][4];
#pragma unroll
    for (int i = 0; i < T::MT * 2; i++) {
        int row = row0 + i * 8 + g;
        F::codes(s + row * T::LOW_ROW + c * F::LOW, s + T::AT_HIGH + row * T::HIGH_ROW + c * F::HIGH, t,
                 a[i / 2][i % 2], a[i / 2][i % 2 + 2]);
    }
#pragma unroll
    for (int n = 0; n < T::NT; n++) {
        const uint8_t *x = s + T::AT_X + (token0 + n * 8 + g) * T::X_ROW + c * 32 + t * 4;
        uint32_t b[2] = {*(const uint32_t *)x, *(const uint32_t *)(x + 16)};
        float2 xs = *(const float2 *)(s + T::AT_X_SCALE + (c * T::TOKENS + token0 + n * 8 + 2 * t) * 4);
        constexpr int PARTS = F::HALVES ? 2 : 1;
#pragma unroll
        for (int h = 0; h < PARTS; h++) {
            float2 sum = pare_codes_sums<T>(s, token0 + n * 8 + 2 * t, c * PARTS + h);
#pragma unroll
            for (int i = 0; i < T::MT; i++) {
                int32_t d[4] = {0, 0, 0, 0};
                if constexpr (F::HALVES) pare_mma_s8_k16(d, a[i][2 * h], a[i][2 * h + 1], b[h]);
                else pare_mma_s8(d, a[i], b);
                float p[4];
#pragma unroll
                for (int e = 0; e < 4; e++) p[e] = (float)d[e] * (e % 2 ? xs.y : xs.x);
                pare_codes_add<T::MINIMA>(acc[i][n], p, scale[2 * i][j + h], scale[2 * i + 1][j + h],
                                          minimum[2 * i][j + h], minimum[2 * i + 1][j + h], sum);
            }
        }
    }
}

/* The same where int32 sums run over all of K. */
template <class T>
__device__ __forceinline__ void pare_codes_chunk_whole(const uint8_t *s, int row0, int token0, int c,
                                                       int32_t (&acc)[T::MT][T::NT][4]) {
    typedef typename T::F F;
    int g = (int)threadIdx.x % 32 / 4, t = (int)threadIdx.x % 4;
    uint32_t a[T::MT][4];
#pragma unroll
    for (int i = 0; i < T::MT * 2; i++)
        F::codes(s + (row0 + i * 8 + g) * T::LOW_ROW + c * F::LOW, nullptr, t, a[i / 2][i % 2], a[i / 2][i % 2 + 2]);
#pragma unroll
    for (int n = 0; n < T::NT; n++) {
        const uint8_t *x = s + T::AT_X + (token0 + n * 8 + g) * T::X_ROW + c * 32 + t * 4;
        uint32_t b[2] = {*(const uint32_t *)x, *(const uint32_t *)(x + 16)};
#pragma unroll
        for (int i = 0; i < T::MT; i++) pare_mma_s8(acc[i][n], a[i], b);
    }
}

/* One stage of K for this warp. */
template <class T>
__device__ __forceinline__ void pare_codes_stage(const pare_codes_args &a, const uint8_t *s, float *decoded,
                                                 const pare_codes_at<T> &at, typename T::sum (&acc)[T::MT][T::NT][4]) {
    int warp = (int)threadIdx.x / 32, row0 = warp / T::WN * T::MT * 16, token0 = warp % T::WN * T::NT * 8;
    if constexpr (T::WHOLE) {
#pragma unroll
        for (int c = 0; c < 4; c++) pare_codes_chunk_whole<T>(s, row0, token0, c, acc);
        return;
    } else {
        /* Few tokens: all chunks unrolled, four scales per load. Many: a chunk has enough work, registers are dear. */
        constexpr int PARTS = T::F::HALVES ? 2 : 1, COUNT = T::NT < 4 ? 4 : PARTS;
        float *scale = decoded + warp * T::DECODED * T::PLANES, *second = scale + (T::PLANES - 1) * T::DECODED;
        pare_codes_scales<T>(a, s, at.row0, row0, at.step, scale, second);
#pragma unroll(T::NT < 4 && !T::F::HALVES ? 4 : 1)
        for (int first = 0; first < T::ENTRIES; first += COUNT) {
            float sc[T::MT * 2][COUNT], mn[T::MT * 2][COUNT];
            pare_codes_read<T>(scale, first, sc);
            pare_codes_read<T>(second, first, mn);
#pragma unroll
            for (int j = 0; j < COUNT; j += PARTS) {
                int c = (first + j) / PARTS;
                if constexpr (T::INT8) pare_codes_chunk_i8<T>(s, row0, token0, c, j, sc, mn, acc);
                else pare_codes_chunk_f16<T>(s, row0, token0, c, j, sc, mn, acc);
            }
        }
    }
}

/* What an int32 sum over all of K is multiplied by. */
__device__ __forceinline__ float pare_codes_whole_scale(const pare_codes_args &a, int row, int token) {
    return pare_format_int8::scale(a.w, a.w.scales + (uint64_t)row * a.w.scale_row, 0, 0).x *
           a.x_scale[(int64_t)token * (a.k_pad / 32)];
}

/* A finished tile to y, or a block's share of it to its place in parts: [TOKENS][ROWS]. */
template <class T>
__device__ __forceinline__ void pare_codes_store(const pare_codes_args &a, const pare_codes_at<T> &at,
                                                 typename T::sum *part, typename T::sum (&acc)[T::MT][T::NT][4]) {
    int warp = (int)threadIdx.x / 32, g = (int)threadIdx.x % 32 / 4, t = (int)threadIdx.x % 4;
    int row0 = warp / T::WN * T::MT * 16 + g, token0 = warp % T::WN * T::NT * 8 + 2 * t;
#pragma unroll
    for (int n = 0; n < T::NT; n++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
            int token = token0 + n * 8 + e, to = at.token0 + token;
#pragma unroll
            for (int i = 0; i < T::MT * 2; i++) {
                int row = row0 + i * 8;
                typename T::sum v = acc[i / 2][n][i % 2 * 2 + e];
                acc[i / 2][n][i % 2 * 2 + e] = 0;
                if (part) part[token * T::ROWS + row] = v;
                else if (to < a.m && at.row0 + row < a.w.n) {
                    float by = T::WHOLE ? pare_codes_whole_scale(a, at.row0 + row, to) : T::INT8 ? 1.0f : a.x_scale[to];
                    a.y[(int64_t)to * a.w.n + at.row0 + row] = (float)v * by;
                }
            }
        }
}

/* First piece of work of block b. */
__device__ __forceinline__ int64_t pare_codes_first(int64_t work, int b, int blocks) { return work * b / blocks; }

/* Tiles that an architecture's shared memory cannot hold are never launched there: they have no body. */
#if defined PARE_EMU || !defined __CUDA_ARCH__ || __CUDA_ARCH__ >= 900
#define PARE_CODES_MOST (227 << 10)
#elif __CUDA_ARCH__ >= 860
#define PARE_CODES_MOST (99 << 10)
#elif __CUDA_ARCH__ >= 800
#define PARE_CODES_MOST (163 << 10)
#else
#define PARE_CODES_MOST (64 << 10)
#endif

template <class T> __global__ void __launch_bounds__(T::THREADS, T::PER) pare_codes_kernel(pare_codes_args a) {
    if constexpr (T::SHARED > PARE_CODES_MOST) return;
    PARE_DYNAMIC_SHARED(uint8_t, shared);
    float *decoded = (float *)(shared + T::STAGES * T::BYTES);
    int b = (int)blockIdx.x, blocks = (int)gridDim.x;
    int64_t i0 = pare_codes_first(a.work, b, blocks);
    int left = (int)(pare_codes_first(a.work, b + 1, blocks) - i0), to_fetch = left;
    pare_codes_at<T> at;
    pare_codes_fetch<T> fetch;
    at.start(a, i0);
    fetch.start(a, at);
#pragma unroll 1
    for (int j = 0; j < T::STAGES - 1; j++) {
        if (to_fetch-- > 0) fetch.stage(a, shared + j * T::BYTES);
        pare_cp_async_commit();
    }
    typename T::sum acc[T::MT][T::NT][4] = {};
    int first = at.tile, from = 0, to = (T::STAGES - 1) * T::BYTES; /* stages, as offsets */
    bool begun = false;                                             /* the tile's first stage was ours */
#pragma unroll 1
    while (left-- > 0) {
        pare_cp_async_wait<T::STAGES - 2>();
        __syncthreads(); /* this stage is there for all; the one before is read by all and may be overwritten */
        if (to_fetch-- > 0) fetch.stage(a, shared + to);
        pare_cp_async_commit();
        begun |= at.step == 0;
        pare_codes_stage<T>(a, shared + from, decoded, at, acc);
        to = from, from = from + T::BYTES < T::STAGES * T::BYTES ? from + T::BYTES : 0;
        if (at.step + 1 == a.steps || !left) {
            bool whole = begun && at.step + 1 == a.steps;
            typename T::sum *part =
                (typename T::sum *)a.parts + (int64_t)(2 * b + (at.tile != first)) * T::ROWS * T::TOKENS;
            pare_codes_store<T>(a, at, whole ? nullptr : part, acc);
            begun = false;
        }
        at.next(a);
    }
}

#define PARE_CODES_JOIN 256 /* results of a tile per block of the join */

/* Adds what several blocks have of a tile, in their order. A thread per result, blocks: [tile][part of the tile]. */
template <int ROWS, int TOKENS, bool INT8, bool WHOLE>
__global__ void __launch_bounds__(PARE_CODES_JOIN) pare_codes_join(pare_codes_args a) {
    typedef typename pare_codes_sum<WHOLE>::type sum;
    int tile = (int)blockIdx.x, blocks = a.blocks;
    int64_t i0 = (int64_t)tile * a.steps, i1 = i0 + a.steps - 1;
    int b0 = (int)(((i0 + 1) * blocks - 1) / a.work), b1 = (int)(((i1 + 1) * blocks - 1) / a.work);
    if (b0 == b1) return;
    int e = (int)blockIdx.y * PARE_CODES_JOIN + (int)threadIdx.x;
    int row = tile / a.token_tiles * ROWS + e % ROWS, token = tile % a.token_tiles * TOKENS + e / ROWS;
    if (row >= a.w.n || token >= a.m) return;
    bool later = pare_codes_first(a.work, b0, blocks) / a.steps != tile; /* only the first block's can be its second */
    const sum *part = (const sum *)a.parts + (int64_t)2 * b0 * ROWS * TOKENS + e;
    sum v = part[later ? ROWS * TOKENS : 0];
#pragma unroll 8
    for (int b = 1; b <= b1 - b0; b++) v += part[(int64_t)2 * b * ROWS * TOKENS];
    float by = WHOLE ? pare_codes_whole_scale(a, row, token) : INT8 ? 1.0f : a.x_scale[token];
    a.y[(int64_t)token * a.w.n + row] = (float)v * by;
}

/* ---- host ---- */

/* The bytes of `parts`, or 0 where shared memory is too small for the tile; with run also the launches. */
template <class T> static size_t pare_codes_try(const pare_cuda *dev, bool run, pare_codes_args a) {
    if (dev->rt.shared_max < T::SHARED) return 0;
    int fit = (int)((dev->rt.shared_max + 1024) / (T::SHARED + 1024)); /* 1 KiB a block is the system's */
    a.row_tiles = (int)pare_cuda_ceil(a.w.n, T::ROWS);
    a.token_tiles = (int)pare_cuda_ceil(a.m, T::TOKENS);
    a.steps = (int)pare_cuda_ceil(a.w.k, PARE_STAGE_K);
    a.work = (int64_t)a.row_tiles * a.token_tiles * a.steps;
    a.blocks = (int)min((int64_t)dev->rt.sms * (fit < T::PER ? fit : T::PER), a.work);
    size_t parts = (size_t)a.blocks * 2 * T::ROWS * T::TOKENS * sizeof(float);
    if (!run) return parts;
    pare_launch<pare_codes_kernel<T>>(dev->rt.stream, dim3((unsigned)a.blocks), dim3(T::THREADS), T::SHARED, a);
    if (a.work % a.blocks || a.work / a.blocks % a.steps) /* some tile is shared */
        pare_launch<pare_codes_join<T::ROWS, T::TOKENS, T::INT8, T::WHOLE>>(dev->rt.stream,
                                                                            dim3((unsigned)(a.row_tiles *
                                                                                            a.token_tiles),
                                                                                 T::ROWS * T::TOKENS / PARE_CODES_JOIN),
                                                                            dim3(PARE_CODES_JOIN), 0, a);
    return parts;
}

#define PARE_CODES_LARGE (227 << 10) /* shared memory of a block: sm_90 */
#define PARE_CODES_SMALL (48 << 10)  /* what every device has, most of them twice */

/* Few tokens: 256 or 512 rows a block, so that x, which every block reads, is little beside the weights; where shared
 * memory is small, 64 or 128 rows. Many: 128 rows x 128 or 64 tokens (whole rows: 256). RARE: the tiles that every
 * device has, for any number of tokens. */
template <class F, int TERMS, int MODE, bool RARE = false>
static size_t pare_codes_any(const pare_cuda *dev, bool run, const pare_codes_args &a) {
    constexpr int MT = F::LOW + F::HIGH > 20 ? 1 : 2, WHOLE = MODE == PARE_CODES_WHOLE,
                  PER = F::HALVES || F::MINIMA ? 1 : 2;
    size_t parts = 0;
    if constexpr (!RARE && TERMS < 2) /* two terms of 128 tokens are too many for one block */
        if (a.m > 64)
            parts = pare_codes_try<pare_codes_tile<F, TERMS, MODE, WHOLE ? 4 : 2, 8, WHOLE ? 2 : 4, WHOLE ? 4 : 2,
                                                   PARE_CODES_LARGE, 1>>(dev, run, a);
    if (!parts && a.m > 16)
        parts = pare_codes_try<pare_codes_tile<F, TERMS, MODE, 2, 4, 4, 2, 2 * PARE_CODES_SMALL, PER>>(dev, run, a);
    if constexpr (!RARE) {
        if (!parts && a.m > 8)
            parts = pare_codes_try<pare_codes_tile<F, TERMS, MODE, 2 * MT, 2, 8, 1, PARE_CODES_LARGE, 1>>(dev, run, a);
        if (!parts && a.m <= 8)
            parts = pare_codes_try<pare_codes_tile<F, TERMS, MODE, MT, 1, 16, 1, PARE_CODES_LARGE, 1>>(dev, run, a);
    }
    return parts ? parts
                 : pare_codes_try<pare_codes_tile<F, TERMS, MODE, MT, 2, 4, 1, PARE_CODES_SMALL, 3>>(dev, run, a);
}

/* terms 0: int8. The bytes of a->parts, 0 when the device cannot; with run the product is launched. */
typedef size_t pare_codes_fn(const pare_cuda *dev, int terms, bool per_token, bool run, const pare_codes_args *a);
#define PARE_CODES_DECLARE(id, asym, format) pare_codes_fn format##_codes;
PARE_FORMATS(PARE_CODES_DECLARE)
#undef PARE_CODES_DECLARE

#define PARE_CODES_BLOCK(format)                                                                                       \
    size_t format##_codes(const pare_cuda *dev, int terms, bool, bool run, const pare_codes_args *a) {                 \
        return terms == 0   ? pare_codes_any<format, 0, PARE_CODES_EXACT>(dev, run, *a)                                \
               : terms == 1 ? pare_codes_any<format, 1, PARE_CODES_EXACT>(dev, run, *a)                                \
                            : pare_codes_any<format, 2, PARE_CODES_EXACT>(dev, run, *a);                               \
    }

/* Grouped integers: int8 with one scale per row and per token is summed in int32 (up to as many columns as that holds);
 * two terms meet the weights as decode rounds them. */
template <class F>
static size_t pare_codes_group(const pare_cuda *dev, int terms, bool per_token, bool run, const pare_codes_args *a) {
    if constexpr (!F::MINIMA && F::LOW == 32)
        if (terms == 0 && per_token && a->w.group_shift == 31 && a->w.k <= 1 << 17)
            return pare_codes_any<F, 0, PARE_CODES_WHOLE>(dev, run, *a);
    if (terms == 0) return pare_codes_any<F, 0, PARE_CODES_EXACT>(dev, run, *a);
    if (terms == 1 && a->w.scale_type == PARE_CT_BF16) /* 2^-9 apart: more than the rule allows */
        return pare_codes_any<F, 1, PARE_CODES_WEIGHT_BF16>(dev, run, *a);
    if (terms == 1) return pare_codes_any<F, 1, PARE_CODES_EXACT>(dev, run, *a);
    if (a->w.scale_type == PARE_CT_F16) return pare_codes_any<F, 2, PARE_CODES_WEIGHT_F16>(dev, run, *a);
    if (a->w.scale_type == PARE_CT_BF16) return pare_codes_any<F, 2, PARE_CODES_WEIGHT_BF16, true>(dev, run, *a);
    return pare_codes_any<F, 2, PARE_CODES_EXACT, true>(dev, run, *a);
}

#define PARE_CODES_GROUP(format)                                                                                       \
    size_t format##_codes(const pare_cuda *dev, int terms, bool per_token, bool run, const pare_codes_args *a) {       \
        return pare_codes_group<format>(dev, terms, per_token, run, a);                                                \
    }

#endif
