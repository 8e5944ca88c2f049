/* SPDX-License-Identifier: Apache-2.0
 *
 * y = x W^T on the device, W in any storage format: the frame behind MatMul and Gemm with a stored operand
 * (cuda/op_matmul.cu) and the list of kernels (cuda/matmul.def). The first kernel of the list that can do a product
 * does it; PARE_CUDA_MM=NAME (tests, bench) names one that goes before all others where it can, NAME! the only one.
 *
 * op:     y[i][n] = sum_k r(x[i][k]) * w[n][k], r = rounding of activations as cpu/act_quant.h says
 * shape:  w [N, K] stored rows, x [M, K] f32, y [M, N] f32, contiguous; M, N, K > 0
 * equal:  rule NONE: within 2e-6 * sum_k |x w| of the sum in double, where |w| counts a code's share and its minimum's
 *         apart; int8 rules: integer sums exactly, results within 2e-6 * sum |r(x) w|; rule F16 (and BF16): the weight
 *         may be rounded to that type as well, and from code * scale rather than from what decoding makes of it: within
 *         2^-10 (2^-7) * sum |x w| + sum |x (w - code * scale)| of the sum of r(x) w in double.
 *         Numbers of x below 2^-96 may count as 0. The same bits in every run */
#ifndef PARE_CUDA_MATMUL_CUH
#define PARE_CUDA_MATMUL_CUH

#include "cuda/layout.cuh"

typedef enum pare_cuda_rule { /* as pare_act_rule, which belongs to the CPU's room */
                              PARE_CR_NONE,
                              PARE_CR_F16,
                              PARE_CR_BF16,
                              PARE_CR_Q8_0, /* int8 per 32 columns, f16 scales */
                              PARE_CR_Q8_1,
                              PARE_CR_Q8_K,  /* int8 per 256 */
                              PARE_CR_TOKEN, /* int8 per row */
} pare_cuda_rule;
pare_cuda_rule pare_cuda_rule_for(const pare_qtype *weight, pare_act_round act);

typedef struct pare_cuda_mm {
    pare_cuda_format format; /* NONE: plain says which float type */
    pare_cuda_type plain;
    pare_cuda_weight w;  /* view of a block or grouped format */
    const void *plain_w; /* rows of plain floats */
    int64_t m, n, k;
    const float *x;
    float *y;
    pare_cuda_rule rule;
    void *workspace; /* 256-byte aligned, as many bytes as the kernel asked for */
} pare_cuda_mm;

typedef struct pare_cuda_mm_kernel {
    const char *name;
    bool (*can)(const pare_cuda *dev, const pare_cuda_mm *p); /* pointers may be NULL here */
    size_t (*workspace)(const pare_cuda *dev, const pare_cuda_mm *p);
    void (*run)(pare_cuda *dev, const pare_cuda_mm *p); /* launches only */
} pare_cuda_mm_kernel;

/* The first kernel that can do p, or the one that PARE_CUDA_MM names; NULL: none (cuda/op_matmul.cu). */
const pare_cuda_mm_kernel *pare_cuda_mm_choose(const pare_cuda *dev, const pare_cuda_mm *p);

#define PARE_CUDA_MM(sym) extern const pare_cuda_mm_kernel sym;
#include "cuda/matmul.def"
#undef PARE_CUDA_MM

/* ---- activations rounded to int8 (cuda/act.cu) ---- */

/* Of m rows padded to k_pad = 256 * slabs columns with zero codes. scale: per 32 columns (rules with longer blocks
 * repeat theirs). sums: per 16 columns, what minima multiply: scale * sum of codes (Q8_1: its s in the first half of a
 * block, 0 in the second). layout: codes [m][k_pad], scale [m][k_pad / 32], sums [m][k_pad / 16] */
typedef struct pare_cuda_act8 {
    int8_t *codes;
    float *scale, *sums;
    int64_t k_pad;
} pare_cuda_act8;
size_t pare_cuda_act8_bytes(int64_t m, int64_t k);
/* Rounds x into mem (256-byte aligned). equal: codes and scales exactly as cpu/act_quant.h */
pare_cuda_act8 pare_cuda_act8_make(pare_cuda *dev, pare_cuda_rule rule, const float *x, int64_t m, int64_t k,
                                   void *mem);

/* ---- activations as f16 terms (cuda/act_terms.cu) ---- */

/* x[i][k] = row_scale[i] * (term 0 + term 1), row_scale a power of two that brings the row's largest magnitude into
 * [2^13, 2^14): two terms hold f32 grade. One term: rule F16, plain rounding, row_scale 1. layout: terms
 * [n_terms][m][k_pad] f16, row_scale [m], sums [m][k_pad / 16]: f32 sums of x / row_scale (one term: of the rounded x)
 * over 16 columns, for minima; columns past k are zero */
typedef struct pare_cuda_terms {
    uint16_t *terms;
    float *row_scale, *sums;
    int64_t k_pad;
    int n_terms;
} pare_cuda_terms;
size_t pare_cuda_terms_bytes(int64_t m, int64_t k, int n_terms);
pare_cuda_terms pare_cuda_terms_make(pare_cuda *dev, int n_terms, const float *x, int64_t m, int64_t k, void *mem);

#endif
