/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention of many rows: a block takes 64 rows (16 a warp) and walks the keys KT at a time. Both products run on
 * tensor cores with operands split into two f16 terms, x = 2^-s (high + low), three products of four (low * low, below
 * 2^-22, is dropped). s brings the largest of 8 rows to [2^13, 2^14), so that nothing overflows and low has its full 11
 * bits down to 2^-16 of that largest; probabilities, which are <= 1, times 2^14. Each tile's p v is summed on its own
 * and added in f32, so that the tensor cores' truncation does not pile up over long contexts.
 *
 * Shared memory: queries [64][stride] high, low; keys, then values of the same tile [KT][stride] high, low. stride =
 * head size to 16, plus 8: an odd number of 16-byte units, so that ldmatrix meets no bank twice. The 8 spare places of
 * row 8 n hold 2^-s of rows 8 n .. 8 n + 7. */
#include "cuda/attention.cuh"

#include "cuda/mma.cuh"

#define THREADS 128
#define ROWS    64
#define BLOCKS  256 /* with fewer, the keys are split */
#define P_SCALE 16384.0f

static __host__ __device__ __forceinline__ int padded(int size) { return (size + 15) / 16 * 16; }
static __host__ __device__ __forceinline__ int stride_of(const pare_cuda_attn &a) {
    return padded(a.q.size > a.v.size ? a.q.size : a.v.size) + 8;
}

/* x to high + low, pairs. */
static __device__ __forceinline__ void split_pair(float x, float y, uint32_t *high, uint32_t *low) {
    *high = pare_f2h2(x, y);
    *low = pare_f2h2(x - pare_h2f((uint16_t)*high), y - pare_h2f((uint16_t)(*high >> 16)));
}

/* 8 rows from memory (row: row lane % 8, NULL for zeros) to shared memory. Lanes 8 apart share a row: so the stores of
 * half a warp fill 8 rows' 16 bytes, all banks once. Returns 2^-s. */
template <int DP>
static __device__ __forceinline__ float split_rows(const float *row, int size, uint16_t *to, int stride, int plane) {
    float4 v[DP / 16];
    float top = 0;
    int lane = (int)threadIdx.x % 32, column = 4 * (lane / 8);
#pragma unroll
    for (int i = 0; i < DP / 16; i++) {
        v[i] = make_float4(0, 0, 0, 0);
        if (row && 16 * i + column < size) v[i] = *(const float4 *)(row + 16 * i + column);
    }
#pragma unroll
    for (int i = 0; i < DP / 16; i++)
        top = fmaxf(fmaxf(fmaxf(top, fabsf(v[i].x)), fmaxf(fabsf(v[i].y), fabsf(v[i].z))), fabsf(v[i].w));
    top = pare_warp_max(top);
    int exponent = (int)(pare_bits(top) >> 23); /* top in [2^(exponent-127), twice that) */
    exponent = exponent == 255 ? 140 : max(exponent, 27);
    float scale = pare_float((uint32_t)(267 - exponent) << 23);
    to += lane % 8 * stride + column;
#pragma unroll
    for (int i = 0; i < DP / 16; i++) {
        if (16 * i >= size) continue;
        uint2 high, low;
        split_pair(v[i].x * scale, v[i].y * scale, &high.x, &low.x);
        split_pair(v[i].z * scale, v[i].w * scale, &high.y, &low.y);
        *(uint2 *)(to + 16 * i) = high;
        *(uint2 *)(to + 16 * i + plane) = low;
    }
    return pare_float((uint32_t)(exponent - 13) << 23);
}

/* KT keys (values) from first, those from `end` on as zeros. */
template <int DP, int KT, bool VALUES>
static __device__ __forceinline__ void load_tile(const pare_cuda_attn &a, int b, int h, int first, int end,
                                                 uint16_t *to, int stride) {
    int lane = (int)threadIdx.x % 32, size = VALUES ? a.v.size : a.q.size;
    for (int band = (int)threadIdx.x / 32; band < KT / 8; band += THREADS / 32) {
        int j = first + 8 * band + lane % 8;
        const float *row = j >= end ? NULL : VALUES ? pare_attn_value(a, b, h, j) : pare_attn_key(a, b, h, j);
        uint16_t *at = to + 8 * band * stride;
        float f = split_rows<DP>(row, size, at, stride, KT * stride);
        if (lane == 0) *(float *)(at + stride - 8) = f;
    }
}

