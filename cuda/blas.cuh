/* SPDX-License-Identifier: Apache-2.0
 *
 * cuBLAS, loaded with dlopen when a product first wants it: nothing is linked, and where the library is missing (or in
 * the emulator, unless PARE_CUBLAS names a file) the backend's own kernels run, which is said once by log.
 *
 * op:     c = alpha * op(a) op(b) + beta * c, row-major, for `count` matrices; f16 and bf16 a, b are summed in f32 on
 *         tensor cores, f32 without TF32; c f32
 * equal:  the same bits in every run: one stream, one workspace of fixed size */
#ifndef PARE_CUDA_BLAS_CUH
#define PARE_CUDA_BLAS_CUH

#include "cuda/backend.cuh"

typedef struct pare_cuda_blas_call {
    pare_cuda_type type; /* of a and b */
    const void *a, *b;   /* [m, k] or, trans_a, [k, m]; [k, n] or, trans_b, [n, k] */
    float *c;
    int64_t m, n, k, lda, ldb; /* elements from row to row as stored; c has n */
    bool trans_a, trans_b;
    float alpha, beta;
    int64_t count, stride_a, stride_b, stride_c; /* elements */
    int64_t k_step; /* sums of this many columns are made apart and added in f32, 0: all of k; tensor cores cut where
                       they should round, so that the error grows with the length of a sum */
} pare_cuda_blas_call;

/* True when cuBLAS is there. The first call loads it and allocates its workspace, which cannot be done in a recording:
 * then false. */
bool pare_cuda_blas_get(pare_cuda *dev);
bool pare_cuda_blas_gemm(pare_cuda *dev,
                         const pare_cuda_blas_call *c); /* false: refused, c is as before or not whole */
void pare_cuda_blas_close(pare_cuda *dev);

#endif
