/* SPDX-License-Identifier: Apache-2.0
 *
 * Rows of PARE_QK_GROUP formats (core/qtype.h) to and from the words of compressed-tensors, GPTQ and AWQ checkpoints.
 * All conversions are exact in both directions: only bits move. N rows (outputs), K columns (inputs), G groups per row
 * (1 for whole-row formats), P = 32 / bits codes per word. `rows` is N rows of pare_row_bytes(qt, K) each, without
 * gaps. Pure, no allocation, thread-safe. pre: K is a multiple of the group.
 *
 * Layouts (codes are stored unsigned, q + 2^(bits-1), in all of them):
 *   CT    weight_packed i32 [N, ceil(K/P)] along K; weight_scale [N, G]; weight_zero_point i32 [ceil(N/P), G] along N
 *   GPTQ  qweight i32 [ceil(K/P), N] along K; scales [G, N]; qzeros i32 [G, ceil(N/P)] along N; g_idx i32 [K]
 *   AWQ   qweight i32 [K, N/8] along N in the order 0 2 4 6 1 3 5 7; scales [G, N]; qzeros i32 [G, N/8], same order
 * A symmetric format has the zero point 2^(bits-1), which writers below store where the layout wants one. */
#ifndef PARE_FORMATS_INT_PACK_H
#define PARE_FORMATS_INT_PACK_H

#include "core/qtype.h"

size_t pare_int_groups(const pare_qtype *qt, size_t k); /* G */
size_t pare_int_words(const pare_qtype *qt, size_t n);  /* ceil(n / P) */

/* ---- rows -> compressed-tensors; any number of rows at a time, outputs of consecutive calls follow one another ----
 */
void pare_int_to_ct_packed(const pare_qtype *qt, const void *rows, size_t n_rows, size_t k,
                           uint32_t *out); /* [n_rows, ceil(K/P)] */
void pare_int_to_ct_scale(const pare_qtype *qt, const void *rows, size_t n_rows, size_t k,
                          void *out); /* [n_rows, G] of qt's scale type */
/* [ceil(n_rows/P), G]; all calls but the last with a multiple of P rows. */
void pare_int_to_ct_zero(const pare_qtype *qt, const void *rows, size_t n_rows, size_t k, uint32_t *out);
/* int-quantized: weight i8 [n_rows, K] (int8 formats only; signed codes). */
void pare_int_to_i8(const pare_qtype *qt, const void *rows, size_t n_rows, size_t k, int8_t *out);

/* ---- rows -> GPTQ. Column n of the outputs is row n of the tensor: for a piece of rows that begins at row n0, pass
 * the address of column n0 (qzeros: of word n0/P, n0 a multiple of P) and the full width of the output as ld
 * (elements). ---- */
void pare_int_to_gptq_qweight(const pare_qtype *qt, const void *rows, size_t n_rows, size_t k, uint32_t *out,
                              size_t ld);
void pare_int_to_gptq_scales(const pare_qtype *qt, const void *rows, size_t n_rows, size_t k, void *out, size_t ld);
/* v1 stores zero - 1 (checkpoint_format "gptq"), else zero itself ("gptq_v2"). */
void pare_int_to_gptq_qzeros(const pare_qtype *qt, const void *rows, size_t n_rows, size_t k, uint32_t *out, size_t ld,
                             bool v1);
void pare_int_gptq_g_idx(const pare_qtype *qt, size_t k, int32_t *out); /* [K]: k / group */

/* ---- checkpoints -> rows [row0, row0 + n_rows). zero NULL = symmetric layout (qt asymmetric then is a broken
 * promise). Pointers are the whole stored tensors, of any alignment; N is their number of rows. ---- */
void pare_int_from_ct(const pare_qtype *qt, const void *packed, const void *scale, const void *zero, size_t k,
                      size_t row0, size_t n_rows, void *rows);
/* weight i8; scale one per row (per_row) or one for all; zero i8 likewise or NULL. */
void pare_int_from_i8(const pare_qtype *qt, const void *weight, const void *scale, const void *zero, bool per_row,
                      size_t k, size_t row0, size_t n_rows, void *rows);
void pare_int_from_gptq(const pare_qtype *qt, const void *qweight, const void *scales, const void *qzeros, bool v1,
                        size_t n, size_t k, size_t row0, size_t n_rows, void *rows);
void pare_int_from_awq(const pare_qtype *qt, const void *qweight, const void *scales, const void *qzeros, size_t n,
                       size_t k, size_t row0, size_t n_rows, void *rows);

/* The zero point of group g, row n in packed words (used to tell symmetric checkpoints): unsigned code units. */
unsigned pare_int_gptq_zero(const void *qzeros, unsigned bits, size_t n_rows, size_t g, size_t n, bool v1);
unsigned pare_int_awq_zero(const void *qzeros, size_t n_rows, size_t g, size_t n);

#endif
