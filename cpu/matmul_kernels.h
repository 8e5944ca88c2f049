/* SPDX-License-Identifier: Apache-2.0
 *
 * Contracts of the kernels under cpu/matmul.h and their dispatch table. cpu/matmul.def lists every variant.
 * Weights may lie at any address; f32 pointers are 4-byte aligned; panels and tiles are 64-byte aligned. */
#ifndef PARE_CPU_MATMUL_KERNELS_H
#define PARE_CPU_MATMUL_KERNELS_H

#include "core/cpu_features.h"
#include "cpu/act_quant.h"
#include "cpu/matmul_i8.h"
#include "cpu/sparse.h"

#define PARE_MM_SLAB  256 /* columns handled at a time: a multiple of every block, one K super-block */
#define PARE_F32_COLS 64  /* outputs per f32 panel */
#define PARE_F32_ROWS 6   /* tokens per f32 tile */

/* op: sum w[i] * x[i] over n values of that type.  equal: within 2e-6 * sum |w x| */
typedef float pare_dot_f32_fn(const void *w, const float *x, size_t n);
typedef float pare_dot_f16_fn(const void *w, const float *x, size_t n);
typedef float pare_dot_bf16_fn(const void *w, const float *x, size_t n);

/* op: panel[k][c] = rows[c * ld + k] for k < kc, c < n; columns n up to the next multiple of 16 become 0.
 * layout: panel is [kc][PARE_F32_COLS]; n <= PARE_F32_COLS.  equal: exactly */
typedef void pare_panel_f32_fn(const float *rows, int64_t ld, int64_t kc, int n, float *panel);

/* op: c[i][j] (+)= sum_k a[i * a_row + k * a_col] * panel[k][j], i < m <= PARE_F32_ROWS, j < n <= PARE_F32_COLS.
 * Sums in k's order from 0, then added to c when accumulate.  equal: within 2e-6 * sum |a b| */
typedef void pare_gemm_f32_fn(int64_t kc, const float *a, int64_t a_row, int64_t a_col, const float *panel, float *c,
                              int64_t ldc, int m, int n, bool accumulate);

/* op: out[i] = x[i] rounded to bf16 (nearest, ties to even; NaN stays NaN), as f32; out may be x.  equal: exactly */
typedef void pare_round_bf16_fn(const float *x, size_t n, float *out);

/* Numbers in bf16 for kernels that multiply them: pairs of neighbours of the inner dimension in one word, the first one
 * low. A word is moved around as a float. Rounded to nearest, ties to even; with AVX512-BF16 and AMX subnormal numbers
 * are zeros.
 * op: out[i] = x[i], i < n, then 0 up to the next multiple of 32.  equal: exactly, subnormal numbers apart */
typedef void pare_bf16_along_fn(const float *x, int64_t n, uint16_t *out);
/* op: word i = (x[i], next[i]), i < n, then 0 up to the next multiple of 16; next NULL: 0.  equal: as above */
typedef void pare_bf16_across_fn(const float *x, const float *next, int64_t n, float *out);

#define PARE_BF16_ROWS 384 /* of a block of A */
/* op: c[i][j] (+)= alpha * sum_p a[i][p] . panel[p][j], i < m <= PARE_BF16_ROWS, j < n <= PARE_F32_COLS; a and panel
 * hold pairs, a[i][p] at a + i * a_row + p * a_col; sums in f32 in p's order from 0, alpha counts before c is added.
 * layout: panel is [pairs][PARE_F32_COLS], columns n up to the next multiple of 16 are 0
 * equal:  exactly: per pair two fused multiply-adds, the second number's first, subnormal operands and results being
 *         zeros (VDPBF16PS, Intel's SDM); so within 2e-6 * sum |a b| of the sum in double where nothing is that small
 */
typedef void pare_gemm_bf16_fn(int64_t pairs, const float *a, int64_t a_row, int64_t a_col, int64_t m,
                               const float *panel, float alpha, float *c, int64_t ldc, int n, bool accumulate);
/* The same on tiles. pre: a_col is 1; pairs up to the next multiple of 16, rows of a likewise, and columns of the panel
 * up to the next of 32 can be read, those pairs and columns being 0.  equal: within 2e-6 * sum |a b| of the sum in
 * double, likewise; an element's sums may begin at c or at 0 */
typedef pare_gemm_bf16_fn pare_gemm_bf16_tiles_fn;

