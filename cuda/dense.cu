/* SPDX-License-Identifier: Apache-2.0
 *
 * Tiled f32 product (cuda/dense.cuh): a block makes 64 x 64 results from 16 columns of k at a time, a thread 4 x 4 of
 * them; the next 16 columns are on their way in registers meanwhile. Every 128 columns the sums go to second ones, so
 * that a rounding error does not grow with the whole of k. In bf16 cuBLAS has both operands as such in the workspace,
 * the kernel rounds what it fetches. */
#include "cuda/dense.cuh"

#include "cuda/blas.cuh"
#include "cuda/dev.cuh"

#define TILE    64
#define DEPTH   16
#define THREADS 256
#define PITCH   (TILE + 4) /* floats; keeps rows of the tile 16-byte aligned */
#define FLUSH   8          /* steps of DEPTH between two sums */

typedef struct place { /* of matrix number i of the batch */
    const float *a, *b;
    float *c;
} place;

static __device__ __forceinline__ place find(const pare_cuda_gemm &g, int64_t i) {
    place p = {g.a, g.b, g.c + i * g.m * g.n};
    for (int d = g.n_batch - 1; d >= 0; d--) {
        int64_t at = i % g.batch[d];
        i /= g.batch[d];
        p.a += at * g.stride_a[d], p.b += at * g.stride_b[d];
    }
    return p;
}

/* Four elements of a TILE x DEPTH piece, the ones that lie next to each other in memory by neighbouring threads.
 * across: rows of the stored matrix run along k. */
template <bool BF16>
static __device__ __forceinline__ void fetch(float (&r)[4], const float *p, bool across, int64_t first, int64_t n,
                                             int64_t k0, int64_t k) {
    int tid = (int)threadIdx.x;
    for (int e = 0; e < 4; e++) {
        int i = tid + THREADS * e;
        int64_t row = first + (across ? i / DEPTH : i % TILE), at = k0 + (across ? i % DEPTH : i / TILE);
        r[e] = row < n && at < k ? p[across ? row * k + at : at * n + row] : 0.0f;
        if (BF16) r[e] = pare_bf2f(pare_f2bf(r[e]));
    }
}
static __device__ __forceinline__ void put(float *tile, const float (&r)[4], bool across) {
    int tid = (int)threadIdx.x;
    for (int e = 0; e < 4; e++) {
        int i = tid + THREADS * e;
        tile[across ? i % DEPTH * PITCH + i / DEPTH : i / TILE * PITCH + i % TILE] = r[e];
    }
}

static __device__ __forceinline__ void multiply(float (&acc)[4][4], const float *ta, const float *tb, int y, int x) {
#pragma unroll
    for (int k = 0; k < DEPTH; k++) {
        float4 a = *(const float4 *)(ta + k * PITCH + 4 * y), b = *(const float4 *)(tb + k * PITCH + 4 * x);
        float av[4] = {a.x, a.y, a.z, a.w}, bv[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int j = 0; j < 4; j++) acc[i][j] = fmaf(av[i], bv[j], acc[i][j]);
    }
}

static __device__ __forceinline__ void flush(float (&sum)[4][4], float (&acc)[4][4]) {
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) sum[i][j] += acc[i][j], acc[i][j] = 0.0f;
}

static __device__ __forceinline__ void store(const pare_cuda_gemm &g, float *c, const float (&sum)[4][4], int64_t m0,
                                             int64_t n0) {
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            if (m0 + i >= g.m || n0 + j >= g.n) continue;
            float *to = c + (m0 + i) * g.n + n0 + j, v = g.alpha * sum[i][j];
            *to = g.beta != 0.0f ? v + g.beta * *to : v;
        }
}

template <bool BF16> __global__ void __launch_bounds__(THREADS) gemm_kernel(pare_cuda_gemm g, int64_t count) {
    PARE_SHARED(float, ta, DEPTH *PITCH);
    PARE_SHARED(float, tb, DEPTH *PITCH);
    int64_t m0 = (int64_t)blockIdx.y * TILE, n0 = (int64_t)blockIdx.x * TILE;
    int y = (int)threadIdx.x / 16, x = (int)threadIdx.x % 16;
    bool across_a = !g.trans_a, across_b = g.trans_b;
    for (int64_t i = blockIdx.z; i < count; i += gridDim.z) {
        place p = find(g, i);
        float acc[4][4] = {}, sum[4][4] = {}, ra[4], rb[4];
        fetch<BF16>(ra, p.a, across_a, m0, g.m, 0, g.k);
        fetch<BF16>(rb, p.b, across_b, n0, g.n, 0, g.k);
        int step = 0;
        for (int64_t k0 = 0; k0 < g.k; k0 += DEPTH) {
            __syncthreads(); /* the tile before is used up */
            put(ta, ra, across_a);
            put(tb, rb, across_b);
            __syncthreads();
            fetch<BF16>(ra, p.a, across_a, m0, g.m, k0 + DEPTH, g.k);
            fetch<BF16>(rb, p.b, across_b, n0, g.n, k0 + DEPTH, g.k);
            multiply(acc, ta, tb, y, x);
            if (++step % FLUSH == 0) flush(sum, acc);
        }
        flush(sum, acc);
        store(g, p.c, sum, m0 + 4 * y, n0 + 4 * x);
    }
}

