/* SPDX-License-Identifier: Apache-2.0
 *
 * A model file or folder, opened: its tensors (mapped, never copied), its metadata, its sidecar files. Says nothing
 * about architecture; models/ gives meaning to names. Readers trust nothing: every offset, count and shape is checked
 * against the file before it is used, and no allocation is larger than the file justifies. */
#ifndef PARE_FORMATS_SOURCE_H
#define PARE_FORMATS_SOURCE_H

#include "core/tensor.h"

/* GGUF's own type ids, also used for metadata that came from elsewhere. */
typedef enum pare_meta_type {
    PARE_META_U8,
    PARE_META_I8,
    PARE_META_U16,
    PARE_META_I16,
    PARE_META_U32,
    PARE_META_I32,
    PARE_META_F32,
    PARE_META_BOOL,
    PARE_META_STR,
    PARE_META_ARRAY,
    PARE_META_U64,
    PARE_META_I64,
    PARE_META_F64
} pare_meta_type;

typedef struct pare_str {
    const char *p;
    size_t n;
} pare_str; /* not terminated */

typedef struct pare_meta {
    const char *key; /* terminated */
    pare_meta_type type;
    union {
        uint64_t u; /* U8..U64, BOOL */
        int64_t i;  /* I8..I64 */
        double f;   /* F32, F64 */
        pare_str str;
        struct {
            pare_meta_type type;
            size_t n;
            const void *data;
        } arr; /* numbers: packed little endian, maybe
unaligned, as in the file; STR: an array of n pare_str */
    } v;
} pare_meta;

/* How a tensor's rows come about. PLAIN rows lie in the mapping as they are; the others are assembled from several
 * stored tensors (GPTQ, AWQ, compressed-tensors) into rows of a PARE_QK_GROUP format, or of a sparse one (or its dense
 * one). */
typedef enum pare_layout {
    PARE_LAYOUT_PLAIN,
    PARE_LAYOUT_CT_PACKED,
    PARE_LAYOUT_CT_INT8,
    PARE_LAYOUT_GPTQ,
    PARE_LAYOUT_AWQ,
    PARE_LAYOUT_SPARSE /* pare's own: docs/formats.md */
} pare_layout;

typedef struct pare_stored {
    const char *name; /* as in the file; assembled ones get their logical name ("...q_proj.weight") */
    const pare_qtype *type;
    int ndim;
    int64_t shape[PARE_MAX_DIMS]; /* outermost first */
    pare_layout layout;
    const void *data;     /* PLAIN: first byte in the mapping (not necessarily aligned) */
    size_t bytes;         /* storage bytes (all rows; for assembled ones of the assembled rows) */
    uint64_t file_offset; /* PLAIN: in file `shard` */
    int shard;
    const struct pare_stored *part[4]; /* assembled: codes, scales, zeros, g_idx (those not needed NULL); sparse:
                                          values, scales, places, row offsets */
    uint8_t bits;                      /* assembled: of a code */
    bool zeros_less_one;               /* GPTQ v1: zero points are stored minus one */
    uint8_t run;                       /* sparse: columns to a bit of the mask; 0: two of four */
} pare_stored;

typedef enum pare_source_kind { PARE_SOURCE_SAFETENSORS, PARE_SOURCE_FOLDER, PARE_SOURCE_GGUF } pare_source_kind;

struct json_t;
typedef struct pare_source {
    pare_source_kind kind;
    const char *path;
    const char *title; /* what the model is called where the path does not say it (a model between two steps); NULL */
    size_t n_tensors;
    pare_stored *tensors; /* in file order; assembled ones replace their parts */
    size_t n_meta;
    pare_meta *meta;                 /* GGUF key-values, in order; safetensors __metadata__ as strings */
    struct json_t *config;           /* config.json of a folder, or NULL */
    struct json_t *tokenizer_config; /* tokenizer_config.json, or NULL */
    size_t n_sidecars;
    const char **sidecars; /* names, relative to the folder, of files that travel with it (tokenizer.json,
                              generation_config.json, 1_Pooling/config.json, ...); not the weights, not config.json */
    size_t n_shards;
    const char **shards; /* file names of the weight files, absolute or relative to the working directory */
    void *impl;
} pare_source;

/* Opens a Hugging Face folder, a .safetensors file, a *.index.json, or a GGUF file (the first of a split opens all).
 * The kind is told by content, not by name. owns: the caller; every pointer inside lives until pare_source_close. */
pare_status pare_source_open(const char *path, pare_source **out, pare_diag *d);
void pare_source_close(pare_source **s);

/* What a job will write, before it is written: values are zeros, everything else is as it will be. kind: that of the
 * output; `of`: the job's own source, whose small files are still where they are. Names and metadata are not copied.
 * owns: as pare_source_open; `of` and *from must live as long. */
typedef struct pare_derive {
    pare_source_kind kind;
    size_t n_tensors, n_meta;
    const pare_stored *tensors; /* name, type, ndim, shape */
    const pare_meta *meta;
    const char *config; /* text of config.json, or NULL */
} pare_derive;
pare_status pare_source_derive(const pare_source *of, const pare_derive *from, pare_source **out, pare_diag *d);

const pare_stored *pare_source_find(const pare_source *s, const char *name); /* hashed; NULL when absent */
const pare_meta *pare_source_meta(const pare_source *s, const char *key);    /* NULL when absent */
/* Typed reads: *out keeps its default and false comes back when the key is absent or has a type that does not fit (any
 * integer >= 0 for u64; F32 or F64 for f64). */
bool pare_meta_get_u64(const pare_source *s, const char *key, uint64_t *out);
bool pare_meta_get_f64(const pare_source *s, const char *key, double *out);
bool pare_meta_get_bool(const pare_source *s, const char *key, bool *out);
bool pare_meta_get_str(const pare_source *s, const char *key, pare_str *out);

/* Rows [row0, row0 + n_rows) of t (all outer dimensions flattened) in its storage format, row_bytes each. For PLAIN
 * tensors a pointer into the mapping is returned and buf is not used; else rows are assembled into buf
 * (n_rows * pare_row_bytes(t->type, cols)). Thread-safe. */
const void *pare_source_rows(const pare_source *s, const pare_stored *t, size_t row0, size_t n_rows, void *buf);
/* The pages behind these rows are not needed again soon (madvise); keeps resident memory small in streaming passes. */
void pare_source_release(const pare_source *s, const pare_stored *t, size_t row0, size_t n_rows);
/* Checks float tensors for NaN and Inf while streaming is the caller's business; see formats/validate.h. */

#endif
