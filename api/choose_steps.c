/* SPDX-License-Identifier: Apache-2.0
 *
 * Steps of pruning (api/choose.h): how many there are, and the options of one. */
#include "api/choose.h"

#include "core/status.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MOST_ZEROS 0.95 /* of one layer */

static pare_status no_memory(pare_diag *d) {
    return pare_fail(d, PARE_ERR_NOMEM, NULL, "pruning", "no memory for the search");
}

/* ---- parts ---- */
static pare_status parts(pare_chooser *c, pare_diag *d) {
    pare_source *src;
    pare_arch a;
    int64_t multiple = c->o->multiple > 0 ? c->o->multiple : 32;
    PARE_TRY(pare_source_open(c->model, &src, d));
    pare_status s = pare_arch_read(src, &a, d);
    pare_source_close(&src);
    PARE_TRY(s);
    const struct {
        const char *pattern, *what;
        int64_t all, unit;
    } all[] = {{"heads", "key/value groups", a.kv_heads, 1},
               {"query-heads", "query heads", a.heads, a.kv_heads},
               {"ffn", "neurons", a.ffn, multiple},
               {"hidden", "channels", a.dim, multiple},
               {"width", "key/value groups with their channels", a.kv_heads, 1},
               {"layers", "layers", a.layers, 1}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (strcasecmp(c->o->pattern, all[i].pattern) == 0)
            c->what = all[i].what, c->all = all[i].all, c->unit = all[i].unit;
    c->steps = (c->all - 1) / c->unit; /* something stays */
    if (c->steps < 1)
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--pattern", "there are %lld %s, and steps of %lld: none can go",
                         (long long)c->all, c->what, (long long)c->unit);
    return PARE_OK;
}

/* ---- zeros ---- */
typedef struct ranked {
    size_t layer;
    double loss; /* per weight */
} ranked;

static int by_loss(const void *x, const void *y) {
    const ranked *a = x, *b = y;
    return a->loss < b->loss ? -1 : a->loss > b->loss ? 1 : a->layer < b->layer ? -1 : a->layer > b->layer;
}

static pare_status rank_layers(pare_chooser *c, const pare_sensitivity *s, pare_diag *d) {
    ranked *r = pare_calloc(s->n_layers, sizeof *r);
    c->order = pare_arena_alloc(c->arena, (s->n_layers + 1) * sizeof *c->order);
    if (!r || !c->order) {
        pare_free(r);
        return no_memory(d);
    }
    for (size_t l = 0; l < s->n_layers; l++)
        if (s->weights[l]) r[c->steps++] = (ranked){l, s->loss[l * s->n_amounts] / (double)s->weights[l]};
    qsort(r, (size_t)c->steps, sizeof *r, by_loss);
    for (int64_t k = 0; k < c->steps; k++) c->order[k] = r[k].layer;
    pare_free(r);
    return PARE_OK;
}

static pare_status share_out(pare_chooser *c, const pare_sensitivity *s, pare_diag *d) {
    double *weight = pare_calloc(s->n_layers, sizeof *weight);
    c->share = pare_arena_alloc(c->arena, (s->n_layers + 1) * sizeof *c->share);
    if (weight && c->share) {
        for (size_t l = 0; l < s->n_layers; l++) weight[l] = (double)s->weights[l];
        pare_search_shares(s->n_layers, s->n_amounts, s->amounts, s->loss, weight, c->share);
    }
    bool ok = weight && c->share;
    pare_free(weight);
    c->steps = 90; /* hundredths of all */
    return ok ? PARE_OK : no_memory(d);
}