/* ---- operands in bf16 ---- */

#define EACH 8 /* elements of a thread */

__global__ void __launch_bounds__(THREADS) bf16_kernel(const float *x, uint16_t *out, int64_t n, bool vec) {
    int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * EACH;
    if (vec && i + EACH <= n) {
        float4 a = pare_load4(x + i), b = pare_load4(x + i + 4);
        *(uint4 *)(out + i) =
            make_uint4(pare_f2bf2(a.x, a.y), pare_f2bf2(a.z, a.w), pare_f2bf2(b.x, b.y), pare_f2bf2(b.z, b.w));
        return;
    }
    for (int64_t end = i + EACH < n ? i + EACH : n; i < end; i++) out[i] = pare_f2bf(x[i]);
}

static size_t bf16_bytes(int64_t n) { return ((size_t)n * 2 + 255) & ~(size_t)255; }

static const void *in_bf16(pare_cuda *dev, const float *x, int64_t n, void *out) {
    dim3 grid((unsigned)pare_cuda_ceil(n, THREADS * EACH));
    pare_launch<bf16_kernel>(dev->rt.stream, grid, THREADS, 0, x, (uint16_t *)out, n, pare_cuda_unit(0, x) == 16);
    return out;
}

static bool blas_wants(const pare_cuda *dev, const pare_cuda_gemm *g) {
    bool type = !g->bf16 || (g->n_batch == 0 && dev->rt.arch >= 80);
    return type && g->m * g->n >= 32 * 1024 && g->k >= 32 && pare_cuda_blas_get(const_cast<pare_cuda *>(dev));
}

static bool by_blas_bf16(pare_cuda *dev, const pare_cuda_gemm *g, void *workspace) {
    pare_cuda_blas_call c = {};
    c.type = PARE_CT_BF16;
    c.a = in_bf16(dev, g->a, g->m * g->k, workspace);
    c.b = in_bf16(dev, g->b, g->k * g->n, (char *)workspace + bf16_bytes(g->m * g->k));
    c.c = g->c;
    c.m = g->m, c.n = g->n, c.k = g->k;
    c.lda = g->trans_a ? g->m : g->k, c.ldb = g->trans_b ? g->k : g->n;
    c.trans_a = g->trans_a, c.trans_b = g->trans_b;
    c.alpha = g->alpha;
    c.count = 1;
    return pare_cuda_blas_gemm(dev, &c);
}

size_t pare_cuda_gemm_workspace(const pare_cuda *dev, const pare_cuda_gemm *g) {
    return g->bf16 && blas_wants(dev, g) ? bf16_bytes(g->m * g->k) + bf16_bytes(g->k * g->n) : 0;
}

/* cuBLAS takes one stride: the last dimension of the batch goes in one call, the others one by one. */
static bool by_blas(pare_cuda *dev, const pare_cuda_gemm *g, int64_t count) {
    int last = g->n_batch - 1;
    int64_t inner = last < 0 ? 1 : g->batch[last];
    for (int64_t i = 0; i < count / inner; i++) {
        pare_cuda_blas_call c = {};
        c.a = g->a, c.b = g->b, c.c = g->c + i * inner * g->m * g->n;
        int64_t rest = i;
        for (int d = last - 1; d >= 0; d--) {
            int64_t at = rest % g->batch[d];
            rest /= g->batch[d];
            c.a = (const float *)c.a + at * g->stride_a[d], c.b = (const float *)c.b + at * g->stride_b[d];
        }
        c.type = PARE_CT_F32;
        c.m = g->m, c.n = g->n, c.k = g->k;
        c.lda = g->trans_a ? g->m : g->k, c.ldb = g->trans_b ? g->k : g->n;
        c.trans_a = g->trans_a, c.trans_b = g->trans_b;
        c.alpha = g->alpha, c.beta = g->beta;
        c.count = inner;
        c.stride_a = last < 0 ? 0 : g->stride_a[last], c.stride_b = last < 0 ? 0 : g->stride_b[last];
        c.stride_c = g->m * g->n;
        c.k_step = 4096;
        if (!pare_cuda_blas_gemm(dev, &c)) return false; /* then all is done again */
    }
    return true;
}

void pare_cuda_gemm_run(pare_cuda *dev, const pare_cuda_gemm *g, void *workspace) {
    int64_t count = 1;
    for (int d = 0; d < g->n_batch; d++) count *= g->batch[d];
    if (!count) return;
    if (g->beta == 0.0f && blas_wants(dev, g) && (g->bf16 ? by_blas_bf16(dev, g, workspace) : by_blas(dev, g, count)))
        return;
    dim3 grid((unsigned)pare_cuda_ceil(g->n, TILE), (unsigned)pare_cuda_ceil(g->m, TILE),
              (unsigned)(count < 65535 ? count : 65535));
    if (g->bf16) pare_launch<gemm_kernel<true>>(dev->rt.stream, grid, THREADS, 0, *g, count);
    else pare_launch<gemm_kernel<false>>(dev->rt.stream, grid, THREADS, 0, *g, count);
}
