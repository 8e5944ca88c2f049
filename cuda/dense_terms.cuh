/* SPDX-License-Identifier: Apache-2.0
 *
 * Activations as 16-bit terms for products with plain f16 and bf16 weights.
 *
 * op:     f16 weights   rule NONE: x = row_scale * (term 0 + term 1), row_scale a power of two that brings the row's
 *                       largest magnitude into [2^13, 2^14); rule F16: one term, no scale
 *         bf16 weights  rule NONE: x = term 0 + term 1 + term 2 (8 bits of x each); rule BF16: one term
 * layout: terms [n][m][k_pad], k_pad a multiple of 32, zero past k; row_scale [m] or NULL
 * equal:  bf16 exactly x; f16 within 2^-22 |x| or 2^-38 of the row's largest; a row with an infinity or a NaN keeps it
 */
#ifndef PARE_CUDA_DENSE_TERMS_CUH
#define PARE_CUDA_DENSE_TERMS_CUH

#include "cuda/matmul.cuh"

typedef struct pare_cuda_dense_terms {
    uint16_t *terms;
    float *row_scale;
    int64_t k_pad;
    int n;
} pare_cuda_dense_terms;

size_t pare_cuda_dense_terms_bytes(const pare_cuda_mm *p);
pare_cuda_dense_terms pare_cuda_dense_terms_make(pare_cuda *dev, const pare_cuda_mm *p); /* in p->workspace */
/* y[i][..] *= row_scale[i] */
void pare_cuda_scale_rows(pare_cuda *dev, float *y, const float *row_scale, int64_t m, int64_t n);

#endif
