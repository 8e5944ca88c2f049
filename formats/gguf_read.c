/* SPDX-License-Identifier: Apache-2.0
 *
 * GGUF versions 2 and 3, with every refusal of the stock loader (and the two it leaves to later stages: data beyond the
 * file's end, element counts that wrap). One reader with a sticky error walks the header; nothing is allocated that the
 * file's own size does not pay for. */
#include <stdio.h>
#include <string.h>

#include "formats/gguf.h"
#include "formats/source_impl.h"

#define MAX_STRING       ((uint64_t)1 << 30)
#define MAX_ARRAY        ((uint64_t)1 << 30)
#define MAX_NAME         63
#define MIN_KV_BYTES     13 /* length, type, one byte of value */
#define MIN_TENSOR_BYTES 24 /* length, n_dims, type, offset */

typedef struct reader {
    const uint8_t *p;
    size_t n, pos;
    const char *file;
    pare_diag *d;
    pare_status st;
} reader;

static pare_status fail(reader *r, size_t pos, const char *what) {
    char where[64];
    snprintf(where, sizeof where, "byte %zu", pos);
    if (r->st == PARE_OK) r->st = pare_fail(r->d, PARE_ERR_INPUT, r->file, where, "%s", what);
    return r->st;
}

static bool need(reader *r, uint64_t bytes) {
    if (r->st != PARE_OK) return false;
    if (bytes <= r->n - r->pos) return true;
    char where[64];
    snprintf(where, sizeof where, "byte %zu", r->pos);
    r->st = pare_fail(r->d, PARE_ERR_INPUT, r->file, where,
                      "the header needs %llu more bytes, the file has %zu; is it cut off?", (unsigned long long)bytes,
                      r->n - r->pos);
    return false;
}

static uint64_t get(reader *r, size_t bytes) { /* little endian, as the machine is */
    uint64_t v = 0;
    if (!need(r, bytes)) return 0;
    memcpy(&v, r->p + r->pos, bytes);
    r->pos += bytes;
    return v;
}

static pare_str get_str(reader *r) {
    size_t at = r->pos;
    uint64_t n = get(r, 8);
    if (r->st == PARE_OK && n > MAX_STRING) fail(r, at, "a string of more than 1 GiB");
    if (!need(r, n)) return (pare_str){"", 0};
    pare_str s = {(const char *)r->p + r->pos, (size_t)n};
    r->pos += (size_t)n;
    return s;
}

static const size_t elem_bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

static void get_scalar(reader *r, pare_meta *m) {
    uint64_t raw = get(r, elem_bytes[m->type]);
    float f;
    switch (m->type) {
    case PARE_META_I8: m->v.i = (int8_t)raw; break;
    case PARE_META_I16: m->v.i = (int16_t)raw; break;
    case PARE_META_I32: m->v.i = (int32_t)raw; break;
    case PARE_META_F32: memcpy(&f, &raw, 4), m->v.f = f; break;
    case PARE_META_F64: memcpy(&m->v.f, &raw, 8); break;
    case PARE_META_BOOL: m->v.u = raw != 0; break;
    default: m->v.u = raw; /* I64 shares the bits */
    }
}

static void get_array(reader *r, pare_source_impl *im, pare_meta *m) {
    size_t at = r->pos;
    uint64_t type = get(r, 4), n = get(r, 8);
    if (r->st != PARE_OK) return;
    if (type == PARE_META_ARRAY) {
        fail(r, at, "an array of arrays");
        return;
    }
    if (type > PARE_META_F64) {
        fail(r, at, "an array of an unknown element type");
        return;
    }
    if (n > MAX_ARRAY) {
        fail(r, at + 4, "an array of more than 2^30 elements");
        return;
    }
    m->v.arr.type = (pare_meta_type)type;
    m->v.arr.n = (size_t)n;
    if (type != PARE_META_STR) {
        if (!need(r, n * elem_bytes[type])) return;
        m->v.arr.data = r->p + r->pos;
        r->pos += (size_t)n * elem_bytes[type];
        return;
    }
    if (!need(r, n * 8)) return; /* each string has at least its length: pays for the array below */
    pare_str *v = pare_arena_alloc(im->arena, (size_t)n * sizeof *v);
    if (!v) {
        r->st = pare_source_nomem(im, r->d);
        return;
    }
    for (uint64_t i = 0; i < n && r->st == PARE_OK; i++) v[i] = get_str(r);
    m->v.arr.data = v;
}

