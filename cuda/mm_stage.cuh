/* SPDX-License-Identifier: Apache-2.0
 *
 * Tiles of the tensor-core products of stored weights (cuda/mm_codes.cuh) and how they come into shared memory.
 *
 * A block owns ROWS stored rows x TOKENS tokens, a warp MT * 16 rows x NT * 8 tokens of it. K goes by in stages of 128
 * columns: for each row its piece of the low and high plane and the scale bytes of its slab, for each token the
 * activations, all by cp.async. Strides in shared memory are odd multiples of 16 bytes, so that the eight rows (tokens)
 * that a warp reads at once lie in different banks.
 *
 * layout of a stage: low [ROWS] | high [ROWS] | scale bytes [ROWS] | x [terms][TOKENS] | x scales [4][TOKENS] (int8) |
 *                    sums [8][TOKENS] (formats with minima)
 * Rows past N and tokens past M repeat the last one. */
#ifndef PARE_CUDA_MM_STAGE_CUH
#define PARE_CUDA_MM_STAGE_CUH

#include "cuda/formats.cuh"
#include "cuda/matmul.cuh"

#define PARE_STAGE_K 128 /* columns per stage: 64 or 128 bytes of a row */

/* What a kernel is started with. */
typedef struct pare_codes_args {
    pare_cuda_weight w;
    const uint8_t *x;     /* f16 terms or int8 codes, [terms][m][k_pad] */
    const float *x_scale; /* f16: per token; int8: [m][k_pad / 32] */
    const float *sums;    /* [m][k_pad / 16] */
    float *y, *parts;
    int m, k_pad;
    int row_tiles, token_tiles, steps; /* steps: stages of K per tile */
    int blocks;
    int64_t work; /* tiles * steps, dealt evenly to the blocks */
} pare_codes_args;

template <bool WHOLE> struct pare_codes_sum { typedef float type; };
template <> struct pare_codes_sum<true> { typedef int32_t type; };

/* How weights and activations meet. EXACT: acc += scale * product. Formats whose decode rounds a product to the scale's
 * type (grouped integers), under rule NONE: WEIGHT_F16, WEIGHT_BF16, the tensor product takes the rounded weight.
 * WHOLE: one scale per row and per token, int32 over all of K. */
enum pare_codes_mode { PARE_CODES_EXACT, PARE_CODES_WEIGHT_F16, PARE_CODES_WEIGHT_BF16, PARE_CODES_WHOLE };

/* TERMS: f16 terms of x, 0 for int8. WM x WN warps. BUDGET: bytes of shared memory; PER: blocks whose registers share a
 * multiprocessor. */
template <class FORMAT, int TERMS_, int MODE_, int MT_, int NT_, int WM_, int WN_, int BUDGET, int PER_>
struct pare_codes_tile {
    typedef FORMAT F;
    static constexpr int TERMS = TERMS_, MODE = MODE_, MT = MT_, NT = NT_, WM = WM_, WN = WN_, PER = PER_;
    static constexpr int THREADS = 32 * WM * WN, ROWS = 16 * MT * WM, TOKENS = 8 * NT * WN;
    static constexpr bool INT8 = TERMS == 0, WHOLE = MODE == PARE_CODES_WHOLE,
                          ROUNDED = MODE == PARE_CODES_WEIGHT_F16 || MODE == PARE_CODES_WEIGHT_BF16,
                          GROUPED = F::SLAB_SCALES == 0, /* bytes of scales are known when it runs */
        MINIMA = F::MINIMA && !ROUNDED && !WHOLE;
    typedef typename pare_codes_sum<WHOLE>::type sum;
    static constexpr int X_TERMS = INT8 ? 1 : TERMS;
    static constexpr int LOW = F::LOW * 4, HIGH = F::HIGH * 4,
                         SCALES = WHOLE       ? 0
                                  : !GROUPED  ? F::SLAB_SCALES
                                  : F::MINIMA ? 32
                                              : 16;
    static constexpr int LOW_ROW = (LOW / 16 | 1) * 16, HIGH_ROW = HIGH ? (HIGH / 16 | 1) * 16 : 0;
    static constexpr int X = PARE_STAGE_K * (INT8 ? 1 : 2), X_ROW = X + (INT8 ? 16 : 32); /* 8-byte loads: 32 */
    static constexpr int AT_HIGH = ROWS * LOW_ROW, AT_SCALES = AT_HIGH + ROWS * HIGH_ROW,
                         AT_X = AT_SCALES + ROWS * SCALES, AT_X_SCALE = AT_X + X_TERMS * TOKENS * X_ROW,
                         AT_SUMS = AT_X_SCALE + (INT8 && !WHOLE ? 4 * TOKENS * 4 : 0),
                         BYTES = AT_SUMS + (MINIMA ? 8 * TOKENS * 4 : 0);
    static constexpr int ENTRIES = F::HALVES ? 8 : 4; /* scales of a row in a stage */
    /* decoded scales of each warp's rows behind the stages: [warp][ENTRIES / 4][rows of the warp][4] */
    static constexpr int DECODED = 16 * MT * ENTRIES, PLANES = WHOLE ? 0 : MINIMA || ROUNDED ? 2 : 1;
    static constexpr int DECODED_BYTES = WM * WN * DECODED * 4 * PLANES;
    static constexpr int FIT = (BUDGET - DECODED_BYTES) / BYTES,
                         STAGES = FIT < 2   ? 2
                                  : FIT > 6 ? 6
                                            : FIT,
                         SHARED = STAGES * BYTES + DECODED_BYTES;
};

