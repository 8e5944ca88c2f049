/* SPDX-License-Identifier: Apache-2.0
 *
 * A student's config.json: read, checked, compared with the teacher (api/distill_config.h). Nothing is allocated by the
 * sizes it claims before these are known to be possible. */
#include "api/distill.h"

#include "core/status.h"
#include "formats/out_place.h"
#include "formats/sidecars.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define TRAINING_BYTES 16 /* a parameter: itself, its gradient, the optimizer's two */

static bool ends(const char *s, const char *tail) {
    size_t n = strlen(s), k = strlen(tail);
    return n >= k && strcasecmp(s + n - k, tail) == 0;
}

static bool has_weights(const char *name) {
    return pare_weights_name(name) || ends(name, ".bin") || ends(name, ".pt") || ends(name, ".pth") ||
           ends(name, ".gguf") || ends(name, ".h5") || ends(name, ".msgpack");
}

bool pare_given_is(const char *student) {
    struct stat st;
    if (stat(student, &st) != 0 || !S_ISDIR(st.st_mode)) return ends(student, ".json") && !ends(student, ".index.json");
    DIR *f = opendir(student);
    bool config = false, weights = false;
    for (struct dirent *e; f && (e = readdir(f));)
        config |= strcmp(e->d_name, "config.json") == 0, weights |= has_weights(e->d_name);
    if (f) closedir(f);
    return config && !weights;
}

/* ---- reading ---- */
static bool flag(const pare_given *g, const char *key) { return json_is_true(json_object_get(g->config, key)); }

static pare_status read_range(pare_given *g, pare_diag *d) {
    const json_t *v = json_object_get(g->config, "initializer_range");
    g->range = 0.02; /* transformers' */
    if (!v || json_is_null(v)) return PARE_OK;
    g->range = json_number_value(v);
    if (json_is_number(v) && g->range > 0 && g->range <= 10) return PARE_OK;
    return pare_fail(d, PARE_ERR_INPUT, g->path, "initializer_range", "expected a number above 0, at most 10");
}

static void read_type(pare_given *g) {
    static const char *const words[][2] = {{"float32", "f32"}, {"float16", "f16"}, {"bfloat16", "bf16"}};
    const char *word = json_string_value(json_object_get(g->config, "dtype"));
    if (!word) word = json_string_value(json_object_get(g->config, "torch_dtype"));
    for (int i = 0; word && i < 3; i++)
        if (strcmp(word, words[i][0]) == 0) g->type = words[i][1];
}

static pare_status read_config(pare_given *g, pare_diag *d) {
    PARE_TRY(pare_json_load(g->path, &g->config, d));
    if (!json_is_string(json_object_get(g->config, "model_type")))
        return pare_fail(d, PARE_ERR_INPUT, g->path, "model_type",
                         "expected this key: llama, mistral, qwen2, qwen3 or bert");
    json_object_del(g->config, "quantization_config"); /* of weights that are not here */
    const pare_source alone = {.kind = PARE_SOURCE_FOLDER, .path = g->path, .config = g->config};
    PARE_TRY(pare_arch_read(&alone, &g->arch, d));
    read_type(g);
    return read_range(g, d);
}

/* ---- what is possible ---- */
static double parameters(const pare_given *g) {
    double n = 0, layer = 0;
    for (int role = 0; role < PARE_ROLE_COUNT; role++) {
        char text[160];
        int64_t shape[2];
        int ndim = pare_arch_shape(&g->arch, (pare_role)role, false, shape);
        double size = (double)shape[0] * (ndim > 1 ? (double)shape[1] : 1);
        pare_tensor_name once = {(pare_role)role, -1, false}, each = {(pare_role)role, 0, false};
        if (role == PARE_ROLE_OUTPUT && g->arch.tied) continue;
        if (pare_name_format(g->arch.family, PARE_SOURCE_FOLDER, once, text, sizeof text)) n += size;
        if (pare_name_format(g->arch.family, PARE_SOURCE_FOLDER, each, text, sizeof text)) layer += size;
    }
    return n + layer * (double)g->arch.layers;
}

