/* SPDX-License-Identifier: Apache-2.0
 *
 * Distilling a student: options and their defaults, what a run depends on, the loop over steps, the output. */
#include "api/distill.h"

#include "core/log.h"
#include "core/status.h"
#include "core/team.h"
#include "formats/checksum.h"
#include "formats/out_place.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define SAVE_SECONDS 300
#define SAMPLE       ((size_t)4096) /* bytes of a tensor that say which model it is of */
#define PASS_TOKENS  2048           /* of one pass: enough rows for products at full speed */
#define PASS_LOGITS  (24 << 20)     /* of one pass: several arrays of them are alive at a time */

/* Index of word in the list; NULL: the first. */
static pare_status word_of(const char *word, const char *option, const char *const *list, int n, int *out,
                           pare_diag *d) {
    char all[160] = "";
    *out = 0;
    for (int i = 0; i < n; i++) {
        if (!word || strcasecmp(word, list[i]) == 0) return *out = i, PARE_OK;
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", i ? ", " : "", list[i]);
    }
    return pare_fail(d, PARE_ERR_USAGE, NULL, option, "`%s` is none of: %s", word, all);
}

static double or_default(double v, double otherwise) { return v >= 0 ? v : otherwise; }

static pare_status defaults(pare_distill_run *x, pare_diag *d) {
    static const char *const ways[] = {"forward", "reverse", "js"},
                             *const trains[] = {"all", "norms", "scales", "qat", "adapters"},
                             *const inits[] = {"teacher", "random"};
    pare_distill_opts *o = &x->o;
    int k;
    PARE_TRY(word_of(o->divergence, "--divergence", ways, 3, &k, d));
    x->divergence = (pare_divergence)k;
    PARE_TRY(word_of(o->train, "--train", trains, 5, &k, d));
    x->train = (pare_train)k;
    PARE_TRY(word_of(o->precision, "--precision", (const char *const[]){"f32", "bf16"}, 2, &k, d));
    x->bf16 = k == 1;
    if ((o->rank || o->alpha) && x->train != PARE_TRAIN_ADAPTERS)
        return pare_fail(d, PARE_ERR_USAGE, NULL, o->rank ? "--rank" : "--alpha", "it goes with --train adapters");
    if (!o->rank && x->train == PARE_TRAIN_ADAPTERS) o->rank = 8;
    if (o->rank < 0 || o->rank > 4096 || !(o->alpha >= 0 && isfinite(o->alpha)))
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--rank", "from 1 to 4096, and --alpha positive");
    if (!o->alpha) o->alpha = (double)o->rank;
    if (o->loss) PARE_TRY(pare_terms_parse(x, o->loss, d));
    if (!o->temperature) o->temperature = x->weight[PARE_TERM_CONTRASTIVE] > 0 ? 0.05 : 1;
    if (!(o->temperature > 0 && isfinite(o->temperature)))
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--temperature", "%g is not positive", o->temperature);
    if (o->student && pare_student_is_cut(o))
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--student",
                         "--layers, --keep-layers, --hidden, --heads and --ffn cut the teacher; leave --student out");
    if (o->init && (!o->student || !pare_given_is(o->student)))
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--init", "it goes with a --student that is a config.json");
    PARE_TRY(word_of(o->init, "--init", inits, 2, &k, d));
    if (o->keep_layers && o->layers)
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--layers", "--keep-layers says which, and so how many");
    if (!o->steps) o->steps = 100;
    if (!o->rate) o->rate = 1e-4;
    if (!o->seed) o->seed = 1;
    o->min_rate = or_default(o->min_rate, 0.1), o->decay = or_default(o->decay, 0.01);
    o->clip = or_default(o->clip, 1), o->momentum = or_default(o->momentum, 0.9);
    o->beta1 = or_default(o->beta1, 0.9), o->beta2 = or_default(o->beta2, 0.95), o->ema = or_default(o->ema, 0);
    if (o->warmup < 0) o->warmup = o->steps / 20;
    return pare_blocks_check(x, d);
}

