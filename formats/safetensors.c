/* SPDX-License-Identifier: Apache-2.0
 *
 * safetensors: u64 header length, JSON header, data. The data ranges must tile the rest of the file exactly: no hole,
 * no overlap, nothing behind the last tensor (the reference implementation's rule). */
#include "formats/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pare_status bad(const char *path, const char *name, pare_diag *d, const char *what) {
    return pare_fail(d, PARE_ERR_INPUT, path, name, "%s", what);
}

static pare_status read_shape(pare_stored *t, const json_t *shape, const char *path, pare_diag *d) {
    size_t n = json_array_size(shape);
    if (!json_is_array(shape)) return bad(path, t->name, d, "expected \"shape\": a list of numbers");
    if (n > PARE_MAX_DIMS)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, path, t->name, "%zu dimensions, at most %d are supported", n,
                         PARE_MAX_DIMS);
    t->ndim = (int)n;
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(shape, i);
        t->shape[i] = json_integer_value(v);
        if (!json_is_integer(v) || t->shape[i] < 0) return bad(path, t->name, d, "\"shape\" must hold integers >= 0");
    }
    return PARE_OK;
}

static pare_status read_entry(pare_source_impl *im, int shard, const char *name, json_t *v, pare_diag *d) {
    const char *path = im->s.shards[shard];
    pare_stored *t = pare_source_add_tensor(im, d);
    if (!t) return PARE_ERR_NOMEM;
    t->name = pare_arena_strndup(im->arena, name, strlen(name));
    if (!t->name) return pare_source_nomem(im, d);
    t->shard = shard;
    if (!json_is_object(v)) return bad(path, name, d, "expected an object with dtype, shape and data_offsets");
    const char *dtype = json_string_value(json_object_get(v, "dtype"));
    if (!dtype) return bad(path, name, d, "expected \"dtype\": a word such as \"F16\"");
    t->type = pare_qtype_by_safetensors(dtype);
    if (!t->type) t->type = pare_opaque_safetensors(dtype);
    if (!t->type) return pare_fail(d, PARE_ERR_UNSUPPORTED, path, name, "dtype \"%.40s\" is not known", dtype);
    PARE_TRY(read_shape(t, json_object_get(v, "shape"), path, d));
    const json_t *off = json_object_get(v, "data_offsets"), *b = json_array_get(off, 0), *e = json_array_get(off, 1);
    if (!json_is_array(off) || json_array_size(off) != 2 || !json_is_integer(b) || !json_is_integer(e))
        return bad(path, name, d, "expected \"data_offsets\": [begin, end]");
    if (json_object_size(v) != 3) return bad(path, name, d, "keys besides dtype, shape and data_offsets");
    json_int_t begin = json_integer_value(b), end = json_integer_value(e);
    if (begin < 0 || end < begin) return bad(path, name, d, "\"data_offsets\" must be 0 <= begin <= end");
    if (!pare_stored_measure(t))
        return bad(path, name, d, "a shape whose size overflows 63 bits, is absurd or is not whole bytes");
    if (t->bytes != (uint64_t)(end - begin))
        return pare_fail(d, PARE_ERR_INPUT, path, name, "shape and dtype make %zu bytes, data_offsets span %lld",
                         t->bytes, (long long)(end - begin));
    t->file_offset = (uint64_t)begin;
    return PARE_OK;
}

static pare_status read_metadata(pare_source_impl *im, const char *path, json_t *v, pare_diag *d) {
    const char *key;
    json_t *text;
    if (!json_is_object(v)) return bad(path, "__metadata__", d, "expected an object of strings");
    json_object_foreach(v, key, text) {
        if (!json_is_string(text)) return bad(path, "__metadata__", d, "expected strings only");
        pare_meta *m = pare_source_add_meta(im, d);
        if (!m) return PARE_ERR_NOMEM;
        size_t n = json_string_length(text);
        m->key = pare_arena_strndup(im->arena, key, strlen(key));
        m->type = PARE_META_STR;
        m->v.str = (pare_str){pare_arena_strndup(im->arena, json_string_value(text), n), n};
        if (!m->key || !m->v.str.p) return pare_source_nomem(im, d);
    }
    return PARE_OK;
}

static int by_offset(const void *pa, const void *pb) {
    const pare_stored *a = pa, *b = pb;
    if (a->file_offset != b->file_offset) return a->file_offset < b->file_offset ? -1 : 1;
    if (a->bytes != b->bytes) return a->bytes < b->bytes ? -1 : 1; /* empty ones first */
    return strcmp(a->name, b->name);
}

/* Sorts this file's tensors by offset and checks that they tile [0, data_bytes). */
static pare_status place(pare_source_impl *im, size_t first, const char *path, const uint8_t *p, size_t header_bytes,
                         size_t data_bytes, pare_diag *d) {
    uint64_t at = 0;
    if (im->n_raw > first) qsort(im->raw + first, im->n_raw - first, sizeof *im->raw, by_offset);
    for (size_t i = first; i < im->n_raw; i++) {
        pare_stored *t = &im->raw[i];
        if (t->file_offset != at)
            return pare_fail(d, PARE_ERR_INPUT, path, t->name, "data begins at %llu, expected %llu: %s",
                             (unsigned long long)t->file_offset, (unsigned long long)at,
                             t->file_offset < at ? "tensors overlap" : "a hole between tensors");
        if (t->bytes > data_bytes - at)
            return pare_fail(d, PARE_ERR_INPUT, path, t->name,
                             "its %zu bytes reach beyond the end of the file (%zu bytes); is it cut off?", t->bytes,
                             header_bytes + data_bytes);
        at += t->bytes;
        t->file_offset += header_bytes;
        t->data = p + (t->bytes ? t->file_offset : 0);
    }
    if (at == data_bytes) return PARE_OK;
    return pare_fail(d, PARE_ERR_INPUT, path, NULL, "%zu bytes behind the last tensor", data_bytes - (size_t)at);
}

pare_status pare_safetensors_read(pare_source_impl *im, const char *path, bool want_meta, pare_diag *d) {
    int shard;
    PARE_TRY(pare_source_add_shard(im, path, &shard, d));
    const uint8_t *p = im->maps[shard].p;
    size_t n = im->maps[shard].n, first = im->n_raw;
    uint64_t header = 0;
    if (n < 8) return bad(path, "byte 0", d, "expected 8 bytes of header length; the file is cut off");
    memcpy(&header, p, 8);
    if (header > PARE_SAFETENSORS_MAX_HEADER)
        return pare_fail(d, PARE_ERR_INPUT, path, "byte 0", "a header of %llu bytes, at most %llu are allowed",
                         (unsigned long long)header, (unsigned long long)PARE_SAFETENSORS_MAX_HEADER);
    if (header > n - 8)
        return pare_fail(d, PARE_ERR_INPUT, path, "byte 0", "a header of %llu bytes in a file of %zu; is it cut off?",
                         (unsigned long long)header, n);
    if (header == 0 || p[8] != '{') return bad(path, "byte 8", d, "the header must begin with {");
    json_t *root, *v;
    const char *name;
    PARE_TRY(pare_json_parse((const char *)p + 8, (size_t)header, path, 8, &root, d));
    pare_status s = PARE_OK;
    json_object_foreach(root, name, v) {
        if (s != PARE_OK) break;
        if (strcmp(name, "__metadata__") != 0) s = read_entry(im, shard, name, v, d);
        else if (want_meta) s = read_metadata(im, path, v, d);
    }
    json_decref(root);
    PARE_TRY(s);
    return place(im, first, path, p, 8 + (size_t)header, n - 8 - (size_t)header, d);
}
