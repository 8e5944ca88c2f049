/* SPDX-License-Identifier: Apache-2.0
 *
 * Tiny seeded models on disk, as a folder or a GGUF file. The same (architecture, seed) gives the same weights in both;
 * GGUF files of architecture llama have their q and k rows permuted, as stock converters write them. */
#ifndef PARE_TESTS_TINY_H
#define PARE_TESTS_TINY_H

#include "harness.h"

#include <unistd.h>

#include "core/rng.h"
#include "formats/writer.h"
#include "models/arch.h"

typedef struct tiny_dir {
    char path[64];
} tiny_dir;
static inline tiny_dir tiny_dir_new(void) {
    tiny_dir t = {"/tmp/pare-test-XXXXXX"};
    if (!mkdtemp(t.path)) fail_msg("no temporary directory");
    return t;
}
static inline void tiny_dir_remove(tiny_dir *t) {
    char cmd[128];
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", t->path);
    assert_int_equal(system(cmd), 0);
}

static inline pare_arch tiny_arch(const char *name) {
    pare_arch a = {.name = name,
                   .family = PARE_FAMILY_LLAMA,
                   .vocab = 96,
                   .dim = 32,
                   .layers = 2,
                   .heads = 4,
                   .kv_heads = 2,
                   .head_dim = 8,
                   .ffn = 48,
                   .context = 64,
                   .norm_eps = 1e-5,
                   .rope_theta = 10000,
                   .rope_attn_factor = 1};
    a.qkv_bias = strcmp(name, "qwen2") == 0;
    if (strcmp(name, "qwen3") == 0) a.head_dim = 16;
    if (strcmp(name, "bert") == 0) a.family = PARE_FAMILY_BERT, a.kv_heads = 4, a.type_vocab = 2;
    return a;
}

static inline bool tiny_has(const pare_arch *a, pare_role r, bool bias) {
    switch (r) {
    case PARE_ROLE_ATTN_Q:
    case PARE_ROLE_ATTN_K:
    case PARE_ROLE_ATTN_V: return !bias || a->qkv_bias;
    case PARE_ROLE_ATTN_Q_NORM:
    case PARE_ROLE_ATTN_K_NORM: return !bias && strcmp(a->name, "qwen3") == 0;
    case PARE_ROLE_OUTPUT: return !bias && !a->tied;
    case PARE_ROLE_ROPE_FREQS: return false;
    case PARE_ROLE_BERT_WORD_EMBD:
    case PARE_ROLE_BERT_POS_EMBD:
    case PARE_ROLE_BERT_TYPE_EMBD: return !bias;
    default: return !bias || a->family == PARE_FAMILY_BERT;
    }
}

/* Row r of a q or k matrix of head size n in GGUF's order for architecture llama. */
static inline int64_t tiny_permuted(int64_t r, int64_t n) {
    int64_t in_head = r % n;
    return r - in_head + 2 * (in_head % (n / 2)) + in_head / (n / 2);
}

static inline pare_meta tiny_u32(const char *key, int64_t v) {
    return (pare_meta){key, PARE_META_U32, {.u = (uint64_t)v}};
}
static inline pare_meta tiny_f32(const char *key, double v) { return (pare_meta){key, PARE_META_F32, {.f = v}}; }
static inline pare_meta tiny_str(const char *key, const char *v) {
    return (pare_meta){key, PARE_META_STR, {.str = {v, strlen(v)}}};
}

static inline size_t tiny_meta(const pare_arch *a, pare_meta m[32], char keys[32][64]) {
    size_t n = 0;
    bool bert = a->family == PARE_FAMILY_BERT;
#define KEY(suffix) (snprintf(keys[n], 64, "%s." suffix, a->name), keys[n])
    m[n++] = tiny_str("general.architecture", a->name);
    m[n] = tiny_u32(KEY("context_length"), a->context), n++;
    m[n] = tiny_u32(KEY("embedding_length"), a->dim), n++;
    m[n] = tiny_u32(KEY("block_count"), a->layers), n++;
    m[n] = tiny_u32(KEY("feed_forward_length"), a->ffn), n++;
    m[n] = tiny_u32(KEY("attention.head_count"), a->heads), n++;
    if (!bert) {
        m[n] = tiny_u32(KEY("attention.head_count_kv"), a->kv_heads), n++;
        m[n] = tiny_f32(KEY("attention.layer_norm_rms_epsilon"), a->norm_eps), n++;
        m[n] = tiny_f32(KEY("rope.freq_base"), a->rope_theta), n++;
        m[n] = tiny_u32(KEY("attention.key_length"), a->head_dim), n++;
        m[n] = tiny_u32(KEY("attention.value_length"), a->head_dim), n++;
    } else {
        m[n] = tiny_f32(KEY("attention.layer_norm_epsilon"), a->norm_eps), n++;
        m[n] = tiny_u32(KEY("pooling_type"), a->pooling), n++;
        m[n++] = tiny_u32("tokenizer.ggml.token_type_count", a->type_vocab);
    }
#undef KEY
    return n;
}

