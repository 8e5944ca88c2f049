/* SPDX-License-Identifier: Apache-2.0
 *
 * Recipes: every step is planned on the plan of the one before, so that what cannot be is said before hours of work;
 * then they are run one by one (api/recipe.h). */
#include "api/recipe.h"

#include "core/log.h"
#include "core/status.h"
#include "formats/out_place.h"

#include <ctype.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static pare_status nomem(const pare_recipe *r, pare_diag *d) {
    return pare_fail(d, PARE_ERR_NOMEM, r->path, NULL, "no memory for the recipe");
}

bool pare_recipe_step_kind(size_t i, const char **name, const char **text) {
    const pare_recipe_kind *k = pare_recipe_kind_at(i);
    if (k) *name = k->name, *text = k->text;
    return k != NULL;
}

bool pare_recipe_step_key(size_t i, size_t k, const char **name, const char **text) {
    const pare_recipe_kind *kind = pare_recipe_kind_at(i);
    if (!kind || k >= kind->n_keys) return false;
    *name = kind->keys[k].name, *text = kind->keys[k].text;
    return true;
}

/* ---- paths ---- */
static pare_status names(pare_recipe *r, const pare_recipe_opts *o, pare_diag *d) {
    if (o->model) r->model = pare_arena_strndup(r->arena, o->model, strlen(o->model));
    if (o->out) r->out = pare_arena_strndup(r->arena, o->out, strlen(o->out));
    if (o->calib) r->calib = pare_arena_strndup(r->arena, o->calib, strlen(o->calib));
    if ((o->model && !r->model) || (o->out && !r->out) || (o->calib && !r->calib)) return nomem(r, d);
    if (!r->model)
        return pare_fail(d, PARE_ERR_USAGE, r->path, "model", "no model is named, here or on the command line");
    if (!r->out) return pare_fail(d, PARE_ERR_USAGE, r->path, "output", "no output is named, here or with -o");
    size_t n = strlen(r->out);
    while (n > 1 && r->out[n - 1] == '/') n--;
    if (!(r->steps_folder = pare_arena_alloc(r->arena, n + 16))) return nomem(r, d);
    snprintf(r->steps_folder, n + 16, "%.*s.pare-steps", (int)n, r->out);
    return PARE_OK;
}

/* Which step reads and writes what. */
static pare_status wire(pare_recipe *r, pare_diag *d) {
    static const char *const ends[] =
        {[PARE_SOURCE_SAFETENSORS] = ".safetensors", [PARE_SOURCE_FOLDER] = "", [PARE_SOURCE_GGUF] = ".gguf"};
    pare_recipe_step *last = NULL;
    pare_source_kind kind = r->source_kind;
    bool sparse = false;
    char *in = (char *)(uintptr_t)r->model;
    for (size_t i = 0; i < r->n; i++)
        if (r->steps[i].kind->open) last = &r->steps[i];
    last->last = true;
    for (size_t i = 0; i < r->n; i++) {
        pare_recipe_step *s = &r->steps[i];
        s->in = in, s->sparse = sparse;
        if (!s->kind->open) continue;
        if (s->kind->packs) PARE_TRY(pare_job_kind_of(r->out, r->format, &kind, d));
        size_t n = strlen(r->steps_folder) + strlen(s->kind->name) + 48;
        if (!(s->between = pare_arena_alloc(r->arena, n))) return nomem(r, d);
        snprintf(s->between, n, "%s/%zu-%s%s", r->steps_folder, i + 1, s->kind->name, ends[kind]);
        s->out = s->last ? (char *)(uintptr_t)r->out : s->between;
        in = s->out;
        sparse |= s->kind->zeros && s->kind->zeros(s);
    }
    return PARE_OK;
}

/* ---- the plan ---- */
/* Of a step's own options the place in the recipe, not the option of the command line. */
static pare_status at_step(const pare_recipe *r, size_t i, pare_status s, const pare_diag *why, pare_diag *d) {
    char where[192];
    bool option = strncmp(why->where, "--", 2) == 0;
    if (s == PARE_OK || s == PARE_ERR_INTERRUPTED || s == PARE_ERR_NOMEM) {
        if (d && s != PARE_OK) *d = *why;
        return s;
    }
    snprintf(where, sizeof where, "steps[%u]%s%.150s", (unsigned)i, *why->where ? option ? "." : ", " : "",
             why->where + (option ? 2 : 0));
    for (char *c = where; option && *c; c++)
        if (*c == '-') *c = '_';
    return pare_fail(d, s, option || !*why->file ? r->path : why->file, where, "%s", why->text);
}

static pare_status plan(pare_recipe *r, pare_diag *d) {
    const pare_job *before = NULL;
    pare_source *src = NULL;
    PARE_TRY(pare_source_open(r->model, &src, d));
    r->source_kind = src->kind;
    pare_status s = wire(r, d);
    for (size_t i = 0; s == PARE_OK && i < r->n; i++) {
        pare_recipe_step *x = &r->steps[i];
        pare_diag why = {0};
        if (x->kind->open) {
            const pare_job_from from = {.path = x->in, .title = r->model, .before = before, .sizes_only = true};
            s = x->kind->open(r, x, &from, x->out, &x->job, &why);
            before = x->job;
        } else s = x->kind->check(x, src, &why);
        s = at_step(r, i, s, &why, d);
    }
    pare_source_close(&src);
    return s;
}

