/* SPDX-License-Identifier: Apache-2.0
 *
 * Low-rank adapters as what is trained (LoRA: Hu et al. 2021, arXiv 2106.09685, section 4.1): the matrix that the graph
 * reads is W = W0 + (alpha / rank) B A, in which B and A learn and W0 stays; at the end W is what is written. A pruned
 * matrix keeps its zeros: B A counts only where W0 is not 0.
 *
 * shape:  a [rank, cols], b [rows, rank], w and w0 [rows, cols]
 * op:     a begins at normal numbers of variance 1 / cols, b at 0, so that W begins as W0. With D the gradient by W,
 *         0 where W0 is kept at 0: db = alpha / rank D a^T, da = alpha / rank b^T D
 * memory: w0, and of what is trained rank (rows + cols) numbers a matrix
 * equal:  the same bytes at every thread count
 * fails:  PARE_ERR_NOMEM */
#ifndef PARE_API_DISTILL_ADAPTERS_H
#define PARE_API_DISTILL_ADAPTERS_H

#include "pare/pare.h"

typedef struct pare_adapter {
    size_t rows, cols, rank;
    float scale; /* alpha / rank */
    bool sparse; /* w0 was pruned */
    float *w0, *a, *b, *grad_a, *grad_b;
} pare_adapter;

/* w: the matrix as it is, copied. seed: of this matrix. owns: pare_adapter_close, also after a failure */
pare_status pare_adapter_open(const float *w, size_t rows, size_t cols, size_t rank, double alpha, uint64_t seed,
                              pare_adapter *out, pare_diag *d);
void pare_adapter_close(pare_adapter *a);
void pare_adapter_gradient(pare_adapter *a, const float *dw); /* into grad_a and grad_b */
void pare_adapter_values(const pare_adapter *a, float *w);

#endif
