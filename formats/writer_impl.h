/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of a model being written: files of the output, where each tensor goes, what was written with which checksum.
 */
#ifndef PARE_FORMATS_WRITER_IMPL_H
#define PARE_FORMATS_WRITER_IMPL_H

#include <pthread.h>

#include "core/alloc.h"
#include "core/status.h"
#include "formats/bytes.h"
#include "formats/out_place.h"
#include "formats/writer.h"

typedef struct pare_out_slot { /* a file of the output */
    const char *name;          /* relative to the output folder; NULL when the output is one file */
    int fd;
    uint64_t bytes;
} pare_out_slot;

typedef struct pare_out_range { /* bytes [at, at + n) of a file, and their checksum */
    uint32_t file, tensor;      /* tensor: UINT32_MAX for headers and small files */
    uint64_t at, n, sum;
} pare_out_range;

typedef struct pare_out_spot { /* where a tensor's data goes */
    const char *name;
    uint32_t file;
    uint64_t at, bytes, done;
} pare_out_spot;

struct pare_writer {
    pare_source_kind kind;
    pare_arena *arena;
    pare_out_place place;
    pare_out_slot *files;
    size_t n_files, cap_files, n_weights; /* the weight files come first */
    pare_out_spot *tensors;
    size_t n_tensors;
    pare_out_range *ranges;
    size_t n_ranges, cap_ranges;
    uint64_t total_bytes;
    pthread_mutex_t lock; /* ranges, done, first */
    pare_diag first;      /* the first failure; sticky */
    bool finished;
    double check_s, sync_s;
};

/* Headers. Each fills `at` (relative to the file's start) and file-relative sizes of w->tensors for the tensors `pick`
 * lists (n of them, indices into o->tensors), and *file_bytes; the header's own bytes go to *b. */
pare_status pare_gguf_header(pare_writer *w, const pare_writer_opts *o, pare_bytes *b, uint64_t *file_bytes,
                             pare_diag *d);
pare_status pare_safetensors_header(pare_writer *w, const pare_writer_opts *o, const uint32_t *pick, size_t n,
                                    pare_bytes *b, uint64_t *file_bytes, pare_diag *d);
/* model.safetensors.index.json */
void pare_safetensors_index(const pare_writer *w, pare_bytes *b);

/* Refuses what the format cannot hold: names, duplicates, types, dimensions. Fills bytes of w->tensors. */
pare_status pare_out_check_tensors(pare_writer *w, const pare_writer_opts *o, pare_diag *d);

/* Reads everything back and compares. */
pare_status pare_writer_verify(pare_writer *w, pare_diag *d);
pare_status pare_writer_raw(pare_writer *w, uint32_t file, uint32_t tensor, uint64_t at, const void *bytes, size_t n,
                            pare_diag *d);

#endif
