/* SPDX-License-Identifier: Apache-2.0
 *
 * The job's tensors become those of the smaller model: rows and columns picked, layers numbered anew, refitted values
 * in place of stored ones. */
#include "api/narrow.h"

#include "core/status.h"

#include <stdio.h>
#include <string.h>

static pare_status no_memory(pare_diag *d) {
    return pare_fail(d, PARE_ERR_NOMEM, NULL, NULL, "no memory for the list of tensors");
}

static bool same_name(pare_tensor_name a, pare_tensor_name b) {
    return a.role == b.role && a.layer == b.layer && a.bias == b.bias;
}

/* The slot for dimension `axis` of that tensor, and its dimension's number. A tied model's spare output matrix is none
 * of the graph's. */
static const pare_slot *slot_of(const pare_narrow *n, pare_tensor_name name, int axis, size_t *dim) {
    for (size_t k = 0; k < n->n_dims; k++)
        for (size_t i = 0; i < n->dims[k].n; i++) {
            const pare_slot *s = &n->dims[k].slots[i];
            const pare_graph_value *v = &n->run.m.g->values[s->value];
            pare_tensor_name x;
            if (s->axis != axis || v->kind != PARE_VALUE_WEIGHT ||
                !pare_name_parse(n->arch.family, PARE_SOURCE_GGUF, v->name, &x) || !same_name(x, name))
                continue;
            *dim = k;
            return s;
        }
    return NULL;
}

/* Indices that stay of a dimension, or NULL where all do. */
static pare_status pick(pare_narrow *n, pare_tensor_name name, int axis, int64_t *size, const uint32_t **out,
                        pare_diag *d) {
    size_t dim;
    const pare_slot *s = slot_of(n, name, axis, &dim);
    *out = NULL;
    if (!s) return PARE_OK;
    uint32_t *index = pare_arena_alloc(n->job->arena, (size_t)s->size * sizeof *index);
    if (!index) return no_memory(d);
    *size = (int64_t)pare_slot_kept(s, n->stays[dim], index);
    *out = index;
    return PARE_OK;
}

/* "model.layers.7.mlp.up_proj.weight" with another number. */
static const char *renumber(const pare_narrow *n, const char *name, int layer, int to) {
    char old[32], *out;
    snprintf(old, sizeof old, ".%d.", layer);
    const char *at = strstr(name, old);
    if (!at) return NULL;
    out = pare_arena_alloc(n->job->arena, strlen(name) + 24);
    if (out) sprintf(out, "%.*s.%d.%s", (int)(at - name), name, to, at + strlen(old));
    return out;
}

static const pare_refit *refit_of(const pare_narrow *n, pare_tensor_name name) {
    for (size_t i = 0; i < n->n_refits; i++)
        if (same_name(n->refits[i].name, name)) return &n->refits[i];
    return NULL;
}

static pare_status use_refit(pare_narrow *n, pare_job_tensor *t, pare_mapped *m, const pare_refit *r, pare_diag *d) {
    pare_stored *s = pare_arena_alloc(n->job->arena, sizeof *s);
    if (!s) return no_memory(d);
    *s = *m->src;
    s->type = r->type, s->data = r->data, s->layout = PARE_LAYOUT_PLAIN;
    memcpy(s->shape, m->shape, sizeof s->shape);
    s->bytes = (size_t)r->rows * pare_row_bytes(r->type, (size_t)r->cols);
    m->src = s;
    t->from = r->type;
    t->encoded = true;
    t->pick_rows = t->pick_cols = NULL;
    return PARE_OK;
}

static pare_status check(const pare_narrow *n, const pare_job_tensor *t, pare_tensor_name name, pare_diag *d) {
    int64_t shape[2];
    int ndim = pare_arch_shape(&n->to, name.role, name.bias, shape);
    bool fits = t->map->ndim == ndim && t->map->shape[0] == shape[0] && (ndim == 1 || t->map->shape[1] == shape[1]);
    if (!fits)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, n->job->src->path, t->map->name,
                         "what stays of it is %lld x %lld, which the smaller model cannot have",
                         (long long)t->map->shape[0], ndim > 1 ? (long long)t->map->shape[1] : 1LL);
    const char *what = t->map->src ? t->map->src->name : t->map->name;
    bool rows_only = t->pick_rows && !t->pick_cols;
    if ((t->pick_rows || t->pick_cols) && t->map->src->layout != PARE_LAYOUT_PLAIN)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, n->job->src->path, what,
                         "it is stored in parts of integers; prune the original, then quantize");
    if (t->pick_cols && !rows_only && t->from->kind != PARE_QK_FLOAT)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, n->job->src->path, what,
                         "columns of %s cannot be taken out; prune the original, then quantize", t->from->name);
    return PARE_OK;
}

