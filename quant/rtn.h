/* SPDX-License-Identifier: Apache-2.0
 *
 * Method RTN: every weight goes to the nearest code of its grid, whose parameters are fitted as the grid's own peers
 * fit them (a search where they search). */
#ifndef PARE_QUANT_RTN_H
#define PARE_QUANT_RTN_H

#include "core/qtype.h"

/* Bytes of scratch for `rows` rows of n columns; 0 when the grid encodes directly. */
size_t pare_rtn_scratch_bytes(const pare_qtype *qt, size_t rows, size_t n);
/* w: rows x n (leading dimension w_ld elements), finite. importance: n weights or NULL. out: pare_row_bytes(qt, n) per
 * row, at distance out_stride. pre: qt->grid, pare_qtype_fits(qt, n). */
void pare_rtn_encode(const pare_qtype *qt, const float *w, size_t w_ld, const float *importance, size_t rows, size_t n,
                     void *out, size_t out_stride, void *scratch);
/* The same through fit, snap and pack; scratch: pare_rtn_steps_scratch_bytes. What grids without a fast path do, and
 * the door through which column-by-column methods come. equal: the same bytes as pare_rtn_encode. */
size_t pare_rtn_steps_scratch_bytes(const pare_qtype *qt, size_t rows, size_t n);
void pare_rtn_steps(const pare_qtype *qt, const float *w, size_t w_ld, const float *importance, size_t rows, size_t n,
                    void *out, size_t out_stride, void *scratch);

#endif
