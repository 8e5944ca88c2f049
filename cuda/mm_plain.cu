/* SPDX-License-Identifier: Apache-2.0
 *
 * y = x W^T for plain f32, f16 and bf16 weights where tensor cores do not pay or are not there: few tokens (a warp per
 * two rows of W, which are read once; x comes from L1), f32 by the tiles of cuda/dense.cu, and cuBLAS for many tokens.
 */
#include "cuda/blas.cuh"
#include "cuda/dense.cuh"
#include "cuda/dense_terms.cuh"
#include "cuda/dev.cuh"

#define THREADS 128
#define ROWS    2 /* of W per warp */
#define TOKENS  4 /* at most in one pass */

template <int CT> struct element; /* how eight weights are read */
template <> struct element<PARE_CT_F32> {
    typedef float stored;
    static __device__ __forceinline__ float value(float v) { return v; }
    static __device__ __forceinline__ float round(float v) { return v; }
};
template <> struct element<PARE_CT_F16> {
    typedef uint16_t stored;
    static __device__ __forceinline__ float value(uint16_t v) { return pare_h2f(v); }
    static __device__ __forceinline__ float round(float v) { return pare_h2f(pare_f2h(v)); }
};
template <> struct element<PARE_CT_BF16> {
    typedef uint16_t stored;
    static __device__ __forceinline__ float value(uint16_t v) { return pare_bf2f(v); }
    static __device__ __forceinline__ float round(float v) { return pare_bf2f(pare_f2bf(v)); }
};

/* Eight weights as they are stored. */
template <int CT> struct raw8 { uint4 v[sizeof(typename element<CT>::stored) / 2]; };

template <int CT, bool ALIGNED>
static __device__ __forceinline__ raw8<CT> load8(const typename element<CT>::stored *p, int have) {
    raw8<CT> r = {};
#pragma unroll
    for (int i = 0; i < (int)(sizeof r / 16) && ALIGNED; i++)
        if (have == 8) r.v[i] = pare_load_stream((const uint4 *)p + i);
    if (!ALIGNED) {
        typename element<CT>::stored all[8];
#pragma unroll
        for (int i = 0; i < 8; i++) all[i] = i < have ? p[i] : (typename element<CT>::stored)0;
        memcpy(&r, all, sizeof r);
    }
    return r;
}
template <int CT> static __device__ __forceinline__ float weight(const raw8<CT> &r, int i) {
    const uint4 &v = r.v[sizeof r == 32 ? i / 4 : 0];
    int at = sizeof r == 32 ? i % 4 : i / 2;
    uint32_t word = at == 0 ? v.x : at == 1 ? v.y : at == 2 ? v.z : v.w;
    return sizeof r == 32 ? pare_float(word) : element<CT>::value((uint16_t)(word >> 16 * (i % 2)));
}

/* Eight of x, rounded as the rule says. */
template <int CT, bool ALIGNED>
static __device__ __forceinline__ void x8(float (&out)[8], const float *p, int have, bool rounded) {
#pragma unroll
    for (int i = 0; i < 8; i += 4) {
        float4 v = make_float4(0, 0, 0, 0);
        if (ALIGNED) v = pare_load4(p + i);
        out[i] = v.x, out[i + 1] = v.y, out[i + 2] = v.z, out[i + 3] = v.w;
    }
#pragma unroll
    for (int i = 0; i < 8; i++) {
        if (!ALIGNED) out[i] = i < have ? p[i] : 0.0f;
        if (rounded) out[i] = element<CT>::round(out[i]);
    }
}

/* DEEP x 256 columns of both rows are asked for before the first are used: about 64 KB under way per multiprocessor. */
template <int CT, int TM, bool ALIGNED>
__global__ void __launch_bounds__(THREADS)
    rows_kernel(const void *w, const float *x, float *y, int64_t m, int64_t n, int64_t k, bool rounded) {
    typedef typename element<CT>::stored stored;
    constexpr int DEEP = CT == PARE_CT_F32 ? TM > 1 ? 1 : 2 : TM > 1 ? 2 : 4;
    int64_t row = ((int64_t)blockIdx.x * THREADS + threadIdx.x) / 32 * ROWS;
    int lane = (int)threadIdx.x % 32;
    if (row >= n) return;
    const stored *w0 = (const stored *)w + row * k, *w1 = row + 1 < n ? w0 + k : w0;
    for (int64_t first = 0; first < m; first += TM) {
        float sum[ROWS][TM] = {};
        for (int64_t at = 8 * lane; at < k; at += 256 * DEEP) {
            raw8<CT> under_way[DEEP][ROWS];
#pragma unroll
            for (int d = 0; d < DEEP; d++) {
                int have = (int)max((int64_t)0, min((int64_t)8, k - at - 256 * d));
                under_way[d][0] = load8<CT, ALIGNED>(w0 + at + 256 * d, have);
                under_way[d][1] = load8<CT, ALIGNED>(w1 + at + 256 * d, have);
            }
#pragma unroll
            for (int d = 0; d < DEEP; d++) {
                int have = (int)max((int64_t)0, min((int64_t)8, k - at - 256 * d));
                if (!have) break;
#pragma unroll
                for (int i = 0; i < TM; i++) {
                    float v[8];
                    x8<CT, ALIGNED>(v, x + min(first + i, m - 1) * k + at + 256 * d, have, rounded);
#pragma unroll
                    for (int j = 0; j < 8; j++)
#pragma unroll
                        for (int r = 0; r < ROWS; r++)
                            sum[r][i] = fmaf(weight<CT>(under_way[d][r], j), v[j], sum[r][i]);
                }
            }
        }
#pragma unroll
        for (int i = 0; i < TM; i++)
#pragma unroll
            for (int r = 0; r < ROWS; r++) {
                float v = pare_warp_sum(sum[r][i]);
                if (lane == 0 && first + i < m && row + r < n) y[(first + i) * n + row + r] = v;
            }
    }
}

