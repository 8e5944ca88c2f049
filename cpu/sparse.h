/* SPDX-License-Identifier: Apache-2.0
 *
 * Kernels on rows of sparse formats (core/sparse.h); variants are lines of cpu/matmul.def. Reading a sparse row must
 * cost little more than reading its bytes: a mask goes into an expand instruction as it stands; two-of-four indexes
 * pick the activations that meet the stored weights, so that nothing is multiplied by zero. pre: rows keep their
 * promises (indexes ascend, tables and room are as the mask says); on rows that do not, values are anything, and
 * nothing outside the row is read */
#ifndef PARE_CPU_SPARSE_H
#define PARE_CPU_SPARSE_H

#include "core/sparse.h"

/* A type with rows of n columns, looked at once. */
typedef struct pare_sparse_view {
    const pare_qtype *type;
    const pare_sparse_format *f;
    pare_sparse_row at;
    size_t n;
} pare_sparse_view;

static inline pare_sparse_view pare_sparse_view_of(const pare_qtype *qt, size_t n) {
    pare_sparse_view v = {qt, qt->sparse, pare_sparse_row_of(qt, n), n};
    return v;
}

/* op: as pare_sparse_slab; out holds 256 elements, those past n may be written. equal: exactly */
typedef void pare_sparse_slab_fn(const pare_sparse_view *v, const uint8_t *row, size_t first, size_t n, void *out);

/* op: sum w[i] * x[i] over the row of a format of floats. equal: within 2e-6 * sum |w x| */
typedef float pare_sparse_dot_fn(const pare_sparse_view *v, const uint8_t *row, const float *x);

#endif
