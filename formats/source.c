/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening a model of any kind, and what can be asked of it afterwards. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "formats/assemble.h"
#include "formats/source_impl.h"

pare_status pare_source_nomem(const pare_source_impl *im, pare_diag *d) {
    return pare_fail(d, PARE_ERR_NOMEM, im->s.path, NULL, "no memory for the list of tensors and keys");
}

pare_stored *pare_source_add_tensor(pare_source_impl *im, pare_diag *d) {
    if (pare_grow((void **)&im->raw, &im->cap_raw, im->n_raw + 1, sizeof *im->raw) != PARE_OK) {
        pare_source_nomem(im, d);
        return NULL;
    }
    pare_stored *t = &im->raw[im->n_raw++];
    *t = (pare_stored){.name = ""};
    return t;
}

pare_meta *pare_source_add_meta(pare_source_impl *im, pare_diag *d) {
    if (pare_grow((void **)&im->s.meta, &im->cap_meta, im->s.n_meta + 1, sizeof *im->s.meta) != PARE_OK) {
        pare_source_nomem(im, d);
        return NULL;
    }
    pare_meta *m = &im->s.meta[im->s.n_meta++];
    *m = (pare_meta){.key = ""};
    return m;
}

pare_status pare_source_add_sidecar(pare_source_impl *im, const char *name, pare_diag *d) {
    const char *copy = pare_arena_strndup(im->arena, name, strlen(name));
    if (!copy || pare_grow((void **)&im->s.sidecars, &im->cap_sidecars, im->s.n_sidecars + 1, sizeof copy) != PARE_OK)
        return pare_source_nomem(im, d);
    im->s.sidecars[im->s.n_sidecars++] = copy;
    return PARE_OK;
}

pare_status pare_source_add_shard(pare_source_impl *im, const char *path, int *shard, pare_diag *d) {
    size_t n = im->s.n_shards;
    const char *copy = pare_arena_strndup(im->arena, path, strlen(path));
    if (!copy || pare_grow((void **)&im->s.shards, &im->cap_shards, n + 1, sizeof copy) != PARE_OK ||
        pare_grow((void **)&im->maps, &im->cap_maps, n + 1, sizeof *im->maps) != PARE_OK)
        return pare_source_nomem(im, d);
    PARE_TRY(pare_map_file(path, &im->maps[n], d));
    im->s.shards[n] = copy;
    im->s.n_shards++;
    *shard = (int)n;
    return PARE_OK;
}

/* Nobody stores [2^40, 0], and a loop over its rows would not end. */
#define EMPTY_LIMIT ((int64_t)1 << 24)

bool pare_stored_measure(pare_stored *t) {
    int64_t all = 1;
    uint64_t bytes = 0;
    bool empty = false;
    for (int i = 0; i < t->ndim; i++) {
        if (t->shape[i] && __builtin_mul_overflow(all, t->shape[i], &all)) return false;
        empty |= t->shape[i] == 0;
    }
    if (empty && all > EMPTY_LIMIT) return false;
    uint64_t cols = t->ndim ? (uint64_t)t->shape[t->ndim - 1] : 1, rows = 1;
    for (int i = 0; i + 1 < t->ndim; i++) rows *= (uint64_t)t->shape[i];
    if (!pare_qtype_fits(t->type, (size_t)cols)) return false;
    if (t->type->block_elems &&
        __builtin_mul_overflow(cols / t->type->block_elems, (uint64_t)t->type->block_bytes, &bytes))
        return false;
    if (!t->type->block_elems) bytes = pare_row_bytes(t->type, (size_t)cols);
    if (__builtin_mul_overflow(bytes, rows, &bytes) || bytes > INT64_MAX) return false;
    t->bytes = (size_t)bytes;
    return true;
}