template <int CT, int TM> static void launch(pare_cuda *dev, const pare_cuda_mm *p) {
    dim3 grid((unsigned)pare_cuda_ceil(p->n, THREADS / 32 * ROWS));
    bool rounded = p->rule != PARE_CR_NONE;
    if (p->k % 8 == 0 && (((uintptr_t)p->plain_w | (uintptr_t)p->x) & 15) == 0)
        pare_launch<rows_kernel<CT, TM, true>>(dev->rt.stream, grid, THREADS, 0, p->plain_w, p->x, p->y, p->m, p->n,
                                               p->k, rounded);
    else
        pare_launch<rows_kernel<CT, TM, false>>(dev->rt.stream, grid, THREADS, 0, p->plain_w, p->x, p->y, p->m, p->n,
                                                p->k, rounded);
}

static bool is_plain(const pare_cuda_mm *p) {
    return p->format == PARE_CF_NONE &&
           (p->plain == PARE_CT_F32 || p->plain == PARE_CT_F16 || p->plain == PARE_CT_BF16);
}
static size_t none(const pare_cuda *dev, const pare_cuda_mm *p) { return 0; }

/* Few tokens; and every number of them for bf16 before sm_80. */
static bool rows_can(const pare_cuda *dev, const pare_cuda_mm *p) {
    return is_plain(p) && (p->m <= TOKENS || (p->plain == PARE_CT_BF16 && dev->rt.arch < 80));
}
template <int TM> static void rows_of(pare_cuda *dev, const pare_cuda_mm *p) {
    if (p->plain == PARE_CT_F32) launch<PARE_CT_F32, TM>(dev, p);
    else if (p->plain == PARE_CT_F16) launch<PARE_CT_F16, TM>(dev, p);
    else launch<PARE_CT_BF16, TM>(dev, p);
}
static void rows_run(pare_cuda *dev, const pare_cuda_mm *p) {
    if (p->m == 1) rows_of<1>(dev, p);
    else rows_of<TOKENS>(dev, p);
}
const pare_cuda_mm_kernel pare_cuda_mm_rows = {"rows", rows_can, none, rows_run};

static bool f32_can(const pare_cuda *dev, const pare_cuda_mm *p) { return is_plain(p) && p->plain == PARE_CT_F32; }
static void f32_run(pare_cuda *dev, const pare_cuda_mm *p) {
    pare_cuda_gemm g = {};
    g.a = p->x, g.b = (const float *)p->plain_w, g.c = p->y;
    g.m = p->m, g.n = p->n, g.k = p->k;
    g.trans_b = true;
    g.alpha = 1.0f;
    pare_cuda_gemm_run(dev, &g, NULL);
}
const pare_cuda_mm_kernel pare_cuda_mm_f32 = {"f32", f32_can, none, f32_run};

/* cuBLAS for 16-bit weights. The library is loaded when a product is planned, since a recording cannot. A rounded x is
 * one product; f32 grade takes one per term and 512 columns, which pays for many tokens only. Small weights: rows. */
static bool blas_can(const pare_cuda *dev, const pare_cuda_mm *p) {
    int64_t least = p->rule == PARE_CR_NONE ? 32 : p->n * p->k < 1 << 22 ? TOKENS + 1 : 2;
    return is_plain(p) && p->plain != PARE_CT_F32 && p->m >= least && p->k % 8 == 0 && p->n >= 32 &&
           (p->plain == PARE_CT_F16 || dev->rt.arch >= 80) && pare_cuda_blas_get(const_cast<pare_cuda *>(dev));
}
static size_t blas_workspace(const pare_cuda *dev, const pare_cuda_mm *p) {
    return pare_cuda_mm_dense.workspace(dev, p);
}

static void blas_run(pare_cuda *dev, const pare_cuda_mm *p) {
    pare_cuda_dense_terms t = pare_cuda_dense_terms_make(dev, p);
    pare_cuda_blas_call c = {};
    bool ok = true;
    c.type = p->plain;
    c.b = p->plain_w, c.c = p->y;
    c.m = p->m, c.n = p->n, c.k = p->k;
    c.lda = t.k_pad, c.ldb = p->k;
    c.trans_b = true;
    c.alpha = 1.0f;
    c.count = 1;
    c.k_step = t.n > 1 ? 512 : 0;
    for (int i = t.n - 1; i >= 0 && ok; i--) {
        c.a = t.terms + i * p->m * t.k_pad;
        ok = pare_cuda_blas_gemm(dev, &c);
        c.beta = 1.0f;
    }
    if (!ok) pare_cuda_mm_dense.run(dev, p);
    else if (t.row_scale) pare_cuda_scale_rows(dev, p->y, t.row_scale, p->m, p->n);
}
const pare_cuda_mm_kernel pare_cuda_mm_blas = {"blas", blas_can, blas_workspace, blas_run};
