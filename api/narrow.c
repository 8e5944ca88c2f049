/* SPDX-License-Identifier: Apache-2.0
 *
 * Structured pruning: options, amounts, and the order in which things are decided (api/narrow.h). */
#include "api/gradients.h"
#include "api/narrow.h"

#include "core/log.h"
#include "core/status.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static const struct {
    const char *name, *unit, *text;
} kinds[] = {[PARE_NARROW_HEADS] = {"heads", "key/value groups", "key/value groups with their query heads go"},
             [PARE_NARROW_QUERY] = {"query-heads", "query heads", "as many query heads of every group go"},
             [PARE_NARROW_FFN] = {"ffn", "neurons", "neurons of the feed-forward part go, as many in every layer"},
             [PARE_NARROW_HIDDEN] = {"hidden", "channels", "channels of the residual stream go"},
             [PARE_NARROW_WIDTH] = {"width", "key/value groups",
                                    "heads as by `heads`, and as large a share of the channels"},
             [PARE_NARROW_LAYERS] = {"layers", "layers", "whole layers go"}};
#define KINDS (sizeof kinds / sizeof *kinds)

static size_t kind_of(const char *name) {
    size_t k = 0;
    while (k < KINDS && strcasecmp(kinds[k].name, name) != 0) k++;
    return k;
}

bool pare_narrow_claims(const char *pattern) { return kind_of(pattern) < KINDS; }

bool pare_narrow_pattern(size_t i, const char **name, const char **text) {
    if (i < KINDS) *name = kinds[i].name, *text = kinds[i].text;
    return i < KINDS;
}

/* Those of parts come first, then those of layers. */
bool pare_narrow_method(size_t i, const char **name, const char **text) {
    static const char *const layers[][2] = {{"influence", "layers that turn the residual stream least (ShortGPT)"},
                                            {"angular", "the run of layers whose ends are closest (Gromov et al.)"}};
    size_t n = 0;
    while (pare_importance_at(n)) n++;
    if (i >= n + 2) return false;
    *name = i < n ? pare_importance_at(i)->name : layers[i - n][0];
    *text = i < n ? pare_importance_at(i)->text : layers[i - n][1];
    return true;
}

static pare_status choose_method(pare_narrow *n, pare_prune_opts *o, pare_diag *d) {
    if (n->kind == PARE_NARROW_LAYERS) {
        if (!o->method) o->method = "influence";
        if (strcasecmp(o->method, "influence") == 0 || strcasecmp(o->method, "angular") == 0) return PARE_OK;
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--method", "`%s` does not judge layers; influence and angular do",
                         o->method);
    }
    if (!o->method) o->method = pare_importance_at(0)->name;
    if (pare_importance_by_name(o->method)) return PARE_OK;
    char list[128] = "";
    for (size_t i = 0; pare_importance_at(i); i++)
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i ? ", " : "", pare_importance_at(i)->name);
    return pare_fail(d, PARE_ERR_USAGE, NULL, "--method", "`%s` does not judge %s; there are %s", o->method,
                     kinds[n->kind].name, list);
}

/* How many units stay of `all`, a multiple of step. */
static pare_status amount(pare_narrow *n, int64_t all, int64_t step, pare_diag *d) {
    const pare_prune_opts *o = n->o;
    const char *unit = kinds[n->kind].unit;
    if (o->stay ? o->stay < 1 || o->stay >= all : !(o->sparsity > 0 && o->sparsity < 1))
        return pare_fail(d, PARE_ERR_USAGE, NULL, o->stay ? "--stay" : "--sparsity",
                         o->stay ? "from 1 to %lld %s can stay" : "say how many of the %lld %s go (0 < share < 1)",
                         (long long)all - (o->stay != 0), unit);
    if (o->stay % step)
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--stay", "%lld %s are no multiple of %lld", (long long)o->stay, unit,
                         (long long)step);
    n->keep = o->stay;
    if (!o->stay) n->keep = (int64_t)ceil((double)all * (1 - o->sparsity) / (double)step - 1e-9) * step;
    if (n->keep >= all)
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--sparsity",
                         "%g of %lld %s is less than one step of %lld, so nothing would go; ask for more", o->sparsity,
                         (long long)all, unit, (long long)step);
    return PARE_OK;
}

