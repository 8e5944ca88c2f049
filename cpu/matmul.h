/* SPDX-License-Identifier: Apache-2.0
 *
 * y = x W^T, with W in any storage format: the product behind every linear layer.
 *
 * op:     y[i][n] = sum_k r(x[i][k]) * w[n][k], r = how activations are rounded
 * shape:  w [N, K] stored rows (a `transposed` operand: pare_tensor rows and cols, outer dimensions flattened),
 *         x [M, K] f32, y [M, N] f32, both contiguous
 * act:    NONE        activations stay f32, weights decode exactly, sums in f32
 *         INT8_BLOCK  llama.cpp's rule, chosen by the weight's format (cpu/act_quant.h)
 *         INT8_TOKEN  quantized weights: one scale per row of x; float weights: as NONE
 *         With int8 activations integer formats multiply codes in int32 exactly, then scale in f32; a weight is then
 *         (code - zero) * scale without rounding that product to the scale's type.
 * pre:    K > 0 and storable (pare_qtype_fits); M, N >= 0; x and y 4-byte aligned; w anywhere; y overlaps nothing
 * equal:  every variant within 2e-6 * sum_k |r(x) w| of the scalar one and of the sum in double, where |w| counts a
 *         code's share and its minimum's apart; integer sums exactly; the same bytes at every thread count.
 *         With AMX, f32 activations and 16 tokens or more the bound asks for |x| and |w| above 2^-102 or 0 (tiles
 *         flush denormals), and an infinity may come out as NaN
 *         Sparse weights: what is not stored meets no activation, also no infinity or NaN
 * fails:  never
 * owns:   nothing; workspace is the caller's, pare_matmul_stored_workspace() bytes or more, 64-byte aligned */
#ifndef PARE_CPU_MATMUL_H
#define PARE_CPU_MATMUL_H

#include "core/op.h"

void pare_matmul_stored(const pare_tensor *w, const float *x, float *y, int64_t m, pare_act_round act, void *workspace);
/* Grows with m only; the same at every thread count and CPU level. */
size_t pare_matmul_stored_workspace(const pare_tensor *w, int64_t m, pare_act_round act);

/* C = alpha * op(A) op(B) + beta * C, all f32, row-major with leading dimensions in elements; op(A) is [m, k], op(B)
 * [k, n]; trans_b: B is stored [n, k]. beta 0 does not read C. Parallel inside; on the calling thread when called from
 * within pare_parallel. Needs no workspace (about 90 KB of stack).
 * equal:  within 2e-6 * sum |a b| of the sum in double; the same bytes at every thread count */
void pare_sgemm(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda,
                const float *b, int64_t ldb, float beta, float *c, int64_t ldc);

/* The same with every element of A and B rounded to bf16 (nearest, ties to even) where it is read; alpha counts after
 * that, sums are f32.
 * equal:  the bits of pare_sgemm over rounded operands where the processor has no products of bf16; AVX512-BF16 and
 *         AMX: within 2e-6 * sum |a b| of the sum in double of rounded operands, numbers and products below 2^-126
 *         being zeros; the same bytes at every thread count
 * owns:   nothing (about 310 KB of stack) */
void pare_sgemm_bf16(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                     int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc);

#endif