/* Rows and columns that stay (NULL: all) of what m says it becomes. */
static void picked(pare_job_tensor *t, const pare_mapped *m, const uint32_t *first, const uint32_t *second) {
    bool vector = m->ndim == 1, as_rows = vector && m->order != PARE_ROWS_SAME;
    t->pick_rows = vector && !as_rows ? NULL : first;
    t->pick_cols = vector && !as_rows ? first : second;
    if (vector) *(as_rows ? &t->rows : &t->cols) = m->shape[0];
    else t->rows = m->shape[0], t->cols = m->shape[1];
    if (first || second)
        snprintf(t->note, sizeof t->note, "%lld of %lld %s", (long long)m->shape[second ? 1 : 0],
                 (long long)m->src->shape[second ? 1 : 0], second ? "columns" : "rows");
}

/* What an encoder's file has beside the encoder (a pooler, a classifier), and nobody computes here: it reads and writes
 * as many channels as the encoder has, and loses the same. */
static pare_status beside(pare_narrow *n, pare_job_tensor *t, pare_diag *d) {
    const pare_stored *src = t->map->src;
    const uint32_t *pick[2] = {NULL, NULL};
    pare_mapped *m = pare_arena_alloc(n->job->arena, sizeof *m);
    uint32_t *index = pare_arena_alloc(n->job->arena, (size_t)n->arch.dim * sizeof *index);
    if (!m || !index) return no_memory(d);
    *m = *t->map;
    for (int k = 0; k < m->ndim && k < 2; k++)
        if (m->shape[k] == n->arch.dim) {
            m->shape[k] = (int64_t)pare_slot_kept(&n->dims[0].slots[0], n->stays[0], index);
            pick[k] = index;
        }
    if (!pick[0] && !pick[1]) return PARE_OK;
    if (src->type->kind != PARE_QK_FLOAT || src->layout != PARE_LAYOUT_PLAIN || m->ndim > 2)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, n->job->src->path, src->name,
                         "%s of %d dimensions cannot lose channels; prune the original, then quantize", src->type->name,
                         m->ndim);
    t->map = m;
    picked(t, m, pick[0], pick[1]);
    return PARE_OK;
}

static pare_status one(pare_narrow *n, pare_job_tensor *t, pare_tensor_name name, int layer, pare_diag *d) {
    pare_mapped *m = pare_arena_alloc(n->job->arena, sizeof *m);
    if (!m) return no_memory(d);
    *m = *t->map;
    t->map = m;
    if (name.layer >= 0 && layer != name.layer && !(m->name = renumber(n, m->name, name.layer, layer)))
        return no_memory(d);
    const uint32_t *first, *second = NULL;
    PARE_TRY(pick(n, name, 0, &m->shape[0], &first, d));
    if (m->ndim > 1) PARE_TRY(pick(n, name, 1, &m->shape[1], &second, d));
    picked(t, m, first, second);
    PARE_TRY(check(n, t, name, d));
    const pare_refit *r = refit_of(n, name);
    if (!r) return PARE_OK;
    size_t used = strlen(t->note);
    snprintf(t->note + used, sizeof t->note - used, "%srefitted", used ? ", " : "");
    return use_refit(n, t, m, r, d);
}

pare_status pare_narrow_apply(pare_narrow *n, pare_diag *d) {
    pare_job *job = n->job;
    size_t kept = 0;
    bool encoder = n->arch.family == PARE_FAMILY_BERT && pare_narrow_channels(n);
    int number[4096], next = 0; /* of layers in the output; pare_arch_read allows no more */
    for (int l = 0; l < (int)n->arch.layers; l++) number[l] = n->drop[l] ? -1 : next++;
    for (size_t i = 0; i < job->n; i++) {
        pare_job_tensor t = job->t[i];
        pare_tensor_name name;
        bool known = t.map->src && pare_name_parse(n->arch.family, job->src->kind, t.map->src->name, &name);
        if (known && name.layer >= 0 && number[name.layer] < 0) continue;
        if (known && name.role == PARE_ROLE_OUTPUT && n->arch.tied) continue; /* a copy that nobody reads */
        if (known) PARE_TRY(one(n, &t, name, name.layer < 0 ? -1 : number[name.layer], d));
        else if (encoder && t.map->src && t.from->kind != PARE_QK_INT) PARE_TRY(beside(n, &t, d));
        job->t[kept++] = t;
    }
    job->n = kept;
    return PARE_OK;
}