/* What the formats can say: one size for all layers, a head size beside the hidden size. */
static pare_status check_target(const pare_narrow *n, pare_diag *d) {
    bool heads = n->kind == PARE_NARROW_HEADS || n->kind == PARE_NARROW_QUERY, hidden = n->kind == PARE_NARROW_HIDDEN;
    long long size = (long long)n->arch.head_dim;
    if (n->job->kind == PARE_SOURCE_SAFETENSORS)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, n->job->out_path, "-o",
                         "a smaller model needs its configuration; write a folder or a GGUF file");
    if (n->arch.family == PARE_FAMILY_BERT && (heads || hidden))
        return pare_fail(d, PARE_ERR_UNSUPPORTED, n->job->src->path, hidden ? "hidden_size" : "num_attention_heads",
                         "a bert configuration has no head size of its own (it is hidden_size / num_attention_heads, "
                         "%lld here), so it cannot say this shape; --pattern width takes %lld channels with every "
                         "head, "
                         "and ffn and layers can be pruned",
                         size, size);
    if (n->job->kind == PARE_SOURCE_FOLDER && !n->job->on_the_way && strcmp(n->to.name, "llama") == 0 &&
        n->to.dim % n->to.heads)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, n->job->out_path, "num_attention_heads",
                         "%lld heads do not divide the hidden size %lld, which transformers' LlamaConfig asks for; "
                         "keep "
                         "another number, or write a GGUF file",
                         (long long)n->to.heads, (long long)n->to.dim);
    return PARE_OK;
}

static pare_status plan_sizes(pare_narrow *n, pare_diag *d) {
    const pare_arch *a = &n->arch;
    int64_t multiple = n->o->multiple ? n->o->multiple : 32;
    n->to = *a;
    if (multiple < 1)
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--multiple", "%lld is not positive", (long long)multiple);
    if (n->o->drop && n->kind != PARE_NARROW_LAYERS)
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--drop", "layers are named with --pattern layers");
    switch (n->kind) {
    case PARE_NARROW_HEADS:
        PARE_TRY(amount(n, a->kv_heads, 1, d));
        n->to.kv_heads = n->keep;
        n->to.heads = n->keep * (a->heads / a->kv_heads);
        break;
    case PARE_NARROW_QUERY:
        PARE_TRY(amount(n, a->heads, a->kv_heads, d));
        n->to.heads = n->keep;
        break;
    case PARE_NARROW_FFN:
        PARE_TRY(amount(n, a->ffn, multiple, d));
        n->to.ffn = n->keep;
        break;
    case PARE_NARROW_HIDDEN:
        PARE_TRY(amount(n, a->dim, multiple, d));
        n->to.dim = n->keep;
        break;
    case PARE_NARROW_WIDTH:
        if (a->dim % a->kv_heads)
            return pare_fail(d, PARE_ERR_UNSUPPORTED, n->job->src->path, "--pattern",
                             "%lld channels cannot be shared out among %lld key/value groups; prune heads, then hidden",
                             (long long)a->dim, (long long)a->kv_heads);
        PARE_TRY(amount(n, a->kv_heads, 1, d));
        n->to.kv_heads = n->keep;
        n->to.heads = n->keep * (a->heads / a->kv_heads);
        n->to.dim = n->keep * (a->dim / a->kv_heads);
        break;
    case PARE_NARROW_LAYERS:
        if (!n->o->drop) PARE_TRY(amount(n, a->layers, 1, d));
        break;
    }
    return check_target(n, d);
}

typedef struct start { /* the weight from whose columns a dimension is followed, and how many of its units stay */
    pare_tensor_name of;
    int64_t keep;
} start;

