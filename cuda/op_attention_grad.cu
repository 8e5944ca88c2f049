/* SPDX-License-Identifier: Apache-2.0
 *
 * AttentionGrad (Dao 2023, FlashAttention-2, section 3.1.2): with S = scale Q K' + mask, P = softmax S, Y = P V,
 *   dV = P' dY,  dP = dY V',  dS = P (dP - rowsum(dY Y)),  dQ = scale dS K,  dK = scale dS' Q
 * Three kernels, all products in f32: one for what a row of scores needs to become probabilities again, one whose
 * blocks own queries and walk over keys (dQ), one whose blocks own keys and walk over the heads of their group and
 * those heads' queries in order (dK, dV). No scores are kept and nothing is added by atomics: the same call gives the
 * same bits. Products are done twice where sharing them would need atomics: 8 in place of 5.
 * Head sizes up to 128 (64 on devices with less than 75 KiB of shared memory a block).
 * equal: sums in double to about (size + keys) units in the last place of the sum of magnitudes. */
#include "cuda/attn_grad.cuh"

#include "core/status.h"

#include <math.h>

/* ---- rows ---- */

template <int SIDE, int CAP>
__global__ void __launch_bounds__(SIDE *SIDE / 16) attn_grad_rows_kernel(pare_attn_grad g, int tiles) {
    typedef pare_attn_tiles<SIDE, CAP> T;
    PARE_DYNAMIC_SHARED(float, room);
    const pare_cuda_attn &a = g.a;
    float *q = room, *k = room + SIDE * T::ROW;
    int tx = (int)threadIdx.x % T::TX, ty = (int)threadIdx.x / T::TX, first = (int)(blockIdx.x % tiles) * SIDE;
    int h = (int)(blockIdx.x / tiles % a.q.heads), b = (int)(blockIdx.x / tiles / a.q.heads);
    int last = min(first + SIDE, a.q.n) - 1, keys = pare_attn_visible(a, b, last), see[4];
    float top[4], sum[4], s[4][4];
    int64_t mask_row[4];
    for (int r = 0; r < 4; r++) {
        int i = min(first + ty + r * T::TX, last);
        top[r] = -INFINITY, sum[r] = 0;
        see[r] = pare_attn_visible(a, b, i), mask_row[r] = pare_attn_mask_row(a, b, h, i);
    }
    T::load(q, a.q, b, h, first);
    for (int j0 = 0; j0 < keys; j0 += SIDE) {
        __syncthreads();
        T::load(k, a.k, b, h / a.group, j0);
        __syncthreads();
        T::scores(s, q, k, a.q.size);
#pragma unroll
        for (int r = 0; r < 4; r++)
#pragma unroll
            for (int c = 0; c < 4; c++) {
                float v = pare_attn_grad_score(a, s[r][c], mask_row[r], j0 + tx + c * T::TX, see[r]);
                if (v > top[r]) sum[r] *= pare_attn_exp(top[r], v), top[r] = v;
                sum[r] += pare_attn_exp(v, top[r]);
            }
    }
    for (int r = 0; r < 4; r++) { /* over the threads of a row, which are neighbours in a warp */
        int i = first + ty + r * T::TX;
        float most = top[r], total, dot = 0;
        for (int d = T::TX / 2; d; d /= 2) most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, d));
        total = sum[r] * pare_attn_exp(top[r], most);
        for (int e = tx; i <= last && e < a.v.size; e += T::TX)
            dot = fmaf(pare_attn_row(g.dy, b, h, i)[e], pare_attn_row(a.y, b, h, i)[e], dot);
        for (int d = T::TX / 2; d; d /= 2) {
            total += __shfl_xor_sync(0xffffffffu, total, d);
            dot += __shfl_xor_sync(0xffffffffu, dot, d);
        }
        if (tx || i > last) continue;
        int64_t at = pare_attn_grad_at(a, b, h, i);
        g.top[at] = most, g.inv[at] = total > 0 ? 1.0f / total : 0.0f, g.dot[at] = dot;
    }
}

/* ---- queries ---- */

