/* SPDX-License-Identifier: Apache-2.0
 *
 * Before anything is created: can this format hold these tensors under these names? */
#include <string.h>

#include "formats/name_index.h"
#include "formats/source_impl.h"
#include "formats/writer_impl.h"

static pare_status check_one(const pare_writer_opts *o, const pare_out_tensor *t, pare_stored *m, pare_diag *d) {
    bool gguf = o->kind == PARE_SOURCE_GGUF;
    if (!pare_utf8_valid(t->name, strlen(t->name)))
        return pare_fail(d, PARE_ERR_UNSUPPORTED, NULL, t->name, "the name is not valid UTF-8");
    if (gguf && strlen(t->name) > 63)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, NULL, t->name, "GGUF holds names of at most 63 bytes, this has %zu",
                         strlen(t->name));
    if (!gguf && strcmp(t->name, "__metadata__") == 0)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, NULL, t->name, "safetensors keeps this name for itself");
    if (gguf ? t->type->ggml_type < 0 : !t->type->safetensors)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, NULL, t->name, "%s cannot hold %s", gguf ? "GGUF" : "safetensors",
                         t->type->name);
    int most = gguf ? 4 : PARE_MAX_DIMS;
    if (t->ndim < 0 || t->ndim > most)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, NULL, t->name, "%d dimensions, the format holds %d", t->ndim, most);
    *m = (pare_stored){.type = t->type, .ndim = t->ndim};
    for (int i = 0; i < t->ndim; i++) {
        m->shape[i] = t->shape[i];
        if (t->shape[i] < 0) return pare_fail(d, PARE_ERR_UNSUPPORTED, NULL, t->name, "a negative dimension");
    }
    if (!pare_stored_measure(m))
        return pare_fail(d, PARE_ERR_UNSUPPORTED, NULL, t->name,
                         "rows that are not whole blocks of %s, or a size beyond 63 bits", t->type->name);
    return PARE_OK;
}

pare_status pare_out_check_tensors(pare_writer *w, const pare_writer_opts *o, pare_diag *d) {
    pare_name_index ix = {0};
    size_t dup;
    w->tensors = pare_calloc(o->n_tensors + 1, sizeof *w->tensors);
    if (!w->tensors) return pare_fail(d, PARE_ERR_NOMEM, NULL, NULL, "no memory for the list of tensors");
    w->n_tensors = o->n_tensors;
    for (size_t i = 0; i < o->n_tensors; i++) {
        pare_stored m;
        PARE_TRY(check_one(o, &o->tensors[i], &m, d));
        w->tensors[i].name = pare_arena_strndup(w->arena, o->tensors[i].name, strlen(o->tensors[i].name));
        if (!w->tensors[i].name) return pare_fail(d, PARE_ERR_NOMEM, NULL, NULL, "no memory for the list of tensors");
        w->tensors[i].bytes = m.bytes;
        if (__builtin_add_overflow(w->total_bytes, m.bytes + 32, &w->total_bytes) || w->total_bytes > INT64_MAX)
            return pare_fail(d, PARE_ERR_UNSUPPORTED, NULL, o->tensors[i].name, "the output's size leaves 63 bits");
    }
    pare_status s = pare_name_index_build(&ix, w->tensors, sizeof *w->tensors, w->n_tensors, &dup);
    pare_name_index_free(&ix);
    if (s != PARE_OK) return pare_fail(d, PARE_ERR_NOMEM, NULL, NULL, "no memory for the list of tensors");
    if (dup != SIZE_MAX)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, NULL, w->tensors[dup].name, "two tensors have this name");
    for (size_t i = 0; i < o->n_meta && o->kind == PARE_SOURCE_GGUF; i++)
        if (!*o->meta[i].key) return pare_fail(d, PARE_ERR_UNSUPPORTED, NULL, NULL, "metadata with an empty key");
    s = pare_name_index_build(&ix, o->meta, sizeof *o->meta, o->n_meta, &dup);
    pare_name_index_free(&ix);
    if (s != PARE_OK) return pare_fail(d, PARE_ERR_NOMEM, NULL, NULL, "no memory for the list of keys");
    if (dup != SIZE_MAX)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, NULL, o->meta[dup].key, "the metadata key is given twice");
    return PARE_OK;
}