/* A name or key of the file as a terminated, valid string. */
static const char *get_name(reader *r, pare_source_impl *im, const char *what) {
    size_t at = r->pos;
    pare_str s = get_str(r);
    char text[96];
    if (r->st != PARE_OK) return "";
    if (!pare_utf8_valid(s.p, s.n)) {
        snprintf(text, sizeof text, "a %s that is not valid UTF-8 or holds a zero byte", what);
        fail(r, at, text);
        return "";
    }
    char *name = pare_arena_strndup(im->arena, s.p, s.n);
    if (!name) r->st = pare_source_nomem(im, r->d);
    return name ? name : "";
}

static void get_kv(reader *r, pare_source_impl *im) {
    pare_meta *m = pare_source_add_meta(im, r->d);
    if (!m) {
        r->st = PARE_ERR_NOMEM;
        return;
    }
    size_t at = r->pos;
    m->key = get_name(r, im, "key");
    if (r->st == PARE_OK && !*m->key) fail(r, at, "an empty key");
    at = r->pos;
    uint64_t type = get(r, 4);
    if (r->st != PARE_OK) return;
    if (type > PARE_META_F64) {
        fail(r, at, "a key with an unknown value type");
        return;
    }
    m->type = (pare_meta_type)type;
    if (m->type == PARE_META_STR) m->v.str = get_str(r);
    else if (m->type == PARE_META_ARRAY) get_array(r, im, m);
    else get_scalar(r, m);
    if (r->st == PARE_OK && strcmp(m->key, "general.alignment") == 0) {
        bool ok = m->type == PARE_META_U32 && m->v.u && (m->v.u & (m->v.u - 1)) == 0;
        if (!ok) fail(r, at, "general.alignment must be a u32 that is a power of two");
    }
}

static void get_tensor(reader *r, pare_source_impl *im, int shard) {
    pare_stored *t = pare_source_add_tensor(im, r->d);
    if (!t) {
        r->st = PARE_ERR_NOMEM;
        return;
    }
    size_t at = r->pos;
    t->name = get_name(r, im, "tensor name");
    if (r->st == PARE_OK && strlen(t->name) > MAX_NAME) fail(r, at, "a tensor name of more than 63 bytes");
    at = r->pos;
    uint64_t ndim = get(r, 4), ne[4] = {1, 1, 1, 1};
    if (r->st == PARE_OK && ndim > 4) fail(r, at, "a tensor of more than 4 dimensions");
    for (uint64_t i = 0; r->st == PARE_OK && i < ndim; i++) ne[i] = get(r, 8);
    size_t type_at = r->pos;
    uint64_t type = get(r, 4);
    t->file_offset = get(r, 8);
    if (r->st != PARE_OK) return;
    t->type = type <= 42 ? pare_qtype_by_ggml((int)type) : NULL;
    if (!t->type && type <= 42) t->type = pare_opaque_ggml((int)type);
    if (!t->type) {
        r->st = pare_fail(r->d, PARE_ERR_INPUT, r->file, t->name,
                          "storage type %llu (byte %zu) is unknown or was removed from GGUF", (unsigned long long)type,
                          type_at);
        return;
    }
    t->ndim = (int)ndim;
    t->shard = shard;
    for (uint64_t i = 0; i < ndim; i++) {
        if ((int64_t)ne[i] < 0) {
            fail(r, at, "a negative dimension");
            return;
        }
        t->shape[ndim - 1 - i] = (int64_t)ne[i]; /* the file has the fastest dimension first */
    }
    if (!pare_stored_measure(t))
        r->st =
            pare_fail(r->d, PARE_ERR_INPUT, r->file, t->name,
                      "a shape (byte %zu) whose size overflows or is absurd, or rows that are not whole blocks of %s",
                      at, t->type->name);
}

