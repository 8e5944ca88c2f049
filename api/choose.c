/* SPDX-License-Identifier: Apache-2.0
 *
 * From a goal to options of pruning (api/choose.h). A size is known from plans alone; quality is measured: a candidate
 * is written beside the output, compared with the model on a text that is not calibrated on, and removed. */
#include "api/choose.h"

#include "api/verify_impl.h"
#include "core/log.h"
#include "core/status.h"
#include "formats/out_place.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#define EVALUATIONS 7

static pare_status no_memory(pare_diag *d) {
    return pare_fail(d, PARE_ERR_NOMEM, NULL, "pruning", "no memory for the search");
}

pare_status pare_output_bytes(const char *path, uint64_t *out, pare_diag *d) {
    struct stat st;
    *out = 0;
    if (stat(path, &st) != 0) return pare_fail_errno(d, path, "cannot look at the size");
    if (!S_ISDIR(st.st_mode)) return *out = (uint64_t)st.st_size, PARE_OK;
    DIR *f = opendir(path);
    if (!f) return pare_fail_errno(d, path, "cannot look at the size");
    pare_status s = PARE_OK;
    for (struct dirent *e; s == PARE_OK && (e = readdir(f));) {
        uint64_t one;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        char *p = pare_sprintf("%s/%s", path, e->d_name);
        s = p ? pare_output_bytes(p, &one, d) : no_memory(d);
        if (s == PARE_OK) *out += one;
        pare_free(p);
    }
    closedir(f);
    return s;
}

/* Of the model that is read: weights, and the small files that go with them into a folder. */
static pare_status model_bytes(const char *model, uint64_t *out, pare_diag *d) {
    pare_source *src;
    uint64_t one;
    *out = 0;
    PARE_TRY(pare_source_open(model, &src, d));
    pare_status s = PARE_OK;
    for (size_t i = 0; s == PARE_OK && i < src->n_shards; i++) {
        s = pare_output_bytes(src->shards[i], &one, d);
        if (s == PARE_OK) *out += one;
    }
    for (size_t i = 0; s == PARE_OK && i < src->n_sidecars; i++) {
        char *p = pare_sprintf("%s/%s", src->path, src->sidecars[i]);
        s = p ? pare_output_bytes(p, &one, d) : no_memory(d);
        if (s == PARE_OK) *out += one;
        pare_free(p);
    }
    pare_source_close(&src);
    return s;
}

/* ---- sizes ---- */
/* Bytes of the tensors at this step, from its plan. */
static pare_status planned(void *ctx, int64_t step, double *bytes, pare_diag *d) {
    pare_chooser *c = ctx;
    pare_prune_opts o;
    pare_job *job = NULL;
    const char *text;
    PARE_TRY(pare_chooser_options(c, step, &o, &text, NULL, d));
    PARE_TRY(pare_job_prune_from(&(pare_job_from){.path = c->model, .sizes_only = true}, c->out, &o, &job, d));
    *bytes = (double)pare_job_sum(job).bytes_out;
    if (!c->overhead) { /* names, metadata and small files hardly change from step to step */
        uint64_t all = 0;
        pare_status s = pare_job_output_bytes(job, &all, d);
        c->overhead = all > (uint64_t)*bytes ? all - (uint64_t)*bytes : 1;
        if (s != PARE_OK) return pare_job_close(&job), s;
    }
    pare_job_close(&job);
    *bytes += (double)c->overhead;
    return PARE_OK;
}

/* ---- what is looked at ---- */
static pare_status divergence(pare_chooser *c, const char *model, double *kl, pare_diag *d) {
    const pare_verify_opts o = {.data = c->goal->data, .ctx = c->goal->ctx, .windows = c->goal->windows};
    pare_verify_report *r = NULL;
    PARE_TRY(pare_verify(c->model, model, &o, &r, d));
    const pare_metric *m = pare_report_find(r, "kl_mean");
    *kl = m ? m->at[1].value : -1;
    pare_verify_close(&r);
    return m ? PARE_OK : pare_fail(d, PARE_ERR_USAGE, c->model, "--max-kl", "only language models have one");
}

static pare_status written(pare_chooser *c, const char *model, double *bytes, pare_diag *d) {
    uint64_t n;
    PARE_TRY(pare_output_bytes(model, &n, d));
    *bytes = (double)n;
    return PARE_OK;
}

/* ---- candidates ---- */
static const char *file_ending(const char *path) { /* "" of a folder */
    static const char *const endings[] = {".gguf", ".safetensors"};
    size_t n = strlen(path);
    for (size_t i = 0; i < 2; i++)
        if (n > strlen(endings[i]) && strcasecmp(path + n - strlen(endings[i]), endings[i]) == 0) return endings[i];
    return "";
}

