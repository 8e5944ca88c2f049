/* SPDX-License-Identifier: Apache-2.0
 *
 * The small files of a Hugging Face folder made from a GGUF file: config.json, and for encoders the module list of
 * sentence-transformers. The tokenizer's files are in hf_tokenizer.c. */
#include "models/mapping.h"

#include "core/status.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static void set(json_t *o, const char *key, json_t *v) { json_object_set_new(o, key, v); }
static void set_int(json_t *o, const char *key, int64_t v) { set(o, key, json_integer(v)); }

/* Floats come from f32 metadata; the shortest decimal that gives the same f32 is what the original config said. */
static json_t *real(double v) {
    char text[40];
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if ((float)strtod(text, NULL) == (float)v) return json_real(strtod(text, NULL));
    }
    return json_real(v);
}

static void rope(const pare_arch *a, json_t *c) {
    set(c, "rope_theta", real(a->rope_theta));
    json_t *r = NULL;
    if (a->rope_scaling == PARE_ROPE_LINEAR)
        r = json_pack("{s:s, s:s, s:o}", "rope_type", "linear", "type", "linear", "factor", real(a->rope_factor));
    if (a->rope_scaling == PARE_ROPE_YARN)
        r = json_pack("{s:s, s:s, s:o, s:I, s:o}", "rope_type", "yarn", "type", "yarn", "factor", real(a->rope_factor),
                      "original_max_position_embeddings", (json_int_t)a->rope_original, "attention_factor",
                      real(a->rope_attn_factor));
    if (a->rope_scaling == PARE_ROPE_LLAMA3)
        r = json_pack("{s:s, s:o, s:o, s:o, s:I}", "rope_type", "llama3", "factor", real(a->rope_factor),
                      "low_freq_factor", real(a->rope_low), "high_freq_factor", real(a->rope_high),
                      "original_max_position_embeddings", (json_int_t)a->rope_original);
    set(c, "rope_scaling", r ? r : json_null());
}

static bool has(const pare_source *s, const pare_arch *a, pare_role role, bool bias) {
    return pare_arch_tensor(s, a, role, 0, bias) != NULL;
}

static void decoder(const pare_source *s, const pare_arch *a, json_t *c) {
    set_int(c, "num_key_value_heads", a->kv_heads);
    set_int(c, "head_dim", a->head_dim);
    set(c, "rms_norm_eps", real(a->norm_eps));
    set(c, "hidden_act", json_string("silu"));
    set(c, "tie_word_embeddings", json_boolean(a->tied));
    if (strcmp(a->name, "qwen2") != 0) set(c, "attention_bias", json_boolean(has(s, a, PARE_ROLE_ATTN_Q, true)));
    if (strcmp(a->name, "llama") == 0) set(c, "mlp_bias", json_boolean(has(s, a, PARE_ROLE_FFN_UP, true)));
    rope(a, c);
}

static json_t *config_of(const pare_source *s, const pare_arch *a) {
    static const struct {
        const char *name, *type, *architecture;
    } kinds[] = {{"llama", "llama", "LlamaForCausalLM"},
                 {"qwen2", "qwen2", "Qwen2ForCausalLM"},
                 {"qwen3", "qwen3", "Qwen3ForCausalLM"},
                 {"bert", "bert", "BertModel"}};
    json_t *c = json_object();
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(kinds[i].name, a->name) != 0) continue;
        set(c, "architectures", json_pack("[s]", kinds[i].architecture));
        set(c, "model_type", json_string(kinds[i].type));
    }
    set_int(c, "vocab_size", a->vocab);
    set_int(c, "hidden_size", a->dim);
    set_int(c, "intermediate_size", a->ffn);
    set_int(c, "num_hidden_layers", a->layers);
    set_int(c, "num_attention_heads", a->heads);
    set_int(c, "max_position_embeddings", a->context);
    if (a->family == PARE_FAMILY_LLAMA) decoder(s, a, c);
    else {
        set(c, "layer_norm_eps", real(a->norm_eps));
        set_int(c, "type_vocab_size", a->type_vocab);
        set(c, "hidden_act",
            json_string("gelu")); /* GGUF does not say; the default of every encoder it has a name for */
        set(c, "position_embedding_type", json_string("absolute"));
    }
    return c;
}

pare_status pare_hf_add_file(pare_mapping *m, const char *name, json_t *j, pare_diag *d) { /* takes j */
    enum { MAX_FILES = 8 };
    char *text = j ? json_dumps(j, JSON_INDENT(1)) : NULL,
         *copy = text ? pare_arena_strndup(m->arena, text, strlen(text)) : NULL;
    free(text); /* jansson's */
    json_decref(j);
    if (!m->files) m->files = pare_arena_alloc(m->arena, MAX_FILES * sizeof *m->files);
    if (!copy || !m->files || m->n_files == MAX_FILES)
        return pare_fail(d, PARE_ERR_NOMEM, NULL, name, "no memory for the file");
    m->files[m->n_files++] = (pare_out_file){name, copy, strlen(copy)};
    return PARE_OK;
}

static pare_status encoder_modules(const pare_arch *a, pare_mapping *m, pare_diag *d) {
    if (!a->pooling) return PARE_OK;
    json_t *mods = json_pack("[{s:i, s:s, s:s, s:s}, {s:i, s:s, s:s, s:s}]", "idx", 0, "name", "0", "path", "", "type",
                             "sentence_transformers.models.Transformer", "idx", 1, "name", "1", "path", "1_Pooling",
                             "type", "sentence_transformers.models.Pooling");
    if (a->normalize)
        json_array_append_new(mods, json_pack("{s:i, s:s, s:s, s:s}", "idx", 2, "name", "2", "path", "2_Normalize",
                                              "type", "sentence_transformers.models.Normalize"));
    PARE_TRY(pare_hf_add_file(m, "modules.json", mods, d));
    PARE_TRY(
        pare_hf_add_file(m, "1_Pooling/config.json",
                         json_pack("{s:I, s:b, s:b, s:b, s:b, s:b}", "word_embedding_dimension", (json_int_t)a->dim,
                                   "pooling_mode_cls_token", a->pooling == 2, "pooling_mode_mean_tokens",
                                   a->pooling == 1, "pooling_mode_max_tokens", 0, "pooling_mode_mean_sqrt_len_tokens",
                                   0, "pooling_mode_lasttoken", a->pooling == 3),
                         d));
    return pare_hf_add_file(m, "sentence_bert_config.json",
                            json_pack("{s:I, s:b}", "max_seq_length", (json_int_t)a->context, "do_lower_case", 0), d);
}

pare_status pare_hf_files(const pare_source *s, pare_mapping *m, pare_diag *d) {
    m->config = config_of(s, &m->arch);
    if (!m->config) return pare_fail(d, PARE_ERR_NOMEM, s->path, "config.json", "no memory for the file");
    PARE_TRY(pare_hf_tokenizer(s, m, d));
    return m->arch.family == PARE_FAMILY_BERT ? encoder_modules(&m->arch, m, d) : PARE_OK;
}
