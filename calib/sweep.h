/* SPDX-License-Identifier: Apache-2.0
 *
 * The second-order solver that quantization (GPTQ) and pruning (SparseGPT) share: columns are fixed one after another,
 * and the error of each is made good by the columns that are still free.
 *
 * op:     for column j: q_j = fixed value of w_j, e = (w_j - q_j) / u_jj, w_k -= e u_jk for k > j
 *         Each group's grid parameters are fitted when the sweep reaches the group, on the weights as they are then,
 * with importance 1 / u_jj^2. shape:  w [rows, n] f32, u [n, n] upper triangular with inverse(H) = u^T u
 * (calib/linalg.h) papers: GPTQ, arXiv 2210.17323, eq. 2-3; SparseGPT, arXiv 2301.00774, eq. 3 and section 3.2 equal:
 * the same bytes at every thread count: rows are independent */
#ifndef PARE_CALIB_SWEEP_H
#define PARE_CALIB_SWEEP_H

#include "core/qtype.h"

/* Chooses what becomes zero before columns first .. first+count of some rows are fixed (count = `step` of the sweep, or
 * less at the end of a row). w: their current values [rows, count], distance ld; inv_diag[k] = 1 / u_kk^2 of those
 * columns; row0: number of the first row. zero [rows, count], cleared before: nonzero = becomes zero. */
typedef void pare_sweep_choose_fn(void *ctx, size_t row0, size_t rows, size_t first, size_t count, const float *w,
                                  size_t ld, const float *inv_diag, uint8_t *zero);

typedef struct pare_sweep {
    size_t rows, n;
    const float *u;
    const uint32_t *order;  /* [n]: the column that the sweep fixes t-th, to which u's t-th belongs; every group of
                               the grid stays whole (calib/order.h), choose sees them in this order. NULL: as they are
                               stored */
    const pare_qtype *type; /* with a grid; NULL: values stay as they are (pruning alone) */
    float *w;               /* in: the target; out: what the stored weights decode to */
    void *out;              /* encoded rows, pare_row_bytes(type, n) each; NULL without type */
    pare_sweep_choose_fn *choose; /* NULL: nothing becomes zero */
    void *ctx;
    size_t
        step; /* columns that choose wants to see at once; a multiple of the grid's group or a divisor of it; 0 = 128 */
    size_t chunk_rows; /* rows that choose wants to see at once; 0 = any (64 to 256). Chunks are what threads share */
} pare_sweep;

/* fails: PARE_ERR_NOMEM; PARE_ERR_INTERRUPTED */
pare_status pare_sweep_run(const pare_sweep *s, pare_diag *d);

#endif