/* Sizes that depend on the models. */
static pare_status sizes(pare_distill_run *x, pare_diag *d) {
    pare_distill_opts *o = &x->o;
    bool encoder = x->student.arch.family == PARE_FAMILY_BERT, pairs = x->weight[PARE_TERM_CONTRASTIVE] > 0;
    int64_t longest = pare_arch_context(&x->student.arch), usual = encoder ? 128 : 256;
    if (!o->ctx) o->ctx = longest < usual ? longest : usual;
    if (!o->batch) o->batch = encoder ? 32 : 8;
    if (o->batch < 1) return pare_fail(d, PARE_ERR_USAGE, NULL, "--batch", "%lld windows", (long long)o->batch);
    if (!o->micro) {
        int64_t tokens = PASS_TOKENS, logits = PASS_LOGITS / x->student.arch.vocab;
        if (!encoder && logits < tokens) tokens = logits;
        int64_t windows = o->ctx > 0 && tokens / o->ctx < o->batch ? tokens / o->ctx : o->batch;
        if (pairs) windows = o->batch; /* a sentence is told from all others of its pass */
        PARE_TRY(pare_distill_passes(x, windows < 1 ? 1 : windows, d));
    }
    if (o->micro < 1 || o->micro > 4096 || o->batch % o->micro)
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--micro", "%lld windows at once do not divide the %lld of a step",
                         (long long)o->micro, (long long)o->batch);
    if (pairs && (o->micro % 2 || o->micro < 4))
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--micro",
                         "%lld sentences at once; contrastive wants at least two pairs, an even number of sentences",
                         (long long)o->micro);
    if (o->batch / o->micro < pare_team_size())
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--micro",
                         "%lld windows at once: the %lld of a step do not go round %d processes", (long long)o->micro,
                         (long long)o->batch, pare_team_size());
    return PARE_OK;
}

/* Before hours of work: could the output be written at the end? */
static pare_status check_output(const pare_distill_opts *o, pare_diag *d) {
    pare_source_kind k = PARE_SOURCE_FOLDER;
    if (!o->out) return pare_fail(d, PARE_ERR_USAGE, NULL, "-o", "no output was named");
    PARE_TRY(pare_job_kind_of(o->out, o->format, &k, d));
    return pare_out_check(o->out, k == PARE_SOURCE_FOLDER, k != PARE_SOURCE_GGUF, o->force, o->teacher, d);
}

/* Options as JSON: part of the report, and of what a checkpoint belongs to. */
static pare_status tell_options(pare_distill_run *x, pare_distill_text *t, pare_diag *d) {
    const pare_distill_opts *o = &x->o;
    static const char *const ways[] = {"forward", "reverse", "js"}, *const trains[] = {"all", "norms", "scales", "qat",
                                                                                       "adapters"};
    char terms[PARE_TERMS * 40] = "";
    for (int k = 0; k < PARE_TERMS; k++)
        if (x->weight[k] > 0)
            snprintf(terms + strlen(terms), sizeof terms - strlen(terms), "\"%s\": %.9g, ",
                     pare_term_name((pare_term)k), (double)x->weight[k]);
    t->options = pare_sprintf(
        "{%s\"divergence\": \"%s\", \"temperature\": %.17g, \"relation_heads\": %lld, \"train\": \"%s\", "
        "\"optimizer\": \"%s\", \"schedule\": \"%s\", \"rate\": %.17g, \"min_rate\": %.17g, \"decay\": %.17g, "
        "\"clip\": %.17g, \"beta1\": %.17g, \"beta2\": %.17g, \"momentum\": %.17g, \"ema\": %.17g, \"warmup\": "
        "%lld, \"steps\": %lld, \"ctx\": %lld, \"batch\": %lld, \"micro\": %lld, \"seed\": %llu, \"recompute\": %s, "
        "\"teacher_top\": %lld, \"rank\": %lld, \"alpha\": %.17g, \"device\": \"%s\", \"precision\": \"%s\"%s%s%s%s}",
        terms, ways[x->divergence], o->temperature, (long long)o->relation_heads, trains[x->train],
        o->optimizer ? o->optimizer : "adamw", o->schedule ? o->schedule : "cosine", o->rate, o->min_rate, o->decay,
        o->clip, o->beta1, o->beta2, o->momentum, o->ema, (long long)o->warmup, (long long)o->steps, (long long)o->ctx,
        (long long)o->batch, (long long)o->micro, (unsigned long long)o->seed, o->recompute ? "true" : "false",
        (long long)o->teacher_top, (long long)o->rank, o->alpha, o->device ? o->device : "cpu",
        x->bf16 ? "bf16" : "f32",
        !x->given                ? ""
        : x->given->from_teacher ? ", \"init\": \"teacher\""
                                 : ", \"init\": \"random\"",
        o->blockwise ? ", \"block_inputs\": \"" : "", o->blockwise ? o->block_inputs : "", o->blockwise ? "\"" : "");
    return t->options ? PARE_OK : pare_fail(d, PARE_ERR_NOMEM, NULL, NULL, "no memory for the options");
}

