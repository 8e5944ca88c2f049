/* SPDX-License-Identifier: Apache-2.0
 *
 * y = x W^T for one token: every weight is read once, so the memory's speed is the limit, and what a thread may spend
 * on a weight is about four instructions on an H200 (4.5 bits, 4.3 TB/s). Codes are multiplied as they are, four at a
 * time (dp4a), by activations in int8: one term under int8 rules, four (fixed point, cuda/act.cuh) where f32 grade is
 * wanted. Sums over a chunk are exact integers, so the format's offset comes off them at the end and costs nothing per
 * weight.
 *
 * Blocks of eight warps stay for the whole product and keep x in shared memory. A warp takes eight rows, SPLIT warps
 * share them and take turns along k. Lanes: eight to a row and slab with a chunk each (formats of 8 bits: sixteen with
 * half a chunk), ROWS rows one after the other; SLABS slabs are under way while the last ones are multiplied. The first
 * are asked for before x is prepared. Two tokens have blocks of their own, which go through W side by side, so that the
 * second one's reads are met by the L2 cache. */
#ifndef PARE_CUDA_GEMV_CUH
#define PARE_CUDA_GEMV_CUH

#include "cuda/act.cuh"
#include "cuda/formats.cuh"

#define PARE_GEMV_WARPS 8
#define PARE_GEMV_ROWS  8 /* of W per warp */

/* How x is kept in shared memory. layout: uint4 [slab][term][half][chunk], then what meta says */
enum { PARE_GEMV_FIXED, PARE_GEMV_INT8, PARE_GEMV_FLOAT };

typedef struct pare_gemv {
    pare_cuda_weight w;
    const float *x;
    float *y;
    int rule, split, tiles;
} pare_gemv;

template <class F, int KIND> struct pare_gemv_shape {
    static constexpr int TERMS = KIND == PARE_GEMV_INT8 ? 1 : 4;
    static constexpr int LANES = F::LOW == 32 ? 16 : 8; /* per row and slab */
    static constexpr int ROWS = PARE_GEMV_ROWS * LANES / 32, SLABS = 4 / ROWS;
    static constexpr int HALVES = F::HALVES ? 2 : 1;
    /* Sums of digits (times -OFFSET) that integer sums start with: per half chunk where a lane or a scale has no more
     */
    static constexpr int SUMS = F::HALVES || LANES == 16 ? 2 : 1;
    static constexpr int STARTS = (F::OFFSET || F::ASYM) && KIND != PARE_GEMV_FLOAT ? SUMS * TERMS : 0;
    /* words per slab: digits (or floats); per chunk a scale, two extras, starts */
    static constexpr int DIGITS = 64 * TERMS, META = KIND == PARE_GEMV_FLOAT ? 0 : 8 * (3 + STARTS);
};

/* What is under way for SLABS slabs of ROWS rows. */
template <class F, class S> struct pare_gemv_stage {
    static constexpr int LOW = F::LOW == 8 ? 2 : 4, HIGH = F::HIGH / 4;
    uint32_t low[S::SLABS][S::ROWS][LOW], high[S::SLABS][S::ROWS][HIGH ? HIGH : 1];
    typename F::stored scale[S::SLABS][S::ROWS];
};

/* ---- x into shared memory, a warp per slab ---- */

__device__ __forceinline__ void pare_gemv_read(const float *x, int k, int at, int rule, float (&v)[4]) {
    if (at + 4 <= k && ((uintptr_t)(x + at) & 15) == 0) {
        float4 f = *(const float4 *)(x + at);
        v[0] = f.x, v[1] = f.y, v[2] = f.z, v[3] = f.w;
    } else
        for (int i = 0; i < 4; i++) v[i] = at + i < k ? x[at + i] : 0.0f;
    if (rule == PARE_CR_F16)
        for (int i = 0; i < 4; i++) v[i] = pare_h2f(pare_f2h(v[i]));
    if (rule == PARE_CR_BF16)
        for (int i = 0; i < 4; i++) v[i] = pare_bf2f(pare_f2bf(v[i]));
}

template <class F, class S>
__device__ __forceinline__ void pare_gemv_put(uint32_t *digits, uint32_t *meta, int part,
                                              const pare_act_part<S::TERMS> &a) {
    int lane = (int)threadIdx.x % 32, chunk = 4 * part + lane / 8, half = lane / 4 % 2;
    float *f = (float *)meta;
#pragma unroll
    for (int t = 0; t < S::TERMS; t++) digits[((t * 2 + half) * 8 + chunk) * 4 + lane % 4] = a.digits[t];
    if (lane % 8 == 0) f[chunk] = a.scale;
    if (lane % 4 == 0) f[8 + 2 * chunk + half] = a.extra;
#pragma unroll
    for (int t = 0; t < S::TERMS && S::STARTS; t++) {
        int sum = a.sum[t];
        if (S::SUMS == 1) sum += __shfl_xor_sync(0xffffffffu, sum, 4);
        if (lane % (8 / S::SUMS) == 0)
            ((int *)meta)[24 + (chunk * S::SUMS + (S::SUMS == 2 ? half : 0)) * S::TERMS + t] =
                F::ASYM ? sum : -F::OFFSET * sum;
    }
}

