/* SPDX-License-Identifier: Apache-2.0
 *
 * The metadata of a GGUF file made from a Hugging Face model, with the exact value types that llama.cpp asks for:
 * general.*, <arch>.*, tokenizer.ggml.*, chat templates. */
#include "models/mapping.h"

#include "core/log.h"
#include "core/status.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct {
    pare_meta_list *l;
    const char *arch;
} keys;

static const char *full(const keys *k, const char *key, char buf[96]) {
    snprintf(buf, 96, "%s.%s", k->arch, key);
    return buf;
}
static void u32(const keys *k, const char *key, int64_t v) {
    char b[96];
    pare_meta_u32(k->l, full(k, key, b), (uint64_t)v);
}
static void f32(const keys *k, const char *key, double v) {
    char b[96];
    pare_meta_f32(k->l, full(k, key, b), v);
}

static void general(const pare_source *s, const pare_arch *a, pare_meta_list *l) {
    const char *name = json_string_value(json_object_get(s->config, "_name_or_path"));
    if (!name || !*name) name = s->title ? s->title : s->path;
    size_t n = strlen(name);
    while (n > 1 && name[n - 1] == '/') n--;
    size_t from = n;
    while (from > 0 && name[from - 1] != '/') from--;
    pare_meta_text(l, "general.architecture", a->name, strlen(a->name));
    pare_meta_text(l, "general.type", "model", 5);
    pare_meta_text(l, "general.name", name + from, n - from);
}

static void rope(const keys *k, const pare_arch *a) {
    f32(k, "rope.freq_base", a->rope_theta);
    u32(k, "rope.dimension_count", a->head_dim);
    if (a->rope_scaling != PARE_ROPE_LINEAR && a->rope_scaling != PARE_ROPE_YARN) return;
    char b[96];
    bool yarn = a->rope_scaling == PARE_ROPE_YARN;
    pare_meta_text(k->l, full(k, "rope.scaling.type", b), yarn ? "yarn" : "linear", yarn ? 4 : 6);
    f32(k, "rope.scaling.factor", a->rope_factor);
    if (!yarn) return;
    u32(k, "rope.scaling.original_context_length", (int64_t)a->rope_original);
    double usual = a->rope_factor > 1 ? 1 + 0.1 * log(a->rope_factor) : 1;
    if (fabs(a->rope_attn_factor - usual) > 1e-6 * usual)
        f32(k, "rope.scaling.attn_factor", a->rope_attn_factor / usual);
    if (a->rope_beta_fast != 32 || a->rope_beta_slow != 1)
        pare_log(PARE_LOG_WARN,
                 "llama.cpp computes YaRN with beta_fast 32 and beta_slow 1; this model asks for %g and %g",
                 a->rope_beta_fast, a->rope_beta_slow);
}

static void architecture(const pare_arch *a, pare_meta_list *l) {
    keys k = {l, a->name};
    char b[96];
    u32(&k, "block_count", a->layers);
    u32(&k, "context_length", a->context);
    u32(&k, "embedding_length", a->dim);
    u32(&k, "feed_forward_length", a->ffn);
    u32(&k, "attention.head_count", a->heads);
    if (a->family == PARE_FAMILY_BERT) {
        f32(&k, "attention.layer_norm_epsilon", a->norm_eps);
        pare_meta_bool(l, full(&k, "attention.causal", b), false);
        u32(&k, "pooling_type", a->pooling);
    } else {
        u32(&k, "attention.head_count_kv", a->kv_heads);
        f32(&k, "attention.layer_norm_rms_epsilon", a->norm_eps);
        if (a->head_dim * a->heads != a->dim) {
            u32(&k, "attention.key_length", a->head_dim);
            u32(&k, "attention.value_length", a->head_dim);
        }
        rope(&k, a);
    }
    u32(&k, "vocab_size", a->vocab);
}

static void token_id(pare_meta_list *l, const char *key, int64_t id) {
    if (id >= 0) pare_meta_u32(l, key, (uint64_t)id);
}
static void tri(pare_meta_list *l, const char *key, int v) {
    if (v >= 0) pare_meta_bool(l, key, v != 0);
}