static start start_of(const pare_narrow *n, size_t dim) {
    bool bert = n->arch.family == PARE_FAMILY_BERT, ffn = n->kind == PARE_NARROW_FFN,
         channels = pare_narrow_channels(n);
    if (channels && dim == 0)
        return (start){{bert ? PARE_ROLE_BERT_WORD_EMBD : PARE_ROLE_TOKEN_EMBD, -1, false}, n->to.dim};
    pare_role role = ffn    ? bert ? PARE_ROLE_BERT_DOWN : PARE_ROLE_FFN_DOWN
                     : bert ? PARE_ROLE_BERT_OUT
                            : PARE_ROLE_ATTN_OUT;
    return (start){{role, (int)dim - channels, false}, n->keep};
}

static pare_status find_dimensions(pare_narrow *n, pare_diag *d) {
    size_t layers = (size_t)n->arch.layers, count = pare_narrow_channels(n);
    if (n->kind != PARE_NARROW_HIDDEN) count += layers;
    n->dims = pare_arena_alloc(n->job->arena, count * sizeof *n->dims);
    n->stays = pare_arena_alloc(n->job->arena, count * sizeof *n->stays);
    if (!n->dims || !n->stays) return pare_fail(d, PARE_ERR_NOMEM, NULL, "structure", "no memory for the layers");
    for (size_t l = 0; l < count; l++) {
        char name[160];
        start at = start_of(n, l);
        pare_name_format(n->arch.family, PARE_SOURCE_GGUF, at.of, name, sizeof name);
        pare_value v = pare_graph_find(n->run.m.g, name);
        if (v < 0) return pare_fail(d, PARE_ERR_INTERNAL, n->job->src->path, name, "the graph does not have it");
        pare_head_mode mode = n->kind == PARE_NARROW_QUERY ? PARE_HEADS_QUERY : PARE_HEADS_GROUPS;
        PARE_TRY(pare_structure_find(n->run.m.g, v, 1, mode, &n->dims[l], d));
        n->n_dims = l + 1;
        n->stays[l] = pare_arena_alloc(n->job->arena, (size_t)n->dims[l].units);
        if (!n->stays[l]) return pare_fail(d, PARE_ERR_NOMEM, NULL, "structure", "no memory for the layers");
        if (at.keep >= n->dims[l].units)
            return pare_fail(d, PARE_ERR_UNSUPPORTED, n->job->src->path, name,
                             "its %lld columns fall into %d parts that can go alone, and %lld should stay",
                             (long long)n->run.m.g->values[v].tensor.shape[1], n->dims[l].units, (long long)at.keep);
    }
    return PARE_OK;
}

typedef struct places { /* who reads each dimension */
    pare_reader **readers;
    pare_unit_watch watch;
} places;

static pare_status watch(pare_narrow *n, places *p, pare_diag *d) {
    p->readers = pare_arena_alloc(n->job->arena, n->n_dims * sizeof *p->readers);
    if (!p->readers) return pare_fail(d, PARE_ERR_NOMEM, NULL, "structure", "no memory for the layers");
    for (size_t l = 0; l < n->n_dims; l++) {
        size_t k;
        PARE_TRY(pare_dimension_readers(n->run.m.g, &n->dims[l], &p->readers[l], &k, d));
        PARE_TRY(pare_unit_watch_add(&p->watch, n->run.m.g, &n->dims[l], p->readers[l], k, d));
    }
    return PARE_OK;
}

/* Scores every dimension and chooses what stays. */
static pare_status choose(pare_narrow *n, const places *p, pare_diag *d) {
    const pare_importance *importance = pare_importance_by_name(n->o->method);
    size_t first = 0;
    for (size_t l = 0; l < n->n_dims; l++) {
        size_t end = first;
        while (end < p->watch.n && p->watch.v[end].dim == &n->dims[l]) end++;
        double *score = pare_calloc((size_t)n->dims[l].units, sizeof *score);
        if (!score) return pare_fail(d, PARE_ERR_NOMEM, NULL, "importance", "no memory for the scores");
        pare_status s = PARE_OK;
        if (!n->job->sizes_only) s = importance->score(n->run.m.g, p->watch.v + first, end - first, score, d);
        if (s == PARE_OK) s = pare_units_choose(&n->dims[l], score, (int32_t)start_of(n, l).keep, n->stays[l], d);
        pare_free(score);
        if (s != PARE_OK) return s;
        first = end;
    }
    return PARE_OK;
}

