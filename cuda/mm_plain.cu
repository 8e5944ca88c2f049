/* SPDX-License-Identifier: Apache-2.0
 *
 * y = x W^T for plain f32, f16 and bf16 weights where tensor cores do not pay or are not there: few tokens (a warp per
 * two rows of W, which are read once; x comes from L1), f32 by the tiles of cuda/dense.cu, and cuBLAS for many tokens.
 */
#include "cuda/blas.cuh"
#include "cuda/dense.cuh"
#include "cuda/dense_terms.cuh"
#include "cuda/dev.cuh"

#define THREADS 256
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

template <int CT>
static __device__ __forceinline__ void load8(float (&out)[8], const typename element<CT>::stored *p, int have,
                                             bool aligned) {
    if (aligned && have == 8) {
        uint4 v[sizeof *p / 2];
#pragma unroll
        for (int i = 0; i < (int)(sizeof *p / 2); i++) v[i] = pare_load_stream((const uint4 *)p + i);
        uint32_t word[sizeof v / 4];
#pragma unroll
        for (int i = 0; i < (int)(sizeof v / 16); i++)
            word[4 * i] = v[i].x, word[4 * i + 1] = v[i].y, word[4 * i + 2] = v[i].z, word[4 * i + 3] = v[i].w;
#pragma unroll
        for (int i = 0; i < 8; i++)
            out[i] = sizeof *p == 4 ? pare_float(word[i * sizeof v / 32])
                                    : element<CT>::value((uint16_t)(word[i / 2] >> 16 * (i % 2)));
        return;
    }
#pragma unroll
    for (int i = 0; i < 8; i++) out[i] = i < have ? element<CT>::value(p[i]) : 0.0f;
}

template <int CT, int TM>
__global__ void __launch_bounds__(THREADS)
    rows_kernel(const void *w, const float *x, float *y, int64_t m, int64_t n, int64_t k, bool aligned, bool rounded) {
    typedef typename element<CT>::stored stored;
    int64_t row = ((int64_t)blockIdx.x * THREADS + threadIdx.x) / 32 * ROWS;
    int lane = (int)threadIdx.x % 32;
    if (row >= n) return;
    const stored *w0 = (const stored *)w + row * k, *w1 = row + 1 < n ? w0 + k : w0;
    for (int64_t first = 0; first < m; first += TM) {
        float sum[ROWS][TM] = {};
        for (int64_t at = 8 * lane; at < k; at += 256) {
            float a[8], b[8];
            int have = k - at < 8 ? (int)(k - at) : 8;
            load8<CT>(a, w0 + at, have, aligned);
            load8<CT>(b, w1 + at, have, aligned);
#pragma unroll
            for (int i = 0; i < TM; i++) {
                const float *from = x + (first + i < m ? first + i : m - 1) * k + at;
#pragma unroll
                for (int j = 0; j < 8; j++) {
                    float v = j < have ? from[j] : 0.0f;
                    if (rounded) v = element<CT>::round(v);
                    sum[0][i] = fmaf(a[j], v, sum[0][i]), sum[1][i] = fmaf(b[j], v, sum[1][i]);
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

template <int CT> static void launch(pare_cuda *dev, const pare_cuda_mm *p) {
    dim3 grid((unsigned)pare_cuda_ceil(p->n, THREADS / 32 * ROWS));
    bool aligned = p->k % 8 == 0 && ((uintptr_t)p->plain_w & 15) == 0, rounded = p->rule != PARE_CR_NONE;
    if (p->m == 1)
        pare_launch<rows_kernel<CT, 1>>(dev->rt.stream, grid, THREADS, 0, p->plain_w, p->x, p->y, p->m, p->n, p->k,
                                        aligned, rounded);
    else
        pare_launch<rows_kernel<CT, TOKENS>>(dev->rt.stream, grid, THREADS, 0, p->plain_w, p->x, p->y, p->m, p->n, p->k,
                                             aligned, rounded);
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
static void rows_run(pare_cuda *dev, const pare_cuda_mm *p) {
    if (p->plain == PARE_CT_F32) launch<PARE_CT_F32>(dev, p);
    else if (p->plain == PARE_CT_F16) launch<PARE_CT_F16>(dev, p);
    else launch<PARE_CT_BF16>(dev, p);
}
const pare_cuda_mm_kernel pare_cuda_mm_rows = {"rows", rows_can, none, rows_run};

static bool f32_can(const pare_cuda *dev, const pare_cuda_mm *p) { return is_plain(p) && p->plain == PARE_CT_F32; }
static void f32_run(pare_cuda *dev, const pare_cuda_mm *p) {
    pare_cuda_gemm g = {};
    g.a = p->x, g.b = (const float *)p->plain_w, g.c = p->y;
    g.m = p->m, g.n = p->n, g.k = p->k;
    g.trans_b = true;
    g.alpha = 1.0f;
    pare_cuda_gemm_run(dev, &g);
}
const pare_cuda_mm_kernel pare_cuda_mm_f32 = {"f32", f32_can, none, f32_run};

/* cuBLAS for 16-bit weights. The library is loaded when a product is planned, since a recording cannot. */
static bool blas_can(const pare_cuda *dev, const pare_cuda_mm *p) {
    return is_plain(p) && p->plain != PARE_CT_F32 && p->m >= 32 && p->k % 8 == 0 && p->n >= 32 &&
           (p->plain == PARE_CT_F16 || dev->rt.arch >= 80) && pare_cuda_blas_get(const_cast<pare_cuda *>(dev));
}
static size_t blas_workspace(const pare_cuda *dev, const pare_cuda_mm *p) { return pare_cuda_dense_terms_bytes(p); }

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
