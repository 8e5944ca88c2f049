/* SPDX-License-Identifier: Apache-2.0
 *
 * Hyperparameters from config.json, with the defaults of transformers' configuration classes. Rotary parameters are
 * read from every place transformers has kept them: rope_theta and rope_scaling on top (type or rope_type), and
 * rope_parameters, which holds both, since version 5. */
#include "models/arch_read.h"

#include "core/status.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

typedef struct model_type {
    const char *hf, *architecture, *name;
    pare_family family;
    int64_t kv_heads, head_dim, context; /* class defaults; 0 = heads, hidden / heads */
    double eps;
} model_type;

static const model_type model_types[] = {
    {"llama", "LlamaForCausalLM", "llama", PARE_FAMILY_LLAMA, 0, 0, 2048, 1e-6},
    {"mistral", "MistralForCausalLM", "llama", PARE_FAMILY_LLAMA, 8, 0, 131072, 1e-6},
    {"qwen2", "Qwen2ForCausalLM", "qwen2", PARE_FAMILY_LLAMA, 32, 0, 32768, 1e-6},
    {"qwen3", "Qwen3ForCausalLM", "qwen3", PARE_FAMILY_LLAMA, 32, 128, 32768, 1e-6},
    {"bert", "BertModel", "bert", PARE_FAMILY_BERT, 0, 0, 512, 1e-12},
};

typedef struct reader {
    const char *file;
    pare_status status;
    pare_diag *d;
} reader; /* sticky */

static bool present(const json_t *v) { return v && !json_is_null(v); }

static void wrong(reader *r, const char *key, const char *want) {
    if (r->status == PARE_OK)
        r->status = pare_fail(r->d, PARE_ERR_INPUT, r->file, key, "expected %s in config.json", want);
}

static double number(reader *r, const json_t *o, const char *key, double fallback) {
    const json_t *v = json_object_get(o, key);
    if (!present(v)) return fallback;
    if (!json_is_number(v)) return wrong(r, key, "a number"), fallback;
    return json_number_value(v);
}

static int64_t whole(reader *r, const json_t *o, const char *key, int64_t fallback) {
    double v = number(r, o, key, (double)fallback);
    if (!(fabs(v) < 9e15) || v != floor(v)) return wrong(r, key, "a whole number"), fallback;
    return (int64_t)v;
}

static int64_t needed(reader *r, const json_t *o, const char *key) {
    if (!present(json_object_get(o, key))) wrong(r, key, "this key");
    return whole(r, o, key, 0);
}

static bool flag(reader *r, const json_t *o, const char *key, bool fallback) {
    const json_t *v = json_object_get(o, key);
    if (!present(v)) return fallback;
    if (!json_is_boolean(v)) return wrong(r, key, "true or false"), fallback;
    return json_is_true(v);
}

static const char *word(reader *r, const json_t *o, const char *key, const char *fallback) {
    const json_t *v = json_object_get(o, key);
    if (!present(v)) return fallback;
    if (!json_is_string(v)) return wrong(r, key, "a string"), fallback;
    return json_string_value(v);
}

static const model_type *find_type(reader *r, const json_t *c) {
    const char *type = word(r, c, "model_type", NULL);
    const json_t *archs = json_object_get(c, "architectures");
    const char *first = json_string_value(json_array_get(archs, 0));
    for (size_t i = 0; i < sizeof model_types / sizeof *model_types; i++) {
        const model_type *m = &model_types[i];
        if (type ? strcmp(type, m->hf) == 0 : first && strcmp(first, m->architecture) == 0) return m;
    }
    if (r->status == PARE_OK)
        r->status =
            pare_fail(r->d, PARE_ERR_UNSUPPORTED, r->file, "model_type",
                      "architecture `%s` cannot be run here (llama, mistral, qwen2, qwen3 and bert can); it can "
                      "still be inspected, converted and quantized",
                      type    ? type
                      : first ? first
                              : "(none given)");
    return NULL;
}

static void unsupported(reader *r, const char *key, const char *value, const char *can) {
    if (r->status == PARE_OK)
        r->status =
            pare_fail(r->d, PARE_ERR_UNSUPPORTED, r->file, key, "`%s` is not supported here; %s is", value, can);
}

static void read_yarn(reader *r, const json_t *p, pare_arch *a) {
    a->rope_scaling = PARE_ROPE_YARN;
    a->rope_original = number(r, p, "original_max_position_embeddings", (double)a->context);
    if (!present(json_object_get(p, "factor"))) a->rope_factor = (double)a->context / a->rope_original;
    a->rope_beta_fast = number(r, p, "beta_fast", 32);
    a->rope_beta_slow = number(r, p, "beta_slow", 1);
    double m = number(r, p, "mscale", 0), all = number(r, p, "mscale_all_dim", 0);
    double log_factor = a->rope_factor > 1 ? 0.1 * log(a->rope_factor) : 0;
    double inferred = m != 0 && all != 0 ? (1 + m * log_factor) / (1 + all * log_factor) : 1 + log_factor;
    a->rope_attn_factor = number(r, p, "attention_factor", inferred);
    if (!flag(r, p, "truncate", true)) unsupported(r, "truncate", "false", "true");
}

