/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention of few rows (R <= 8 queries times heads of one key head) over many keys. A block takes one split of one
 * key head; its warps walk the keys 16 at a time, each with a running maximum and sum of its own, and meet once at the
 * end: no barrier in the loop. Scores: 8 lanes share a key, four keys each; values: a lane owns four columns (NV
 * times), so every key and value is read once, 16 bytes a lane, and serves all rows. Bytes are the limit: 8 rows are 16
 * FMA a float, a quarter of what an H100 could do in the time it reads one. */
#include "cuda/attention.cuh"

#define THREADS 128
#define WARPS   (THREADS / 32)
#define KEYS    16   /* of a warp at a time */
#define BLOCKS  1024 /* enough to fill a device; more splits only make more to merge */

typedef struct place {
    int b, h, lane, lanes; /* lanes: of a row of values, a power of two */
} place;

/* What this warp reads next is asked for before it computes: keys (values) first .. first+15 of those below end. */
template <bool VALUES>
static __device__ __forceinline__ void fetch(const pare_cuda_attn &a, const place &at, int first, int end) {
    int j = first + at.lane / 2, size = VALUES ? a.v.size : a.q.size;
    if (j >= end) return;
    const float *row = VALUES ? pare_attn_value(a, at.b, at.h, j) : pare_attn_key(a, at.b, at.h, j);
#pragma unroll 1
    for (int e = at.lane % 2 * 32; e < size; e += 64) pare_prefetch(row + e);
}

/* Scores of keys first .. first+15 to p[key * R + row]; those from `end` on repeat the last one's. */
template <int R>
static __device__ __forceinline__ void scores(const pare_cuda_attn &a, const place &at, const float *q, int first,
                                              int end, float *p) {
    int g = at.lane / 8, s = at.lane % 8, d = a.q.size;
    const float *k[4];
    float acc[4][R] = {};
#pragma unroll
    for (int c = 0; c < 4; c++) k[c] = pare_attn_key(a, at.b, at.h, min(first + 4 * g + c, end - 1));
#pragma unroll 2
    for (int e = 4 * s; e < d; e += 32) {
        float4 x[4];
#pragma unroll
        for (int c = 0; c < 4; c++) x[c] = *(const float4 *)(k[c] + e);
#pragma unroll
        for (int r = 0; r < R; r++) {
            float4 w = *(const float4 *)(q + r * d + e);
#pragma unroll
            for (int c = 0; c < 4; c++)
                acc[c][r] = fmaf(w.w, x[c].w, fmaf(w.z, x[c].z, fmaf(w.y, x[c].y, fmaf(w.x, x[c].x, acc[c][r]))));
        }
    }
#pragma unroll
    for (int c = 0; c < 4; c++) {
#pragma unroll
        for (int r = 0; r < R; r++) {
            float v = acc[c][r];
            for (int x = 4; x; x /= 2) v += __shfl_xor_sync(0xffffffffu, v, x);
            if (s == c) p[(4 * g + c) * R + r] = v;
        }
    }
}

typedef struct row_state { /* of row lane / 4; each of its four lanes sums its own keys */
    float m, l;
    int row, see; /* see 0: no such row */
    int64_t mask_row;
} row_state;

/* Scores to exp(s - m); what the sums so far shrink by to keep[row]. */
template <int R>
static __device__ __forceinline__ void soften(const pare_cuda_attn &a, row_state *w, int lane, int first, float *p,
                                              float *keep) {
    float s[4], top = w->m, sum = 0;
#pragma unroll
    for (int c = 0; c < 4; c++) {
        int j = lane % 4 + 4 * c;
        bool sees = first + j < w->see;
        s[c] = sees ? pare_attn_masked(a, p[j * R + w->row], w->mask_row, first + j) : -INFINITY;
        top = fmaxf(top, s[c]);
    }
    top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
    top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
#pragma unroll
    for (int c = 0; c < 4; c++) {
        float x = pare_attn_exp(s[c], top);
        sum += x;
        if (w->row < R) p[(lane % 4 + 4 * c) * R + w->row] = x;
    }
    float shrink = pare_attn_exp(w->m, top);
    if (lane % 4 == 0 && w->row < R) keep[w->row] = shrink;
    w->l = w->l * shrink + sum;
    w->m = top;
}