/* OUT.pare-search; one that is there must be ours, since it goes with all that is in it. */
static pare_status enter(pare_chooser *c, pare_diag *d) {
    size_t n = strlen(c->out);
    while (n > 1 && c->out[n - 1] == '/') n--;
    if (!(c->scratch = pare_arena_alloc(c->arena, n + 16))) return no_memory(d);
    snprintf(c->scratch, n + 16, "%.*s.pare-search", (int)n, c->out);
    if (mkdir(c->scratch, 0777) == 0) return PARE_OK;
    DIR *f = errno == EEXIST ? opendir(c->scratch) : NULL;
    if (!f) return pare_fail_errno(d, c->scratch, "the folder for the search cannot be created");
    bool ours = true;
    for (struct dirent *e; (e = readdir(f));)
        ours = ours && (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") || !strncmp(e->d_name, "candidate", 9));
    closedir(f);
    return ours ? PARE_OK
                : pare_fail(d, PARE_ERR_EXISTS, c->scratch, NULL, "exists and is not of a search; move it away");
}

/* Writes the model of this step and looks at it; it goes. */
typedef pare_status look_fn(pare_chooser *c, const char *model, double *value, pare_diag *d);

static pare_status candidate(pare_chooser *c, int64_t step, look_fn *look, double *value, pare_diag *d) {
    pare_prune_opts o;
    pare_job *job = NULL;
    const char *text;
    double *share = pare_arena_alloc(c->arena, (c->n_layers + 1) * sizeof *share);
    char *path = pare_sprintf("%s/candidate%s", c->scratch, file_ending(c->out));
    pare_status s = share && path ? pare_chooser_options(c, step, &o, &text, share, d) : no_memory(d);
    if (s == PARE_OK) {
        o.force = true;
        s = pare_prune_open(c->model, path, &o, &job, d);
    }
    if (s == PARE_OK) s = pare_job_run(job, d);
    pare_job_close(&job);
    if (s == PARE_OK) s = look(c, path, value, d);
    if (s == PARE_OK)
        pare_log(PARE_LOG_INFO, "%s: %s %.6g", text, look == divergence ? "KL divergence" : "bytes", *value);
    if (path) pare_out_remove(path);
    pare_free(path);
    c->choice->evaluations += s == PARE_OK;
    return s;
}

/* ---- to a size ---- */
/* Of structured pruning from the plan; zeros have a size only when they are written. */
static pare_status size_of(pare_chooser *c, int64_t step, double *bytes, pare_diag *d) {
    return c->kind == PARE_STEP_PARTS ? planned(c, step, bytes, d) : candidate(c, step, written, bytes, d);
}

/* What is too large shrinks with the step: the largest step that is still too large, and one more. */
static pare_status too_large(void *ctx, int64_t step, double *cost, pare_diag *d) {
    PARE_TRY(size_of(ctx, step, cost, d));
    *cost = -*cost;
    return PARE_OK;
}

static pare_status fit(pare_chooser *c, uint64_t limit, int64_t *step, pare_diag *d) {
    pare_search_result r;
    double bytes;
    const pare_search s = {1, c->steps, -(double)limit - 1, 64, too_large, c};
    PARE_TRY(pare_search_run(&s, &r, d));
    *step = r.found ? r.x + 1 : 1;
    if (*step > c->steps) *step = c->steps;
    PARE_TRY(size_of(c, *step, &bytes, d));
    c->choice->bytes = (uint64_t)bytes;
    if (bytes <= (double)limit) return PARE_OK;
    return pare_fail(d, PARE_ERR_GATE, c->out, "--fit",
                     "%llu bytes cannot be reached: with as few %s as can stay it has %.0f", (unsigned long long)limit,
                     c->what, bytes);
}

/* ---- to a quality ---- */
static pare_status loss(void *ctx, int64_t step, double *kl, pare_diag *d) {
    return candidate(ctx, step, divergence, kl, d);
}

static pare_status within(pare_chooser *c, int64_t *step, pare_diag *d) {
    pare_search_result r;
    const pare_search s = {1,    c->steps, c->goal->max_kl, c->goal->evaluations ? c->goal->evaluations : EVALUATIONS,
                           loss, c};
    PARE_TRY(pare_search_run(&s, &r, d));
    *step = r.x;
    c->choice->kl = r.cost;
    if (r.found) return PARE_OK;
    return pare_fail(d, PARE_ERR_GATE, c->model, "--max-kl",
                     "%g cannot be reached: the least that was tried, step %lld of %lld, costs %g", c->goal->max_kl,
                     (long long)r.x, (long long)c->steps, r.cost);
}

/* ---- the whole ---- */
static pare_status check(const pare_chooser *c, pare_diag *d) {
    const pare_prune_opts *o = c->o;
    const pare_prune_goal *g = c->goal;
    const char *given = o->sparsity != 0 ? "--sparsity" : o->stay ? "--stay" : o->drop ? "--drop" : NULL;
    if (given) return pare_fail(d, PARE_ERR_USAGE, NULL, given, "the goal decides how much goes; leave this out");
    if (o->scope && strcmp(o->scope, "global") == 0)
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--scope", "the search shares the amount out itself; leave this out");
    if (g->max_kl < 0 || g->fit_share < 0 || g->fit_share >= 1 || g->evaluations < 0)
        return pare_fail(d, PARE_ERR_USAGE, NULL, g->max_kl < 0 ? "--max-kl" : "--fit",
                         "a size, a share below 100 %%, or a limit above 0 was expected");
    const pare_gate gate = {"--max-kl", "kl_mean", true, g->max_kl};
    const pare_verify_opts v = {.data = g->data, .ctx = g->ctx, .windows = g->windows, .gates = &gate, .n_gates = 1};
    pare_source *src;
    PARE_TRY(pare_source_open(c->model, &src, d));
    pare_status s = g->max_kl > 0 ? pare_verify_check(src, &v, d) : PARE_OK;
    pare_source_close(&src);
    PARE_TRY(s);
    bool gguf = strcmp(file_ending(c->out), ".gguf") == 0 || (o->format && strcasecmp(o->format, "gguf") == 0);
    return pare_out_check(c->out, !gguf && !*file_ending(c->out), !gguf, o->force, c->model, d);
}

/* A size that the model has without losing a part is no reason to take one away. */
static pare_status check_worth(const pare_chooser *c, uint64_t limit, pare_diag *d) {
    const pare_prune_opts *o = c->o;
    const pare_job_opts jo = {.to = o->to, .format = o->format, .keep = o->keep, .n_keep = o->to ? o->n_keep : 0};
    pare_job *job = NULL;
    uint64_t bytes = 0;
    PARE_TRY(pare_job_begin(&(pare_job_from){.path = c->model, .sizes_only = true}, c->out, &jo, &job, d));
    pare_status s = o->to ? pare_job_plan_quantize(job, &jo, d) : pare_job_plan_convert(job, &jo, d);
    if (s == PARE_OK) s = pare_job_output_bytes(job, &bytes, d);
    pare_job_close(&job);
    PARE_TRY(s);
    if (bytes > limit) return PARE_OK;
    return pare_fail(d, PARE_ERR_USAGE, c->model, "--fit",
                     "nothing has to go: without pruning the output has %llu bytes, which is within %llu; `pare %s` "
                     "writes it",
                     (unsigned long long)bytes, (unsigned long long)limit, o->to ? "quantize" : "convert");
}

static pare_status choose(pare_chooser *c, pare_diag *d) {
    int64_t step = 1;
    uint64_t whole = 0;
    double *share;
    PARE_TRY(check(c, d));
    if (c->goal->fit_share > 0) PARE_TRY(model_bytes(c->model, &whole, d));
    uint64_t limit = c->goal->fit_bytes ? c->goal->fit_bytes : (uint64_t)(c->goal->fit_share * (double)whole);
    if (limit) PARE_TRY(check_worth(c, limit, d));
    PARE_TRY(pare_chooser_steps(c, d)); /* zeros: measures every layer */
    c->choice->most_bytes = limit;
    c->choice->kl = -1;
    PARE_TRY(enter(c, d));
    pare_status s = limit ? fit(c, limit, &step, d) : within(c, &step, d);
    pare_out_remove(c->scratch);
    PARE_TRY(s);
    if (!(share = pare_arena_alloc(c->arena, (c->n_layers + 1) * sizeof *share))) return no_memory(d);
    PARE_TRY(pare_chooser_options(c, step, &c->choice->opts, &c->choice->text, share, d));
    c->choice->n_layers = c->n_layers, c->choice->share = share;
    return PARE_OK;
}

pare_status pare_prune_choose(const char *model, const char *out, const pare_prune_opts *o, const pare_prune_goal *g,
                              pare_prune_choice **out_choice, pare_diag *d) {
    pare_chooser c = {.model = model, .out = out, .o = o, .goal = g, .arena = pare_arena_new()};
    *out_choice = NULL;
    if (!out) {
        pare_arena_free(&c.arena);
        return pare_fail(d, PARE_ERR_USAGE, NULL, "-o", "a search needs to know where the output goes");
    }
    if (!c.arena || !(c.choice = pare_arena_alloc(c.arena, sizeof *c.choice))) {
        pare_arena_free(&c.arena);
        return no_memory(d);
    }
    c.choice->impl = c.arena;
    *out_choice = c.choice;
    pare_status s = choose(&c, d);
    if (s != PARE_OK) pare_prune_choice_close(out_choice);
    return s;
}

void pare_prune_choice_close(pare_prune_choice **c) {
    if (!c || !*c) return;
    pare_arena *arena = (*c)->impl; /* the choice itself is in it */
    *c = NULL;
    pare_arena_free(&arena);
}