uint64_t pare_distill_sample(uint64_t sum, const pare_source *src) {
    for (size_t i = 0; i < src->n_tensors; i++) {
        const pare_stored *t = &src->tensors[i];
        sum = pare_checksum(sum, t->name, strlen(t->name));
        if (t->data) sum = pare_checksum(sum, t->data, t->bytes < SAMPLE ? t->bytes : SAMPLE);
    }
    return sum;
}

uint64_t pare_distill_key(const pare_distill_run *x) {
    const char *options = ((const pare_distill_text *)x->r->impl)->options;
    uint64_t key = pare_checksum(x->data.sum, options, strlen(options));
    key = pare_checksum(key, &x->data.train, sizeof x->data.train);
    for (size_t i = 0; i < x->n_params; i++) {
        key = pare_checksum(key, x->param[i].name, strlen(x->param[i].name));
        key = pare_checksum(key, x->param[i].w, x->param[i].n * sizeof(float));
        const pare_scales *k = x->student.scales[x->tensor[i]];
        if (k) key = pare_checksum(key, k->data, k->rows * k->row_bytes);
        const pare_adapter *a = x->student.adapters[x->tensor[i]];
        if (a) key = pare_checksum(key, a->w0, a->rows * a->cols * sizeof *a->w0);
    }
    return x->needs_teacher ? pare_distill_sample(key, x->teacher_src) : key;
}

static pare_status open_teacher(pare_distill_run *x, pare_diag *d) {
    PARE_TRY(pare_source_open(x->o.teacher, &x->teacher_src, d));
    PARE_TRY(pare_arch_read(x->teacher_src, &x->teacher_arch, d));
    return pare_arch_check(x->teacher_src, &x->teacher_arch, d);
}

static pare_status open_all(pare_distill_run *x, pare_diag *d) {
    PARE_TRY(open_teacher(x, d));
    PARE_TRY(pare_student_open(x, d));
    if (x->student.arch.family != x->teacher_arch.family)
        return pare_fail(d, PARE_ERR_MISMATCH, x->student.job->src->path, x->student.arch.name,
                         "the teacher is a %s; a language model and a sentence encoder have nothing to compare",
                         x->teacher_arch.name);
    PARE_TRY(pare_terms_check(x, d));
    PARE_TRY(sizes(x, d));
    x->r->encoder = x->student.arch.family == PARE_FAMILY_BERT;
    PARE_TRY(x->r->encoder ? pare_distill_sentences_open(x, d) : pare_windows_open(x, d));
    PARE_TRY(pare_teacher_top_open(x, d));
    return x->o.blockwise ? pare_blocks_open(x, d) : pare_distill_graph(x, d);
}

pare_status pare_distill_open_trainer(pare_distill_run *x, pare_diag *d) {
    static const char *const kinds[] = {"adamw", "sgd"}, *const schedules[] = {"cosine", "linear", "constant"};
    const pare_distill_opts *o = &x->o;
    int kind, schedule;
    PARE_TRY(word_of(o->optimizer, "--optimizer", kinds, 2, &kind, d));
    PARE_TRY(word_of(o->schedule, "--schedule", schedules, 3, &schedule, d));
    pare_optim optim = {.kind = (pare_optimizer)kind,
                        .schedule = (pare_schedule)schedule,
                        .steps = o->steps,
                        .warmup = o->warmup,
                        .rate = o->rate,
                        .min_rate = o->min_rate,
                        .beta1 = o->beta1,
                        .beta2 = o->beta2,
                        .eps = 1e-8,
                        .momentum = o->momentum,
                        .decay = o->decay,
                        .clip = o->clip,
                        .ema = o->ema};
    PARE_TRY(pare_trainer_open(&optim, x->param, x->n_params, &x->trainer, d));
    x->trainer.micro = o->micro;
    return PARE_OK;
}