pare_status pare_chooser_steps(pare_chooser *c, pare_diag *d) {
    pare_sensitivity *s = NULL;
    pare_pattern_spec spec;
    if (c->o->pattern && pare_narrow_claims(c->o->pattern)) return c->kind = PARE_STEP_PARTS, parts(c, d);
    bool compact = c->o->layout && strcasecmp(c->o->layout, "compact") == 0;
    if ((c->goal->fit_bytes || c->goal->fit_share > 0) && !compact)
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--fit",
                         "zeros are stored like other weights, so no number of them makes the file smaller; --layout "
                         "compact leaves them out, and ffn, heads, hidden and layers make the model itself smaller");
    c->what = "weights";
    PARE_TRY(pare_pattern_parse(c->o->pattern ? c->o->pattern : "unstructured", &spec, d));
    c->kind = spec.ratio >= 0 ? PARE_STEP_LAYERS : PARE_STEP_SHARE;
    PARE_TRY(pare_prune_sensitivity(c->model, c->o, NULL, &s, d));
    c->n_layers = s->n_layers;
    pare_status st = c->kind == PARE_STEP_LAYERS ? rank_layers(c, s, d) : share_out(c, s, d);
    pare_sensitivity_close(&s);
    return st;
}

/* ---- the options of a step ---- */
/* Names of layer l, as folders and GGUF files have them. */
static char *layer_regex(const pare_chooser *c, size_t l, double share) {
    enum { ROOM = 80 };
    char *s = pare_arena_alloc(c->arena, ROOM);
    if (!s) return NULL;
    int n = snprintf(s, ROOM, "(^|\\.)(blk|layers?|h)\\.%zu\\.", l);
    if (share >= 0) snprintf(s + n, (size_t)(ROOM - n), "=%.6f", share);
    return s;
}

static pare_status joined(const pare_chooser *c, const char *const *own, size_t n_own, size_t more, const char ***out,
                          pare_diag *d) {
    *out = pare_arena_alloc(c->arena, (n_own + more + 1) * sizeof **out);
    if (!*out) return no_memory(d);
    if (n_own) memcpy(*out, own, n_own * sizeof **out); /* the user's rules come first, and so they decide */
    return PARE_OK;
}

static pare_status layers_step(pare_chooser *c, int64_t step, pare_prune_opts *o, double *share, pare_diag *d) {
    const char **keep;
    PARE_TRY(joined(c, o->keep, o->n_keep, c->n_layers, &keep, d));
    o->keep = keep;
    for (size_t l = 0; l < c->n_layers; l++) share[l] = 0;
    for (int64_t k = 0; k < step; k++) share[c->order[k]] = 1;
    for (int64_t k = step; k < c->steps; k++)
        if (!(keep[o->n_keep++] = layer_regex(c, c->order[k], -1))) return no_memory(d);
    return PARE_OK;
}

static pare_status share_step(pare_chooser *c, int64_t step, pare_prune_opts *o, double *share, pare_diag *d) {
    const char **tensor;
    PARE_TRY(joined(c, o->tensor, o->n_tensor, c->n_layers, &tensor, d));
    o->tensor = tensor;
    o->sparsity = (double)step / 100;
    for (size_t l = 0; l < c->n_layers; l++) {
        share[l] = fmin(MOST_ZEROS, o->sparsity * c->share[l]);
        if (!(tensor[o->n_tensor++] = layer_regex(c, l, share[l]))) return no_memory(d);
    }
    return PARE_OK;
}

pare_status pare_chooser_options(pare_chooser *c, int64_t step, pare_prune_opts *o, const char **text, double *share,
                                 pare_diag *d) {
    enum { ROOM = 120 };
    char *say = pare_arena_alloc(c->arena, ROOM);
    if (!say) return no_memory(d);
    *text = say;
    *o = *c->o;
    switch (c->kind) {
    case PARE_STEP_PARTS:
        o->stay = c->all - step * c->unit;
        if (c->unit > 1) o->stay = (o->stay + c->unit - 1) / c->unit * c->unit;
        if (o->stay >= c->all) o->stay -= c->unit;
        snprintf(say, ROOM, "%lld of %lld %s stay", (long long)o->stay, (long long)c->all, c->what);
        return PARE_OK;
    case PARE_STEP_LAYERS:
        snprintf(say, ROOM, "%lld of %lld layers are pruned", (long long)step, (long long)c->steps);
        return layers_step(c, step, o, share, d);
    case PARE_STEP_SHARE:
        snprintf(say, ROOM, "%lld %% of the weights become zero, shared out by sensitivity", (long long)step);
        return share_step(c, step, o, share, d);
    }
    return PARE_OK;
}