static __device__ __forceinline__ float band_factor(const uint16_t *tile, int stride, int band) {
    return *(const float *)(tile + (8 * band + 1) * stride - 8);
}

/* c += a b with two terms each: a = ah + al, b = (b[0], b[1]) + (b[2], b[3]); small ones first. */
static __device__ __forceinline__ void mma_split(float (&c)[4], const uint32_t (&ah)[4], const uint32_t (&al)[4],
                                                 const uint32_t (&b)[4]) {
    const uint32_t high[2] = {b[0], b[1]}, low[2] = {b[2], b[3]};
    pare_mma_f16(c, ah, low);
    pare_mma_f16(c, al, high);
    pare_mma_f16(c, ah, high);
}

/* q k of this warp's 16 rows and KT keys, in the scale of their splits. */
template <int KT>
static __device__ __forceinline__ void scores(const uint16_t *q, const uint16_t *k, int d, int stride,
                                              float (&s)[KT / 8][4]) {
    int lane = (int)threadIdx.x % 32;
    q += (lane & 15) * stride + 8 * (lane >> 4);
    k += lane % 8 * stride + 8 * (lane >> 3 & 1) + (lane >> 4) * KT * stride;
    for (int e = 0; e < d; e += 16) {
        uint32_t ah[4], al[4];
        pare_ldmatrix4<false>(ah, q + e);
        pare_ldmatrix4<false>(al, q + e + ROWS * stride);
#pragma unroll
        for (int n = 0; n < KT / 8; n++) {
            uint32_t b[4];
            pare_ldmatrix4<false>(b, k + 8 * n * stride + e);
            mma_split(s[n], ah, al, b);
        }
    }
}

typedef struct rows_state { /* of rows g and g + 8 of the warp; each of four lanes sums its own keys */
    float m[2], l[2], factor[2];
    int see[2]; /* 0: no such row */
    int64_t mask_row[2];
} rows_state;

/* Scores to exp(s - m); keep: what the sums so far shrink by. */
template <int KT>
static __device__ __forceinline__ void soften(const pare_cuda_attn &a, rows_state *w, int first, const uint16_t *k,
                                              int stride, float (&s)[KT / 8][4], float (&keep)[2]) {
    float top[2] = {w->m[0], w->m[1]};
    int at = first + 2 * ((int)threadIdx.x % 4);
    bool plain = !a.mask && !(a.softcap > 0);
#pragma unroll
    for (int n = 0; n < KT / 8; n++) {
        float f = band_factor(k, stride, n);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int j = at + 8 * n + i % 2, r = i / 2;
            s[n][i] *= w->factor[r] * f;
            if (j >= w->see[r]) s[n][i] = -INFINITY;
            else if (!plain) s[n][i] = pare_attn_masked(a, s[n][i], w->mask_row[r], j);
            top[r] = fmaxf(top[r], s[n][i]);
        }
    }
#pragma unroll
    for (int r = 0; r < 2; r++) {
        top[r] = fmaxf(top[r], __shfl_xor_sync(0xffffffffu, top[r], 1));
        top[r] = fmaxf(top[r], __shfl_xor_sync(0xffffffffu, top[r], 2));
        keep[r] = pare_attn_exp(w->m[r], top[r]);
        w->m[r] = top[r];
        w->l[r] *= keep[r];
    }
#pragma unroll
    for (int n = 0; n < KT / 8; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            s[n][i] = pare_attn_exp(s[n][i], top[i / 2]);
            w->l[i / 2] += s[n][i];
        }
    }
}