/* Steps until all are done. A checkpoint is kept now and then, and when the run is interrupted or fails. */
pare_status pare_distill_train(pare_distill_run *x, uint64_t key, pare_meter *meter, int64_t before, pare_diag *d) {
    pare_trainer *t = &x->trainer;
    const char *path = x->kept;
    double start = pare_now_s(), saved = start;
    int64_t first = t->done;
    pare_status s = PARE_OK;
    while (s == PARE_OK && t->done < t->optim.steps) {
        char item[96];
        s = pare_is_interrupted() ? pare_interrupted(d) : pare_distill_step(x, d);
        if (s != PARE_OK) break;
        double now = pare_now_s(), *row = t->curve + (t->done - 1) * PARE_CURVE;
        x->r->tokens_per_second = (double)((t->done - first) * x->r->tokens_per_step) / (now - start);
        snprintf(item, sizeof item, "%s%sstep %lld: loss %.4f, %.0f tokens/s", x->blocks ? pare_blocks_name(x) : "",
                 x->blocks ? ", " : "", (long long)t->done, row[2], x->r->tokens_per_second);
        pare_meter_step(meter, item, (uint64_t)(before + t->done - first));
        bool due = x->o.save_every ? t->done % x->o.save_every == 0 : now - saved > SAVE_SECONDS;
        if (!due || pare_team_rank() > 0) continue;
        s = pare_resident_fetch(x, d);
        if (s == PARE_OK) s = pare_trainer_save(t, key, path, d);
        saved = now;
    }
    if (s == PARE_ERR_INTERRUPTED && t->done > first && pare_team_rank() == 0) {
        pare_diag why = {0};
        if (pare_resident_fetch(x, &why) == PARE_OK && pare_trainer_save(t, key, path, &why) == PARE_OK)
            pare_log(PARE_LOG_INFO, "interrupted after step %lld; the same command goes on from %s", (long long)t->done,
                     path);
        else pare_log(PARE_LOG_WARN, "%s: %s", path, why.text);
    }
    x->r->seconds = pare_now_s() - start;
    return s;
}

static pare_status write_out(pare_distill_run *x, pare_distill_text *t, pare_diag *d) {
    PARE_TRY(pare_student_settle(&x->student, d));
    PARE_TRY(pare_job_run(x->student.job, d));
    if (x->student.job->ran[0]) snprintf(t->ran, sizeof t->ran, "%s", x->student.job->ran);
    else {
        pare_source *src = NULL;
        PARE_TRY(pare_source_open(x->o.out, &src, d));
        pare_status s = pare_job_try(src, t->ran, d);
        pare_source_close(&src);
        return s;
    }
    return PARE_OK;
}

/* From the checkpoint, if there is one of this run. */
pare_status pare_distill_go_on(pare_distill_run *x, uint64_t key, bool *found, pare_diag *d) {
    const char *path = x->kept;
    pare_diag why = {0};
    PARE_TRY(pare_team_same(key, "has other models, data or options", d));
    pare_status s = pare_team_rank() == 0 ? pare_trainer_load(&x->trainer, key, path, found, &why) : PARE_OK;
    if (x->o.force && (s == PARE_ERR_EXISTS || s == PARE_ERR_INPUT)) s = PARE_OK;
    if (s != PARE_OK) s = pare_fail(d, s, path, why.where, "%s", why.text);
    return pare_distill_spread(x, s, found, d);
}

pare_status pare_distill_average(pare_distill_run *x, pare_diag *d) {
    for (size_t i = 0; i < x->n_params; i++)
        if (x->param[i].ema) memcpy(x->param[i].w, x->param[i].ema, x->param[i].n * sizeof(float));
    if (x->trainer.optim.ema > 0) PARE_TRY(pare_distill_refresh(x, d));
    for (size_t i = 0; i < x->student.n; i++)
        if (x->student.scales[i]) pare_scales_settle(x->student.scales[i], x->student.master[i]);
    return pare_distill_upload(x, d);
}

/* All layers at once. */
static pare_status whole(pare_distill_run *x, pare_distill_text *t, pare_diag *d) {
    pare_distill_report *r = x->r;
    bool found = false;
    pare_meter meter;
    PARE_TRY(pare_distill_open_trainer(x, d));
    uint64_t key = pare_distill_key(x);
    pare_log(PARE_LOG_INFO, "%s; %llu of %llu parameters are trained", x->data.note, (unsigned long long)r->trained,
             (unsigned long long)r->parameters);
    PARE_TRY(pare_distill_measure(x, &r->before, d));
    PARE_TRY(pare_distill_go_on(x, key, &found, d));
    r->resumed_from = x->trainer.done;
    if (found) PARE_TRY(pare_distill_refresh(x, d));
    if (found) pare_log(PARE_LOG_INFO, "going on after step %lld (%s)", (long long)x->trainer.done, x->kept);
    pare_meter_start(&meter, "distill", "steps", (uint64_t)(r->steps - x->trainer.done));
    PARE_TRY(pare_resident_open(x, d));
    PARE_TRY(pare_distill_train(x, key, &meter, 0, d));
    PARE_TRY(pare_resident_fetch(x, d));
    pare_resident_close(x);
    double asked = (double)r->teacher_windows, by_all = 0;
    PARE_TRY(pare_team_agree(PARE_OK, d));
    pare_team_sum_f64(&asked, 1, pare_team_size(), &by_all);
    r->teacher_windows = (int64_t)by_all;
    memcpy(t->curve, x->trainer.curve, (size_t)r->steps * PARE_CURVE * sizeof *t->curve);
    PARE_TRY(pare_distill_average(x, d));
    return pare_distill_measure(x, &r->after, d);
}

