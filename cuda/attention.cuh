/* SPDX-License-Identifier: Apache-2.0
 *
 * One Attention call on the device, understood (cuda/op_attention.cu), and the rules of who sees whom. The kernels get
 * it by value; none of them ever holds a row of scores. Queries that share a key head are rows: row = query * group +
 * head within the group.
 *
 *   attn_decode.cu   rows <= 8: every key and value is read once, f32 FMA
 *   attn_prefill.cu  more rows: tiles of 64 rows on tensor cores, operands as sums of two f16
 *   attn_general.cu  head sizes that are no multiple of 8 or above 256, addresses that are not aligned
 *   attn_merge.cu    parts of split keys to results
 *
 * Launch shapes depend on shapes alone (keys = the capacity of the cache), lengths are read on the device: a recording
 * replays with a longer past. A length outside 0 .. keys counts as the nearest of the two.
 *
 * equal: |y - exact| <= (2 (d + 32) S + keys / 4 + 64) 2^-24 V, S = max of scale sum_e |q_e k_e| plus |mask|, V = max
 * |v|, both over the keys that are seen; keys of the same tile that are not seen count with 2^-13 of theirs (a power of
 * two is shared by 8 rows). Finite operands. The same call gives the same bits.
 * paper: Dao 2023, FlashAttention-2; Dao et al. 2023, Flash-Decoding. */
#ifndef PARE_CUDA_ATTENTION_CUH
#define PARE_CUDA_ATTENTION_CUH

#include "cuda/backend.cuh"
#include "cuda/dev.cuh"

/* [batch][head][n][size] by strides in floats; rows of `size` are contiguous. */
typedef struct pare_cuda_attn_view {
    float *data;
    int heads, n, size;
    int64_t batch, head, row;
} pare_cuda_attn_view;

typedef struct pare_cuda_attn {
    pare_cuda_attn_view q, k, v, y, past_k, past_v;
    int batch, group, rows, past, keys; /* group = query heads per key head; rows = queries * group */
    float scale, softcap;
    const void *mask; /* bool (true = may see) or f32 (added), NULL = none */
    const int64_t *nonpad;
    int64_t mask_stride[4];
    int mask_keys; /* keys beyond these are hidden */
    bool mask_bool, causal, upper_left;
} pare_cuda_attn;

/* The operands of an Attention call, checked (cuda/op_attention.cu). */
pare_status pare_cuda_attn_describe(const pare_op_call *c, pare_cuda_attn *a, pare_diag *d);

/* Splits of the keys: each is `chunk` keys long (of the length there is, so that all have work), the last ones empty.
 */
#define PARE_ATTN_SPLITS 64
#define PARE_ATTN_UNIT   64 /* keys; chunks are multiples */

/* The kernels' host side. splits of decode and tiles: from shapes; above 1 they write parts, which merge turns into y:
 * o[rows][dv], then (m, l)[rows], for each (batch, key head, split). */
int pare_cuda_attn_decode_splits(const pare_cuda_attn *a);
void pare_cuda_attn_decode(pare_cuda *dev, const pare_cuda_attn *a, int splits, float *part);
bool pare_cuda_attn_tiles_fit(const pare_cuda *dev, const pare_cuda_attn *a);
int pare_cuda_attn_tiles_splits(const pare_cuda_attn *a);
void pare_cuda_attn_tiles(pare_cuda *dev, const pare_cuda_attn *a, int splits, float *part);
void pare_cuda_attn_merge(pare_cuda *dev, const pare_cuda_attn *a, int splits, const float *part);
void pare_cuda_attn_general(pare_cuda *dev, const pare_cuda_attn *a);
static inline int pare_cuda_attn_pairs(const pare_cuda_attn *a) { return a->batch * a->k.heads; }

/* ---- on the device ---- */

#define PARE_LOG2E 1.44269504088896340736f

__device__ __forceinline__ float *pare_attn_row(const pare_cuda_attn_view &v, int b, int h, int i) {
    return v.data + b * v.batch + h * v.head + i * v.row;
}
/* Key and value j: past ones first. */
__device__ __forceinline__ const float *pare_attn_key(const pare_cuda_attn &a, int b, int h, int j) {
    return j < a.past ? pare_attn_row(a.past_k, b, h, j) : pare_attn_row(a.k, b, h, j - a.past);
}
__device__ __forceinline__ const float *pare_attn_value(const pare_cuda_attn &a, int b, int h, int j) {
    return j < a.past ? pare_attn_row(a.past_v, b, h, j) : pare_attn_row(a.v, b, h, j - a.past);
}

/* How many leading keys query i may see, before any mask; grows with i. */
__device__ __forceinline__ int pare_attn_visible(const pare_cuda_attn &a, int b, int i) {
    int64_t n = a.keys;
    if (a.nonpad) n = max((int64_t)0, min(n, a.nonpad[b]));
    if (!a.causal) return (int)n;
    int64_t offset = a.nonpad && !a.upper_left ? n - a.q.n : a.past; /* position of query 0 */
    return (int)max((int64_t)0, min(n, offset + i + 1));
}

__device__ __forceinline__ int64_t pare_attn_mask_row(const pare_cuda_attn &a, int b, int head, int i) {
    return b * a.mask_stride[0] + head * a.mask_stride[1] + i * a.mask_stride[2];
}
/* A score (scaled) after softcap and mask. */
__device__ __forceinline__ float pare_attn_masked(const pare_cuda_attn &a, float s, int64_t mask_row, int j) {
    if (a.softcap > 0) s = a.softcap * tanhf(s / a.softcap);
    if (!a.mask) return s;
    if (j >= a.mask_keys) return -INFINITY;
    int64_t at = mask_row + j * a.mask_stride[3];
    if (a.mask_bool) return ((const uint8_t *)a.mask)[at] ? s : -INFINITY;
    return s + ((const float *)a.mask)[at];
}

/* Keys per split when the last query sees n. */
__device__ __forceinline__ int pare_attn_chunk(int n, int splits) {
    int each = (n + splits - 1) / splits;
    return max(PARE_ATTN_UNIT, (each + PARE_ATTN_UNIT - 1) / PARE_ATTN_UNIT * PARE_ATTN_UNIT);
}
/* exp(s - m), m a maximum that s is part of; a row that has seen nothing (m = -inf) shifts by 0. */
__device__ __forceinline__ float pare_attn_exp(float s, float m) {
    return pare_exp2((s - (m == -INFINITY ? 0.0f : m)) * PARE_LOG2E);
}

#endif
