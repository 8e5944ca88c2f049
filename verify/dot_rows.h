/* SPDX-License-Identifier: Apache-2.0
 *
 * Dot products of one vector with many rows: out[i] = x . rows[i].
 * shape: x [n], rows [n_rows, n] one after another, out [n_rows]; f32. layout: 16 lanes, element j in lane j % 16,
 * product rounded before it is added; lanes are added as a tree: j and j + 8, j and j + 4, j and j + 2, 0 and 1. equal:
 * bit for bit between all variants. */
#ifndef PARE_VERIFY_DOT_ROWS_H
#define PARE_VERIFY_DOT_ROWS_H

#include <stddef.h>

typedef void pare_dot_rows_fn(const float *x, const float *rows, size_t n_rows, size_t n, float *out);
#define PARE_KERNEL(op, isa, mask) pare_##op##_fn pare_##op##_##isa;
#include "verify/dot_rows.def"
#undef PARE_KERNEL

pare_dot_rows_fn *pare_dot_rows_pick(void); /* the fastest that pare_cpu_mask() allows */

#endif