static void read_rope(reader *r, const json_t *c, pare_arch *a) {
    const json_t *p = json_object_get(c, "rope_parameters"), *old = json_object_get(c, "rope_scaling");
    if (!present(p)) p = old;
    if (present(p) && !json_is_object(p)) return wrong(r, "rope_parameters", "an object");
    if (!present(p)) p = NULL;
    a->rope_theta = number(r, p, "rope_theta", number(r, c, "rope_theta", 10000));
    if (number(r, p, "partial_rotary_factor", number(r, c, "partial_rotary_factor", 1)) != 1)
        return unsupported(r, "partial_rotary_factor", "other than 1", "1");
    const char *type = p ? word(r, p, "rope_type", word(r, p, "type", "default")) : "default";
    a->rope_factor = number(r, p, "factor", 1);
    if (strcmp(type, "default") == 0) return;
    if (strcmp(type, "dynamic") == 0) return; /* differs from none only beyond the trained context, which is refused */
    if (strcmp(type, "linear") == 0) a->rope_scaling = PARE_ROPE_LINEAR;
    else if (strcmp(type, "llama3") == 0) {
        a->rope_scaling = PARE_ROPE_LLAMA3;
        a->rope_low = number(r, p, "low_freq_factor", 0);
        a->rope_high = number(r, p, "high_freq_factor", 0);
        a->rope_original = number(r, p, "original_max_position_embeddings", (double)a->context);
    } else if (strcmp(type, "yarn") == 0) read_yarn(r, p, a);
    else unsupported(r, "rope_type", type, "default, linear, llama3 or yarn");
}

static void read_decoder(reader *r, const json_t *c, const model_type *m, pare_arch *a) {
    a->norm_eps = number(r, c, "rms_norm_eps", m->eps);
    a->tied = flag(r, c, "tie_word_embeddings", false);
    a->qkv_bias = flag(r, c, "attention_bias", strcmp(m->hf, "qwen2") == 0);
    read_rope(r, c, a);
    const char *act = word(r, c, "hidden_act", "silu");
    if (strcmp(act, "silu") != 0 && strcmp(act, "swish") != 0) unsupported(r, "hidden_act", act, "silu");
    bool mistral = strcmp(m->hf, "mistral") == 0;
    if (mistral || flag(r, c, "use_sliding_window", false)) {
        const json_t *v = json_object_get(c, "sliding_window");
        if (!json_is_null(v)) a->sliding_window = whole(r, c, "sliding_window", 4096);
    }
}

static void read_encoder(reader *r, const json_t *c, const model_type *m, pare_arch *a) {
    a->norm_eps = number(r, c, "layer_norm_eps", m->eps);
    a->type_vocab = whole(r, c, "type_vocab_size", 2);
    a->tied = false;
    const char *act = word(r, c, "hidden_act", "gelu"), *pos = word(r, c, "position_embedding_type", "absolute");
    a->gelu_tanh =
        strcmp(act, "gelu_new") == 0 || strcmp(act, "gelu_pytorch_tanh") == 0 || strcmp(act, "gelu_fast") == 0;
    if (!a->gelu_tanh && strcmp(act, "gelu") != 0) unsupported(r, "hidden_act", act, "gelu");
    if (strcmp(pos, "absolute") != 0) unsupported(r, "position_embedding_type", pos, "absolute");
    if (flag(r, c, "is_decoder", false)) unsupported(r, "is_decoder", "true", "an encoder");
}

pare_status pare_arch_from_config(const pare_source *s, pare_arch *a, pare_diag *d) {
    reader r = {s->path, PARE_OK, d};
    const json_t *c = s->config;
    const model_type *m = find_type(&r, c);
    if (!m) return r.status;
    a->name = m->name;
    a->family = m->family;
    a->vocab = needed(&r, c, "vocab_size");
    a->dim = needed(&r, c, "hidden_size");
    a->layers = needed(&r, c, "num_hidden_layers");
    a->heads = needed(&r, c, "num_attention_heads");
    a->ffn = needed(&r, c, "intermediate_size");
    a->kv_heads = whole(&r, c, "num_key_value_heads", m->kv_heads ? m->kv_heads : a->heads);
    if (m->kv_heads && json_is_null(json_object_get(c, "num_key_value_heads")) &&
        json_object_get(c, "num_key_value_heads"))
        a->kv_heads = a->heads; /* an explicit null means as many as heads */
    a->context = whole(&r, c, "max_position_embeddings", m->context);
    a->head_dim = whole(&r, c, "head_dim", m->head_dim ? m->head_dim : a->heads > 0 ? a->dim / a->heads : 0);
    bool own_size = m->family == PARE_FAMILY_LLAMA && (m->head_dim || present(json_object_get(c, "head_dim")));
    if (r.status == PARE_OK && !own_size && a->dim > 0 && a->heads > 0 && a->dim % a->heads)
        return pare_fail(d, PARE_ERR_INPUT, s->path, "num_attention_heads",
                         "%lld heads do not divide the hidden size %lld", (long long)a->heads, (long long)a->dim);
    if (m->family == PARE_FAMILY_LLAMA) read_decoder(&r, c, m, a);
    else {
        a->kv_heads = a->heads;
        a->head_dim = a->heads > 0 ? a->dim / a->heads : 0;
        read_encoder(&r, c, m, a);
    }
    PARE_TRY(r.status);
    return m->family == PARE_FAMILY_BERT ? pare_arch_read_pooling(s, a, d) : PARE_OK;
}