/* op: x[k] = out[k] + out[ld + k] + ..., `terms` bf16 numbers from large to small, each the upper 16 bits of what is
 * left (three make an f32 exactly); columns n up to the next multiple of 32 become 0. ld in elements. */
typedef void pare_terms_fn(const float *x, int64_t n, int terms, uint16_t *out, size_t ld);

/* 64 stored rows of a slab in bf16 terms. layout: [term][pair of columns][row], the pair in one word, first column low
 */
typedef struct pare_terms_panel {
    _Alignas(64) float pairs[3][PARE_MM_SLAB / 2][PARE_F32_COLS];
} pare_terms_panel;

/* op: c[i][j] (+)= sum_k x[i][k] * w[j][k] over one slab (kc <= 256), i < m, j < n <= 64 * panels; x is f32 and cut
 * into x_terms here. Of the products of terms those are summed whose indices (from 1) sum to 4 or less. equal: within
 * 2e-6 * sum |x w| while both are finite and above 2^-102 or 0; terms and products below 2^-126 count as 0, and an
 * infinity may come out as NaN */
typedef void pare_gemm_terms_fn(int64_t kc, const float *x, int64_t ldx, int64_t m, int x_terms,
                                const pare_terms_panel *w, int w_terms, float *c, int64_t ldc, int n, bool accumulate);

/* op: per 16 codes their sum and scale * sum; n is a multiple of 256.  equal: exactly */
typedef void pare_act_sums_fn(const int8_t *codes, const float *scale, size_t n, int32_t *sum, float *scaled);

typedef pare_row_fn pare_row_q4_0_fn, pare_row_q8_0_fn, pare_row_q4_k_fn, pare_row_q6_k_fn, pare_row_int4_fn,
    pare_row_int8_fn, pare_row_sparse_fn;

#define PARE_KERNEL(op, isa, need) pare_##op##_fn pare_##op##_##isa;
#include "cpu/matmul.def"
#undef PARE_KERNEL

typedef struct pare_mm_table {
    pare_act_quant_fn *act_quant;
    pare_act_sums_fn *act_sums;
    pare_gemm_i8_tall_fn *gemm_i8_tall; /* these three: NULL without AMX */
    pare_terms_fn *terms;
    pare_gemm_terms_fn *gemm_terms;
    pare_dot_f32_fn *dot_f32;
    pare_dot_f16_fn *dot_f16;
    pare_dot_bf16_fn *dot_bf16;
    pare_panel_f32_fn *panel_f32;
    pare_gemm_f32_fn *gemm_f32;
    pare_round_bf16_fn *round_bf16;
    pare_bf16_along_fn *bf16_along;
    pare_bf16_across_fn *bf16_across;
    pare_gemm_bf16_fn *gemm_bf16;             /* pare_gemm_bf16_ref where the processor has nothing for it */
    pare_gemm_bf16_tiles_fn *gemm_bf16_tiles; /* NULL without AMX */
    pare_expand_fn *expand;
    pare_decode_slab_fn *decode_slab;
    pare_panel_i8_fn *panel_i8;
    pare_gemm_i8_fn *gemm_i8;
    pare_dot_i8_fn *dot_i8;
    pare_sparse_slab_fn *sparse_slab;
    pare_sparse_dot_fn *sparse_dot;
    pare_row_fn *row_q4_0, *row_q8_0, *row_q4_k, *row_q6_k, *row_int4, *row_int8,
        *row_sparse; /* NULL: expand and dot_i8 */
} pare_mm_table;
/* Rows k0 .. k0+kc of op(B), columns j0 .. j0+n, as a panel (cpu/sgemm.c); trans_b: B is stored [n, k]. */
void pare_mm_panel(const pare_mm_table *t, bool trans_b, const float *b, int64_t ldb, int64_t k0, int64_t kc,
                   int64_t j0, int n, float *panel);
void pare_mm_panel_times(float alpha, int64_t kc, int n, float *panel);
void pare_mm_times(float beta, int64_t m, int64_t n, float *c, int64_t ldc); /* c *= beta */

/* The best kernels pare_cpu_mask() allows; refilled when the mask changes. */
const pare_mm_table *pare_mm_kernels(void);

/* The kernel that reads rows of this format straight from storage, or NULL. */
pare_row_fn *pare_mm_row_kernel(const pare_mm_table *t, const pare_i8_source *s);

#endif
