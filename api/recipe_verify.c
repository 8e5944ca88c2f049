/* SPDX-License-Identifier: Apache-2.0
 *
 * Recipes: the step `verify`, which compares the recipe's model with what the steps before made of it. */
#include "api/recipe.h"
#include "api/verify_impl.h"

#define KEY(name, kind, field, text)                                                                                   \
    { name, kind, offsetof(pare_verify_opts, field), 0, text }

static const pare_recipe_key keys[] = {
    KEY("data", 'p', data, "text to compare on; take another than the calibration text"),
    KEY("ctx", 'i', ctx, "tokens per window"),
    KEY("windows", 'i', windows, "first N windows only"),
    KEY("act", 's', act, "activations of the reduced model"),
    KEY("act_original", 's', act_original, "activations of the original"),
    KEY("device", 's', device, "cpu, cuda or cpu,cuda"),
    KEY("layers", 'b', layers, "also compare node by node"),
    KEY("weights", 'b', weights, "compare weights instead of running"),
    KEY("top_k", 'i', top_k, "encoders: neighbours for the overlap"),
    KEY("baseline", 'p', baseline, "an older JSON report that must be kept up with"),
    KEY("tolerance", 'd', tolerance, "by how much it may be missed (0.02 = 2 %)"),
    KEY("strict", 'b', strict, "gates compare the bad end of the interval"),
    {"gates", 'g', offsetof(pare_verify_opts, gates), offsetof(pare_verify_opts, n_gates),
     "{\"max-kl\": 0.05, \"min-top1\": 0.9, ...}; max-METRIC or min-METRIC for any"},
};

static pare_status check(const pare_recipe_step *s, const pare_source *original, pare_diag *d) {
    return pare_verify_check(original, s->opts, d);
}

static pare_status judge(const pare_recipe_step *s, const char *original, const char *reduced, pare_verify_report **out,
                         pare_diag *d) {
    return pare_verify(original, reduced, s->opts, out, d);
}

const pare_recipe_kind pare_recipe_verify = {.name = "verify",
                                             .text = "the result so far against the model, as `pare verify`",
                                             .keys = keys,
                                             .n_keys = sizeof keys / sizeof *keys,
                                             .opts_bytes = sizeof(pare_verify_opts),
                                             .check = check,
                                             .judge = judge};
