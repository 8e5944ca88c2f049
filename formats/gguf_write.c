/* SPDX-License-Identifier: Apache-2.0
 *
 * The header of a GGUF version 3 file, alignment 32 (the only one that every reader survives; a general.alignment or
 * split.* key that came with the metadata is left out, it would be wrong here). */
#include <string.h>

#include "formats/writer_impl.h"

#define ALIGN 32

static const uint8_t elem_bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

static void put_str(pare_bytes *b, const char *s, size_t n) {
    pare_bytes_u64(b, n);
    pare_bytes_put(b, s, n);
}

static void put_array(pare_bytes *b, const pare_meta *m) {
    pare_bytes_u32(b, m->v.arr.type);
    pare_bytes_u64(b, m->v.arr.n);
    const pare_str *s = m->v.arr.data;
    if (m->v.arr.type != PARE_META_STR) pare_bytes_put(b, m->v.arr.data, m->v.arr.n * elem_bytes[m->v.arr.type]);
    else
        for (size_t i = 0; i < m->v.arr.n; i++) put_str(b, s[i].p, s[i].n);
}

static void put_value(pare_bytes *b, const pare_meta *m) {
    float f = (float)m->v.f;
    uint8_t flag = m->v.u != 0;
    pare_bytes_u32(b, m->type);
    switch (m->type) {
    case PARE_META_STR: put_str(b, m->v.str.p, m->v.str.n); return;
    case PARE_META_ARRAY: put_array(b, m); return;
    case PARE_META_F32: pare_bytes_put(b, &f, 4); return;
    case PARE_META_F64: pare_bytes_put(b, &m->v.f, 8); return;
    case PARE_META_BOOL: pare_bytes_put(b, &flag, 1); return;
    default: pare_bytes_put(b, &m->v.u, elem_bytes[m->type]); /* little endian: the low bytes are the value */
    }
}

static bool left_out(const pare_meta *m) {
    return strcmp(m->key, "general.alignment") == 0 || strncmp(m->key, "split.", 6) == 0;
}

pare_status pare_gguf_header(pare_writer *w, const pare_writer_opts *o, pare_bytes *b, uint64_t *file_bytes,
                             pare_diag *d) {
    uint64_t n_kv = 0, at = 0;
    for (size_t i = 0; i < o->n_meta; i++) n_kv += !left_out(&o->meta[i]);
    pare_bytes_text(b, "GGUF");
    pare_bytes_u32(b, 3);
    pare_bytes_u64(b, o->n_tensors);
    pare_bytes_u64(b, n_kv);
    for (size_t i = 0; i < o->n_meta; i++) {
        if (left_out(&o->meta[i])) continue;
        put_str(b, o->meta[i].key, strlen(o->meta[i].key));
        put_value(b, &o->meta[i]);
    }
    for (size_t i = 0; i < o->n_tensors; i++) {
        const pare_out_tensor *t = &o->tensors[i];
        put_str(b, t->name, strlen(t->name));
        pare_bytes_u32(b, (uint32_t)t->ndim);
        for (int k = t->ndim; k-- > 0;) pare_bytes_u64(b, (uint64_t)t->shape[k]);
        pare_bytes_u32(b, (uint32_t)t->type->ggml_type);
        pare_bytes_u64(b, at);
        w->tensors[i].at = at;
        at += (w->tensors[i].bytes + ALIGN - 1) & ~(uint64_t)(ALIGN - 1);
    }
    pare_bytes_fill(b, 0, ALIGN);
    if (b->failed) return pare_fail(d, PARE_ERR_NOMEM, w->place.final, NULL, "no memory for the file's header");
    for (size_t i = 0; i < o->n_tensors; i++) w->tensors[i].at += b->n;
    *file_bytes = b->n + at;
    return PARE_OK;
}
