/* SPDX-License-Identifier: Apache-2.0
 *
 * cuBLAS behind function pointers. Its enums are ints in the ABI; the values are checked against the headers where a
 * toolkit has them. Version 12 and 13 have the same functions. */
#include "cuda/blas.cuh"

#include <dlfcn.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { OP_N = 0, OP_T = 1, R_32F = 0, R_16F = 2, R_16BF = 14, COMPUTE_32F = 68, GEMM_DEFAULT = -1, STRICT_MATH = 16 };
#if !defined PARE_EMU && defined __has_include
#if __has_include(<cublas_v2.h>)
#include <cublas_v2.h>
static_assert((int)CUBLAS_OP_T == OP_T && (int)CUDA_R_16F == R_16F && (int)CUDA_R_16BF == R_16BF, "operand enums");
static_assert((int)CUBLAS_COMPUTE_32F == COMPUTE_32F && (int)CUBLAS_GEMM_DEFAULT == GEMM_DEFAULT, "product enums");
static_assert((int)CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION == STRICT_MATH && sizeof(cudaDataType) == 4,
              "math mode");
#endif
#endif

#define WORKSPACE (32u << 20) /* what cuBLAS asks for on sm_90; less elsewhere */

typedef struct blas {
    bool missing;
    void *handle, *workspace;
    int (*destroy)(void *);
    int (*gemm)(void *, int, int, int, int, int, const void *, const void *, int, int, long long, const void *, int,
                int, long long, const void *, void *, int, int, long long, int, int, int);
} blas;

static void *load(char *said, size_t bytes) {
    const char *named = getenv("PARE_CUBLAS");
    const char *names[] = {"libcublas.so.13", "libcublas.so.12", "/usr/local/cuda/lib64/libcublas.so.13",
                           "/usr/local/cuda/lib64/libcublas.so.12"};
    said[0] = 0;
    if (named) {
        void *so = dlopen(named, RTLD_NOW | RTLD_LOCAL);
        if (!so) strncat(said, dlerror(), bytes - 1);
        return so;
    }
#ifndef PARE_EMU /* the library wants a device */
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        void *so = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
        if (so) return so;
    }
#endif
    strncat(said, names[0], bytes - 1);
    strncat(said, " is not there", bytes - 1 - strlen(said));
    return NULL;
}

/* NULL, or what went wrong. */
static const char *open_blas(pare_cuda *dev, blas *b, void *so) {
    int (*create)(void **), (*set_stream)(void *, void *), (*set_workspace)(void *, void *, size_t),
        (*set_math)(void *, int);
    *(void **)&create = dlsym(so, "cublasCreate_v2");
    *(void **)&set_stream = dlsym(so, "cublasSetStream_v2");
    *(void **)&set_workspace = dlsym(so, "cublasSetWorkspace_v2");
    *(void **)&set_math = dlsym(so, "cublasSetMathMode");
    *(void **)&b->destroy = dlsym(so, "cublasDestroy_v2");
    *(void **)&b->gemm = dlsym(so, "cublasGemmStridedBatchedEx");
    if (!create || !set_stream || !set_workspace || !set_math || !b->destroy || !b->gemm)
        return "a function is missing";
    if (create(&b->handle) != 0) return "cublasCreate failed";
    b->workspace = rt_malloc(&dev->rt, WORKSPACE);
    if (!b->workspace) return "no memory for its workspace";
    /* The stream first: setting it forgets the workspace. */
    if (set_stream(b->handle, dev->rt.stream) != 0 || set_workspace(b->handle, b->workspace, WORKSPACE) != 0 ||
        set_math(b->handle, STRICT_MATH) != 0)
        return "it refuses our stream or workspace";
    return NULL;
}

bool pare_cuda_blas_get(pare_cuda *dev) {
    blas *b = (blas *)dev->blas;
    if (b) return !b->missing;
    if (rt_recording(&dev->rt)) return false;
    b = (blas *)pare_cuda_host->alloc(sizeof *b);
    if (!b) return false;
    memset(b, 0, sizeof *b);
    dev->blas = b;
    char said[256];
    void *so = load(said, sizeof said); /* stays loaded */
    const char *why = so ? open_blas(dev, b, so) : said;
    if (!why) return true;
    b->missing = true;
    pare_cuda_host->log(PARE_LOG_INFO, "cuda: without cuBLAS (%s): own kernels for f32, f16 and bf16 matrices", why);
    return false;
}

void pare_cuda_blas_close(pare_cuda *dev) {
    blas *b = (blas *)dev->blas;
    if (!b) return;
    if (b->handle) b->destroy(b->handle);
    if (b->workspace) rt_free(&dev->rt, b->workspace);
    pare_cuda_host->release(b);
    dev->blas = NULL;
}

/* Column by column is row by row of the transposed product: c^T = op(b)^T op(a)^T. */
static int one_step(const blas *b, const pare_cuda_blas_call *c, int64_t k0, int64_t k) {
    int type = c->type == PARE_CT_F16 ? R_16F : c->type == PARE_CT_BF16 ? R_16BF : R_32F, size = type == R_32F ? 4 : 2;
    const char *pa = (const char *)c->a + size * k0 * (c->trans_a ? c->lda : 1);
    const char *pb = (const char *)c->b + size * k0 * (c->trans_b ? 1 : c->ldb);
    float beta = k0 ? 1.0f : c->beta;
    return b->gemm(b->handle, c->trans_b ? OP_T : OP_N, c->trans_a ? OP_T : OP_N, (int)c->n, (int)c->m, (int)k,
                   &c->alpha, pb, type, (int)c->ldb, c->stride_b, pa, type, (int)c->lda, c->stride_a, &beta, c->c,
                   R_32F, (int)c->n, c->stride_c, (int)c->count, COMPUTE_32F, GEMM_DEFAULT);
}

bool pare_cuda_blas_gemm(pare_cuda *dev, const pare_cuda_blas_call *c) {
    const blas *b = (const blas *)dev->blas;
    int64_t most = c->m > c->n ? c->m : c->n, step = c->k_step ? c->k_step : c->k;
    if (!b || b->missing || most > INT_MAX || c->k > INT_MAX || c->lda > INT_MAX || c->ldb > INT_MAX ||
        c->count > INT_MAX)
        return false;
    for (int64_t k0 = 0; k0 < c->k; k0 += step) {
        int status = one_step(b, c, k0, k0 + step < c->k ? step : c->k - k0);
        if (status == 0) continue;
        pare_cuda_host->log(PARE_LOG_WARN,
                            "cuda: cuBLAS refuses a product of %lld x %lld x %lld (status %d): own kernel",
                            (long long)c->m, (long long)c->n, (long long)c->k, status);
        return false;
    }
    return true;
}
