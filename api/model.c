/* SPDX-License-Identifier: Apache-2.0
 *
 * pare_model: an opened source with the texts that describe it. */
#include "api/model.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "core/cpu_features.h"
#include "core/op.h"
#include "core/status.h"
#include "models/arch.h"

pare_status pare_model_add(pare_model *m, pare_model_entries *to, const char *key, const char *type, const char *text) {
    pare_model_entry e = {pare_arena_strndup(m->arena, key, strlen(key)), type,
                          pare_arena_strndup(m->arena, text, strlen(text))};
    if (!e.key || !e.text) return PARE_ERR_NOMEM;
    PARE_TRY(pare_grow((void **)&to->v, &to->cap, to->n + 1, sizeof *to->v));
    to->v[to->n++] = e;
    return PARE_OK;
}

static bool is_weight(const pare_stored *t) { return t->type->kind != PARE_QK_INT; }

static uint64_t elems_of(const pare_stored *t) {
    uint64_t n = 1;
    for (int i = 0; i < t->ndim; i++) n *= (uint64_t)t->shape[i];
    return n;
}

static pare_status describe(pare_model *m, const char *path, pare_diag *d) {
    pare_arch arch;
    pare_diag why = {0};
    pare_status s = pare_arch_read(m->src, &arch, &why);
    if (s == PARE_ERR_NOMEM) return pare_fail(d, s, path, NULL, "no memory to describe the model");
    if (s != PARE_OK) m->cannot_run = pare_arena_strndup(m->arena, why.text, strlen(why.text));
    if ((s != PARE_OK && !m->cannot_run) || pare_model_list_facts(m) != PARE_OK || pare_model_list_meta(m) != PARE_OK)
        return pare_fail(d, PARE_ERR_NOMEM, path, NULL, "no memory to describe the model");
    for (size_t i = 0; i < m->src->n_tensors; i++) {
        const pare_stored *t = &m->src->tensors[i];
        m->weight_bytes += t->bytes;
        if (is_weight(t)) m->params += elems_of(t);
    }
    for (size_t i = 0; i < m->src->n_shards; i++) {
        struct stat st;
        if (stat(m->src->shards[i], &st) == 0) m->file_bytes += (uint64_t)st.st_size;
    }
    return PARE_OK;
}

pare_status pare_model_open(const char *path, pare_model **out, pare_diag *d) {
    *out = NULL;
    pare_model *m = pare_calloc(1, sizeof *m);
    if (m) m->arena = pare_arena_new();
    pare_status s = m && m->arena ? pare_source_open(path, &m->src, d)
                                  : pare_fail(d, PARE_ERR_NOMEM, path, NULL, "no memory to open the model");
    if (s == PARE_OK) s = describe(m, path, d);
    if (s == PARE_OK) *out = m;
    else pare_model_close(&m);
    return s;
}

void pare_model_close(pare_model **mp) {
    pare_model *m = mp ? *mp : NULL;
    if (!m) return;
    pare_source_close(&m->src);
    pare_free(m->facts.v);
    pare_free(m->meta.v);
    pare_bytes_free(&m->json);
    pare_arena_free(&m->arena);
    pare_free(m);
    *mp = NULL;
}

void pare_model_describe(const pare_model *m, pare_model_info *out) {
    static const char *const formats[] =
        {[PARE_SOURCE_SAFETENSORS] = "safetensors", [PARE_SOURCE_FOLDER] = "folder", [PARE_SOURCE_GGUF] = "GGUF"};
    *out = (pare_model_info){formats[m->src->kind], m->architecture,   m->cannot_run, m->params,        m->weight_bytes,
                             m->file_bytes,         m->src->n_tensors, m->meta.n,     m->src->n_shards, m->facts.n};
}

void pare_model_tensor(const pare_model *m, size_t i, pare_tensor_info *out) {
    static const char *const layouts[] = {NULL, "compressed-tensors", "compressed-tensors", "gptq", "awq", "sparse"};
    const pare_stored *t = &m->src->tensors[i];
    *out = (pare_tensor_info){t->name, t->type->name, layouts[t->layout], m->src->shards[t->shard], t->ndim,
                              {0},     elems_of(t),   t->bytes,           t->file_offset,           is_weight(t)};
    memcpy(out->shape, t->shape, sizeof out->shape);
}

