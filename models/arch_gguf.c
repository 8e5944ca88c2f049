/* SPDX-License-Identifier: Apache-2.0
 *
 * Hyperparameters from GGUF metadata, with llama.cpp's defaults. */
#include "models/arch_read.h"

#include "core/status.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct reader {
    const pare_source *s;
    const char *prefix;
    pare_status status;
    pare_diag *d;
} reader; /* sticky */

static const pare_meta *find(reader *r, const char *key, char full[128]) {
    snprintf(full, 128, "%s.%s", r->prefix, key);
    return pare_source_meta(r->s, full);
}

static void wrong(reader *r, const char *key, const char *want) {
    if (r->status == PARE_OK)
        r->status = pare_fail(r->d, PARE_ERR_INPUT, r->s->path, key, "expected %s in the metadata", want);
}

static int64_t element(const pare_meta *m, size_t i) {
    int32_t v;
    memcpy(&v, (const char *)m->v.arr.data + i * 4, 4);
    return m->v.arr.type == PARE_META_U32 ? (int64_t)(uint32_t)v : v;
}

/* A u32, or one per layer when all are equal (layers of different sizes are refused by name). */
static int64_t whole(reader *r, const char *key, int64_t fallback) {
    char full[128];
    const pare_meta *m = find(r, key, full);
    if (!m) return fallback;
    if (m->type == PARE_META_ARRAY && (m->v.arr.type == PARE_META_U32 || m->v.arr.type == PARE_META_I32) &&
        m->v.arr.n) {
        for (size_t i = 1; i < m->v.arr.n; i++)
            if (element(m, i) != element(m, 0) && r->status == PARE_OK)
                r->status = pare_fail(r->d, PARE_ERR_UNSUPPORTED, r->s->path, full,
                                      "layers of different sizes are not supported");
        return element(m, 0);
    }
    uint64_t v;
    if (!pare_meta_get_u64(r->s, full, &v) || v > INT64_MAX) return wrong(r, full, "a whole number"), fallback;
    return (int64_t)v;
}

static int64_t needed(reader *r, const char *key) {
    char full[128];
    if (!find(r, key, full)) wrong(r, full, "this key");
    return whole(r, key, 0);
}

static double number(reader *r, const char *key, double fallback) {
    char full[128];
    double v;
    if (!find(r, key, full)) return fallback;
    if (!pare_meta_get_f64(r->s, full, &v)) return wrong(r, full, "a float"), fallback;
    return v;
}

static bool str_is(pare_str s, const char *w) { return s.n == strlen(w) && memcmp(s.p, w, s.n) == 0; }

static void read_scaling(reader *r, pare_arch *a) {
    char full[128];
    pare_str type = {"linear", 6};
    if (find(r, "rope.scaling.type", full) && !pare_meta_get_str(r->s, full, &type)) wrong(r, full, "a string");
    a->rope_factor = number(r, "rope.scaling.factor", number(r, "rope.scale_linear", 1));
    if (a->rope_factor == 0) a->rope_factor = 1; /* as llama.cpp reads it */
    a->rope_attn_factor = number(r, "rope.scaling.attn_factor", 1);
    if (str_is(type, "none")) return;
    if (str_is(type, "linear")) {
        if (a->rope_factor != 1) a->rope_scaling = PARE_ROPE_LINEAR;
    } else if (str_is(type, "yarn")) {
        a->rope_scaling = PARE_ROPE_YARN;
        a->rope_original = (double)whole(r, "rope.scaling.original_context_length", a->context);
        if (a->rope_factor > 1) a->rope_attn_factor *= 1 + 0.1 * log(a->rope_factor);
    } else if (r->status == PARE_OK)
        r->status = pare_fail(r->d, PARE_ERR_UNSUPPORTED, r->s->path, "rope.scaling.type",
                              "`%.*s` is not supported here; none, linear and yarn are", (int)type.n, type.p);
}