/* Where a block is in its work. Tokens run faster than rows: a tile's weights are then read while they are in L2. */
template <class T> struct pare_codes_at {
    int row0, token0, tile, step;
    __device__ __forceinline__ void start(const pare_codes_args &a, int64_t i) {
        tile = (int)(i / a.steps), step = (int)(i % a.steps);
        row0 = tile / a.token_tiles * T::ROWS, token0 = tile % a.token_tiles * T::TOKENS;
    }
    __device__ __forceinline__ bool next(const pare_codes_args &a) { /* true: another tile */
        if (++step < a.steps) return false;
        step = 0, tile++, token0 += T::TOKENS;
        if (token0 >= a.m) token0 = 0, row0 += T::ROWS;
        return true;
    }
};

/* One thread's part in copying PIECES x CP bytes for each of ROWS rows. Rows past `last` repeat it: what they give is
 * not stored. `from` moves on with the stages. */
template <int CP, int PIECES, int ROWS, int THREADS, int TO_ROW> struct pare_codes_copier {
    const uint8_t *from;
    __device__ __forceinline__ void start(const uint8_t *plane, uint32_t from_row, int row0, int bytes) {
        from = plane + (uint64_t)row0 * from_row + bytes + threadIdx.x % PIECES * CP;
    }
    __device__ __forceinline__ void copy(uint8_t *to, uint32_t from_row, unsigned last) const {
        constexpr unsigned STEP = THREADS / PIECES, N = (ROWS + STEP - 1) / STEP; /* threads past STEP * PIECES rest */
        unsigned row = threadIdx.x / PIECES;
        if (THREADS % PIECES && row >= STEP) return;
        to += row * TO_ROW + threadIdx.x % PIECES * CP;
#pragma unroll
        for (unsigned j = 0; j < N; j++)
            if (ROWS % STEP == 0 || row + j * STEP < ROWS)
                pare_cp_async<CP>(to + j * STEP * TO_ROW, from + (uint64_t)min(row + j * STEP, last) * from_row);
    }
};

/* The same for single floats, [token][COUNT] to [COUNT][TOKENS]. */
template <int COUNT, int TOKENS, int THREADS> struct pare_codes_turner {
    const float *from;
    __device__ __forceinline__ void start(const float *all, uint32_t from_row, int token0, int first) {
        from = all + (uint64_t)token0 * from_row + first + threadIdx.x % COUNT;
    }
    __device__ __forceinline__ void copy(float *to, uint32_t from_row, unsigned last) const {
        constexpr unsigned STEP = THREADS / COUNT, N = (TOKENS + STEP - 1) / STEP;
        unsigned token = threadIdx.x / COUNT;
        to += threadIdx.x % COUNT * TOKENS + token;
#pragma unroll
        for (unsigned j = 0; j < N; j++)
            if (TOKENS % STEP == 0 || token + j * STEP < TOKENS)
                pare_cp_async<4>(to + j * STEP, from + (uint64_t)min(token + j * STEP, last) * from_row);
    }
};

/* Scale bytes of a stage: a slab's for block formats; for grouped integers those of the stage, or of the slab where
 * the stage's are fewer than 4; none where a row has one scale, which is read where it is needed. */
struct pare_codes_scale_bytes {
    int bytes, per_slab;
    __device__ __forceinline__ void start(const pare_cuda_weight &w) {
        int n = w.group_shift >= 7 ? 1 : 128 >> w.group_shift;
        bytes = n * w.entry, per_slab = bytes < 4;
        if (per_slab) bytes *= 2;
        if (w.group_shift == 31) bytes = 0;
    }
};