template <class F, int KIND, int RULE, class S>
__device__ __forceinline__ void pare_gemv_prepare(uint32_t *digits, uint32_t *meta, const pare_gemv &g) {
    PARE_SHARED(float, largest, PARE_GEMV_WARPS);
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    float row = 0.0f;
    if (KIND == PARE_GEMV_INT8 && g.rule == PARE_CR_TOKEN) {
        for (int at = 4 * (int)threadIdx.x; at < g.w.k; at += 128 * PARE_GEMV_WARPS) {
            float v[4];
            pare_gemv_read(g.x, g.w.k, at, 0, v);
            row = fmaxf(row, pare_act_largest(v));
        }
        row = pare_act_largest_of<32>(row);
        if (lane == 0) largest[warp] = row;
        __syncthreads();
        for (int i = 0; i < PARE_GEMV_WARPS; i++) row = fmaxf(row, largest[i]);
    }
    for (int s = warp; s < g.w.slabs; s += PARE_GEMV_WARPS) {
        uint32_t *d = digits + s * S::DIGITS, *m = meta + s * S::META;
        float v[2][4];
        pare_gemv_read(g.x, g.w.k, s * PARE_CUDA_SLAB + 4 * lane, g.rule, v[0]);
        pare_gemv_read(g.x, g.w.k, s * PARE_CUDA_SLAB + 128 + 4 * lane, g.rule, v[1]);
        if constexpr (KIND == PARE_GEMV_FLOAT) {
            for (int p = 0; p < 2; p++) /* [word of the chunk][chunk] */
                *(float4 *)(d + (lane % 8 * 8 + 4 * p + lane / 8) * 4) =
                    make_float4(v[p][0], v[p][1], v[p][2], v[p][3]);
        } else {
            pare_act_part<S::TERMS> a[2];
            if constexpr (KIND == PARE_GEMV_FIXED) pare_act_fixed(v, a);
            else if (g.rule == PARE_CR_TOKEN) pare_act_int8<PARE_CR_TOKEN>(v, row, a);
            else pare_act_int8<RULE>(v, 0.0f, a);
            for (int p = 0; p < 2; p++) pare_gemv_put<F, S>(d, m, p, a[p]);
        }
    }
}

/* ---- W ---- */

template <class F, class S>
__device__ __forceinline__ void pare_gemv_load(pare_gemv_stage<F, S> &st, const pare_gemv &g, int row0, int slab0) {
    int lane = (int)threadIdx.x % 32, in = lane % S::LANES, chunk0 = S::LANES == 16 ? in / 2 : in;
#pragma unroll
    for (int u = 0; u < S::SLABS; u++) {
        if (slab0 + u >= g.w.slabs) break;
        int chunk = (slab0 + u) * 8 + chunk0;
#pragma unroll
        for (int r = 0; r < S::ROWS; r++) {
            int row = min(row0 + r * (32 / S::LANES) + lane / S::LANES, g.w.n - 1);
            const uint8_t *low = g.w.low + (size_t)row * g.w.low_row;
            if (F::LOW == 8) {
                uint2 v = pare_load_stream2(low + chunk * 8);
                st.low[u][r][0] = v.x, st.low[u][r][1] = v.y;
            } else {
                uint4 v = pare_load_stream(low + (F::LOW == 16 ? chunk * 16 : (slab0 + u) * 256 + in * 16));
                st.low[u][r][0] = v.x, st.low[u][r][1] = v.y;
                st.low[u][r][F::LOW == 8 ? 0 : 2] = v.z, st.low[u][r][F::LOW == 8 ? 1 : 3] = v.w;
            }
            const uint8_t *high = g.w.high + (size_t)row * g.w.high_row;
            if (F::HIGH == 4) st.high[u][r][0] = pare_load_stream1(high + chunk * 4);
            if (F::HIGH == 8) {
                uint2 v = pare_load_stream2(high + chunk * 8);
                st.high[u][r][0] = v.x, st.high[u][r][F::HIGH == 8 ? 1 : 0] = v.y;
            }
            st.scale[u][r] = F::fetch(g.w, g.w.scales + (size_t)row * g.w.scale_row, chunk);
        }
    }
}