static pare_status check_output(const pare_recipe *r, pare_diag *d) {
    const pare_recipe_step *last = NULL;
    for (size_t i = 0; i < r->n; i++)
        if (r->steps[i].last) last = &r->steps[i];
    pare_source_kind k = last->job->kind;
    return pare_out_check(r->out, k == PARE_SOURCE_FOLDER, k != PARE_SOURCE_GGUF, r->force || last->done, r->model, d);
}

static pare_status open_all(pare_recipe *r, const pare_recipe_opts *o, pare_diag *d) {
    const char *slash = strrchr(r->path, '/');
    r->folder = pare_arena_strndup(r->arena, r->path, slash ? (size_t)(slash - r->path) + 1 : 0);
    if (!r->folder) return nomem(r, d);
    PARE_TRY(pare_recipe_read(r, d));
    PARE_TRY(names(r, o, d));
    PARE_TRY(plan(r, d));
    PARE_TRY(pare_recipe_keys(r, d));
    PARE_TRY(pare_recipe_find_finished(r, d));
    return check_output(r, d);
}

pare_status pare_recipe_open(const char *path, const pare_recipe_opts *o, pare_recipe **out, pare_diag *d) {
    pare_recipe *r = *out = pare_calloc(1, sizeof *r);
    if (!r) return pare_fail(d, PARE_ERR_NOMEM, path, NULL, "no memory for the recipe");
    r->lock = -1, r->force = o->force, r->again = o->again;
    r->path = path;
    pare_status s = PARE_OK;
    if (!(r->arena = pare_arena_new()) || !(r->path = pare_arena_strndup(r->arena, path, strlen(path))))
        s = pare_fail(d, PARE_ERR_NOMEM, path, NULL, "no memory for the recipe");
    if (s == PARE_OK) s = open_all(r, o, d);
    if (s != PARE_OK) pare_recipe_close(out);
    return s;
}

/* ---- running ---- */
static pare_status run_job(pare_recipe *r, pare_recipe_step *s, pare_diag *d) {
    if (s->kind->run) return s->kind->run(r, s, d);
    const pare_job_from from = {.path = s->in, .title = r->model, .journal = s->between};
    PARE_TRY(s->kind->open(r, s, &from, s->out, &s->job, d));
    return pare_job_run(s->job, d);
}

pare_status pare_recipe_run(pare_recipe *r, size_t i, pare_diag *d) {
    pare_recipe_step *s = &r->steps[i];
    pare_diag why = {0};
    if (s->done) return PARE_OK;
    PARE_TRY(pare_recipe_enter(r, d));
    for (size_t k = r->n; k-- > 0;) pare_job_close(&r->steps[k].job); /* plans, built one on another; what is over */
    double start = pare_now_s();
    pare_status st = s->kind->open ? run_job(r, s, &why) : s->kind->judge(s, r->model, s->in, &s->report, &why);
    PARE_TRY(at_step(r, i, st, &why, d));
    s->seconds = pare_now_s() - start;
    if (s->report) s->n_failed = s->report->n_failed;
    s->done = true;
    return pare_recipe_save(r, d);
}

pare_status pare_recipe_keep(pare_recipe *r, size_t i, const char *note, pare_diag *d) {
    if (!(r->steps[i].note = pare_arena_strndup(r->arena, note, strlen(note)))) return nomem(r, d);
    return r->lock >= 0 ? pare_recipe_save(r, d) : PARE_OK;
}

void pare_recipe_finish(pare_recipe *r) {
    pare_out_remove(r->steps_folder);
    pare_recipe_leave(r);
}

/* ---- what callers see ---- */
pare_recipe_info pare_recipe_describe(const pare_recipe *r) {
    return (pare_recipe_info){.model = r->model,
                              .out = r->out,
                              .calib = r->calib,
                              .steps_folder = r->steps_folder,
                              .n_steps = r->n};
}

pare_recipe_at pare_recipe_step_at(const pare_recipe *r, size_t i) {
    const pare_recipe_step *s = &r->steps[i];
    return (pare_recipe_at){.kind = s->kind->name,
                            .in = s->in,
                            .out = s->out,
                            .job = s->job,
                            .report = s->report,
                            .distilled = s->distilled,
                            .done = s->done,
                            .reused = s->reused,
                            .n_failed = s->n_failed,
                            .seconds = s->seconds,
                            .note = s->note};
}

void pare_recipe_close(pare_recipe **rp) {
    pare_recipe *r = rp ? *rp : NULL;
    if (!r) return;
    for (size_t i = r->n; r->steps && i-- > 0;) {
        pare_job_close(&r->steps[i].job);
        pare_verify_close(&r->steps[i].report);
        pare_distill_close(&r->steps[i].distilled);
    }
    pare_recipe_leave(r);
    json_decref(r->json);
    pare_arena_free(&r->arena);
    pare_free(r);
    *rp = NULL;
}
