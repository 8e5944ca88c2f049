/* SPDX-License-Identifier: Apache-2.0
 *
 * Mappings: opening, passing a model on within its format, lists. */
#include "models/mapping.h"

#include "core/status.h"

#include <jansson.h>
#include <string.h>

static pare_status nomem(const pare_source *s, pare_diag *d) {
    return pare_fail(d, PARE_ERR_NOMEM, s->path, NULL, "no memory for the list of tensors");
}

pare_mapped *pare_mapping_add(pare_mapping *m) { /* capacity is the next power of two: known from the count alone */
    size_t n = m->n_tensors;
    if ((n & (n - 1)) == 0) {
        pare_mapped *p = pare_arena_alloc(m->arena, (n ? 2 * n : 1) * sizeof *p);
        if (!p) return NULL;
        if (n) memcpy(p, m->tensors, n * sizeof *p);
        m->tensors = p;
    }
    return &m->tensors[m->n_tensors++];
}

/* In folders of unknown architecture: matrices that belong to linear layers, told by name. */
static bool looks_linear(const pare_stored *t) {
    static const char *const not [] = {"embed",    "wte",        "wpe",
                                       "lm_head",  "norm",       "shared.weight",
                                       "position", "token_type", "relative_attention_bias",
                                       "conv",     "router",     "ln_"};
    size_t n = strlen(t->name);
    if (t->ndim != 2 || t->shape[0] < 2 || t->shape[1] < 2 || t->type->kind == PARE_QK_INT) return false;
    if (n < 8 || strcmp(t->name + n - 7, ".weight") != 0) return false;
    for (size_t i = 0; i < sizeof not / sizeof *not ; i++)
        if (strstr(t->name, not [i])) return false;
    return true;
}

static bool is_linear(const pare_mapping *m, const pare_stored *t) {
    pare_tensor_name n;
    if (m->known && pare_name_parse(m->arch.family, m->from, t->name, &n) && (n.role == PARE_ROLE_OUTPUT)) return false;
    return looks_linear(t);
}

static pare_status pass_on(const pare_source *s, pare_mapping *m, pare_diag *d) {
    for (size_t i = 0; i < s->n_tensors; i++) {
        const pare_stored *t = &s->tensors[i];
        pare_mapped *x = pare_mapping_add(m);
        if (!x) return nomem(s, d);
        *x = (pare_mapped){.src = t, .name = t->name, .ndim = t->ndim, .linear = is_linear(m, t)};
        memcpy(x->shape, t->shape, sizeof x->shape);
    }
    if (m->to == PARE_SOURCE_GGUF) {
        m->meta = pare_arena_alloc(m->arena, (s->n_meta + 1) * sizeof *m->meta);
        if (!m->meta) return nomem(s, d);
        for (size_t i = 0; i < s->n_meta; i++) {
            const char *k = s->meta[i].key;
            if (strncmp(k, "split.", 6) == 0 || strcmp(k, "general.file_type") == 0 ||
                strcmp(k, "general.quantization_version") == 0 || strcmp(k, "general.alignment") == 0)
                continue;
            m->meta[m->n_meta++] = s->meta[i];
        }
    }
    if (m->to == PARE_SOURCE_FOLDER && s->kind == PARE_SOURCE_FOLDER) {
        m->copies = s->sidecars;
        m->n_copies = s->n_sidecars;
        if (s->config && !(m->config = json_deep_copy(s->config))) return nomem(s, d);
    }
    return PARE_OK;
}

pare_status pare_mapping_open(const pare_source *s, pare_source_kind to, pare_mapping **out, pare_diag *d) {
    *out = NULL;
    pare_mapping *m = pare_calloc(1, sizeof *m);
    if (!m || !(m->arena = pare_arena_new())) {
        pare_free(m);
        return nomem(s, d);
    }
    m->from = s->kind;
    m->to = to;
    bool across = (s->kind == PARE_SOURCE_GGUF) != (to == PARE_SOURCE_GGUF);
    pare_diag quiet = {0};
    pare_status st = pare_arch_read(s, &m->arch, across ? d : &quiet);
    m->known = st == PARE_OK;
    if (!across) st = pass_on(s, m, d);
    else if (st == PARE_OK) st = to == PARE_SOURCE_GGUF ? pare_map_to_gguf(s, m, d) : pare_map_to_hf(s, m, d);
    if (st != PARE_OK) pare_mapping_close(&m);
    *out = m;
    return st;
}

void pare_mapping_close(pare_mapping **mp) {
    pare_mapping *m = mp ? *mp : NULL;
    if (!m) return;
    json_decref(m->config);
    pare_tokenizer_close(&m->tokenizer);
    pare_arena_free(&m->arena);
    pare_free(m);
    *mp = NULL;
}

/* ---- metadata ---- */
static pare_meta *push(pare_meta_list *l, const char *key, pare_meta_type type) {
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 32;
        pare_meta *p = pare_arena_alloc(l->arena, cap * sizeof *p);
        if (p && l->n) memcpy(p, l->v, l->n * sizeof *p);
        if (!p) return l->nomem = true, NULL;
        l->v = p;
        l->cap = cap;
    }
    char *k = pare_arena_strndup(l->arena, key, strlen(key));
    if (!k) return l->nomem = true, NULL;
    pare_meta *m = &l->v[l->n++];
    m->key = k;
    m->type = type;
    return m;
}

void pare_meta_u32(pare_meta_list *l, const char *key, uint64_t v) {
    pare_meta *m = push(l, key, PARE_META_U32);
    if (m) m->v.u = v;
}

void pare_meta_f32(pare_meta_list *l, const char *key, double v) {
    pare_meta *m = push(l, key, PARE_META_F32);
    if (m) m->v.f = v;
}

void pare_meta_bool(pare_meta_list *l, const char *key, bool v) {
    pare_meta *m = push(l, key, PARE_META_BOOL);
    if (m) m->v.u = v;
}

void pare_meta_text(pare_meta_list *l, const char *key, const char *p, size_t n) {
    char *copy = pare_arena_strndup(l->arena, p, n);
    pare_meta *m = copy ? push(l, key, PARE_META_STR) : (l->nomem = true, NULL);
    if (m) m->v.str = (pare_str){copy, n};
}

void pare_meta_array(pare_meta_list *l, const char *key, pare_meta_type type, const void *data, size_t n) {
    pare_meta *m = push(l, key, PARE_META_ARRAY);
    if (m) m->v.arr.type = type, m->v.arr.n = n, m->v.arr.data = data;
}