/* Word j of four columns: its codes with the offset, of the half chunk or of both. */
template <class F>
__device__ __forceinline__ void pare_gemv_words(const uint32_t *low, const uint32_t *high, int j, uint32_t &lo,
                                                uint32_t &hi) {
    if (F::LOW == 32) lo = low[j], hi = 0;
    else F::raw((const uint8_t *)low, (const uint8_t *)high, j, lo, hi);
}
__device__ __forceinline__ uint32_t pare_gemv_word(const uint4 &v, int j) {
    return j == 0 ? v.x : j == 1 ? v.y : j == 2 ? v.z : v.w;
}

template <class F, class S>
__device__ __forceinline__ void pare_gemv_multiply(float (&sum)[S::ROWS], const pare_gemv_stage<F, S> &st, int u,
                                                   const pare_gemv &g, int slab, const uint32_t *digits,
                                                   const uint32_t *meta) {
    constexpr bool WHOLE = S::LANES == 8;
    int in = (int)threadIdx.x % S::LANES, c = WHOLE ? in : in / 2, h = WHOLE ? 0 : in % 2;
    uint4 x[S::TERMS][WHOLE ? 2 : 1];
    int start[S::HALVES][S::TERMS];
    const uint32_t *d = digits + slab * S::DIGITS + (h * 8 + c) * 4, *m = meta + slab * S::META;
#pragma unroll
    for (int t = 0; t < S::TERMS; t++)
#pragma unroll
        for (int half = 0; half < (WHOLE ? 2 : 1); half++) x[t][half] = *(const uint4 *)(d + (t * 2 + half) * 32);
#pragma unroll
    for (int half = 0; half < S::HALVES; half++) {
        const uint32_t *from = m + 24 + (c * S::SUMS + (F::HALVES ? half : S::SUMS == 2 ? h : 0)) * S::TERMS;
        uint4 four = S::STARTS && S::TERMS == 4 ? *(const uint4 *)from : make_uint4(S::STARTS ? *from : 0u, 0u, 0u, 0u);
#pragma unroll
        for (int t = 0; t < S::TERMS; t++) start[half][t] = (int)pare_gemv_word(four, t);
    }
    float x_scale = ((const float *)m)[c];
    float2 both = *(const float2 *)(m + 8 + 2 * c);
    float extra[2] = {F::HALVES ? both.x : WHOLE ? both.x + both.y : h ? both.y : both.x, both.y};
#pragma unroll
    for (int r = 0; r < S::ROWS; r++) {
        int acc[S::HALVES][S::TERMS], factor = 1;
        if constexpr (F::ASYM) factor = -F::above(st.scale[u][r]);
#pragma unroll
        for (int half = 0; half < S::HALVES; half++)
#pragma unroll
            for (int t = 0; t < S::TERMS; t++) acc[half][t] = F::ASYM ? factor * start[half][t] : start[half][t];
#pragma unroll
        for (int j = 0; j < 4; j++) {
            uint32_t lo, hi;
            pare_gemv_words<F>(st.low[u][r], st.high[u][r], j, lo, hi);
#pragma unroll
            for (int t = 0; t < S::TERMS; t++) {
                acc[0][t] = __dp4a((int)lo, (int)pare_gemv_word(x[t][0], j), acc[0][t]);
                if (WHOLE)
                    acc[S::HALVES - 1][t] =
                        __dp4a((int)hi, (int)pare_gemv_word(x[t][WHOLE ? 1 : 0], j), acc[S::HALVES - 1][t]);
            }
        }
#pragma unroll
        for (int half = 0; half < S::HALVES; half++) {
            float2 s = F::scale_of(g.w, st.scale[u][r], c, half);
            sum[r] = fmaf(s.x * x_scale, pare_act_value(acc[half]), sum[r]);
            if (F::MINIMA && !F::ASYM) sum[r] = fmaf(s.y, extra[half], sum[r]);
        }
    }
}

/* ---- the loop ---- */

/* Sums of a tile's rows to y. red: two sets of WARPS x ROWS floats, used in turn, so that one barrier is enough. */
template <class S>
__device__ __forceinline__ void pare_gemv_store(float (&sum)[S::ROWS], const pare_gemv &g, int tile, int row0,
                                                float *red) {
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
#pragma unroll
    for (int r = 0; r < S::ROWS; r++) {
#pragma unroll
        for (int d = S::LANES / 2; d; d /= 2) sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], d);
        int in = r * (32 / S::LANES) + lane / S::LANES;
        if (lane % S::LANES == 0 && g.split == 1 && row0 + in < g.w.n) g.y[row0 + in] = sum[r];
        if (lane % S::LANES == 0 && g.split > 1) red[warp * PARE_GEMV_ROWS + in] = sum[r];
        sum[r] = 0.0f;
    }
    if (g.split == 1) return;
    __syncthreads();
    int rows = PARE_GEMV_WARPS / g.split * PARE_GEMV_ROWS, i = (int)threadIdx.x;
    if (i >= rows || tile * rows + i >= g.w.n) return;
    float v = 0.0f;
    for (int k = 0; k < g.split; k++)
        v += red[(i / PARE_GEMV_ROWS * g.split + k) * PARE_GEMV_ROWS + i % PARE_GEMV_ROWS];
    g.y[tile * rows + i] = v;
}