/* What the first bytes say; the name does not matter. */
static pare_status read_by_content(pare_source_impl *im, const char *path, pare_diag *d) {
    pare_map m;
    uint8_t head[9] = {0};
    PARE_TRY(pare_map_file(path, &m, d));
    memcpy(head, m.p, m.n < 9 ? m.n : 9);
    size_t n = m.n;
    pare_map_close(&m);
    if (memcmp(head, "GGUF", 4) == 0) {
        im->s.kind = PARE_SOURCE_GGUF;
        return pare_gguf_read(im, path, d);
    }
    if (head[0] == '{') {
        const char *slash = strrchr(path, '/');
        const char *dir = slash ? pare_arena_strndup(im->arena, path, slash == path ? 1 : (size_t)(slash - path)) : ".";
        if (!dir) return pare_source_nomem(im, d);
        im->s.kind = PARE_SOURCE_FOLDER;
        im->s.path = dir;
        return pare_folder_read(im, dir, path, d);
    }
    size_t len = strlen(path);
    bool named = len > 12 && strcmp(path + len - 12, ".safetensors") == 0;
    if ((n >= 9 && head[8] == '{') || named) {
        im->s.kind = PARE_SOURCE_SAFETENSORS;
        return pare_safetensors_read(im, path, true, d);
    }
    return pare_fail(d, PARE_ERR_INPUT, path, "byte 0",
                     "not a model this version reads: expected a Hugging Face folder, a .safetensors file, a "
                     "*.safetensors.index.json or a .gguf file%s",
                     memcmp(head, "PK\3\4", 4) == 0 ? " (this is a zip archive)" : "");
}

/* A lone .safetensors file that pare quantized carries what config.json would say in its own metadata. */
static pare_status assemble_alone(pare_source_impl *im, pare_diag *d) {
    const pare_meta *m = NULL;
    for (size_t i = 0; im->s.kind == PARE_SOURCE_SAFETENSORS && !im->s.config && i < im->s.n_meta; i++)
        if (strcmp(im->s.meta[i].key, "quantization_config") == 0) m = &im->s.meta[i];
    if (!m || m->type != PARE_META_STR) return PARE_OK;
    json_t *q = NULL;
    PARE_TRY(pare_json_parse(m->v.str.p, m->v.str.n, im->s.path, 0, &q, d));
    im->s.config = json_pack("{s:o}", "quantization_config", q);
    pare_status s = im->s.config ? pare_quantized_assemble(im, d) : pare_source_nomem(im, d);
    json_decref(im->s.config);
    im->s.config = NULL; /* the architecture is still unknown */
    return s;
}

static pare_status finish(pare_source_impl *im, pare_diag *d) {
    size_t dup;
    if (pare_name_index_build(&im->by_name, im->raw, sizeof *im->raw, im->n_raw, &dup) != PARE_OK)
        return pare_source_nomem(im, d);
    if (dup != SIZE_MAX) {
        const pare_stored *t = &im->raw[dup];
        return pare_fail(d, PARE_ERR_INPUT, im->s.shards[t->shard], t->name, "two tensors have this name");
    }
    im->s.tensors = im->raw;
    im->s.n_tensors = im->n_raw;
    if (im->s.config && json_object_get(im->s.config, "quantization_config")) PARE_TRY(pare_quantized_assemble(im, d));
    PARE_TRY(assemble_alone(im, d));
    if (pare_name_index_build(&im->by_name, im->s.tensors, sizeof *im->s.tensors, im->s.n_tensors, &dup) != PARE_OK ||
        pare_name_index_build(&im->by_key, im->s.meta, sizeof *im->s.meta, im->s.n_meta, &dup) != PARE_OK)
        return pare_source_nomem(im, d);
    return PARE_OK;
}

pare_status pare_source_open(const char *path, pare_source **out, pare_diag *d) {
    *out = NULL;
    pare_source_impl *im = pare_calloc(1, sizeof *im);
    if (!im) return pare_fail(d, PARE_ERR_NOMEM, path, NULL, "no memory to open the model");
    im->s.impl = im;
    pare_source *s = &im->s;
    struct stat st;
    pare_status r = PARE_OK;
    if (!(im->arena = pare_arena_new())) r = pare_fail(d, PARE_ERR_NOMEM, path, NULL, "no memory to open the model");
    else if (!(im->s.path = pare_arena_strndup(im->arena, path, strlen(path)))) r = pare_source_nomem(im, d);
    else if (stat(path, &st) != 0) r = pare_fail_errno(d, path, "cannot open the model");
    else if (S_ISDIR(st.st_mode)) {
        im->s.kind = PARE_SOURCE_FOLDER;
        r = pare_folder_read(im, im->s.path, NULL, d);
    } else r = read_by_content(im, im->s.path, d);
    if (r == PARE_OK) r = finish(im, d);
    if (r == PARE_OK) *out = s;
    else pare_source_close(&s);
    return r;
}

