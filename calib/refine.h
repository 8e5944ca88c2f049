/* SPDX-License-Identifier: Apache-2.0
 *
 * Passes over weights that are quantized already: the sweep (calib/sweep.h) fixes every column before it knows what the
 * later ones will cost; here each group of a row is chosen again with all others as they are.
 *
 * op:     minimize tr((w - q) H (w - q)^T) over q, group after group (block coordinate descent). With the other groups
 *         fixed the best values of group g are x = w_g + B inverse(H_gg), B = the sum of (w - q)_k H_kg over all other
 *         columns k; x is quantized by a sweep under H_gg, with the parameters it has and with ones fitted on x, and
 * the best of the two and the present values stays: the error never grows. shape:  w [rows, n], h [n, n] lower
 * triangle, rows of pare_row_bytes(type, n) bytes in `out` papers: QuantEase, arXiv 2309.01885, section 3 (single
 * columns, fixed parameters) equal:  the same bytes at every thread count: rows are independent
 */
#ifndef PARE_CALIB_REFINE_H
#define PARE_CALIB_REFINE_H

#include "core/qtype.h"

typedef struct pare_refine {
    size_t rows, n;
    const float *w; /* the target */
    const float *h;
    double damping; /* of h, in units of its mean diagonal */
    const pare_qtype *type;
    void *out; /* in and out */
    int passes;
    const float *zeros; /* [rows, n]: 0 where a weight is 0 and stays so; NULL: nowhere. pre: the grid can */
} pare_refine;

/* Nothing is done for grids with one group a row. fails: PARE_ERR_NOMEM; PARE_ERR_INPUT when a group's moments cannot
 * be factored; PARE_ERR_INTERRUPTED */
pare_status pare_refine_run(const pare_refine *r, pare_diag *d);

#endif