template <int SIDE, int CAP>
__global__ void __launch_bounds__(SIDE *SIDE / 16) attn_grad_q_kernel(pare_attn_grad g, int tiles) {
    typedef pare_attn_tiles<SIDE, CAP> T;
    PARE_DYNAMIC_SHARED(float, room);
    const pare_cuda_attn &a = g.a;
    float *q = room, *dy = q + SIDE * T::ROW, *k = dy + SIDE * T::ROW, *v = k + SIDE * T::ROW, *w = v + SIDE * T::ROW;
    int tx = (int)threadIdx.x % T::TX, ty = (int)threadIdx.x / T::TX, first = (int)(blockIdx.x % tiles) * SIDE;
    int h = (int)(blockIdx.x / tiles % a.q.heads), b = (int)(blockIdx.x / tiles / a.q.heads);
    int last = min(first + SIDE, a.q.n) - 1, keys = pare_attn_visible(a, b, last), see[4];
    float top[4], inv[4], dot[4], s[4][4], dp[4][4];
    int64_t mask_row[4];
    float4 dq[4][T::COLUMNS];
    T::clear(dq);
    for (int r = 0; r < 4; r++) {
        int i = min(first + ty + r * T::TX, last);
        int64_t at = pare_attn_grad_at(a, b, h, i);
        top[r] = g.top[at], inv[r] = g.inv[at], dot[r] = g.dot[at];
        see[r] = pare_attn_visible(a, b, i), mask_row[r] = pare_attn_mask_row(a, b, h, i);
    }
    T::load(q, a.q, b, h, first);
    T::load(dy, g.dy, b, h, first);
    for (int j0 = 0; j0 < keys; j0 += SIDE) {
        __syncthreads();
        T::load(k, a.k, b, h / a.group, j0);
        T::load(v, a.v, b, h / a.group, j0);
        __syncthreads();
        T::scores(s, q, k, a.q.size);
        T::scores(dp, dy, v, a.v.size);
#pragma unroll
        for (int r = 0; r < 4; r++)
#pragma unroll
            for (int c = 0; c < 4; c++) {
                float x = pare_attn_grad_score(a, s[r][c], mask_row[r], j0 + tx + c * T::TX, see[r]);
                s[r][c] = pare_attn_exp(x, top[r]) * inv[r] * (dp[r][c] - dot[r]);
            }
        T::keep(w, s);
        __syncthreads();
        T::add(dq, w, k, a.q.size);
    }
    T::store(g.dq, b, h, first, dq, a.scale);
}

/* ---- keys ---- */

/* One tile of queries of head h. */
template <int SIDE, int CAP>
static __device__ __forceinline__ void keys_meet(const pare_attn_grad &g, int b, int h, int first, int i0, float *room,
                                                 float4 dk[4][pare_attn_tiles<SIDE, CAP>::COLUMNS],
                                                 float4 dv[4][pare_attn_tiles<SIDE, CAP>::COLUMNS]) {
    typedef pare_attn_tiles<SIDE, CAP> T;
    const pare_cuda_attn &a = g.a;
    float *k = room, *v = k + SIDE * T::ROW, *q = v + SIDE * T::ROW, *dy = q + SIDE * T::ROW, *w = dy + SIDE * T::ROW;
    int tx = (int)threadIdx.x % T::TX, ty = (int)threadIdx.x / T::TX;
    float p[4][4], dp[4][4];
    __syncthreads();
    T::load(q, a.q, b, h, i0);
    T::load(dy, g.dy, b, h, i0);
    __syncthreads();
    T::scores(p, k, q, a.q.size);
    T::scores(dp, v, dy, a.v.size);
#pragma unroll
    for (int c = 0; c < 4; c++) {
        int i = i0 + tx + c * T::TX, real = min(i, a.q.n - 1), see = i < a.q.n ? pare_attn_visible(a, b, i) : 0;
        int64_t at = pare_attn_grad_at(a, b, h, real), mask_row = pare_attn_mask_row(a, b, h, real);
        float top = g.top[at], inv = g.inv[at], dot = g.dot[at];
#pragma unroll
        for (int r = 0; r < 4; r++) {
            float x = pare_attn_grad_score(a, p[r][c], mask_row, first + ty + r * T::TX, see);
            p[r][c] = pare_attn_exp(x, top) * inv;
            dp[r][c] = p[r][c] * (dp[r][c] - dot);
        }
    }
    T::keep(w, p);
    __syncthreads();
    T::add(dv, w, dy, a.v.size);
    __syncthreads();
    T::keep(w, dp);
    __syncthreads();
    T::add(dk, w, q, a.q.size);
}

template <int SIDE, int CAP>
__global__ void __launch_bounds__(SIDE *SIDE / 16) attn_grad_kv_kernel(pare_attn_grad g, int tiles) {
    typedef pare_attn_tiles<SIDE, CAP> T;
    PARE_DYNAMIC_SHARED(float, room);
    const pare_cuda_attn &a = g.a;
    int first = (int)(blockIdx.x % tiles) * SIDE;
    int kv = (int)(blockIdx.x / tiles % a.k.heads), b = (int)(blockIdx.x / tiles / a.k.heads);
    float4 dk[4][T::COLUMNS], dv[4][T::COLUMNS];
    T::clear(dk), T::clear(dv);
    T::load(room, a.k, b, kv, first);
    T::load(room + SIDE * T::ROW, a.v, b, kv, first);
    for (int h = kv * a.group; h < (kv + 1) * a.group; h++)
        for (int i0 = 0; i0 < a.q.n; i0 += SIDE)
            if (pare_attn_visible(a, b, min(i0 + SIDE, a.q.n) - 1) > first)
                keys_meet<SIDE, CAP>(g, b, h, first, i0, room, dk, dv);
    T::store(g.dk, b, kv, first, dk, a.scale);
    T::store(g.dv, b, kv, first, dv, 1.0f);
}

/* ---- the host's side ---- */