/* The R rows' numbers at p, 16 bytes at a time where they fill that. */
template <int R> static __device__ __forceinline__ void load_rows(const float *p, float (&f)[R]) {
    if constexpr (R % 4 == 0) {
#pragma unroll
        for (int r = 0; r < R; r += 4) {
            float4 x = *(const float4 *)(p + r);
            f[r] = x.x, f[r + 1] = x.y, f[r + 2] = x.z, f[r + 3] = x.w;
        }
    } else {
#pragma unroll
        for (int r = 0; r < R; r++) f[r] = p[r];
    }
}

/* o = o * keep + p v of n <= 16 keys; 32 / lanes keys side by side. */
template <int R, int NV>
static __device__ __forceinline__ void add_values(const pare_cuda_attn &a, const place &at, int first, int n,
                                                  const float *p, const float *keep, float4 (&o)[R][NV]) {
    int column = 4 * (at.lane % at.lanes), step = 32 / at.lanes;
#pragma unroll
    for (int r = 0; r < R; r++) {
        float f = keep[r];
#pragma unroll
        for (int i = 0; i < NV; i++) o[r][i].x *= f, o[r][i].y *= f, o[r][i].z *= f, o[r][i].w *= f;
    }
    if (column >= a.v.size) return;
#pragma unroll(4 / NV)
    for (int j = at.lane / at.lanes; j < n; j += step) {
        const float *v = pare_attn_value(a, at.b, at.h, first + j) + column;
        float f[R];
        load_rows<R>(p + j * R, f);
#pragma unroll
        for (int i = 0; i < NV; i++) {
            if (i && column + 128 * i >= a.v.size) continue;
            float4 x = *(const float4 *)(v + 128 * i);
#pragma unroll
            for (int r = 0; r < R; r++) {
                o[r][i].x = fmaf(f[r], x.x, o[r][i].x), o[r][i].y = fmaf(f[r], x.y, o[r][i].y);
                o[r][i].z = fmaf(f[r], x.z, o[r][i].z), o[r][i].w = fmaf(f[r], x.w, o[r][i].w);
            }
        }
    }
}

static __device__ __forceinline__ float across(float v, int lanes) {
    for (int x = lanes; x < 32; x *= 2) v += __shfl_xor_sync(0xffffffffu, v, x);
    return v;
}

/* A warp's sums to shared memory: o[row][dv], (m, l)[row]. */
template <int R, int NV>
static __device__ __forceinline__ void leave(const place &at, const row_state &w, int dv, float4 (&o)[R][NV],
                                             float *o_out, float *ml_out) {
    int column = 4 * (at.lane % at.lanes);
    float l = w.l + __shfl_xor_sync(0xffffffffu, w.l, 1);
    l += __shfl_xor_sync(0xffffffffu, l, 2);
    if (at.lane % 4 == 0 && w.row < R) ml_out[2 * w.row] = w.m, ml_out[2 * w.row + 1] = l;
#pragma unroll
    for (int r = 0; r < R; r++) {
#pragma unroll
        for (int i = 0; i < NV; i++) {
            float4 x = o[r][i];
            x.x = across(x.x, at.lanes), x.y = across(x.y, at.lanes);
            x.z = across(x.z, at.lanes), x.w = across(x.w, at.lanes);
            if (at.lane < at.lanes && column + 128 * i < dv) *(float4 *)(o_out + r * dv + column + 128 * i) = x;
        }
    }
}

/* The warps' sums, in order, to y or to the split's part. */
template <int R>
static __device__ __forceinline__ void meet(const pare_cuda_attn &a, const place &at, const float *o, const float *ml,
                                            float *part) {
    int dv = a.v.size;
    for (int x = (int)threadIdx.x; x < a.rows * dv; x += THREADS) {
        int row = x / dv, e = x % dv;
        float m = -INFINITY, l = 0, sum = 0;
        for (int w = 0; w < WARPS; w++) m = fmaxf(m, ml[2 * (w * R + row)]);
        for (int w = 0; w < WARPS; w++) {
            float f = pare_attn_exp(ml[2 * (w * R + row)], m);
            l = fmaf(f, ml[2 * (w * R + row) + 1], l);
            sum = fmaf(f, o[(w * R + row) * dv + e], sum);
        }
        if (!part) {
            float inv = l != 0 ? 1.0f / l : 0; /* no key seen: zeros */
            pare_attn_row(a.y, at.b, at.h * a.group + row % a.group, row / a.group)[e] = sum * inv;
            continue;
        }
        part[x] = sum;
        if (e == 0) part[a.rows * dv + 2 * row] = m, part[a.rows * dv + 2 * row + 1] = l;
    }
}

