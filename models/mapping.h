/* SPDX-License-Identifier: Apache-2.0
 *
 * What a source looks like in another file format: every tensor of the destination with where its rows come from, the
 * metadata, the small files. Nothing is decoded or written here.
 *
 * Between Hugging Face and GGUF names and metadata are translated (llama, qwen2, qwen3, bert); within one format
 * everything is passed on as it is, whatever the architecture. */
#ifndef PARE_MODELS_MAPPING_H
#define PARE_MODELS_MAPPING_H

#include "core/alloc.h"
#include "formats/tokenizer.h"
#include "formats/writer.h"
#include "models/arch.h"

/* Order of rows within each head. GGUF's llama pairs rows 2j and 2j+1, Hugging Face rows j and j + D/2. */
typedef enum pare_row_order { PARE_ROWS_SAME, PARE_ROWS_TO_PAIRS, PARE_ROWS_TO_HALVES } pare_row_order;

typedef struct pare_mapped {
    const pare_stored *src; /* NULL: generated, see data */
    const float *data;      /* generated values, f32, all of them */
    const char *name;       /* in the destination */
    int ndim;
    int64_t shape[PARE_MAX_DIMS];
    pare_row_order order;
    int64_t head_dim; /* rows per head where order is not SAME */
    bool f32;         /* the destination wants f32 (GGUF: norms, biases, positions) */
    bool linear;      /* folders: a weight of a linear layer, which layouts of integers may hold */
} pare_mapped;

typedef struct pare_mapping {
    pare_source_kind from, to;
    bool known; /* arch below is filled */
    pare_arch arch;
    size_t n_tensors, n_meta, n_files, n_copies, n_dropped;
    pare_mapped *tensors;
    pare_meta *meta;           /* GGUF: without general.file_type and general.quantization_version */
    pare_out_file *files;      /* folder: small files made here, without config.json */
    const char **copies;       /* sidecars to copy */
    const char **dropped;      /* source tensors that the destination has no place for */
    struct json_t *config;     /* folder: config.json as far as known here (a fresh copy), or NULL */
    pare_arena *arena;         /* of everything above */
    pare_tokenizer *tokenizer; /* metadata arrays point into it */
} pare_mapping;

/* *out lives no longer than s. PARE_ERR_UNSUPPORTED where the architecture has no translation. */
pare_status pare_mapping_open(const pare_source *s, pare_source_kind to, pare_mapping **out, pare_diag *d);
void pare_mapping_close(pare_mapping **m);

/* ---- inside the models room ---- */
pare_mapped *
pare_mapping_add(pare_mapping *m); /* next tensor, zero; NULL: out of memory (grown by halves in the arena) */
pare_status pare_map_to_gguf(const pare_source *s, pare_mapping *m, pare_diag *d);
pare_status pare_map_to_hf(const pare_source *s, pare_mapping *m, pare_diag *d);

/* A growing list of metadata in an arena; failure is sticky (nomem). */
typedef struct pare_meta_list {
    pare_arena *arena;
    pare_meta *v;
    size_t n, cap;
    bool nomem;
} pare_meta_list;
void pare_meta_u32(pare_meta_list *l, const char *key, uint64_t v);
void pare_meta_f32(pare_meta_list *l, const char *key, double v);
void pare_meta_bool(pare_meta_list *l, const char *key, bool v);
void pare_meta_text(pare_meta_list *l, const char *key, const char *p, size_t n); /* copied */
void pare_meta_array(pare_meta_list *l, const char *key, pare_meta_type type, const void *data,
                     size_t n); /* not copied */

/* The GGUF keys of a Hugging Face source: architecture, tokenizer, chat template. */
pare_status pare_gguf_metadata(const pare_source *s, pare_mapping *m, pare_diag *d);

/* The small files of a folder made from a GGUF source: config.json, tokenizer, modules of sentence encoders. */
struct json_t;
pare_status pare_hf_files(const pare_source *s, pare_mapping *m, pare_diag *d);
pare_status pare_hf_tokenizer(const pare_source *s, pare_mapping *m, pare_diag *d);
pare_status pare_hf_add_file(pare_mapping *m, const char *name, struct json_t *j,
                             pare_diag *d); /* takes j, static name */

#endif