/* o = o * keep + p v */
template <int DP, int KT>
static __device__ __forceinline__ void add_values(const uint16_t *v, int dv, int stride, float (&p)[KT / 8][4],
                                                  const float (&keep)[2], float (&o)[DP / 8][4]) {
    int lane = (int)threadIdx.x % 32;
    uint32_t high[KT / 16][4], low[KT / 16][4];
    float unit = 0;
#pragma unroll
    for (int n = 0; n < KT / 8; n++) unit = fmaxf(unit, band_factor(v, stride, n));
    float inverse = pare_float((254u << 23) - pare_bits(unit)) * P_SCALE; /* unit is a power of two */
#pragma unroll
    for (int n = 0; n < KT / 8; n++) {
        float f = band_factor(v, stride, n) * inverse;
#pragma unroll
        for (int r = 0; r < 2; r++)
            split_pair(p[n][2 * r] * f, p[n][2 * r + 1] * f, &high[n / 2][n % 2 * 2 + r], &low[n / 2][n % 2 * 2 + r]);
    }
    unit *= 1.0f / P_SCALE;
    v += (lane & 15) * stride + (lane >> 4) * KT * stride;
#pragma unroll
    for (int n0 = 0; n0 < DP / 8; n0 += 4) {
        float c[4][4] = {};
        if (8 * n0 >= dv) break;
#pragma unroll
        for (int x = 0; x < KT / 16; x++) {
#pragma unroll
            for (int n = 0; n < 4; n++) {
                uint32_t b[4];
                if (8 * (n0 + n) >= dv) break;
                pare_ldmatrix4<true>(b, v + 16 * x * stride + 8 * (n0 + n));
                mma_split(c[n], high[x], low[x], b);
            }
        }
#pragma unroll
        for (int n = 0; n < 4; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) o[n0 + n][i] = fmaf(c[n][i], unit, o[n0 + n][i] * keep[i / 2]);
    }
}

/* To y, or to the split's part. */
template <int DP>
static __device__ __forceinline__ void store(const pare_cuda_attn &a, int b, int h, int row0, rows_state *w,
                                             float (&o)[DP / 8][4], float *part) {
    int t = (int)threadIdx.x % 4, dv = a.v.size;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float l = w->l[r] + __shfl_xor_sync(0xffffffffu, w->l[r], 1);
        l += __shfl_xor_sync(0xffffffffu, l, 2);
        int row = row0 + 8 * r;
        if (row >= a.rows) continue;
        float *to = part ? part + (int64_t)row * dv : pare_attn_row(a.y, b, h * a.group + row % a.group, row / a.group);
        float inv = part ? 1.0f : l != 0 ? 1.0f / l : 0; /* no key seen: zeros */
        if (part && t == 0) *(float2 *)(part + (int64_t)a.rows * dv + 2 * row) = make_float2(w->m[r], l);
#pragma unroll
        for (int n = 0; n < DP / 8; n++)
            if (8 * n < dv) *(float2 *)(to + 8 * n + 2 * t) = make_float2(o[n][2 * r] * inv, o[n][2 * r + 1] * inv);
    }
}

static __device__ __forceinline__ int head_of(const pare_cuda_attn &a, int h, int row) {
    return h * a.group + row % a.group;
}

/* This warp's rows row0 .. row0 + 15: the state, and the queries split into shared memory. */
template <int DP>
static __device__ __forceinline__ rows_state begin(const pare_cuda_attn &a, int b, int h, int row0, uint16_t *q,
                                                   int stride) {
    rows_state w;
    int lane = (int)threadIdx.x % 32;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        int row = row0 + 8 * r + lane / 4, moved = row0 + 8 * r + lane % 8; /* moved: whose query this lane copies */
        const float *from = moved < a.rows ? pare_attn_row(a.q, b, head_of(a, h, moved), moved / a.group) : NULL;
        float f = split_rows<DP>(from, a.q.size, q + 8 * r * stride, stride, ROWS * stride);
        w.m[r] = -INFINITY, w.l[r] = 0, w.factor[r] = f * a.scale;
        w.see[r] = row < a.rows ? pare_attn_visible(a, b, row / a.group) : 0;
        w.mask_row[r] = pare_attn_mask_row(a, b, head_of(a, h, row), row / a.group);
    }
    return w;
}

