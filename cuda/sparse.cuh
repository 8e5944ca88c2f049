/* SPDX-License-Identifier: Apache-2.0
 *
 * Two-of-four weights (core/sparse.h) in device memory: f16, bf16 and 8-bit integers, every bit of the values kept. The
 * order is that of the sparse tensor product's fragments (cuda/mma.cuh), so that a lane reads its share of sixteen rows
 * and one chunk in one load of 16 bytes, whichever kernel it runs in.
 *
 * layout: tiles of 16 rows, chunks of 32 columns (8 bits: 64); both padded with zero values under indexes 0 and 1.
 *   low     per tile and chunk 512 bytes: lane 4 g + t has 16, four words of its row's stored values
 *             16 bits   columns 2t, 2t+1 of the 16 stored ones:  row g, row g+8;  2t+8, 2t+9: row g, row g+8
 *             8 bits    columns 4t .. 4t+3 of the 32 stored:     row g, row g+8;  4t+16 ..:   row g, row g+8
 *   high    per tile and chunk the indexes, four bits per four columns, low ones first
 *             16 bits   64 bytes: words 2g, 2g+1 = columns 0..15 and 16..31: row g in the low half, row g+8 in the high
 *             8 bits    128 bytes: words 4g .. 4g+3 = row g columns 0..31, row g+8 0..31, row g 32..63, row g+8 32..63
 *   scales  8 bits: per row, as grouped integers (cuda/layout.cuh) */
#ifndef PARE_CUDA_SPARSE_CUH
#define PARE_CUDA_SPARSE_CUH

#include "cuda/matmul.cuh"

#define PARE_SPARSE_ROWS 16 /* of a tile */

bool pare_cuda_sparse_has(const pare_qtype *qt); /* a format that is stored so */
static inline int pare_cuda_sparse_chunk(const pare_cuda_weight &w) { return w.entry ? 64 : 32; } /* columns */
size_t pare_cuda_sparse_bytes(const pare_tensor *w);
pare_cuda_weight pare_cuda_sparse_view(const pare_tensor *w); /* slabs = chunks; low_row and high_row per tile */
bool pare_cuda_sparse_upload(pare_cuda *dev, void *dst,
                             const pare_tensor *w); /* false: no memory, or the copy failed */

#endif
