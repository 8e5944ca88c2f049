/* SPDX-License-Identifier: Apache-2.0
 *
 * Products of f32 matrices, one or a batch: what MatMul and Gemm run when no operand is a stored weight, and f32
 * weights (cuda/mm_dense.cu). cuBLAS where it is there and m * n is large, else a tiled kernel.
 *
 * op:     c = alpha * op(a) op(b) + beta * c for every matrix of the batch; c is not read when beta is 0
 * shape:  op(a) [m, k], op(b) [k, n], c [m, n], row-major, contiguous; trans_a: a is stored [k, m]; trans_b: b [n, k]
 * equal:  within 2e-6 * |alpha| * sum_k |a b| (plus two roundings for beta) of the product in double; the same bits in
 *         every run. No TF32. bf16: both operands are rounded to bf16 first (nearest, ties to even); on tensor cores
 * within 1e-4 * |alpha| * sum_k |a b| of those, since these cut where they should round */
#ifndef PARE_CUDA_DENSE_CUH
#define PARE_CUDA_DENSE_CUH

#include "cuda/backend.cuh"

typedef struct pare_cuda_gemm {
    const float *a, *b;
    float *c;
    int64_t m, n, k;
    bool trans_a, trans_b;
    bool bf16;
    float alpha, beta;
    /* Batch, the last dimension fastest; strides in floats, 0 where an operand is broadcast. c has the matrices one
     * after the other. n_batch 0: one product */
    int n_batch;
    int64_t batch[PARE_MAX_DIMS], stride_a[PARE_MAX_DIMS], stride_b[PARE_MAX_DIMS];
} pare_cuda_gemm;

/* Queues the product. pre: m, n > 0; k 0 gives beta * c; workspace holds what was asked for, 256-byte aligned */
size_t pare_cuda_gemm_workspace(const pare_cuda *dev, const pare_cuda_gemm *g); /* pointers may be NULL here */
void pare_cuda_gemm_run(pare_cuda *dev, const pare_cuda_gemm *g, void *workspace);

#endif