template <int DP, int KT>
__global__ void __launch_bounds__(THREADS, 1) attn_tiles_kernel(pare_cuda_attn a, int tiles, int splits, float *part) {
    PARE_DYNAMIC_SHARED(uint16_t, q);
    int stride = stride_of(a), warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    uint16_t *tile = q + 2 * ROWS * stride;
    int which = (int)(blockIdx.x % tiles), part_index = (int)(blockIdx.x / tiles), pair = part_index / splits;
    int b = pair / a.k.heads, h = pair % a.k.heads, row0 = (tiles - 1 - which) * ROWS; /* the longest first */
    int all = pare_attn_visible(a, b, a.q.n - 1), chunk = pare_attn_chunk(all, splits);
    int from = part_index % splits * chunk;
    if (part && from >= all) return;
    int to = min(from + chunk, pare_attn_visible(a, b, (min(row0 + ROWS, a.rows) - 1) / a.group));
    bool active = row0 + 16 * warp < a.rows;
    q += 16 * warp * stride;
    rows_state w = begin<DP>(a, b, h, row0 + 16 * warp, q, stride);
    float o[DP / 8][4] = {};
    for (int first = from; first < to; first += KT) {
        float s[KT / 8][4] = {}, keep[2];
        __syncthreads();
        load_tile<DP, KT, false>(a, b, h, first, to, tile, stride);
        __syncthreads();
        if (active) {
            scores<KT>(q, tile, a.q.size, stride, s);
            soften<KT>(a, &w, first, tile, stride, s, keep);
        }
        __syncthreads();
        load_tile<DP, KT, true>(a, b, h, first, to, tile, stride);
        __syncthreads();
        if (active) add_values<DP, KT>(tile, a.v.size, stride, s, keep, o);
    }
    if (part) part += (int64_t)part_index * a.rows * (a.v.size + 2);
    if (active) store<DP>(a, b, h, row0 + 16 * warp + lane / 4, &w, o, part);
}

/* ---- host ---- */

static size_t shared_bytes(const pare_cuda_attn *a, int kt) {
    return sizeof(uint16_t) * 2 * (ROWS + (size_t)kt) * (size_t)stride_of(*a);
}
static int size_of(const pare_cuda_attn *a) { return a->q.size > a->v.size ? a->q.size : a->v.size; }

bool pare_cuda_attn_tiles_fit(const pare_cuda *dev, const pare_cuda_attn *a) {
    return shared_bytes(a, 32) <= dev->rt.shared_max;
}

static int tiles_of(const pare_cuda_attn *a) { return (int)pare_cuda_ceil(a->rows, ROWS); }

int pare_cuda_attn_tiles_splits(const pare_cuda_attn *a) {
    int64_t blocks = (int64_t)tiles_of(a) * pare_cuda_attn_pairs(a), n = pare_cuda_ceil(a->keys, 2 * PARE_ATTN_UNIT);
    if (!blocks || blocks >= BLOCKS) return 1;
    int64_t most = pare_cuda_ceil(2 * BLOCKS, blocks);
    if (n > most) n = most;
    return n > PARE_ATTN_SPLITS ? PARE_ATTN_SPLITS : n > 1 ? (int)n : 1;
}

template <int DP, int KT> static void launch(pare_cuda *dev, const pare_cuda_attn *a, int splits, float *part) {
    int tiles = tiles_of(a);
    dim3 grid((unsigned)((int64_t)tiles * splits * pare_cuda_attn_pairs(a)));
    pare_launch<attn_tiles_kernel<DP, KT>>(dev->rt.stream, grid, THREADS, shared_bytes(a, KT), *a, tiles, splits,
                                           splits > 1 ? part : (float *)NULL);
}

void pare_cuda_attn_tiles(pare_cuda *dev, const pare_cuda_attn *a, int splits, float *part) {
    if (size_of(a) <= 64) launch<64, 64>(dev, a, splits, part);
    else if (size_of(a) > 128) launch<256, 32>(dev, a, splits, part);
    else if (shared_bytes(a, 64) <= dev->rt.shared_max) launch<128, 64>(dev, a, splits, part);
    else launch<128, 32>(dev, a, splits, part); /* sm_75 */
}
