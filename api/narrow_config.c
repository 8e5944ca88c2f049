/* SPDX-License-Identifier: Apache-2.0
 *
 * What the smaller model says about itself: GGUF metadata, or config.json. */
#include "api/encoder_sizes.h"
#include "api/narrow.h"

#include "core/status.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

typedef struct size_key {
    const char *gguf, *hf;
    int64_t was, is;
    bool always; /* written even where the source does not say it */
} size_key;

enum { KEYS = 9 };

/* Every size that may change. A head size that is no longer hidden size / heads must be said. */
static void sizes(const pare_narrow *n, size_key k[KEYS]) {
    const pare_arch *a = &n->arch, *b = &n->to;
    bool says = b->family == PARE_FAMILY_LLAMA && (b->heads * b->head_dim != b->dim);
    const size_key all[KEYS] = {{"block_count", "num_hidden_layers", a->layers, b->layers, false},
                                {"embedding_length", "hidden_size", a->dim, b->dim, false},
                                {"feed_forward_length", "intermediate_size", a->ffn, b->ffn, false},
                                {"attention.head_count", "num_attention_heads", a->heads, b->heads, false},
                                {"attention.head_count_kv", "num_key_value_heads", a->kv_heads, b->kv_heads,
                                 b->family == PARE_FAMILY_LLAMA && a->heads != b->heads},
                                {"attention.key_length", "head_dim", a->head_dim, b->head_dim, says},
                                {"attention.value_length", NULL, a->head_dim, b->head_dim, says},
                                {"rope.dimension_count", NULL, a->head_dim, b->head_dim, says},
                                {NULL, "max_window_layers", a->layers, b->layers, false}};
    memcpy(k, all, sizeof all);
}

static pare_status no_memory(pare_diag *d) {
    return pare_fail(d, PARE_ERR_NOMEM, NULL, "configuration", "no memory for the configuration");
}

static pare_status gguf(pare_narrow *n, pare_diag *d) {
    pare_mapping *m = n->job->map;
    size_key k[KEYS];
    pare_meta_list l = {.arena = n->job->arena};
    sizes(n, k);
    l.cap = m->n_meta + KEYS;
    if (!(l.v = pare_arena_alloc(l.arena, l.cap * sizeof *l.v))) return no_memory(d);
    bool done[KEYS] = {false};
    char key[96];
    for (size_t i = 0; i < m->n_meta; i++) {
        if (strcmp(m->meta[i].key, "general.size_label") == 0) continue; /* "135M": no longer true */
        int which = -1;
        for (int j = 0; j < KEYS; j++) {
            snprintf(key, sizeof key, "%s.%s", n->arch.name, k[j].gguf ? k[j].gguf : "");
            if (strcmp(m->meta[i].key, key) == 0) which = j;
        }
        if (which < 0) l.v[l.n++] = m->meta[i];
        else pare_meta_u32(&l, m->meta[i].key, (uint64_t)k[which].is), done[which] = true;
    }
    for (int j = 0; j < KEYS; j++)
        if (k[j].gguf && k[j].always && !done[j]) {
            snprintf(key, sizeof key, "%s.%s", n->arch.name, k[j].gguf);
            pare_meta_u32(&l, key, (uint64_t)k[j].is);
        }
    if (l.nomem) return no_memory(d);
    m->meta = l.v;
    m->n_meta = l.n;
    return PARE_OK;
}

/* Lists with an entry per layer ("layer_types") lose those of dropped layers. */
static void per_layer(const pare_narrow *n, json_t *config) {
    json_t *list = json_object_get(config, "layer_types");
    if (!json_is_array(list) || json_array_size(list) != (size_t)n->arch.layers) return;
    for (int l = (int)n->arch.layers - 1; l >= 0; l--)
        if (n->drop[l]) json_array_remove(list, (size_t)l);
}

static pare_status folder(pare_narrow *n, pare_diag *d) {
    json_t *c = n->job->map->config;
    size_key k[KEYS];
    sizes(n, k);
    if (!c) return pare_fail(d, PARE_ERR_INTERNAL, n->job->src->path, "config.json", "there is none to change");
    for (int j = 0; j < KEYS; j++) {
        if (!k[j].hf) continue;
        json_t *old = json_object_get(c, k[j].hf);
        bool changes = k[j].was != k[j].is && json_is_integer(old);
        if (strcmp(k[j].hf, "max_window_layers") == 0) changes &= json_integer_value(old) > k[j].is;
        if ((changes || k[j].always) && json_object_set_new(c, k[j].hf, json_integer((json_int_t)k[j].is)) != 0)
            return no_memory(d);
    }
    per_layer(n, c);
    return pare_encoder_resize_all(n->job->map, n->job->src->path, &n->arch, &n->to, d);
}

pare_status pare_narrow_config(pare_narrow *n, pare_diag *d) {
    return n->job->kind == PARE_SOURCE_GGUF ? gguf(n, d) : folder(n, d);
}
