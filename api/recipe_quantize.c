/* SPDX-License-Identifier: Apache-2.0
 *
 * Recipes: the step `quantize`. After a step that made zeros, none of them is lost, unless the recipe says so. */
#include "api/recipe.h"

typedef struct quantize_opts {
    pare_job_opts o;
    int keep_zeros;
} quantize_opts;
#define KEY(name, kind, field, text)                                                                                   \
    { name, kind, offsetof(quantize_opts, field), 0, text }

static const pare_recipe_key keys[] = {
    KEY("to", 's', o.to, "a mix, a grid or a float type, as --to"),
    KEY("method", 's', o.method, "rtn, search, awq, gptq"),
    {"tensor", 'S', offsetof(quantize_opts, o.tensor), offsetof(quantize_opts, o.n_tensor), "[\"REGEX=GRID\", ...]"},
    KEY("imatrix", 'p', o.imatrix, "importance from this file instead of the calibration text"),
    KEY("pure", 'b', o.pure, "mixes: the base type for every matrix"),
    KEY("allow_requantize", 'b', o.allow_requantize, "accept what is already rounded"),
    KEY("keep_zeros", 't', keep_zeros, "zeros stay zeros (true after a step that makes some)"),
};

static pare_status open(const pare_recipe *r, const pare_recipe_step *s, const pare_job_from *from, const char *out,
                        pare_job **job, pare_diag *d) {
    const quantize_opts *q = s->opts;
    pare_job_opts o = q->o;
    if (!o.imatrix) o.calib = r->calib;
    o.calib_ctx = r->calib_ctx, o.calib_windows = r->calib_windows;
    o.keep = r->keep, o.n_keep = r->n_keep;
    o.keep_zeros = q->keep_zeros ? q->keep_zeros > 0 : s->sparse;
    o.format = s->last ? r->format : NULL;
    o.layout = s->last ? r->layout : NULL;
    o.max_shard_bytes = s->last ? r->max_shard_bytes : 0;
    o.force = !s->last || r->force;
    return pare_job_quantize(from, out, &o, job, d);
}

const pare_recipe_kind pare_recipe_quantize = {.name = "quantize",
                                               .text = "fewer bits, as `pare quantize`",
                                               .keys = keys,
                                               .n_keys = sizeof keys / sizeof *keys,
                                               .opts_bytes = sizeof(quantize_opts),
                                               .packs = true,
                                               .open = open};
