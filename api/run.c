/* SPDX-License-Identifier: Apache-2.0
 *
 * Text and embeddings from an opened model: the "run" section of pare.h. */
#include "api/sampler.h"
#include "core/alloc.h"
#include "core/log.h"
#include "core/status.h"
#include "formats/tokenizer.h"
#include "models/arch.h"
#include "models/lm.h"

#include <jansson.h>
#include <string.h>

#define MAX_ENDS 16
#define FIRST_TOKENS                                                                                                   \
    512 /* room in the first cache when the number of tokens is open; a context may be a claim of the file */

struct pare_runner {
    pare_source *src;
    pare_tokenizer *tok;
    pare_lm_opts opts;
    pare_lm *lm; /* opened when first needed, again when the cache must be larger */
    pare_runner_info info;
    int64_t ends[MAX_ENDS];
    int n_ends;
};

static void add_end(pare_runner *r, int64_t id) {
    if (id >= 0 && r->n_ends < MAX_ENDS) r->ends[r->n_ends++] = id;
}

/* An id or a list of them, as config.json and generation_config.json have. */
static void add_json_ends(pare_runner *r, const json_t *config) {
    const json_t *v = json_object_get(config, "eos_token_id"), *e;
    size_t i;
    if (json_is_integer(v)) add_end(r, json_integer_value(v));
    json_array_foreach(v, i, e) if (json_is_integer(e)) add_end(r, json_integer_value(e));
}

/* Every token that ends a text: the tokenizer's, and those that only the configuration names (chat models). */
static pare_status find_ends(pare_runner *r, pare_diag *d) {
    add_end(r, pare_tokenizer_describe(r->tok)->eos);
    if (r->src->config) add_json_ends(r, r->src->config);
    uint64_t id;
    if (pare_meta_get_u64(r->src, "tokenizer.ggml.eot_token_id", &id) && id < INT64_MAX) add_end(r, (int64_t)id);
    if (pare_meta_get_u64(r->src, "tokenizer.ggml.eom_token_id", &id) && id < INT64_MAX) add_end(r, (int64_t)id);
    for (size_t i = 0; i < r->src->n_sidecars; i++) {
        if (strcmp(r->src->sidecars[i], "generation_config.json") != 0) continue;
        char *path = pare_sprintf("%s/generation_config.json", r->src->path);
        if (!path) return pare_fail(d, PARE_ERR_NOMEM, r->src->path, NULL, "not enough memory to open the model");
        json_t *j = json_load_file(path, 0, NULL);
        if (j) add_json_ends(r, j);
        else pare_log(PARE_LOG_WARN, "%s: not readable; only config.json says which tokens end a text", path);
        json_decref(j);
        pare_free(path);
    }
    return PARE_OK;
}

static bool is_end(const pare_runner *r, int64_t id) {
    for (int i = 0; i < r->n_ends; i++)
        if (r->ends[i] == id) return true;
    return false;
}

static pare_status read_opts(const pare_runner_opts *o, pare_lm_opts *out, pare_diag *d) {
    *out = (pare_lm_opts){0};
    if (o && o->device) PARE_TRY(pare_backend_find(o->device, &out->backend, d));
    if (!o || !o->act || pare_act_find(o->act, &out->act)) return PARE_OK;
    return pare_fail(d, PARE_ERR_USAGE, NULL, "activations", "`%s` is none of: none, f16, int8-token, int8-block",
                     o->act);
}

pare_status pare_runner_open(const char *model, const pare_runner_opts *opts, pare_runner **out, pare_diag *d) {
    double start = pare_now_s();
    pare_runner *r = *out = pare_calloc(1, sizeof *r);
    if (!r) return pare_fail(d, PARE_ERR_NOMEM, model, NULL, "not enough memory to open the model");
    pare_status s = read_opts(opts, &r->opts, d);
    if (s == PARE_OK) s = pare_source_open(model, &r->src, d);
    pare_arch a;
    if (s == PARE_OK) s = pare_arch_read(r->src, &a, d);
    if (s == PARE_OK) s = pare_arch_check(r->src, &a, d);
    if (s == PARE_OK) s = pare_tokenizer_open(r->src, &r->tok, d);
    if (s == PARE_OK) s = find_ends(r, d);
    if (s != PARE_OK) {
        pare_runner_close(out);
        return s;
    }
    r->info = (pare_runner_info){a.family == PARE_FAMILY_LLAMA, a.name, a.vocab, a.dim, a.layers, pare_arch_context(&a),
                                 pare_now_s() - start};
    return PARE_OK;
}

