/* SPDX-License-Identifier: Apache-2.0
 *
 * Recipes: the step `distill`. What the steps before made is the student, the recipe's model is the teacher; as the
 * first step it may take some of the model's layers. */
#include "api/distill.h"
#include "api/recipe.h"

#include "core/status.h"

#define KEY(name, kind, field, text)                                                                                   \
    { name, kind, offsetof(pare_distill_opts, field), 0, text }

static const pare_recipe_key keys[] = {
    KEY("data", 'p', data, "text to learn from (default: the calibration text)"),
    KEY("steps", 'i', steps, "steps of the optimizer"),
    KEY("batch", 'i', batch, "windows per step"),
    KEY("micro", 'i', micro, "windows at once"),
    KEY("ctx", 'i', ctx, "tokens per window"),
    KEY("loss", 's', loss, "terms and weights, as --loss"),
    KEY("divergence", 's', divergence, "forward, reverse, js"),
    KEY("temperature", 'd', temperature, "of both distributions"),
    KEY("train", 's', train, "all, norms, scales, qat, adapters"),
    KEY("rank", 'i', rank, "of adapters"),
    KEY("alpha", 'd', alpha, "adapters count alpha / rank times"),
    KEY("lr", 'd', rate, "top of the schedule"),
    KEY("min_lr", 'd', min_rate, "its end, as a share of lr"),
    KEY("warmup", 'i', warmup, "steps over which the rate rises"),
    KEY("schedule", 's', schedule, "cosine, linear, constant"),
    KEY("optimizer", 's', optimizer, "adamw, sgd"),
    KEY("weight_decay", 'd', decay, "of matrices"),
    KEY("clip", 'd', clip, "longest gradient"),
    KEY("ema", 'd', ema, "write a moving average of the weights"),
    KEY("eval_windows", 'i', eval, "windows at the text's end to measure on"),
    KEY("save_every", 'i', save_every, "steps between checkpoints (every five minutes)"),
    KEY("recompute", 'b', recompute, "less memory, a third more time"),
    KEY("precision", 's', precision, "f32 or bf16, of products of matrices"),
    KEY("blockwise", 'b', blockwise, "each layer by itself, steps steps each; memory for one at a time"),
    KEY("block_inputs", 's', block_inputs, "student, teacher"),
    KEY("teacher_top", 'i', teacher_top, "keep the teacher's so many largest, for epochs that repeat"),
    KEY("relation_heads", 'i', relation_heads, "of the loss relation"),
    KEY("device", 's', device, "cpu or cuda"),
    KEY("keep_layers", 's', keep_layers, "first step only: the student is these layers of the model (\"0-3,8\")"),
    KEY("layers", 'i', layers, "first step only: so many, those of the largest influence"),
    KEY("hidden", 'i', hidden, "first step only: so many channels of the residual stream"),
    KEY("heads", 'i', heads, "first step only: so many attention heads"),
    KEY("ffn", 'i', ffn, "first step only: so many neurons of every feed-forward part"),
    KEY("student", 'p', student, "first step only: a config.json, whose model learns"),
    KEY("init", 's', init, "of that model: teacher, random"),
    KEY("seed", 'i', seed, "order of the windows, and what begins at random"),
    KEY("to", 's', to, "what trained weights are stored as"),
};

static void init(void *opts) {
    *(pare_distill_opts *)opts = (pare_distill_opts){.min_rate = -1,
                                                     .decay = -1,
                                                     .clip = -1,
                                                     .beta1 = -1,
                                                     .beta2 = -1,
                                                     .momentum = -1,
                                                     .ema = -1,
                                                     .warmup = -1};
}

static pare_distill_opts options(const pare_recipe *r, const pare_recipe_step *s, const char *student,
                                 const char *out) {
    pare_distill_opts o = *(const pare_distill_opts *)s->opts;
    o.teacher = r->model, o.out = out;
    if (!o.student && !pare_student_is_cut(&o)) o.student = student;
    if (!o.data) o.data = r->calib;
    o.format = s->last ? r->format : NULL;
    o.max_shard_bytes = s->last ? r->max_shard_bytes : 0;
    o.force = !s->last || r->force;
    return o;
}

static const char *chosen_by(const pare_distill_opts *o) {
    return o->student       ? "--student"
           : o->layers      ? "--layers"
           : o->keep_layers ? "--keep-layers"
           : o->hidden      ? "--hidden"
           : o->heads       ? "--heads"
                            : "--ffn";
}

static pare_status open(const pare_recipe *r, const pare_recipe_step *s, const pare_job_from *from, const char *out,
                        pare_job **job, pare_diag *d) {
    pare_distill_opts o = options(r, s, from->path, out);
    const char *own = ((const pare_distill_opts *)s->opts)->student;
    if (own && !pare_given_is(own))
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--student",
                         "`%s` is no config.json; other students are what the steps before made", own);
    if ((own || !o.student) && s->in != r->model)
        return pare_fail(d, PARE_ERR_USAGE, NULL, chosen_by(&o),
                         "the student begins as the recipe's model: only the first step that writes a model can "
                         "choose it");
    return pare_distill_plan(&o, from, job, d);
}

static pare_status run(const pare_recipe *r, pare_recipe_step *s, pare_diag *d) {
    pare_distill_opts o = options(r, s, s->in, s->out);
    return pare_distill_titled(&o, r->model, &s->distilled, d);
}

const pare_recipe_kind pare_recipe_distill = {.name = "distill",
                                              .text = "the result so far learns from the model, as `pare distill`",
                                              .keys = keys,
                                              .n_keys = sizeof keys / sizeof *keys,
                                              .opts_bytes = sizeof(pare_distill_opts),
                                              .init = init,
                                              .open = open,
                                              .run = run};
