/* SPDX-License-Identifier: Apache-2.0
 *
 * Writing models: the layout is fixed before the first byte, data is streamed in any order by any thread, and the
 * output appears under its name whole or not at all (temporary name beside it, fsync, read back and compared, rename).
 * A folder is written beside its name and renamed as a whole. */
#ifndef PARE_FORMATS_WRITER_H
#define PARE_FORMATS_WRITER_H

#include "formats/source.h"

typedef struct pare_writer pare_writer;

/* A tensor of the output file, in the file's own terms (for layouts such as compressed-tensors, one of its parts). */
typedef struct pare_out_tensor {
    const char *name;
    const pare_qtype *type; /* must have a ggml id (GGUF) or a safetensors word (folder) */
    int ndim;
    int64_t shape[PARE_MAX_DIMS]; /* outermost first, also for GGUF */
} pare_out_tensor;

typedef struct pare_out_file { /* a small file of a folder, whole */
    const char *name;          /* relative */
    const void *bytes;
    size_t n_bytes;
} pare_out_file;

typedef struct pare_writer_opts {
    pare_source_kind kind;    /* GGUF, FOLDER or SAFETENSORS */
    bool force;               /* replace an existing output */
    const char *not_path;     /* input: refused as output (same file or folder, also through links) */
    uint64_t max_shard_bytes; /* 0 = one file */
    size_t n_tensors;
    const pare_out_tensor *tensors;
    size_t n_meta;
    const pare_meta *meta; /* GGUF keys in order, or safetensors __metadata__ (strings) */
    size_t n_files;
    const pare_out_file *files; /* folder: config.json, ... */
    size_t n_copies;
    const char **copies;
    const char *copy_from; /* folder: sidecars copied byte for byte */
} pare_writer_opts;

/* Checks names, overlap of input and output, and free space, then creates the temporary output. All of opts is copied.
 */
pare_status pare_writer_open(const char *path, const pare_writer_opts *opts, pare_writer **out, pare_diag *d);
size_t pare_writer_bytes(const pare_writer *w); /* of the whole output */
/* n_bytes of tensor i's data from byte `offset` on. Thread-safe for ranges that do not overlap. Every byte must be
 * written once; finish checks that. A failure is sticky. */
pare_status pare_writer_put(pare_writer *w, size_t i, uint64_t offset, const void *bytes, size_t n_bytes, pare_diag *d);
/* fsync, read back and compare with the checksums of what was put, rename, fsync the directory. */
pare_status pare_writer_finish(pare_writer *w, pare_diag *d);
/* Seconds that finish spent on reading back and on waiting for the disk; valid after finish. */
void pare_writer_seconds(const pare_writer *w, double *check_s, double *sync_s);
void pare_writer_close(pare_writer **w); /* removes the temporary output if not finished */

#endif