/* The call whose gradient this is. */
static pare_op_call forward(const pare_op_call *c) {
    pare_op_call f = {};
    f.op = PARE_OP_Attention, f.attr = c->attr, f.n_in = 7, f.n_out = 1;
    for (int i = 0; i < 3; i++) f.in[i] = c->in[2 + i];
    if (c->n_in > 5) f.in[3] = c->in[5];
    if (c->n_in > 6) f.in[6] = c->in[6];
    f.out[0] = (pare_tensor *)(uintptr_t)c->in[1];
    return f;
}

typedef enum tiling { TILING_NONE, TILING_32_64, TILING_64_64, TILING_32_128, TILING_64_128 } tiling;

static tiling tiling_of(const pare_cuda *dev, const pare_cuda_attn *a) {
    int size = a->q.size > a->v.size ? a->q.size : a->v.size;
    size_t most = dev->rt.shared_max;
    bool many = a->q.n > 32 && a->k.n > 32;
    if (size < 1 || size > 128) return TILING_NONE;
    if (size <= 64) return many && pare_attn_tiles<64, 64>::bytes() <= most ? TILING_64_64 : TILING_32_64;
    if (many && pare_attn_tiles<64, 128>::bytes() <= most) return TILING_64_128;
    return pare_attn_tiles<32, 128>::bytes() <= most ? TILING_32_128 : TILING_NONE;
}

bool pare_cuda_attention_grad_supports(const pare_cuda *dev, const pare_op_call *c) {
    const pare_attr_attention *at = (const pare_attr_attention *)c->attr;
    pare_op_call f = forward(c);
    pare_cuda_attn a;
    if ((at && at->softcap > 0) || c->n_out != 3 || !c->out[1] || !c->out[2] || !pare_cuda_is_f32(c->in[0]))
        return false;
    for (int i = 0; i < 3; i++)
        if (!pare_cuda_is_f32(c->out[i])) return false;
    return pare_cuda_attention_supports(dev, &f) && pare_cuda_attn_describe(&f, &a, NULL) == PARE_OK &&
           tiling_of(dev, &a) != TILING_NONE;
}

size_t pare_cuda_attention_grad_workspace(const pare_cuda *dev, const pare_op_call *c) {
    pare_cuda_attn a;
    pare_op_call f = forward(c);
    if (pare_cuda_attn_describe(&f, &a, NULL) != PARE_OK) return 0;
    return (size_t)a.batch * (size_t)a.q.heads * (size_t)a.q.n * 3 * sizeof(float);
}

template <int SIDE, int CAP> static void launch(pare_cuda *dev, const pare_attn_grad &g) {
    typedef pare_attn_tiles<SIDE, CAP> T;
    int of_q = (int)pare_cuda_ceil(g.a.q.n, SIDE), of_k = (int)pare_cuda_ceil(g.a.k.n, SIDE);
    dim3 queries((unsigned)(of_q * g.a.batch * g.a.q.heads)), keys((unsigned)(of_k * g.a.batch * g.a.k.heads));
    size_t rows = (size_t)(2 * SIDE * T::ROW) * sizeof(float);
    void *s = dev->rt.stream;
    if (queries.x) pare_launch<attn_grad_rows_kernel<SIDE, CAP>>(s, queries, T::THREADS, rows, g, of_q);
    if (queries.x) pare_launch<attn_grad_q_kernel<SIDE, CAP>>(s, queries, T::THREADS, T::bytes(), g, of_q);
    if (keys.x) pare_launch<attn_grad_kv_kernel<SIDE, CAP>>(s, keys, T::THREADS, T::bytes(), g, of_k);
}

pare_status pare_cuda_attention_grad_run(pare_cuda *dev, const pare_op_call *c, pare_diag *d) {
    pare_attn_grad g = {};
    pare_op_call f = forward(c);
    PARE_TRY(pare_cuda_attn_describe(&f, &g.a, d));
    if (!pare_cuda_same_shape(c->in[0], c->in[1])) return pare_cuda_fail(c, d, "dY and Y differ in shape");
    for (int i = 0; i < 3; i++)
        if (!pare_cuda_same_shape(c->out[i], c->in[2 + i]))
            return pare_cuda_fail(c, d, "output %d has not the shape of its operand", i);
    g.dy = g.a.y, g.dq = g.a.q, g.dk = g.a.k, g.dv = g.a.v;
    g.dy.data = (float *)c->in[0]->data, g.dq.data = (float *)c->out[0]->data;
    g.dk.data = (float *)c->out[1]->data, g.dv.data = (float *)c->out[2]->data;
    int64_t rows = (int64_t)g.a.batch * g.a.q.heads * g.a.q.n;
    g.top = (float *)c->workspace, g.inv = g.top + rows, g.dot = g.inv + rows;
    switch (tiling_of(dev, &g.a)) {
    case TILING_32_64: launch<32, 64>(dev, g); break;
    case TILING_64_64: launch<64, 64>(dev, g); break;
    case TILING_32_128: launch<32, 128>(dev, g); break;
    case TILING_64_128: launch<64, 128>(dev, g); break;
    default: return pare_cuda_fail(c, d, "heads of these sizes have no gradient here");
    }
    return pare_cuda_check(dev, c, d);
}
