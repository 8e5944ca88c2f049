/* SPDX-License-Identifier: Apache-2.0
 *
 * llama.cpp's importance matrices: per linear layer the mean square of each input column on some text. Two formats:
 *
 * GGUF    tensors NAME.in_sum2 [matrices, columns] (sums of squares) and NAME.counts [matrices] (tokens), both f32
 * legacy  int32 entries; each: int32 length, name, int32 calls, int32 values, f32 values (means times calls); then,
 *         optionally, int32 chunks, int32 length, name of the data. Little endian
 *
 * Matrices: 1, or the number of experts; one without tokens counts as all ones. */
#ifndef PARE_FORMATS_IMATRIX_H
#define PARE_FORMATS_IMATRIX_H

#include "formats/bytes.h"

typedef struct pare_imatrix_entry {
    const char *name; /* of the weight: "blk.0.attn_q.weight" */
    size_t matrices, columns;
    const float *mean; /* [matrices, columns], finite, not negative */
    double tokens;     /* of the first matrix; legacy files: calls */
} pare_imatrix_entry;

typedef struct pare_imatrix {
    size_t n;
    pare_imatrix_entry *v; /* by name */
    void *arena;
} pare_imatrix;

/* The format is told by content. fails: PARE_ERR_INPUT for a damaged file, for NaN, Inf and negative numbers. */
pare_status pare_imatrix_read(const char *path, pare_imatrix **out, pare_diag *d);
void pare_imatrix_free(pare_imatrix **m);
const pare_imatrix_entry *pare_imatrix_find(const pare_imatrix *m, const char *name); /* NULL when absent */

/* Files of one matrix per entry. chunk: tokens of a window. data: where the text came from. */
pare_status pare_imatrix_write_gguf(const char *path, const pare_imatrix *m, uint32_t chunk, const char *data,
                                    bool force, pare_diag *d);
void pare_imatrix_legacy(pare_bytes *b, const pare_imatrix *m, uint32_t chunk, const char *data);

#endif