static pare_status vocabulary(const pare_source *s, pare_mapping *m, pare_meta_list *l, pare_diag *d) {
    pare_gguf_vocab v;
    PARE_TRY(pare_tokenizer_open(s, &m->tokenizer, d));
    PARE_TRY(pare_tokenizer_gguf(m->tokenizer, (size_t)m->arch.vocab, &v, d));
    pare_meta_text(l, "tokenizer.ggml.model", v.model, strlen(v.model));
    if (v.pre) pare_meta_text(l, "tokenizer.ggml.pre", v.pre, strlen(v.pre));
    pare_meta_array(l, "tokenizer.ggml.tokens", PARE_META_STR, v.tokens, v.n);
    if (v.scores) pare_meta_array(l, "tokenizer.ggml.scores", PARE_META_F32, v.scores, v.n);
    pare_meta_array(l, "tokenizer.ggml.token_type", PARE_META_I32, v.types, v.n);
    if (m->arch.family == PARE_FAMILY_BERT)
        pare_meta_u32(l, "tokenizer.ggml.token_type_count", (uint64_t)m->arch.type_vocab);
    if (v.n_merges) pare_meta_array(l, "tokenizer.ggml.merges", PARE_META_STR, v.merges, v.n_merges);
    token_id(l, "tokenizer.ggml.bos_token_id", v.bos);
    token_id(l, "tokenizer.ggml.eos_token_id", v.eos);
    token_id(l, "tokenizer.ggml.unknown_token_id", v.unk);
    token_id(l, "tokenizer.ggml.seperator_token_id", v.sep); /* llama.cpp's spelling */
    token_id(l, "tokenizer.ggml.padding_token_id", v.pad);
    token_id(l, "tokenizer.ggml.cls_token_id", v.cls);
    token_id(l, "tokenizer.ggml.mask_token_id", v.mask);
    tri(l, "tokenizer.ggml.add_bos_token", v.add_bos);
    tri(l, "tokenizer.ggml.add_eos_token", v.add_eos);
    tri(l, "tokenizer.ggml.add_space_prefix", v.add_space_prefix);
    tri(l, "tokenizer.ggml.normalizer.lowercase", v.lowercase);
    tri(l, "tokenizer.ggml.normalizer.strip_accents", v.strip_accents);
    return PARE_OK;
}

/* A text file beside the weights, whole, at most 1 MB; NULL when it is not there. */
static char *small_file(const pare_source *s, pare_arena *arena, const char *name, size_t *n) {
    char *path = pare_sprintf("%s/%s", s->path, name), *text = NULL;
    FILE *f = path ? fopen(path, "rb") : NULL;
    pare_free(path);
    if (!f) return NULL;
    enum { MAX = 1 << 20 };
    char *buf = pare_malloc(MAX);
    if (buf) {
        *n = fread(buf, 1, MAX, f);
        if (*n < MAX) text = pare_arena_strndup(arena, buf, *n);
    }
    pare_free(buf);
    fclose(f);
    return text;
}

/* tokenizer_config.json holds one template, or a list of named ones; newer folders keep it in chat_template.jinja. */
static void chat_template(const pare_source *s, pare_mapping *m, pare_meta_list *l) {
    size_t n;
    const char *text = s->kind == PARE_SOURCE_FOLDER ? small_file(s, m->arena, "chat_template.jinja", &n) : NULL;
    if (text) {
        pare_meta_text(l, "tokenizer.chat_template", text, n);
        return;
    }
    json_t *t = json_object_get(s->tokenizer_config, "chat_template"), *e;
    if (json_is_string(t)) pare_meta_text(l, "tokenizer.chat_template", json_string_value(t), json_string_length(t));
    size_t i, named = 0;
    pare_str *names = pare_arena_alloc(m->arena, (json_array_size(t) + 1) * sizeof *names);
    json_array_foreach(t, i, e) {
        const char *name = json_string_value(json_object_get(e, "name"));
        json_t *body = json_object_get(e, "template");
        if (!name || !json_is_string(body) || !names) continue;
        char key[128];
        if (strcmp(name, "default") == 0) snprintf(key, sizeof key, "tokenizer.chat_template");
        else {
            snprintf(key, sizeof key, "tokenizer.chat_template.%s", name);
            names[named++] = (pare_str){name, strlen(name)};
        }
        pare_meta_text(l, key, json_string_value(body), json_string_length(body));
    }
    if (named) pare_meta_array(l, "tokenizer.chat_templates", PARE_META_STR, names, named);
}

pare_status pare_gguf_metadata(const pare_source *s, pare_mapping *m, pare_diag *d) {
    pare_meta_list l = {.arena = m->arena};
    general(s, &m->arch, &l);
    architecture(&m->arch, &l);
    PARE_TRY(vocabulary(s, m, &l, d));
    chat_template(s, m, &l);
    if (l.nomem) return pare_fail(d, PARE_ERR_NOMEM, s->path, NULL, "no memory for the metadata");
    m->meta = l.v;
    m->n_meta = l.n;
    return PARE_OK;
}
