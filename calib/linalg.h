/* SPDX-License-Identifier: Apache-2.0
 *
 * Dense algebra of second-order methods. Matrices are row-major f32; n is the width of a linear's input.
 * equal: the same bits at every thread count (all products are cpu/matmul.h's sgemm, cut the same way always). */
#ifndef PARE_CALIB_LINALG_H
#define PARE_CALIB_LINALG_H

#include "pare/pare.h"

/* Lower triangle of h [n, n] += x^T x, x [tokens, n]. flops: tokens n^2 (plus half a panel of 256 columns each). */
void pare_gram_add(size_t n, size_t tokens, const float *x, float *h);
/* c [m, n] += a^T b, a [tokens, m], b [tokens, n]. */
void pare_cross_add(size_t m, size_t n, size_t tokens, const float *a, const float *b, float *c);
/* c [m, n] = alpha a b + beta c, a [m, k], b [k, n], or [n, k] when it is to be transposed. */
void pare_gemm_add(size_t m, size_t n, size_t k, bool trans_b, float alpha, const float *a, const float *b, float beta,
                   float *c);

/* From the lower triangle of h the upper triangular u [n, n] (zeros below) with inverse(h + lambda I) = u^T u, where
 * lambda = damping * mean(diag h). A column without input (diagonal 0) is given diagonal 1, as if it were independent.
 * When h + lambda I is not positive definite to working precision, lambda grows tenfold up to damping 1.
 * *used: the damping that was used. fails: PARE_ERR_INPUT when h holds NaN or Inf or stays indefinite; PARE_ERR_NOMEM.
 * method: H reversed = L L^T (blocked Cholesky), u = reversed inverse of L; the factor that GPTQ (arXiv 2210.17323)
 * takes from inverse(H). */
pare_status pare_inverse_factor(size_t n, const float *h, double damping, float *u, double *used, pare_diag *d);

/* The same with columns taken in this order (u's column t belongs to column order[t] of h); NULL: as they are. */
pare_status pare_inverse_factor_ordered(size_t n, const float *h, const uint32_t *order, double damping, float *u,
                                        double *used, pare_diag *d);

/* tr(e H e^T), e [rows, n], H from its lower triangle h: the squared error that weights wrong by e make in the outputs,
 * summed over all tokens. flops: rows n^2. fails: PARE_ERR_NOMEM */
pare_status pare_quadratic_form(size_t rows, size_t n, const float *e, const float *h, double *out, pare_diag *d);

#endif