static pare_status check_sizes(const pare_given *g, pare_diag *d) {
    double n = parameters(g), there = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    if (n * TRAINING_BYTES <= there) return PARE_OK;
    return pare_fail(d, PARE_ERR_NOMEM, g->path, "num_hidden_layers",
                     "this configuration has %.3g parameters; to train them takes %.1f GB, and this machine has %.1f",
                     n, n * TRAINING_BYTES / 1e9, there / 1e9);
}

static pare_status check_teacher(const pare_distill_run *x, const pare_given *g, pare_diag *d) {
    const pare_arch *t = &x->teacher_arch, *s = &g->arch;
    if (s->family != t->family)
        return pare_fail(d, PARE_ERR_MISMATCH, g->path, "model_type",
                         "it describes a %s, and the teacher is a %s; a language model and a sentence encoder have "
                         "nothing to compare",
                         s->name, t->name);
    if (s->vocab != t->vocab)
        return pare_fail(d, PARE_ERR_MISMATCH, g->path, "vocab_size",
                         "it says %lld, and the teacher has %lld tokens; the student gets the teacher's tokenizer, so "
                         "the two must be the same",
                         (long long)s->vocab, (long long)t->vocab);
    pare_source_kind kind = PARE_SOURCE_FOLDER;
    PARE_TRY(pare_job_kind_of(x->o.out, x->o.format, &kind, d));
    if (kind == PARE_SOURCE_FOLDER && strcmp(s->name, "llama") == 0 && s->dim % s->heads)
        return pare_fail(d, PARE_ERR_INPUT, g->path, "num_attention_heads",
                         "%lld heads do not divide the hidden size %lld, which transformers' LlamaConfig asks for; "
                         "choose another number, or write a GGUF file",
                         (long long)s->heads, (long long)s->dim);
    return check_sizes(g, d);
}

/* ---- what of the teacher stays ---- */
static const char *wider(const pare_arch *t, const pare_arch *s) {
    if (strcmp(t->name, s->name) != 0) return "it is another architecture than the teacher";
    if (t->head_dim != s->head_dim) return "its heads have another size than the teacher's";
    if (t->gelu_tanh != s->gelu_tanh) return "it has another activation than the teacher";
    if (s->layers > t->layers) return "it has more layers than the teacher";
    if (s->dim > t->dim) return "its hidden size is larger than the teacher's";
    if (s->ffn > t->ffn) return "its feed-forward part is wider than the teacher's";
    if (s->kv_heads > t->kv_heads) return "it has more heads of keys and values than the teacher";
    if (s->heads / s->kv_heads > t->heads / t->kv_heads) return "more of its heads share a key than of the teacher's";
    return NULL;
}

static bool is_rounded(const pare_source *src) {
    for (size_t i = 0; i < src->n_tensors; i++) {
        pare_qkind k = src->tensors[i].type->kind;
        if (k == PARE_QK_BLOCK || k == PARE_QK_GROUP) return true;
    }
    return false;
}

static int64_t where_less(int64_t stays, int64_t all) { return stays < all ? stays : 0; }

static void cuts(pare_given *g, const pare_arch *t) {
    const pare_arch *s = &g->arch;
    g->hidden = where_less(s->dim, t->dim);
    g->groups = where_less(s->kv_heads, t->kv_heads);
    g->queries = where_less(s->heads, s->kv_heads * (t->heads / t->kv_heads));
    g->ffn = where_less(s->ffn, t->ffn);
    g->layers = where_less(s->layers, t->layers);
}

static pare_status choose_begin(const pare_distill_run *x, pare_given *g, pare_diag *d) {
    const char *init = x->o.init, *why = wider(&x->teacher_arch, &g->arch);
    bool random = init && strcasecmp(init, "random") == 0;
    if (!why) cuts(g, &x->teacher_arch);
    bool any = g->hidden || g->groups || g->queries || g->ffn || g->layers;
    if (!why && any && is_rounded(x->teacher_src)) why = "the teacher is quantized, and nothing can be taken out of it";
    if (why && init && !random)
        return pare_fail(d, PARE_ERR_USAGE, g->path, "--init", "it cannot begin as a part of the teacher: %s", why);
    g->from_teacher = !random && !why;
    g->why = why;
    return PARE_OK;
}

/* "tiny" of tiny.json and of tiny/config.json. */
static char *title_of(const char *path) {
    size_t n = strlen(path) - strlen(".json");
    if (ends(path, "/config.json")) n = strlen(path) - strlen("/config.json");
    return pare_strndup(path, n);
}