void pare_runner_close(pare_runner **rp) {
    pare_runner *r = rp ? *rp : NULL;
    if (!r) return;
    pare_lm_close(&r->lm);
    pare_tokenizer_close(&r->tok);
    pare_source_close(&r->src);
    pare_free(r);
    *rp = NULL;
}

const pare_runner_info *pare_runner_describe(const pare_runner *r) { return &r->info; }

static pare_status need_model(pare_runner *r, int64_t capacity, pare_diag *d) {
    if (r->lm && capacity <= r->opts.capacity) return PARE_OK;
    pare_lm_close(&r->lm);
    r->opts.capacity = capacity;
    return pare_lm_open(r->src, &r->opts, &r->lm, d);
}

/* What generation needs besides the model; the text so far shows what each token adds to it. */
typedef struct generation {
    pare_ids ids; /* prompt, then what was made */
    size_t prompt;
    char *text;
    size_t n_text, cap_text, shown;
    pare_sampler sampler;
} generation;

static pare_status retell(pare_runner *r, generation *g) {
    pare_free(g->text); /* a buffer that is not empty would mean the middle of a text */
    g->text = NULL;
    g->n_text = g->cap_text = 0;
    return pare_detokenize(r->tok, g->ids.v, g->ids.n, &g->text, &g->n_text, &g->cap_text);
}

static pare_status begin(pare_runner *r, const char *prompt, const pare_generate_opts *o, generation *g, pare_diag *d) {
    if (!r->info.decoder)
        return pare_fail(d, PARE_ERR_USAGE, r->src->path, NULL, "this is an encoder: it makes embeddings, not text");
    PARE_TRY(pare_tokenize(r->tok, prompt, strlen(prompt), PARE_TOK_SPECIAL | PARE_TOK_PARSE, &g->ids, d));
    g->prompt = g->ids.n;
    if (!g->prompt)
        return pare_fail(d, PARE_ERR_USAGE, r->src->path, "prompt",
                         "the prompt is empty, and so there is nothing to continue");
    if ((int64_t)g->prompt >= r->info.context)
        return pare_fail(d, PARE_ERR_USAGE, r->src->path, "prompt",
                         "its %zu tokens leave no room in the context of %lld", g->prompt, (long long)r->info.context);
    int64_t room = r->info.context - (int64_t)g->prompt, first = o->n > 0 ? o->n : FIRST_TOKENS;
    PARE_TRY(need_model(r, (int64_t)g->prompt + (first < room ? first : room), d));
    pare_status s = pare_sampler_open(&g->sampler, (size_t)r->info.vocab, o->temp, o->top_k, o->top_p, o->seed);
    if (s == PARE_OK) s = retell(r, g);
    g->shown = g->n_text;
    return s == PARE_OK ? s : pare_fail(d, s, r->src->path, NULL, "not enough memory to generate");
}

/* Takes the next token in; *more is false when the text is to stop here. */
static pare_status take(pare_runner *r, generation *g, int64_t id, const pare_generate_opts *o,
                        pare_generate_result *out, bool *more, pare_diag *d) {
    *more = false;
    if (is_end(r, id)) return out->stop = PARE_STOP_END, PARE_OK;
    pare_status s = pare_grow((void **)&g->ids.v, &g->ids.cap, g->ids.n + 1, sizeof *g->ids.v);
    if (s == PARE_OK) {
        g->ids.v[g->ids.n++] = id;
        s = retell(r, g);
    }
    if (s != PARE_OK) return pare_fail(d, s, r->src->path, NULL, "not enough memory to generate");
    out->tokens++;
    size_t from = g->shown < g->n_text ? g->shown : g->n_text;
    g->shown = g->n_text;
    if (o->token && !o->token(o->user, id, g->text + from, g->n_text - from))
        return out->stop = PARE_STOP_CALLER, PARE_OK;
    if (o->n > 0 && out->tokens >= o->n) return out->stop = PARE_STOP_COUNT, PARE_OK;
    if ((int64_t)g->ids.n >= r->info.context) return out->stop = PARE_STOP_CONTEXT, PARE_OK;
    *more = true;
    return PARE_OK;
}

/* Logits after the newest token; a full cache is replaced by one of twice the size, which takes the text in again. */
static pare_status advance(pare_runner *r, const generation *g, const float **logits, pare_diag *d) {
    int64_t n = (int64_t)g->ids.n, most = r->info.context,
            twice = r->opts.capacity < most / 2 ? r->opts.capacity * 2 : most;
    if (n <= r->opts.capacity) return pare_lm_step(r->lm, &g->ids.v[n - 1], 1, n - 1, logits, d);
    PARE_TRY(need_model(r, twice, d));
    return pare_lm_step(r->lm, g->ids.v, n, 0, logits, d);
}

