/* SPDX-License-Identifier: Apache-2.0
 *
 * What a person wants to know first, found under the names that the field uses for it; works for architectures that
 * pare cannot run. And metadata as text. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "api/model.h"

static const struct {
    const char *label, *gguf, *config[6];
} known[] = {
    {"layers", "block_count", {"num_hidden_layers", "n_layer", "num_layers", "n_layers", "num_blocks"}},
    {"hidden size", "embedding_length", {"hidden_size", "n_embd", "d_model", "dim"}},
    {"feed-forward size", "feed_forward_length", {"intermediate_size", "n_inner", "d_ff", "ffn_dim", "hidden_dim"}},
    {"attention heads", "attention.head_count", {"num_attention_heads", "n_head", "num_heads", "n_heads"}},
    {"key/value heads", "attention.head_count_kv", {"num_key_value_heads", "n_kv_heads"}},
    {"head size", "attention.key_length", {"head_dim"}},
    {"experts", "expert_count", {"num_local_experts", "num_experts", "n_routed_experts"}},
    {"vocabulary", "vocab_size", {"vocab_size"}},
    {"context", "context_length", {"max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"}},
    {"activation", NULL, {"hidden_act", "hidden_activation", "activation_function"}},
    {"tied embeddings", NULL, {"tie_word_embeddings"}},
};

#define TEXT 240 /* bytes of a value that are shown */

static bool number_text(const pare_meta *m, char *buf, size_t n) {
    switch (m->type) {
    case PARE_META_F32: snprintf(buf, n, "%.9g", m->v.f); return true;
    case PARE_META_F64: snprintf(buf, n, "%.17g", m->v.f); return true;
    case PARE_META_BOOL: snprintf(buf, n, "%s", m->v.u ? "true" : "false"); return true;
    case PARE_META_I8:
    case PARE_META_I16:
    case PARE_META_I32:
    case PARE_META_I64: snprintf(buf, n, "%lld", (long long)m->v.i); return true;
    case PARE_META_STR:
    case PARE_META_ARRAY: return false;
    default: snprintf(buf, n, "%llu", (unsigned long long)m->v.u); return true;
    }
}

/* Appends s[0..n) with what would disturb a terminal or JSON made visible, cut at TEXT bytes between characters. */
static void put_clean(pare_bytes *b, const char *s, size_t n) {
    for (size_t i = 0; i < n && !b->failed;) {
        unsigned char c = (unsigned char)s[i];
        size_t len = c < 0x80 ? 1 : c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : c >= 0xC2 ? 2 : 0;
        bool whole = len && len <= n - i;
        for (size_t k = 1; whole && k < len; k++) whole = (s[i + k] & 0xC0) == 0x80;
        if (b->n > TEXT) {
            pare_bytes_text(b, "...");
            return;
        }
        if (!whole || c < 0x20 || c == 0x7F)
            pare_bytes_printf(b, c == '\n' ? "\\n" : c == '\t' ? "\\t" : "\\x%02x", c), i++;
        else pare_bytes_put(b, s + i, len), i += len;
    }
}

static const char *type_word(pare_meta_type t) {
    static const char *const words[] = {"u8",   "i8",     "u16",  "i16", "u32", "i32", "f32",
                                        "bool", "string", "list", "u64", "i64", "f64"};
    return words[t];
}