/* Copies the stages of a block, one after another; the caller commits. */
template <class T> struct pare_codes_fetch {
    typedef typename T::F F;
    static constexpr int CP = T::SCALES % 16 == 0 ? 16 : T::SCALES % 8 == 0 ? 8 : 4; /* as aligned as slabs are */
    pare_codes_at<T> at;
    unsigned last, last_token;
    pare_codes_copier<16, T::LOW / 16, T::ROWS, T::THREADS, T::LOW_ROW> low;
    pare_codes_copier<16, (T::HIGH ? T::HIGH : 16) / 16, T::ROWS, T::THREADS, T::HIGH_ROW> high;
    pare_codes_copier<CP, T::SCALES / CP, T::ROWS, T::THREADS, T::SCALES> scales;
    pare_codes_scale_bytes group;
    pare_codes_copier<16, T::X / 16, T::TOKENS, T::THREADS, T::X_ROW> x;
    pare_codes_turner<4, T::TOKENS, T::THREADS> x_scale;
    pare_codes_turner<8, T::TOKENS, T::THREADS> sums;

    __device__ __forceinline__ void tile(const pare_codes_args &a) {
        last = (unsigned)(a.w.n - 1 - at.row0), last_token = (unsigned)(a.m - 1 - at.token0);
        low.start(a.w.low, a.w.low_row, at.row0, at.step * T::LOW);
        if constexpr (F::HIGH > 0) high.start(a.w.high, a.w.high_row, at.row0, at.step * T::HIGH);
        if constexpr (T::GROUPED && !T::WHOLE) {
            group.start(a.w);
            scales.from = a.w.scales + (uint64_t)at.row0 * a.w.scale_row + (at.step >> group.per_slab) * group.bytes;
        } else if constexpr (!T::WHOLE) scales.start(a.w.scales, a.w.scale_row, at.row0, at.step / 2 * T::SCALES);
        x.start(a.x, x_row(a), at.token0, at.step * T::X);
        if constexpr (T::INT8 && !T::WHOLE) x_scale.start(a.x_scale, (uint32_t)a.k_pad / 32, at.token0, at.step * 4);
        if constexpr (T::MINIMA) sums.start(a.sums, (uint32_t)a.k_pad / 16, at.token0, at.step * 8);
    }
    __device__ __forceinline__ void start(const pare_codes_args &a, const pare_codes_at<T> &first) {
        at = first;
        tile(a);
    }
    static __device__ __forceinline__ uint32_t x_row(const pare_codes_args &a) {
        return (uint32_t)a.k_pad * (T::INT8 ? 1 : 2);
    }
    template <int BYTES, int PIECES = 1>
    __device__ __forceinline__ void scale_pieces(const pare_codes_args &a, uint8_t *to) {
        pare_codes_copier<BYTES, PIECES, T::ROWS, T::THREADS, T::SCALES> c;
        c.from = scales.from + threadIdx.x % PIECES * BYTES;
        c.copy(to, a.w.scale_row, last);
    }
    __device__ __forceinline__ void grouped_scales(const pare_codes_args &a, uint8_t *to) {
        if (group.bytes == 4) scale_pieces<4>(a, to);
        else if (group.bytes == 8) scale_pieces<8>(a, to);
        else if (group.bytes == 16) scale_pieces<16>(a, to);
        else if (group.bytes == 32) scale_pieces<16, 2>(a, to);
    }
    __device__ __forceinline__ void stage(const pare_codes_args &a, uint8_t *s) {
        low.copy(s, a.w.low_row, last);
        if constexpr (F::HIGH > 0) high.copy(s + T::AT_HIGH, a.w.high_row, last);
        if constexpr (T::GROUPED && !T::WHOLE) grouped_scales(a, s + T::AT_SCALES);
        else if constexpr (!T::WHOLE) scales.copy(s + T::AT_SCALES, a.w.scale_row, last);
        x.copy(s + T::AT_X, x_row(a), last_token);
        if constexpr (T::X_TERMS == 2) {
            pare_codes_copier<16, T::X / 16, T::TOKENS, T::THREADS, T::X_ROW> second = x;
            second.from += (uint64_t)a.m * x_row(a);
            second.copy(s + T::AT_X + T::TOKENS * T::X_ROW, x_row(a), last_token);
        }
        if constexpr (T::INT8 && !T::WHOLE)
            x_scale.copy((float *)(s + T::AT_X_SCALE), (uint32_t)a.k_pad / 32, last_token);
        if constexpr (T::MINIMA) sums.copy((float *)(s + T::AT_SUMS), (uint32_t)a.k_pad / 16, last_token);
        if (at.next(a)) {
            tile(a);
            return;
        }
        low.from += T::LOW;
        if constexpr (F::HIGH > 0) high.from += T::HIGH;
        if constexpr (T::GROUPED && !T::WHOLE) scales.from += at.step % 2 && group.per_slab ? 0 : group.bytes;
        else if constexpr (!T::WHOLE) scales.from += at.step % 2 ? 0 : T::SCALES;
        x.from += T::X;
        if constexpr (T::INT8 && !T::WHOLE) x_scale.from += 4;
        if constexpr (T::MINIMA) sums.from += 8;
    }
};

#endif