static pare_status work(pare_distill_run *x, pare_distill_text *t, const char *path, pare_diag *d) {
    pare_distill_report *r = x->r;
    PARE_TRY(open_all(x, d));
    PARE_TRY(tell_options(x, t, d));
    for (size_t i = 0; i < x->student.n; i++) {
        pare_tensor view =
            pare_tensor_make(x->student.tensors[i].type, x->student.tensors[i].ndim, x->student.tensors[i].shape, NULL);
        r->parameters += (uint64_t)pare_tensor_elems(&view);
    }
    r->steps = x->o.steps * (x->blocks ? x->student.arch.layers : 1), r->tokens_per_step = x->o.batch * x->o.ctx;
    if (r->encoder) r->tokens_per_step = x->o.batch * x->data.start[x->data.train] / x->data.train; /* about */
    r->train_windows = x->data.train, r->eval_windows = x->data.n - x->data.train;
    snprintf(t->note, sizeof t->note, "%s", x->data.note);
    if (!(t->curve = pare_calloc((size_t)r->steps * PARE_CURVE, sizeof *t->curve)))
        return pare_fail(d, PARE_ERR_NOMEM, NULL, "report", "no memory for the curve");
    r->curve = t->curve;
    PARE_TRY(x->blocks ? pare_blocks_work(x, t, d) : whole(x, t, d));
    if (pare_team_rank() > 0) return PARE_OK;
    PARE_TRY(write_out(x, t, d));
    unlink(path);
    if (x->blocks) pare_journal_remove(x->blocks->journal);
    return PARE_OK;
}

static void close_all(pare_distill_run *x) {
    pare_resident_close(x);
    pare_trainer_close(&x->trainer);
    pare_teacher_top_close(&x->top);
    pare_student_close(&x->student);
    pare_blocks_close(&x->blocks); /* which has what the student reads */
    pare_given_close(&x->given);
    pare_lm_run_close(&x->teacher);
    pare_weights_close(&x->teacher_w);
    pare_source_close(&x->teacher_src);
    pare_windows_close(&x->data);
    pare_distill_forget(x);
    pare_free(x->tap);
    pare_free(x->lengths);
    pare_free(x->token_weight_at);
    pare_free(x->pool_weight_at);
    pare_free(x->relation_mask_at);
    pare_free(x->pair_self_at);
    pare_free(x->pair_partner_at);
    pare_free(x->ids);
    pare_free(x->labels_at);
    pare_free(x->bind);
}

pare_status pare_distill_plan(const pare_distill_opts *o, const pare_job_from *from, pare_job **job, pare_diag *d) {
    pare_distill_report r = {0}; /* where the terms of the loss are told */
    pare_distill_run x = {.o = *o, .r = &r};
    bool given = o->student && pare_given_is(o->student);
    PARE_TRY(defaults(&x, d));
    pare_status s = given || !o->student ? open_teacher(&x, d) : PARE_OK;
    if (s == PARE_OK && given) s = pare_given_open(&x, d);
    if (s == PARE_OK) s = pare_student_plan(&x, from, d);
    *job = x.student.job;
    pare_given_close(&x.given);
    pare_source_close(&x.teacher_src);
    return s;
}

pare_status pare_distill(const pare_distill_opts *o, pare_distill_report **out, pare_diag *d) {
    return pare_distill_titled(o, NULL, out, d);
}

pare_status pare_distill_titled(const pare_distill_opts *o, const char *title, pare_distill_report **out,
                                pare_diag *d) {
    pare_distill_run x = {.o = *o, .title = title};
    pare_distill_text *t = pare_calloc(1, sizeof *t);
    *out = NULL;
    if (!t) return pare_fail(d, PARE_ERR_NOMEM, NULL, NULL, "not enough memory to begin");
    t->r.impl = t, t->r.ran = t->ran, t->r.note = t->note;
    x.r = *out = &t->r;
    char *path = o->out ? pare_sprintf("%s.pare-train", o->out) : NULL;
    pare_status s = defaults(&x, d);
    if (s == PARE_OK && pare_team_rank() == 0) s = check_output(o, d);
    if (s == PARE_OK && !path) s = pare_fail(d, PARE_ERR_NOMEM, NULL, NULL, "not enough memory to begin");
    x.kept = path;
    if (s == PARE_OK) s = work(&x, t, path, d);
    s = pare_team_agree(s, d); /* those that failed are met here */
    close_all(&x);
    pare_free(path);
    if (s != PARE_OK) pare_distill_close(out);
    return s;
}