void pare_source_close(pare_source **sp) {
    if (!sp || !*sp) return;
    pare_source_impl *im = (*sp)->impl;
    for (size_t i = 0; i < im->s.n_shards; i++) pare_map_close(&im->maps[i]);
    if (im->s.config) json_decref(im->s.config);
    if (im->s.tokenizer_config) json_decref(im->s.tokenizer_config);
    if (im->s.tensors != im->raw) pare_free(im->s.tensors);
    pare_free(im->raw);
    pare_free(im->s.meta);
    pare_free(im->maps);
    pare_free((void *)im->s.shards);
    pare_free((void *)im->s.sidecars);
    pare_name_index_free(&im->by_name);
    pare_name_index_free(&im->by_key);
    pare_arena_free(&im->arena);
    pare_free(im);
    *sp = NULL;
}

const pare_stored *pare_source_find(const pare_source *s, const char *name) {
    size_t i = pare_name_index_find(&((const pare_source_impl *)s->impl)->by_name, name);
    return i == SIZE_MAX ? NULL : &s->tensors[i];
}

const pare_meta *pare_source_meta(const pare_source *s, const char *key) {
    size_t i = pare_name_index_find(&((const pare_source_impl *)s->impl)->by_key, key);
    return i == SIZE_MAX ? NULL : &s->meta[i];
}

static size_t row_bytes_of(const pare_stored *t) {
    return pare_row_bytes(t->type, t->ndim ? (size_t)t->shape[t->ndim - 1] : 1);
}

const void *pare_source_rows(const pare_source *s, const pare_stored *t, size_t row0, size_t n_rows, void *buf) {
    if (t->layout == PARE_LAYOUT_PLAIN) return (const char *)t->data + row0 * row_bytes_of(t);
    pare_assemble_rows(t, row0, n_rows, buf);
    return buf;
}

/* Whole pages only; a page shared with the rows behind is left for their release, which starts at or before it. */
static void release(const pare_stored *t, size_t from, size_t to) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uintptr_t a = (uintptr_t)t->data + from, b = (uintptr_t)t->data + to;
    a &= ~(uintptr_t)(page - 1);
    b = to == t->bytes ? (b + page - 1) & ~(uintptr_t)(page - 1) : b & ~(uintptr_t)(page - 1);
    if (b > a) madvise((void *)a, b - a, MADV_DONTNEED);
}

void pare_source_release(const pare_source *s, const pare_stored *t, size_t row0, size_t n_rows) {
    if (t->bytes == 0) return;
    if (t->layout == PARE_LAYOUT_PLAIN) {
        release(t, row0 * row_bytes_of(t), (row0 + n_rows) * row_bytes_of(t));
        return;
    }
    size_t rows = 1;
    for (int i = 0; i + 1 < t->ndim; i++) rows *= (size_t)t->shape[i];
    if (row0 + n_rows < rows) return; /* parts may be interleaved over all rows: dropped together at the end */
    for (int i = 0; i < 4; i++)
        if (t->part[i] && t->part[i]->bytes) release(t->part[i], 0, t->part[i]->bytes);
}

static bool is_unsigned(pare_meta_type t) {
    return t == PARE_META_U8 || t == PARE_META_U16 || t == PARE_META_U32 || t == PARE_META_U64;
}
static bool is_signed(pare_meta_type t) {
    return t == PARE_META_I8 || t == PARE_META_I16 || t == PARE_META_I32 || t == PARE_META_I64;
}

bool pare_meta_get_u64(const pare_source *s, const char *key, uint64_t *out) {
    const pare_meta *m = pare_source_meta(s, key);
    if (!m || !(is_unsigned(m->type) || (is_signed(m->type) && m->v.i >= 0))) return false;
    *out = m->v.u;
    return true;
}
bool pare_meta_get_f64(const pare_source *s, const char *key, double *out) {
    const pare_meta *m = pare_source_meta(s, key);
    if (!m || (m->type != PARE_META_F32 && m->type != PARE_META_F64)) return false;
    *out = m->v.f;
    return true;
}
bool pare_meta_get_bool(const pare_source *s, const char *key, bool *out) {
    const pare_meta *m = pare_source_meta(s, key);
    if (!m || m->type != PARE_META_BOOL) return false;
    *out = m->v.u != 0;
    return true;
}
bool pare_meta_get_str(const pare_source *s, const char *key, pare_str *out) {
    const pare_meta *m = pare_source_meta(s, key);
    if (!m || m->type != PARE_META_STR) return false;
    *out = m->v.str;
    return true;
}