template <int R> static __host__ __device__ int shared_floats(int d, int dv) {
    return R * d + WARPS * R * (KEYS + 1 + dv + 2); /* q | o | p | keep | m, l */
}

template <int R, int NV>
__global__ void __launch_bounds__(THREADS, R == 8    ? 2
                                           : NV == 2 ? 3
                                                     : 4)
    attn_decode_kernel(pare_cuda_attn a, int splits, int lanes, float *part) {
    PARE_DYNAMIC_SHARED(float, q);
    int d = a.q.size, dv = a.v.size, tid = (int)threadIdx.x, warp = tid / 32;
    int split = (int)(blockIdx.x % splits), pair = (int)(blockIdx.x / splits);
    place at = {pair / a.k.heads, pair % a.k.heads, tid % 32, lanes};
    int all = pare_attn_visible(a, at.b, a.q.n - 1), chunk = pare_attn_chunk(all, splits);
    int from = split * chunk, to = min(all, from + chunk);
    if (part && from >= all) return;
    float *o_all = q + R * d, *p = o_all + WARPS * R * dv, *keep = p + WARPS * R * KEYS, *ml = keep + WARPS * R;
    for (int x = tid; x < R * d; x += THREADS) {
        int row = x / d;
        q[x] = row < a.rows ? pare_attn_row(a.q, at.b, at.h * a.group + row % a.group, row / a.group)[x % d] * a.scale
                            : 0.0f;
    }
    p += warp * R * KEYS, keep += warp * R;
    row_state w = {-INFINITY, 0, at.lane / 4, 0, 0};
    if (w.row < R && w.row < a.rows) {
        int i = w.row / a.group;
        w.see = pare_attn_visible(a, at.b, i);
        w.mask_row = pare_attn_mask_row(a, at.b, at.h * a.group + w.row % a.group, i);
    }
    float4 o[R][NV] = {};
    __syncthreads();
    for (int first = from + warp * KEYS; first < to; first += WARPS * KEYS) {
        fetch<true>(a, at, first, to);
        scores<R>(a, at, q, first, to, p);
        __syncwarp();
        soften<R>(a, &w, at.lane, first, p, keep);
        __syncwarp();
        fetch<false>(a, at, first + WARPS * KEYS, to);
        add_values<R, NV>(a, at, first, min(KEYS, to - first), p, keep, o);
        __syncwarp(); /* p is read before the next scores are written: their shuffles order no memory */
    }
    leave<R, NV>(at, w, dv, o, o_all + warp * R * dv, ml + 2 * warp * R);
    __syncthreads();
    if (part) part += (int64_t)blockIdx.x * a.rows * (dv + 2);
    meet<R>(a, at, o_all, ml, part);
}

int pare_cuda_attn_decode_splits(const pare_cuda_attn *a) {
    int pairs = pare_cuda_attn_pairs(a) ? pare_cuda_attn_pairs(a) : 1;
    int64_t n = pare_cuda_ceil(a->keys, PARE_ATTN_UNIT), most = pare_cuda_ceil(BLOCKS, pairs);
    if (n > most) n = most;
    return n > PARE_ATTN_SPLITS ? PARE_ATTN_SPLITS : n > 1 ? (int)n : 1;
}

template <int R> static void launch(pare_cuda *dev, const pare_cuda_attn *a, int splits, float *part) {
    dim3 grid((unsigned)(pare_cuda_attn_pairs(a) * splits));
    size_t shared = sizeof(float) * (size_t)shared_floats<R>(a->q.size, a->v.size);
    int lanes = 1;
    while (lanes < 32 && 4 * lanes < a->v.size) lanes *= 2;
    if (a->v.size <= 128)
        pare_launch<attn_decode_kernel<R, 1>>(dev->rt.stream, grid, THREADS, shared, *a, splits, lanes, part);
    else pare_launch<attn_decode_kernel<R, 2>>(dev->rt.stream, grid, THREADS, shared, *a, splits, lanes, part);
}

void pare_cuda_attn_decode(pare_cuda *dev, const pare_cuda_attn *a, int splits, float *part) {
    if (splits == 1) part = NULL;
    if (a->rows == 1) launch<1>(dev, a, splits, part);
    else if (a->rows == 2) launch<2>(dev, a, splits, part);
    else if (a->rows <= 4) launch<4>(dev, a, splits, part);
    else launch<8>(dev, a, splits, part);
}