void pare_model_fact(const pare_model *m, size_t i, const char **label, const char **value) {
    *label = m->facts.v[i].key;
    *value = m->facts.v[i].text;
}

void pare_model_meta(const pare_model *m, size_t i, const char **key, const char **type, const char **text) {
    *key = m->meta.v[i].key;
    *type = m->meta.v[i].type;
    *text = m->meta.v[i].text;
}

const char *pare_model_file(const pare_model *m, size_t i) { return m->src->shards[i]; }

static void put_pair(pare_bytes *b, const char *key, const char *value) {
    pare_bytes_json(b, key, strlen(key));
    pare_bytes_text(b, ": ");
    pare_bytes_json(b, value, strlen(value));
}

static void put_tensors(pare_bytes *b, const pare_model *m) {
    for (size_t i = 0; i < m->src->n_tensors; i++) {
        pare_tensor_info t;
        pare_model_tensor(m, i, &t);
        pare_bytes_text(b, i ? ",\n    {" : "\n    {");
        put_pair(b, "name", t.name);
        pare_bytes_text(b, ", ");
        put_pair(b, "type", t.type);
        pare_bytes_text(b, ", \"shape\": [");
        for (int k = 0; k < t.ndim; k++) pare_bytes_printf(b, "%s%lld", k ? ", " : "", (long long)t.shape[k]);
        pare_bytes_printf(b, "], \"bytes\": %llu, \"offset\": %llu, ", (unsigned long long)t.bytes,
                          (unsigned long long)t.offset);
        put_pair(b, "file", t.file);
        if (t.assembled) pare_bytes_text(b, ", "), put_pair(b, "assembled_from", t.assembled);
        pare_bytes_text(b, "}");
    }
}

static void put_entries(pare_bytes *b, const char *name, const pare_model_entries *e) {
    pare_bytes_printf(b, ",\n  \"%s\": {", name);
    for (size_t i = 0; i < e->n; i++) {
        pare_bytes_text(b, i ? ",\n    " : "\n    ");
        put_pair(b, e->v[i].key, e->v[i].text);
    }
    pare_bytes_text(b, "\n  }");
}

const char *pare_model_json(pare_model *m) {
    pare_bytes *b = &m->json;
    pare_model_info i;
    if (b->p && !b->failed) return b->p;
    pare_bytes_free(b);
    pare_model_describe(m, &i);
    pare_bytes_text(b, "{\n  ");
    put_pair(b, "path", m->src->path);
    pare_bytes_text(b, ",\n  ");
    put_pair(b, "format", i.format);
    pare_bytes_text(b, ",\n  ");
    put_pair(b, "architecture", i.architecture);
    if (i.cannot_run) pare_bytes_text(b, ",\n  "), put_pair(b, "cannot_run", i.cannot_run);
    pare_bytes_printf(b,
                      ",\n  \"params\": %llu,\n  \"weight_bytes\": %llu,\n  \"file_bytes\": %llu,\n  \"n_tensors\": "
                      "%zu",
                      (unsigned long long)i.params, (unsigned long long)i.weight_bytes,
                      (unsigned long long)i.file_bytes, i.n_tensors);
    put_entries(b, "facts", &m->facts);
    put_entries(b, "metadata", &m->meta);
    pare_bytes_text(b, ",\n  \"tensors\": [");
    put_tensors(b, m);
    pare_bytes_text(b, "\n  ]\n}\n");
    pare_bytes_put(b, "", 1);
    return b->failed ? NULL : b->p;
}

const char *pare_device_describe(int i, pare_diag *d) {
    static char text[160];
    if (i == 0) {
        uint32_t mask = pare_cpu_mask();
        snprintf(text, sizeof text, "cpu: %s, %d threads", mask ? pare_cpu_name(mask) : "plain x86-64", pare_threads());
        return text;
    }
    const pare_backend *gpu;
    if (i < 0 || pare_backend_find("cuda", &gpu, d) != PARE_OK || !gpu->describe) return NULL;
    const char *words = gpu->describe(i - 1, i == 1 ? d : NULL);
    if (words) snprintf(text, sizeof text, "cuda: %s", words);
    return words ? text : NULL;
}