static pare_status widths(pare_narrow *n, pare_diag *d) {
    places p = {0};
    bool gradients = pare_importance_by_name(n->o->method)->needs & PARE_UNITS_GRADIENTS;
    pare_status s = find_dimensions(n, d);
    if (s == PARE_OK) s = watch(n, &p, d);
    if (s == PARE_OK && pare_narrow_needs_data(n)) s = pare_narrow_pass(n, pare_unit_watch_hook, &p.watch, "score", d);
    if (s == PARE_OK && p.watch.bad)
        s = pare_fail(d, PARE_ERR_INPUT, n->job->src->path, p.watch.bad,
                      "NaN or infinite activations on the calibration data");
    if (s == PARE_OK && gradients && !n->job->sizes_only) s = pare_gradients_units(n->w, &n->data, &p.watch, d);
    if (s == PARE_OK) s = choose(n, &p, d);
    if (s == PARE_OK && !n->o->no_heal && !n->job->sizes_only) s = pare_narrow_heal(n, &p.watch, d);
    for (size_t l = 0; p.readers && l < n->n_dims; l++) pare_free(p.readers[l]);
    pare_unit_watch_free(&p.watch);
    return s;
}

/* What only zeros have. */
static pare_status check_options(const pare_prune_opts *o, pare_diag *d) {
    const char *which = o->scope ? "--scope" : o->n_tensor ? "--tensor" : o->n_keep ? "--keep" : NULL;
    if (!which) return PARE_OK;
    return pare_fail(d, PARE_ERR_USAGE, NULL, which, "%s takes the same from every layer; leave this out", o->pattern);
}

pare_status pare_job_narrow(pare_job *job, const pare_prune_opts *opts, pare_diag *d) {
    pare_prune_opts o = *opts;
    pare_narrow n = {.job = job, .o = &o, .kind = (pare_narrow_kind)kind_of(o.pattern)};
    PARE_TRY(check_options(&o, d));
    PARE_TRY(pare_arch_read(job->src, &n.arch, d));
    PARE_TRY(pare_arch_check(job->src, &n.arch, d));
    PARE_TRY(choose_method(&n, &o, d));
    PARE_TRY(plan_sizes(&n, d));
    n.drop = pare_arena_alloc(job->arena, (size_t)n.arch.layers);
    if (!n.drop) return pare_fail(d, PARE_ERR_NOMEM, NULL, "structure", "no memory for the layers");
    for (size_t i = 0; i < job->n; i++) job->bytes_before += job->t[i].map->src ? job->t[i].map->src->bytes : 0;
    pare_status s = pare_narrow_open_model(&n, d);
    if (s == PARE_OK) s = n.kind == PARE_NARROW_LAYERS ? pare_narrow_layers(&n, d) : widths(&n, d);
    if (s == PARE_OK) s = pare_narrow_apply(&n, d);
    if (s == PARE_OK) s = pare_narrow_config(&n, d);
    job->narrowed = s == PARE_OK;
    job->map->arch = n.to; /* mixes count layers */
    for (size_t l = 0; l < n.n_dims; l++) pare_dimension_free(&n.dims[l]);
    pare_free(n.refits);
    pare_lm_run_close(&n.run);
    pare_weights_close(&n.w);
    pare_calib_data_free(&n.data);
    return s;
}

pare_status pare_job_narrow_check(pare_job *job, pare_diag *d) {
    pare_source *src = NULL;
    pare_arch a;
    pare_diag why = {0};
    pare_status s = pare_source_open(job->out_path, &src, &why);
    if (s == PARE_OK) s = pare_arch_read(src, &a, &why);
    if (s == PARE_OK) s = pare_arch_check(src, &a, &why);
    if (s != PARE_OK)
        pare_fail(d, s, job->out_path, why.where, "written, but it cannot be read, so do not use it: %s", why.text);
    else s = pare_job_try(src, job->ran, d);
    pare_source_close(&src);
    return s;
}