static pare_meta array_item(const pare_meta *m, size_t i) {
    static const uint8_t size[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    pare_meta e = {.type = m->v.arr.type};
    const char *p = (const char *)m->v.arr.data + i * size[e.type];
    float f;
    int64_t top = 0;
    if (e.type == PARE_META_F32) memcpy(&f, p, 4), e.v.f = f;
    else memcpy(&e.v.u, p, size[e.type]);
    bool is_signed = e.type == PARE_META_I8 || e.type == PARE_META_I16 || e.type == PARE_META_I32;
    if (is_signed) top = 64 - 8 * size[e.type], e.v.i = (int64_t)(e.v.u << top) >> top;
    return e;
}

static void put_meta(pare_bytes *b, const pare_meta *m) {
    char num[64];
    if (number_text(m, num, sizeof num)) pare_bytes_text(b, num);
    else if (m->type == PARE_META_STR) put_clean(b, m->v.str.p, m->v.str.n);
    else {
        pare_bytes_printf(b, "%zu x %s: [", m->v.arr.n, type_word(m->v.arr.type));
        for (size_t i = 0; i < m->v.arr.n && !b->failed; i++) {
            if (i) pare_bytes_text(b, ", ");
            if (b->n > 100) {
                pare_bytes_text(b, "...");
                break;
            }
            if (m->v.arr.type == PARE_META_STR) {
                const pare_str *s = (const pare_str *)m->v.arr.data + i;
                pare_bytes_text(b, "\"");
                put_clean(b, s->p, s->n);
                pare_bytes_text(b, "\"");
            } else {
                pare_meta e = array_item(m, i);
                number_text(&e, num, sizeof num);
                pare_bytes_text(b, num);
            }
        }
        pare_bytes_text(b, "]");
    }
}

static pare_status add_bytes(pare_model *m, pare_model_entries *to, const char *key, const char *type, pare_bytes *b) {
    pare_bytes_put(b, "", 1);
    pare_status s = b->failed ? PARE_ERR_NOMEM : pare_model_add(m, to, key, type, b->p);
    b->n = 0;
    return s;
}

static void put_json(pare_bytes *b, const json_t *v) {
    if (json_is_string(v)) {
        put_clean(b, json_string_value(v), json_string_length(v));
        return;
    }
    char *text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(12));
    if (text) put_clean(b, text, strlen(text));
    else b->failed = true;
    if (text) {
        void (*release)(void *);
        json_get_alloc_funcs(NULL, &release);
        release(text);
    }
}

static const char *json_type_word(const json_t *v) {
    switch (json_typeof(v)) {
    case JSON_OBJECT: return "object";
    case JSON_ARRAY: return "list";
    case JSON_STRING: return "string";
    case JSON_INTEGER: return "integer";
    case JSON_REAL: return "real";
    case JSON_NULL: return "null";
    default: return "bool";
    }
}

pare_status pare_model_list_meta(pare_model *m) {
    pare_bytes b = {0};
    pare_status s = PARE_OK;
    const char *key;
    json_t *v;
    for (size_t i = 0; s == PARE_OK && i < m->src->n_meta; i++) {
        put_meta(&b, &m->src->meta[i]);
        s = add_bytes(m, &m->meta, m->src->meta[i].key, type_word(m->src->meta[i].type), &b);
    }
    json_object_foreach(m->src->config, key, v) {
        if (s != PARE_OK) break;
        char name[300];
        snprintf(name, sizeof name, "config.%.290s", key);
        put_json(&b, v);
        s = add_bytes(m, &m->meta, name, json_type_word(v), &b);
    }
    pare_bytes_free(&b);
    return s;
}

static const json_t *config_value(const json_t *config, const char *const *names) {
    const json_t *text = json_object_get(config, "text_config"), *v = NULL;
    for (int i = 0; i < 6 && names[i] && !v; i++) v = json_object_get(config, names[i]);
    for (int i = 0; i < 6 && names[i] && !v; i++) v = json_object_get(text, names[i]);
    return json_is_null(v) ? NULL : v;
}

pare_status pare_model_list_facts(pare_model *m) {
    pare_bytes b = {0};
    pare_status s = PARE_OK;
    const pare_source *src = m->src;
    pare_str arch = {"", 0};
    const char *type = json_string_value(json_object_get(src->config, "model_type"));
    if (type) arch = (pare_str){type, strlen(type)};
    pare_meta_get_str(src, "general.architecture", &arch);
    put_clean(&b, arch.p, arch.n);
    pare_bytes_put(&b, "", 1);
    m->architecture = b.failed ? NULL : pare_arena_strndup(m->arena, b.p, b.n);
    if (!m->architecture) s = PARE_ERR_NOMEM;
    b.n = 0;
    for (size_t i = 0; s == PARE_OK && i < sizeof known / sizeof *known; i++) {
        char key[400];
        snprintf(key, sizeof key, "%.300s.%s", m->architecture, known[i].gguf ? known[i].gguf : "?");
        const pare_meta *meta = pare_source_meta(src, key);
        const pare_meta *tokens = known[i].gguf && strcmp(known[i].gguf, "vocab_size") == 0
                                      ? pare_source_meta(src, "tokenizer.ggml.tokens")
                                      : NULL;
        const json_t *v = config_value(src->config, known[i].config);
        if (meta) put_meta(&b, meta);
        else if (tokens && tokens->type == PARE_META_ARRAY) pare_bytes_printf(&b, "%zu", tokens->v.arr.n);
        else if (v) put_json(&b, v);
        else continue;
        s = add_bytes(m, &m->facts, known[i].label, "", &b);
    }
    pare_bytes_free(&b);
    return s;
}
