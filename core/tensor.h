/* SPDX-License-Identifier: Apache-2.0
 *
 * pare_tensor: a view, never an owner. Contiguous, row-major, outermost dimension first, in any storage format. */
#ifndef PARE_CORE_TENSOR_H
#define PARE_CORE_TENSOR_H

#include "core/qtype.h"

typedef struct pare_tensor {
    const pare_qtype *type;
    int ndim; /* 0 = scalar */
    int64_t shape[PARE_MAX_DIMS];
    void *data;      /* host or device memory, as the backend says; const data is cast, never written */
    bool transposed; /* a constant matrix operand of logical shape [K, N] stored as N rows of K columns (shape stays the
                      *stored* one: [N, K]); weights of linear layers are always so */
} pare_tensor;

int64_t pare_tensor_elems(const pare_tensor *t); /* product of shape; 1 for a scalar */
int64_t pare_tensor_rows(const pare_tensor *t);  /* all but the last dimension; 1 for ndim <= 1 */
int64_t pare_tensor_cols(const pare_tensor *t);  /* last dimension; 1 for a scalar */
size_t pare_tensor_bytes(const pare_tensor *t);
pare_tensor pare_tensor_make(const pare_qtype *type, int ndim, const int64_t *shape, void *data);

#endif
