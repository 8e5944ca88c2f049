/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of an opened model, shared by the readers of formats/. */
#ifndef PARE_FORMATS_SOURCE_IMPL_H
#define PARE_FORMATS_SOURCE_IMPL_H

#include <jansson.h>

#include "core/alloc.h"
#include "core/status.h"
#include "formats/name_index.h"
#include "formats/source.h"

typedef struct pare_map {
    const uint8_t *p;
    size_t n;
} pare_map; /* a whole file, mapped read-only */

typedef struct pare_source_impl {
    pare_source s;
    pare_arena *arena; /* names, paths, metadata */
    pare_map *maps;    /* one per entry of shards */
    size_t cap_maps, cap_shards;
    pare_stored *raw; /* tensors as stored; s.tensors is this array, or a separate one when some are assembled */
    size_t n_raw, cap_raw, cap_meta, cap_sidecars;
    pare_name_index by_name, by_key;
} pare_source_impl;

/* Maps a regular, non-empty file. */
pare_status pare_map_file(const char *path, pare_map *out, pare_diag *d);
void pare_map_close(pare_map *m);
/* Reads a small file whole (at most max_bytes) into *bytes (pare_free it). */
pare_status pare_read_file(const char *path, size_t max_bytes, char **bytes, size_t *n, pare_diag *d);

/* Strict JSON: UTF-8, no duplicate keys, nothing behind the value, an object at the top. Messages name byte base +
 * position. */
pare_status pare_json_parse(const char *text, size_t n, const char *file, size_t base, json_t **out, pare_diag *d);
pare_status pare_json_load(const char *path, json_t **out, pare_diag *d);

/* Maps path as one more shard; *shard is its index. */
pare_status pare_source_add_shard(pare_source_impl *im, const char *path, int *shard, pare_diag *d);
/* Room for one more tensor or metadata entry; NULL + diag when out of memory. */
pare_stored *pare_source_add_tensor(pare_source_impl *im, pare_diag *d);
pare_meta *pare_source_add_meta(pare_source_impl *im, pare_diag *d);
pare_status pare_source_add_sidecar(pare_source_impl *im, const char *name, pare_diag *d);
pare_status pare_source_nomem(const pare_source_impl *im, pare_diag *d);

/* Fills bytes of t from type and shape; false when a product of its (non-zero) dimensions or its bytes leave 63 bits,
 * or a row is not a whole number of blocks; also for empty tensors with absurdly large other dimensions. */
bool pare_stored_measure(pare_stored *t);

/* Readers. Each appends to im->raw, im->s.meta and im->s.shards. */
pare_status pare_gguf_read(pare_source_impl *im, const char *path, pare_diag *d);
pare_status pare_safetensors_read(pare_source_impl *im, const char *path, bool want_meta, pare_diag *d);
pare_status pare_folder_read(pare_source_impl *im, const char *dir, const char *index_path, pare_diag *d);
/* Turns the parts of quantized layers into assembled tensors, as config.json's quantization_config says. */
pare_status pare_quantized_assemble(pare_source_impl *im, pare_diag *d);

/* Storage formats that files may hold and that are in no registry row: sizes are known, values are not. NULL if
 * unknown. */
const pare_qtype *pare_opaque_ggml(int ggml_type);
const pare_qtype *pare_opaque_safetensors(const char *dtype);

bool pare_utf8_valid(const char *s, size_t n); /* no overlong forms, no surrogates, no NUL */

#endif
