/* SPDX-License-Identifier: Apache-2.0
 *
 * Row kernels of the operators, all f32, one list (cpu/vec.def) for declaration, dispatch, test and bench.
 * layout: contiguous unless a stride is named; pointers are 4-byte aligned, no more. In-place (y == x) is allowed
 * everywhere except attention. pre: n may be 0 for the elementwise ones, >= 1 for rows. equal: ref is the paper's order
 * with libm; variants agree within a few units in the last place of the result (elementwise arithmetic, sqrt and relu:
 * bit for bit), and NaN stays NaN. fails: never. owns: nothing. */
#ifndef PARE_CPU_VEC_H
#define PARE_CPU_VEC_H

#include <stdbool.h>
#include <stddef.h>

/* y[i] = f(x[i]); alpha is Swish's, ignored by the others. */
typedef void pare_unary_f32_fn(const float *x, float *y, size_t n, float alpha);

/* y[i] = a[i] op b[i]; with PARE_VEC_B1 b is one element, with PARE_VEC_A1 a is. */
enum { PARE_VEC_AB, PARE_VEC_B1, PARE_VEC_A1 };
typedef void pare_binary_f32_fn(const float *a, const float *b, float *y, size_t n, int mode);

/* y = exp(x - max x) / sum */
typedef void pare_softmax_f32_fn(const float *x, float *y, size_t n);

/* RMS: y = x / sqrt(mean(x^2) + eps) * scale (Zhang and Sennrich 2019). scale NULL = 1. */
typedef void pare_rms_norm_f32_fn(const float *x, const float *scale, float *y, size_t n, float eps);
/* Layer: y = (x - mean) / sqrt(var + eps) * scale + bias (Ba et al. 2016). stats[0] = mean, [1] = 1/sqrt(var + eps). */
typedef void pare_layer_norm_f32_fn(const float *x, const float *scale, const float *bias, float *y, size_t n,
                                    float eps, float stats[2]);

/* Rotates `half` pairs: (x[i], x[i + half]) or, interleaved, (x[2i], x[2i+1]) by angle i (Su et al. 2021). */
typedef void pare_rotary_f32_fn(const float *x, const float *cos, const float *sin, float *y, size_t half,
                                bool interleaved);

typedef float pare_row_dot_f32_fn(const float *a, const float *b, size_t n);
typedef void pare_row_axpy_f32_fn(float a, const float *x, float *y, size_t n); /* y += a * x */

/* The two halves of one attention tile (Dao 2023, FlashAttention-2, algorithm 1): `rows` queries that share one key
 * head meet n <= PARE_ATTN_KEYS keys.
 *   scores  s[r * PARE_ATTN_KEYS + j] = q[r * d ..] . k[j * k_stride ..]   (q is scaled already)
 *           kt is scratch of d * PARE_ATTN_KEYS floats.
 *   update  m' = max(m, max_j s); p = exp(s - m'); l = l * exp(m - m') + sum p; o = o * exp(m - m') + p v.
 *           m starts at -inf, l and o at 0; s is overwritten with p. A row whose scores are all -inf changes nothing.
 */
#define PARE_ATTN_KEYS 64
#define PARE_ATTN_ROWS 64
typedef void pare_attn_scores_f32_fn(const float *q, size_t rows, size_t d, const float *k, size_t k_stride, size_t n,
                                     float *s, float *kt);
typedef void pare_attn_update_f32_fn(float *s, size_t rows, size_t n, float *m, float *l, float *o, size_t dv,
                                     const float *v, size_t v_stride);

#define PARE_VEC(family, op, a, b)                                                                                     \
    pare_##family##_fn pare_##op##_ref;                                                                                \
    pare_##family##_fn pare_##op##_##a;                                                                                \
    pare_##family##_fn pare_##op##_##b;
#include "cpu/vec.def"
#undef PARE_VEC

typedef struct pare_vec_table {
#define PARE_VEC(family, op, a, b) pare_##family##_fn *op;
#include "cpu/vec.def"
#undef PARE_VEC
} pare_vec_table;

/* The kernels that the current CPU mask allows. */
const pare_vec_table *pare_vec(void);

#endif