static void read_decoder(reader *r, pare_arch *a) {
    a->norm_eps = number(r, "attention.layer_norm_rms_epsilon", 0);
    a->rope_theta = number(r, "rope.freq_base", 10000);
    a->head_dim = whole(r, "attention.key_length", a->heads > 0 ? a->dim / a->heads : 0);
    int64_t value_length = whole(r, "attention.value_length", a->head_dim);
    int64_t rotated = whole(r, "rope.dimension_count", a->head_dim);
    if ((value_length != a->head_dim || rotated != a->head_dim) && r->status == PARE_OK)
        r->status = pare_fail(r->d, PARE_ERR_UNSUPPORTED, r->s->path, "attention.key_length",
                              "key, value and rotary sizes differ (%lld, %lld, %lld); equal ones are supported",
                              (long long)a->head_dim, (long long)value_length, (long long)rotated);
    if (whole(r, "expert_count", 0) != 0 && r->status == PARE_OK)
        r->status = pare_fail(r->d, PARE_ERR_UNSUPPORTED, r->s->path, "expert_count",
                              "mixtures of experts are not supported here");
    read_scaling(r, a);
    a->rope_interleaved = strcmp(a->name, "llama") == 0;
    a->tied = !pare_source_find(r->s, "output.weight");
}

static void read_encoder(reader *r, pare_arch *a) {
    a->norm_eps = number(r, "attention.layer_norm_epsilon", 0);
    a->type_vocab = 0;
    uint64_t types = 0;
    if (pare_source_meta(r->s, "tokenizer.ggml.token_type_count") &&
        !pare_meta_get_u64(r->s, "tokenizer.ggml.token_type_count", &types))
        wrong(r, "tokenizer.ggml.token_type_count", "a whole number");
    a->type_vocab = types <= INT32_MAX ? (int64_t)types : 0;
    a->head_dim = a->heads > 0 ? a->dim / a->heads : 0;
    a->kv_heads = a->heads;
    a->gelu_tanh = true;
    int64_t pooling = whole(r, "pooling_type", 0);
    if ((pooling < 0 || pooling > 3) && r->status == PARE_OK)
        r->status = pare_fail(r->d, PARE_ERR_UNSUPPORTED, r->s->path, "bert.pooling_type",
                              "%lld is not supported here; 0 none, 1 mean, 2 cls and 3 last are", (long long)pooling);
    a->pooling = (int)pooling;
    a->normalize = pooling != 0;
}

pare_status pare_arch_from_gguf(const pare_source *s, pare_arch *a, pare_diag *d) {
    static const char *const names[] = {"llama", "qwen2", "qwen3", "bert"};
    pare_str arch = {"", 0};
    if (!pare_meta_get_str(s, "general.architecture", &arch))
        return pare_fail(d, PARE_ERR_INPUT, s->path, "general.architecture", "expected this key in the metadata");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (str_is(arch, names[i])) a->name = names[i];
    if (!a->name)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, s->path, "general.architecture",
                         "architecture `%.*s` cannot be run here (llama, qwen2, qwen3 and bert can); it can still be "
                         "inspected, "
                         "converted and quantized",
                         (int)(arch.n < 64 ? arch.n : 64), arch.p);
    a->family = strcmp(a->name, "bert") == 0 ? PARE_FAMILY_BERT : PARE_FAMILY_LLAMA;
    reader r = {s, a->name, PARE_OK, d};
    a->context = needed(&r, "context_length");
    a->dim = needed(&r, "embedding_length");
    a->layers = needed(&r, "block_count");
    a->ffn = needed(&r, "feed_forward_length");
    a->heads = needed(&r, "attention.head_count");
    a->kv_heads = whole(&r, "attention.head_count_kv", a->heads);
    const pare_stored *embd = pare_source_find(s, "token_embd.weight");
    if (!embd && r.status == PARE_OK)
        r.status = pare_fail(d, PARE_ERR_INPUT, s->path, "token_embd.weight", "this tensor is missing");
    a->vocab = embd && embd->ndim == 2 ? embd->shape[0] : 0;
    if (a->family == PARE_FAMILY_LLAMA) read_decoder(&r, a);
    else read_encoder(&r, a);
    return r.status;
}
