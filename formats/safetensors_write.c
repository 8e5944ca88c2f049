/* SPDX-License-Identifier: Apache-2.0
 *
 * The header of a safetensors file. Tensors with larger elements come first, as the reference implementation has it, so
 * that each is aligned to its elements; "format": "pt" is what transformers wants to see. */
#include <string.h>

#include "formats/safetensors.h"
#include "formats/writer_impl.h"

static void put_metadata(pare_bytes *b, const pare_writer_opts *o) {
    bool format = false;
    for (size_t i = 0; i < o->n_meta; i++)
        format |= o->meta[i].type == PARE_META_STR && strcmp(o->meta[i].key, "format") == 0;
    pare_bytes_text(b, format ? "{\"__metadata__\":{" : "{\"__metadata__\":{\"format\":\"pt\"");
    for (size_t i = 0, n = !format; i < o->n_meta; i++) {
        if (o->meta[i].type != PARE_META_STR) continue;
        if (n++) pare_bytes_text(b, ",");
        pare_bytes_json(b, o->meta[i].key, strlen(o->meta[i].key));
        pare_bytes_text(b, ":");
        pare_bytes_json(b, o->meta[i].v.str.p, o->meta[i].v.str.n);
    }
    pare_bytes_text(b, "}");
}

static void put_tensor(pare_bytes *b, const pare_out_tensor *t, uint64_t from, uint64_t to) {
    pare_bytes_text(b, ",");
    pare_bytes_json(b, t->name, strlen(t->name));
    pare_bytes_printf(b, ":{\"dtype\":\"%s\",\"shape\":[", t->type->safetensors);
    for (int k = 0; k < t->ndim; k++) pare_bytes_printf(b, "%s%lld", k ? "," : "", (long long)t->shape[k]);
    pare_bytes_printf(b, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)from, (unsigned long long)to);
}

pare_status pare_safetensors_header(pare_writer *w, const pare_writer_opts *o, const uint32_t *pick, size_t n,
                                    pare_bytes *b, uint64_t *file_bytes, pare_diag *d) {
    uint64_t at = 0;
    pare_bytes_u64(b, 0);
    put_metadata(b, o);
    for (uint32_t size = 8; size; size /= 2) /* element sizes are 8, 4, 2 and the rest */
        for (size_t i = 0; i < n; i++) {
            const pare_qtype *qt = o->tensors[pick[i]].type;
            uint32_t own = qt->block_elems == 1 && (qt->block_bytes & (qt->block_bytes - 1)) == 0 ? qt->block_bytes : 1;
            pare_out_spot *s = &w->tensors[pick[i]];
            if (own != size) continue;
            put_tensor(b, &o->tensors[pick[i]], at, at + s->bytes);
            s->at = at;
            at += s->bytes;
        }
    pare_bytes_text(b, "}");
    pare_bytes_fill(b, ' ', 8);
    if (b->failed) return pare_fail(d, PARE_ERR_NOMEM, w->place.final, NULL, "no memory for the file's header");
    uint64_t header = b->n - 8;
    if (header > PARE_SAFETENSORS_MAX_HEADER)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, w->place.final, NULL, "a header of %llu bytes, readers accept %llu",
                         (unsigned long long)header, (unsigned long long)PARE_SAFETENSORS_MAX_HEADER);
    memcpy(b->p, &header, 8);
    for (size_t i = 0; i < n; i++) w->tensors[pick[i]].at += b->n;
    *file_bytes = b->n + at;
    return PARE_OK;
}

void pare_safetensors_index(const pare_writer *w, pare_bytes *b) {
    uint64_t total = 0;
    for (size_t i = 0; i < w->n_tensors; i++) total += w->tensors[i].bytes;
    pare_bytes_printf(b, "{\n  \"metadata\": {\n    \"total_size\": %llu\n  },\n  \"weight_map\": {",
                      (unsigned long long)total);
    for (size_t i = 0; i < w->n_tensors; i++) {
        pare_bytes_text(b, i ? ",\n    " : "\n    ");
        pare_bytes_json(b, w->tensors[i].name, strlen(w->tensors[i].name));
        pare_bytes_text(b, ": ");
        pare_bytes_json(b, w->files[w->tensors[i].file].name, strlen(w->files[w->tensors[i].file].name));
    }
    pare_bytes_text(b, "\n  }\n}\n");
}
