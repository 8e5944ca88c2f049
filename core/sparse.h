/* SPDX-License-Identifier: Apache-2.0
 *
 * Sparse storage formats: a row of another format, its zeros left out: which weights are stored, then their values in
 * column order.
 *
 *   name        which                           values per row
 *   X:2of4      two 2-bit indexes per 4 columns exactly 2 of every 4 columns (the pattern of NVIDIA's sparse tensor
 *                                               cores, Mishra et al., arXiv 2104.08378)
 *   X:mask1.N   a bit per column                room for N sixteenths of the columns, rounded up to whole runs
 *   X:mask4.N   a bit per run of 4 columns      the same; what is left of blocks 4 columns wide
 *   X:mask16.N  a bit per run of 16 columns     the same
 *
 * X is the dense format: f32, f16, bf16, or symmetric grouped or per-channel integers. In memory rows have one length,
 * so that they can be addressed; files store each row's values without the spare room (docs/formats.md).
 *
 * layout: a row is  scales | slab table | places | values
 *   scales   integers only: one per group of the dense format, in its scale type
 *   table    not for 2of4: per 256 columns a u16, runs stored before them
 *   places   masks: bit i % 8 of byte i / 8: run i is stored; bits past the last run are 0
 *            2of4: columns 4 g .. 4 g + 3 have bits 4 g .. 4 g + 3 of the row's, first | second << 2, first < second
 *   values   elements of the dense format; 4-bit codes q + 8 in nibbles, even ones low; spare room is zero bytes
 * Nothing is aligned. Decoding gives the dense row's values bit for bit: what is not stored is +0, code 0. */
#ifndef PARE_CORE_SPARSE_H
#define PARE_CORE_SPARSE_H

#include "core/qtype.h"

#define PARE_SPARSE_SLAB 256 /* columns per entry of the slab table */

typedef struct pare_sparse_format {
    const pare_qtype *dense;
    uint8_t run;  /* columns to a bit of the mask: 1, 4, 16; 2of4: 1 */
    uint8_t keep; /* room in sixteenths of a row, 1..15; 0: 2of4 */
    uint8_t bits; /* of a value: 4, 8, 16, 32 */
} pare_sparse_format;

/* run 1, 4 or 16; keep 0 (2of4, run 1) or 1..15. NULL when dense has no sparse form. */
const pare_qtype *pare_qtype_sparse(const pare_qtype *dense, unsigned run, unsigned keep);

/* Where the parts of a row of n columns are. */
typedef struct pare_sparse_row {
    size_t groups;   /* scales */
    size_t table_at; /* bytes from the row's start */
    size_t place_at, place_bytes;
    size_t values_at, values; /* room, in values */
    size_t bytes;             /* of the row */
} pare_sparse_row;
bool pare_sparse_fits(const pare_qtype *qt, size_t n);
/* pre: pare_sparse_fits */
pare_sparse_row pare_sparse_row_of(const pare_qtype *qt, size_t n);

/* Columns first .. first+n (first a multiple of 256, n <= 256) as elements of the dense format: floats as stored, codes
 * as signed bytes (also 4-bit ones). fails: never; a row that breaks its own counts gives wrong values and reads
 * nothing outside the row */
void pare_sparse_slab(const pare_qtype *qt, const uint8_t *row, size_t row_n, size_t first, size_t n, void *out);

/* The row in the dense format. equal: the row that was packed, exactly. pre: the row keeps its promises */
void pare_sparse_to_dense(const pare_qtype *qt, const void *row, size_t n, void *dense);

/* ---- packing; files use the same pieces ---- */
/* What of a dense row must be stored: elements whose bits are not all zero (codes: not 0), whole runs. Fills places
 * (pare_sparse_row's place_bytes) and returns runs stored. run 0: 2of4; exactly two of every 4 columns, padded with the
 * first zeros; SIZE_MAX when some have more. */
size_t pare_sparse_places(const pare_qtype *dense, unsigned run, const void *row, size_t n, uint8_t *places);
/* The values in those places to out, in order; returns bytes (4-bit codes: the last byte's high nibble is 0). */
size_t pare_sparse_values(const pare_qtype *dense, unsigned run, const void *row, size_t n, const uint8_t *places,
                          void *out);
/* Scales of a dense row, side by side; returns bytes, 0 for floats. */
size_t pare_sparse_scales(const pare_qtype *dense, const void *row, size_t n, void *out);
/* A row from its parts: value_bytes of values, at most the room. */
void pare_sparse_join(const pare_qtype *qt, size_t n, const void *scales, const uint8_t *places, const void *values,
                      size_t value_bytes, void *row);
/* A dense row from parts: places as pare_sparse_places gives them for this run (0: 2of4), values as many as they say.
 */
void pare_sparse_spread(const pare_qtype *dense, unsigned run, size_t n, const void *scales, const uint8_t *places,
                        const void *values, void *row);
size_t pare_sparse_count(const uint8_t *mask, size_t bytes);  /* bits set */
bool pare_sparse_indexes_ok(const uint8_t *places, size_t n); /* 2of4: first < second everywhere */

#endif