/* Tensors follow one another in table order, each padded to the alignment, inside the file. */
static void place_tensors(reader *r, pare_source_impl *im, size_t first, uint64_t align) {
    uint64_t start = 0, expected = 0;
    if (__builtin_add_overflow(r->pos, align - 1, &start)) {
        fail(r, r->pos, "an alignment beyond the file");
        return;
    }
    start &= ~(align - 1);
    for (size_t i = first; i < im->n_raw && r->st == PARE_OK; i++) {
        pare_stored *t = &im->raw[i];
        uint64_t end = 0;
        if (t->file_offset != expected) {
            r->st = pare_fail(r->d, PARE_ERR_INPUT, r->file, t->name,
                              "data at offset %llu, expected %llu: tensors must follow one another",
                              (unsigned long long)t->file_offset, (unsigned long long)expected);
            return;
        }
        bool over =
            __builtin_add_overflow(expected, t->bytes, &end) || end > UINT64_MAX - align || start > UINT64_MAX - end;
        if (over || (t->bytes && start + end > r->n)) {
            r->st =
                pare_fail(r->d, PARE_ERR_INPUT, r->file, t->name,
                          "its %zu bytes reach beyond the end of the file (%zu bytes); is it cut off?", t->bytes, r->n);
            return;
        }
        t->file_offset += start;
        t->data = r->p + (t->bytes ? t->file_offset : 0);
        expected = (end + align - 1) & ~(align - 1);
    }
}

pare_status pare_gguf_read_one(pare_source_impl *im, const char *path, pare_diag *d) {
    int shard;
    PARE_TRY(pare_source_add_shard(im, path, &shard, d));
    reader r = {im->maps[shard].p, im->maps[shard].n, 0, path, d, PARE_OK};
    uint64_t magic = get(&r, 4), version = get(&r, 4);
    if (r.st == PARE_OK && magic != 0x46554747) fail(&r, 0, "not a GGUF file (no \"GGUF\" at its start)");
    if (r.st == PARE_OK && (version & 0xFFFF) == 0)
        fail(&r, 4, "written for a big-endian machine; convert it there first");
    if (r.st == PARE_OK && version != 2 && version != 3) fail(&r, 4, "a GGUF version other than 2 and 3");
    size_t at = r.pos;
    uint64_t n_tensors = get(&r, 8), n_kv = get(&r, 8);
    if (r.st == PARE_OK && n_tensors > (r.n - r.pos) / MIN_TENSOR_BYTES)
        fail(&r, at, "more tensors than the file has room for");
    if (r.st == PARE_OK && n_kv > (r.n - r.pos) / MIN_KV_BYTES)
        fail(&r, at + 8, "more keys than the file has room for");
    size_t first_meta = im->s.n_meta, first_tensor = im->n_raw;
    uint64_t align = 32;
    for (uint64_t i = 0; i < n_kv && r.st == PARE_OK; i++) get_kv(&r, im);
    PARE_TRY(r.st);
    size_t dup;
    const pare_meta *m = im->s.meta ? im->s.meta + first_meta : NULL;
    pare_name_index ix = {0};
    pare_status s = pare_name_index_build(&ix, m, sizeof *m, im->s.n_meta - first_meta, &dup);
    if (s != PARE_OK) return pare_source_nomem(im, d);
    size_t k = pare_name_index_find(&ix, "general.alignment");
    if (k != SIZE_MAX) align = m[k].v.u;
    pare_name_index_free(&ix);
    if (dup != SIZE_MAX) return pare_fail(d, PARE_ERR_INPUT, path, m[dup].key, "the key occurs twice");
    for (uint64_t i = 0; i < n_tensors && r.st == PARE_OK; i++) get_tensor(&r, im, shard);
    PARE_TRY(r.st);
    place_tensors(&r, im, first_tensor, align);
    return r.st;
}
