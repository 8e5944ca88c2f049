/* SPDX-License-Identifier: Apache-2.0
 *
 * Recipes: the step `prune`. */
#include "api/narrow.h"
#include "api/recipe.h"

#define KEY(name, kind, field, text)                                                                                   \
    { name, kind, offsetof(pare_prune_opts, field), 0, text }

static const pare_recipe_key keys[] = {
    KEY("method", 's', method, "as --method"),
    KEY("pattern", 's', pattern, "as --pattern"),
    KEY("sparsity", 'd', sparsity, "share of zeros, or of the parts that go"),
    KEY("stay", 'i', stay, "smaller models: how many parts stay"),
    KEY("drop", 's', drop, "layers, by number: \"3,20-22\""),
    KEY("multiple", 'i', multiple, "ffn, hidden: what stays is a multiple of this"),
    KEY("no_heal", 'b', no_heal, "smaller models: refit nothing"),
    KEY("scope", 's', scope, "as --scope"),
    {"tensor", 'S', offsetof(pare_prune_opts, tensor), offsetof(pare_prune_opts, n_tensor), "[\"REGEX=SHARE\", ...]"},
    KEY("to", 's', to, "round too, in one go (sparsegpt, smaller models)"),
};

static bool smaller(const pare_prune_opts *o) { return o->pattern && pare_narrow_claims(o->pattern); }

static bool zeros(const pare_recipe_step *s) { return !smaller(s->opts); }

/* The shared options that this step has a use for: the others are for other steps, and not refused here. */
static pare_status open(const pare_recipe *r, const pare_recipe_step *s, const pare_job_from *from, const char *out,
                        pare_job **job, pare_diag *d) {
    pare_prune_opts o = *(const pare_prune_opts *)s->opts;
    const pare_criterion *c = o.method && !smaller(&o) ? pare_criterion_by_name(o.method) : NULL;
    if (!c || c->needs) o.calib = r->calib, o.calib_ctx = r->calib_ctx, o.calib_windows = r->calib_windows;
    if (!smaller(&o)) o.keep = r->keep, o.n_keep = r->n_keep;
    o.format = s->last ? r->format : NULL;
    o.layout = s->last ? r->layout : NULL;
    o.max_shard_bytes = s->last ? r->max_shard_bytes : 0;
    o.force = !s->last || r->force;
    return pare_job_prune_from(from, out, &o, job, d);
}

const pare_recipe_kind pare_recipe_prune = {.name = "prune",
                                            .text = "zeros, or fewer parts, as `pare prune`",
                                            .keys = keys,
                                            .n_keys = sizeof keys / sizeof *keys,
                                            .opts_bytes = sizeof(pare_prune_opts),
                                            .open = open,
                                            .zeros = zeros};
