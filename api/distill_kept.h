/* SPDX-License-Identifier: Apache-2.0
 *
 * Activations that a run keeps: for each of n windows a run of floats, in memory up to a budget, the others in a file
 * beside the output that has no name and goes with the process.
 *
 * owns:   pare_kept_close
 * fails:  PARE_ERR_NOMEM; PARE_ERR_NOSPACE naming what does not fit */
#ifndef PARE_API_DISTILL_KEPT_H
#define PARE_API_DISTILL_KEPT_H

#include "pare/pare.h"

typedef struct pare_kept {
    size_t n, each, in_memory, file_bytes; /* windows, floats of one */
    float *memory, *file;
} pare_kept;

/* *budget: bytes of memory that may still be used; less afterwards. */
pare_status pare_kept_open(size_t n, size_t each, uint64_t *budget, const char *beside, pare_kept *out, pare_diag *d);
void pare_kept_close(pare_kept *k);
float *pare_kept_at(const pare_kept *k, size_t i);
/* Window i is not used again soon: what of it lies in the file leaves memory. */
void pare_kept_release(const pare_kept *k, size_t i);

/* A mapping of that many bytes of such a file, for pages that may leave memory. what: for messages, as "the teacher's
 * distributions"; option: which one asks for it. owns: munmap */
pare_status pare_beside_map(const char *beside, const char *what, const char *option, size_t bytes, void **out,
                            pare_diag *d);

#endif