static pare_status generate(pare_runner *r, generation *g, const pare_generate_opts *o, pare_generate_result *out,
                            pare_diag *d) {
    const float *logits;
    double start = pare_now_s();
    out->prompt_tokens = (int64_t)g->prompt;
    PARE_TRY(pare_lm_step(r->lm, g->ids.v, (int64_t)g->prompt, 0, &logits, d));
    double after = pare_now_s();
    out->prompt_s = after - start;
    for (bool more = true; more;) {
        int64_t id = pare_sampler_next(&g->sampler, logits);
        if (id < 0)
            return pare_fail(d, PARE_ERR_INPUT, r->src->path, NULL,
                             "the model's output is not a number; its weights may be damaged");
        PARE_TRY(take(r, g, id, o, out, &more, d));
        if (more) PARE_TRY(advance(r, g, &logits, d));
        out->decode_s = pare_now_s() - after;
    }
    return PARE_OK;
}

pare_status pare_generate(pare_runner *r, const char *prompt, const pare_generate_opts *opts, pare_generate_result *out,
                          pare_diag *d) {
    static const pare_generate_opts greedy;
    pare_generate_result ignored;
    generation g = {0};
    if (!opts) opts = &greedy;
    if (!out) out = &ignored;
    *out = (pare_generate_result){0};
    pare_status s = begin(r, prompt, opts, &g, d);
    if (s == PARE_OK) s = generate(r, &g, opts, out, d);
    pare_ids_free(&g.ids);
    pare_free(g.text);
    pare_sampler_close(&g.sampler);
    return s;
}

/* Ids of one text, cut to the context: the closing special token stays. */
static pare_status encoder_ids(pare_runner *r, const char *text, pare_ids *ids, pare_diag *d) {
    PARE_TRY(pare_tokenize(r->tok, text, strlen(text), PARE_TOK_SPECIAL | PARE_TOK_PARSE, ids, d));
    size_t most = (size_t)r->info.context;
    if (!ids->n) return pare_fail(d, PARE_ERR_USAGE, r->src->path, NULL, "a text without tokens has no embedding");
    if (ids->n > most) {
        pare_log(PARE_LOG_WARN, "a text of %zu tokens was cut to the context of %zu", ids->n, most);
        ids->v[most - 1] = ids->v[ids->n - 1];
        ids->n = most;
    }
    return PARE_OK;
}

#define EMBED_BATCH 16

static pare_status embed_batch(pare_runner *r, const pare_ids *rows, size_t n, float *out, pare_diag *d) {
    int64_t lengths[EMBED_BATCH], width = 1;
    for (size_t i = 0; i < n; i++) {
        lengths[i] = (int64_t)rows[i].n;
        if (lengths[i] > width) width = lengths[i];
    }
    int64_t *ids = pare_calloc(n * (size_t)width, sizeof *ids);
    if (!ids) return pare_fail(d, PARE_ERR_NOMEM, r->src->path, NULL, "not enough memory for the texts");
    for (size_t i = 0; i < n; i++) memcpy(ids + i * (size_t)width, rows[i].v, rows[i].n * sizeof *ids);
    pare_status s = pare_lm_embed(r->lm, ids, lengths, (int64_t)n, width, out, d);
    pare_free(ids);
    return s;
}

pare_status pare_embed(pare_runner *r, const char *const *texts, size_t n, float *out, pare_diag *d) {
    if (r->info.decoder)
        return pare_fail(d, PARE_ERR_USAGE, r->src->path, NULL,
                         "this is a language model: it makes text, not embeddings");
    pare_status s = need_model(r, 0, d);
    for (size_t first = 0; first < n && s == PARE_OK; first += EMBED_BATCH) {
        size_t count = n - first < EMBED_BATCH ? n - first : EMBED_BATCH;
        pare_ids rows[EMBED_BATCH] = {{0}};
        for (size_t i = 0; i < count && s == PARE_OK; i++) s = encoder_ids(r, texts[first + i], &rows[i], d);
        if (s == PARE_OK) s = embed_batch(r, rows, count, out + first * (size_t)r->info.dim, d);
        for (size_t i = 0; i < count; i++) pare_ids_free(&rows[i]);
    }
    return s;
}