static inline void tiny_config(const pare_arch *a, char *buf, size_t bytes) {
    bool bert = a->family == PARE_FAMILY_BERT;
    snprintf(buf, bytes,
             "{\"model_type\": \"%s\", \"vocab_size\": %d, \"hidden_size\": %d, \"num_hidden_layers\": %d, "
             "\"num_attention_heads\": "
             "%d, \"num_key_value_heads\": %d, \"head_dim\": %d, \"intermediate_size\": %d, "
             "\"max_position_embeddings\": %d, "
             "\"%s\": 1e-5, \"rope_theta\": %.1f, \"tie_word_embeddings\": %s, \"hidden_act\": \"%s\"}",
             a->name, (int)a->vocab, (int)a->dim, (int)a->layers, (int)a->heads, (int)a->kv_heads, (int)a->head_dim,
             (int)a->ffn, (int)a->context, bert ? "layer_norm_eps" : "rms_norm_eps", a->rope_theta,
             a->tied ? "true" : "false", bert ? (a->gelu_tanh ? "gelu_new" : "gelu") : "silu");
}

#define TINY_MAX 128
/* config NULL: made from a. skip (or NULL) names a tensor to leave out. */
static inline void tiny_write(const char *path, pare_source_kind kind, const pare_arch *a, const char *config,
                              const char *skip) {
    pare_out_tensor t[TINY_MAX];
    pare_tensor_name role[TINY_MAX];
    static char names[TINY_MAX][96], keys[32][64], made[1024];
    pare_meta meta[32];
    size_t n = 0;
    for (int r = 0; r < PARE_ROLE_COUNT; r++)
        for (int l = -1; l < (int)a->layers; l++)
            for (int bias = 0; bias < 2; bias++) {
                pare_tensor_name tn = {(pare_role)r, l, bias};
                if (!tiny_has(a, tn.role, bias) || !pare_name_format(a->family, kind, tn, names[n], 96)) continue;
                if (skip && strcmp(names[n], skip) == 0) continue;
                t[n] = (pare_out_tensor){.name = names[n], .type = &pare_qtype_f32};
                t[n].ndim = pare_arch_shape(a, tn.role, bias, t[n].shape);
                role[n++] = tn;
                assert_true(n < TINY_MAX);
            }
    if (!config) tiny_config(a, made, sizeof made), config = made;
    pare_out_file file = {"config.json", config, strlen(config)};
    pare_writer_opts o = {.kind = kind, .force = true, .n_tensors = n, .tensors = t};
    if (kind == PARE_SOURCE_GGUF) o.meta = meta, o.n_meta = tiny_meta(a, meta, keys);
    else o.files = &file, o.n_files = 1;
    pare_writer *w;
    pare_diag d = {0};
    if (pare_writer_open(path, &o, &w, &d) != PARE_OK) fail_msg("%s", d.text);
    for (size_t i = 0; i < n; i++) {
        pare_rng rng;
        int64_t cols = t[i].ndim == 2 ? t[i].shape[1] : 1, rows = t[i].shape[0];
        bool norm = t[i].ndim == 1 && !role[i].bias;
        bool permute = kind == PARE_SOURCE_GGUF && strcmp(a->name, "llama") == 0 &&
                       (role[i].role == PARE_ROLE_ATTN_Q || role[i].role == PARE_ROLE_ATTN_K);
        float *v = malloc((size_t)(rows * cols) * 4);
        pare_rng_seed(&rng, (uint64_t)role[i].role * 1000 + (uint64_t)(role[i].layer + 1) * 2 + role[i].bias);
        for (int64_t r = 0; r < rows; r++)
            for (int64_t c = 0; c < cols; c++)
                v[(permute ? tiny_permuted(r, a->head_dim) : r) * cols + c] = 0.2f * pare_rng_normal(&rng) + norm;
        assert_int_equal(pare_writer_put(w, i, 0, v, (size_t)(rows * cols) * 4, &d), PARE_OK);
        free(v);
    }
    if (pare_writer_finish(w, &d) != PARE_OK) fail_msg("%s", d.text);
    pare_writer_close(&w);
}

#endif