/* MULTIPLY(sum, stage, u, g, slab, digits, meta) adds one slab. */
template <class F, int KIND, int RULE, auto MULTIPLY> __device__ __forceinline__ void pare_gemv_loop(pare_gemv &g) {
    typedef pare_gemv_shape<F, KIND> S;
    typedef pare_gemv_stage<F, S> stage;
    PARE_DYNAMIC_SHARED(uint32_t, digits);
    PARE_SHARED(float, red, 2 * PARE_GEMV_WARPS * PARE_GEMV_ROWS);
    uint32_t *meta = digits + g.w.slabs * S::DIGITS;
    g.x += (int64_t)blockIdx.y * g.w.k, g.y += (int64_t)blockIdx.y * g.w.n;
    int warp = (int)threadIdx.x / 32, group = warp / g.split, turn = warp % g.split;
    int rows = PARE_GEMV_WARPS / g.split * PARE_GEMV_ROWS, step = g.split * S::SLABS;
    int tile = (int)blockIdx.x, slab = turn * S::SLABS, base = 0, parity = 0;
    float sum[S::ROWS] = {};
    stage a, b;
    pare_gemv_load<F, S>(a, g, tile * rows + group * PARE_GEMV_ROWS, slab);
    pare_gemv_prepare<F, KIND, RULE, S>(digits, meta, g);
    __syncthreads();
    auto advance = [&](stage &now, stage &next) {
        int row0 = tile * rows + group * PARE_GEMV_ROWS, this_tile = tile, this_slab = slab;
        bool last = base + step >= g.w.slabs; /* of this tile; the same for all warps */
        base = last ? 0 : base + step;
        tile += last ? (int)gridDim.x : 0;
        slab = base + turn * S::SLABS;
        if (tile < g.tiles) pare_gemv_load<F, S>(next, g, tile * rows + group * PARE_GEMV_ROWS, slab);
#pragma unroll
        for (int u = 0; u < S::SLABS; u++)
            if (this_slab + u < g.w.slabs) MULTIPLY(sum, now, u, g, this_slab + u, digits, meta);
        if (last) {
            pare_gemv_store<S>(sum, g, this_tile, row0, red + parity * PARE_GEMV_WARPS * PARE_GEMV_ROWS);
            parity ^= 1;
        }
    };
    while (tile < g.tiles) {
        advance(a, b);
        if (tile >= g.tiles) break;
        advance(b, a);
    }
}

template <class F, int KIND, int RULE>
__global__ void __launch_bounds__(32 * PARE_GEMV_WARPS, 2) pare_gemv_codes_kernel(pare_gemv g) {
    pare_gemv_loop<F, KIND, RULE, pare_gemv_multiply<F, pare_gemv_shape<F, KIND>>>(g);
}

/* ---- launching: cuda/gemv.cu chooses, one file per family of formats has the kernels ---- */

/* Shared memory of a block and the launch; rows: of a tile. */
template <class F, int KIND> static inline size_t pare_gemv_shared(const pare_cuda_weight &w) {
    typedef pare_gemv_shape<F, KIND> S;
    return (size_t)w.slabs * (S::DIGITS + S::META) * 4;
}
typedef struct pare_gemv_plan {
    int split, tiles, blocks;
} pare_gemv_plan;
pare_gemv_plan pare_gemv_plan_for(const pare_cuda *dev, const pare_cuda_mm *p, int slabs_a_step, size_t shared);

template <class F, int KIND, int RULE> static void pare_gemv_codes(pare_cuda *dev, const pare_cuda_mm *p) {
    size_t shared = pare_gemv_shared<F, KIND>(p->w);
    pare_gemv_plan plan = pare_gemv_plan_for(dev, p, pare_gemv_shape<F, KIND>::SLABS, shared);
    pare_gemv g = {p->w, p->x, p->y, p->rule, plan.split, plan.tiles};
    pare_launch<pare_gemv_codes_kernel<F, KIND, RULE>>(dev->rt.stream, dim3((unsigned)plan.blocks, (unsigned)p->m),
                                                       32 * PARE_GEMV_WARPS, shared, g);
}

/* False: not a format of this file. */
typedef bool pare_gemv_fn(pare_cuda *dev, const pare_cuda_mm *p);
pare_gemv_fn pare_gemv_blocks, pare_gemv_k, pare_gemv_grouped;

#endif