pare_status pare_given_open(pare_distill_run *x, pare_diag *d) {
    pare_given *g = x->given = pare_calloc(1, sizeof *g);
    struct stat st;
    bool folder = stat(x->o.student, &st) == 0 && S_ISDIR(st.st_mode);
    if (g) g->path = folder ? pare_sprintf("%s/config.json", x->o.student) : pare_strdup(x->o.student);
    if (g && g->path) g->title = title_of(g->path);
    if (!g || !g->title) return pare_fail(d, PARE_ERR_NOMEM, x->o.student, NULL, "no memory for the configuration");
    PARE_TRY(read_config(g, d));
    PARE_TRY(check_teacher(x, g, d));
    return choose_begin(x, g, d);
}

void pare_given_close(pare_given **gp) {
    pare_given *g = *gp;
    if (!g) return;
    if (g->folder) pare_out_remove(g->folder);
    json_decref(g->config);
    pare_free(g->path);
    pare_free(g->title);
    pare_free(g->layer_of);
    pare_free(g->folder);
    pare_free(g);
    *gp = NULL;
}

/* ---- its tensors ---- */
static bool has(const pare_given *g, pare_role role, bool bias) {
    const pare_arch *a = &g->arch;
    bool qwen3 = strcmp(a->name, "qwen3") == 0, llama = strcmp(a->name, "llama") == 0;
    switch (role) {
    case PARE_ROLE_OUTPUT: return !bias && !a->tied;
    case PARE_ROLE_ATTN_Q_NORM:
    case PARE_ROLE_ATTN_K_NORM: return !bias && qwen3;
    case PARE_ROLE_ATTN_Q:
    case PARE_ROLE_ATTN_K:
    case PARE_ROLE_ATTN_V: return !bias || a->qkv_bias;
    case PARE_ROLE_ATTN_OUT: return !bias || ((llama || qwen3) && flag(g, "attention_bias"));
    case PARE_ROLE_FFN_GATE:
    case PARE_ROLE_FFN_UP:
    case PARE_ROLE_FFN_DOWN: return !bias || (llama && flag(g, "mlp_bias"));
    case PARE_ROLE_TOKEN_EMBD:
    case PARE_ROLE_OUTPUT_NORM:
    case PARE_ROLE_ATTN_NORM:
    case PARE_ROLE_FFN_NORM:
    case PARE_ROLE_BERT_WORD_EMBD:
    case PARE_ROLE_BERT_POS_EMBD:
    case PARE_ROLE_BERT_TYPE_EMBD: return !bias;
    default: return true;
    }
}

static pare_status add(const pare_given *g, int layer, pare_arena *arena, pare_given_tensor *v, size_t *n,
                       pare_diag *d) {
    for (int role = 0; role < PARE_ROLE_COUNT; role++)
        for (int bias = 0; bias < 2; bias++) {
            char text[160];
            pare_tensor_name name = {(pare_role)role, layer, bias};
            if (!pare_name_format(g->arch.family, PARE_SOURCE_FOLDER, name, text, sizeof text) ||
                !has(g, name.role, bias))
                continue;
            pare_given_tensor *t = &v[(*n)++];
            t->name = name;
            t->ndim = pare_arch_shape(&g->arch, name.role, bias, t->shape);
            if (!(t->text = pare_arena_strndup(arena, text, strlen(text))))
                return pare_fail(d, PARE_ERR_NOMEM, g->path, NULL, "no memory for the list of tensors");
        }
    return PARE_OK;
}

pare_status pare_given_tensors(const pare_given *g, pare_arena *arena, pare_given_tensor **out, size_t *n,
                               pare_diag *d) {
    size_t room = (size_t)(g->arch.layers + 1) * PARE_ROLE_COUNT * 2;
    *n = 0;
    if (!(*out = pare_arena_alloc(arena, room * sizeof **out)))
        return pare_fail(d, PARE_ERR_NOMEM, g->path, NULL, "no memory for the list of tensors");
    for (int l = -1; l < (int)g->arch.layers; l++) PARE_TRY(add(g, l, arena, *out, n, d));
    return PARE_OK;
}
