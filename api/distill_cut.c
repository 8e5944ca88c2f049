/* SPDX-License-Identifier: Apache-2.0
 *
 * A student cut from the teacher, by `pare prune`'s own patterns: channels, heads, neurons, whole layers, in this
 * order. All cuts but the last are models beside the output, which go when the run ends: they follow from teacher, data
 * and options alone, so that a run that goes on makes them again. A plan makes none of them, and counts on their
 * shapes. */
#include "api/distill.h"

#include "api/narrow.h"
#include "core/log.h"
#include "core/status.h"
#include "core/team.h"
#include "formats/out_place.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pare_status no_memory(pare_diag *d) {
    return pare_fail(d, PARE_ERR_NOMEM, NULL, "student", "no memory for the list of layers");
}

/* "0-3,8" to flags of the teacher's layers. */
static pare_status parse_layers(const char *text, int64_t layers, bool *keep, pare_diag *d) {
    for (const char *s = text; *s;) {
        char *end;
        long a = strtol(s, &end, 10), b = a;
        if (end != s && *end == '-') s = end + 1, b = strtol(s, &end, 10);
        if (end == s || (*end && *end != ',') || a < 0 || b < a)
            return pare_fail(d, PARE_ERR_USAGE, NULL, "--keep-layers", "`%s` should read like 0-3,8", text);
        if (b >= layers)
            return pare_fail(d, PARE_ERR_USAGE, NULL, "--keep-layers",
                             "there is no layer %ld; the teacher has 0 to %lld", b, (long long)layers - 1);
        for (long l = a; l <= b; l++) keep[l] = true;
        s = *end ? end + 1 : end;
    }
    return PARE_OK;
}

/* The layers that go, as `pare prune --drop` has them; "" when all stay. */
static pare_status to_drop(pare_student *s, const char *keep_text, const char **out, pare_diag *d) {
    int64_t layers = s->arch.layers;
    bool *keep = pare_arena_alloc(s->job->arena, (size_t)layers);
    char *text = pare_arena_alloc(s->job->arena, (size_t)layers * 6 + 1);
    if (!keep || !text) return no_memory(d);
    PARE_TRY(parse_layers(keep_text, layers, keep, d));
    size_t used = 0;
    for (int64_t l = 0; l < layers; l++)
        if (!keep[l]) used += (size_t)sprintf(text + used, "%s%lld", used ? "," : "", (long long)l);
    *out = text;
    return PARE_OK;
}

/* How many groups of query heads stay, of --heads. */
static pare_status groups(const pare_distill_run *x, int64_t heads, int64_t *out, pare_diag *d) {
    int64_t each = x->teacher_arch.heads / x->teacher_arch.kv_heads;
    if (heads % each)
        return pare_fail(d, PARE_ERR_USAGE, x->teacher_src->path, "--heads",
                         "%lld query heads share a key; %lld heads are no multiple of that", (long long)each,
                         (long long)heads);
    *out = heads / each;
    return PARE_OK;
}

enum { MOST = 5 }; /* cuts */

static void cut(pare_prune_opts *v, int *n, const char *pattern, int64_t stay) {
    if (stay) v[(*n)++] = (pare_prune_opts){.pattern = pattern, .stay = stay};
}

/* Channels and heads: one after the other, or at once where the configuration says both by one number. */
static pare_status list_width(const pare_distill_run *x, pare_prune_opts v[MOST], int *n, pare_diag *d) {
    const pare_given *g = x->given;
    int64_t heads = g ? g->groups : 0;
    if (x->teacher_arch.family == PARE_FAMILY_BERT) {
        if (!g) PARE_TRY(pare_student_width(x, &heads, d));
        return cut(v, n, "width", heads), PARE_OK;
    }
    if (!g && x->o.heads) PARE_TRY(groups(x, x->o.heads, &heads, d));
    cut(v, n, "hidden", g ? g->hidden : x->o.hidden);
    cut(v, n, "heads", heads);
    cut(v, n, "query-heads", g ? g->queries : 0);
    return PARE_OK;
}

/* The cuts that are asked for, in their order. */
static pare_status list(const pare_distill_run *x, pare_prune_opts v[MOST], int *n, pare_diag *d) {
    const pare_distill_opts *o = &x->o;
    const pare_given *g = x->given;
    int64_t layers = g ? g->layers : o->layers;
    *n = 0;
    PARE_TRY(list_width(x, v, n, d));
    cut(v, n, "ffn", g ? g->ffn : o->ffn);
    if (layers || o->keep_layers) /* whole layers are easy to tell apart: few windows */
        v[(*n)++] = (pare_prune_opts){.pattern = "layers", .stay = layers, .no_heal = true, .calib_windows = 16};
    for (int i = 0; i < *n; i++) v[i].calib = o->data, v[i].multiple = 1;
    return PARE_OK;
}

bool pare_student_is_cut(const pare_distill_opts *o) {
    return o->keep_layers || o->layers || o->hidden || o->heads || o->ffn;
}

/* ---- on the way ---- */
/* Which of the teacher's layers those are that a cut leaves. */
static pare_status remember_layers(pare_given *g, const pare_job *job, pare_diag *d) {
    pare_tensor_name now, was;
    if (!(g->layer_of = pare_calloc((size_t)g->arch.layers, sizeof *g->layer_of))) return no_memory(d);
    for (size_t i = 0; i < job->n; i++) {
        const pare_mapped *m = job->t[i].map;
        if (m->src && pare_name_parse(g->arch.family, job->kind, m->name, &now) && now.layer >= 0 &&
            pare_name_parse(g->arch.family, job->src->kind, m->src->name, &was))
            g->layer_of[now.layer] = was.layer;
    }
    return PARE_OK;
}

static pare_status make(pare_distill_run *x, const pare_job_from *from, const char *path, const pare_prune_opts *po,
                        pare_diag *d) {
    pare_job *job = NULL;
    pare_status st = pare_job_prune_from(from, path, po, &job, d);
    if (st == PARE_OK) st = pare_job_run(job, d);
    if (st == PARE_OK && x->given && strcmp(po->pattern, "layers") == 0) st = remember_layers(x->given, job, d);
    pare_job_close(&job);
    return st;
}

/* A model on the way, which is removed when the student is closed. */
static pare_status step(pare_distill_run *x, pare_job_from *from, const char *format, pare_prune_opts *po,
                        pare_diag *d) {
    pare_student *s = &x->student;
    char text[24];
    snprintf(text, sizeof text, ".pare-cut-%d", s->n_on_the_way);
    char *path = pare_arena_alloc(s->arena, strlen(x->o.out) + sizeof text);
    if (!path) return no_memory(d);
    sprintf(path, "%s%s", x->o.out, text);
    po->format = format;
    po->force = true;
    s->on_the_way[s->n_on_the_way++] = path;
    from->on_the_way = true;
    PARE_TRY(pare_team_agree(pare_team_rank() == 0 ? make(x, from, path, po, d) : PARE_OK, d));
    if (!from->title) from->title = from->path;
    from->path = path;
    return PARE_OK;
}

/* The same as shapes: a job that the next one is planned on, and closes. */
static pare_status plan_step(pare_job_from *from, const char *format, pare_prune_opts *po, pare_job **earlier,
                             pare_diag *d) {
    pare_job *job = NULL;
    po->format = format;
    from->on_the_way = true;
    PARE_TRY(pare_job_prune_from(from, NULL, po, &job, d));
    job->earlier = *earlier;
    from->before = *earlier = job;
    return PARE_OK;
}

static const char *format_of(const pare_distill_run *x) {
    return x->teacher_src->kind == PARE_SOURCE_GGUF ? "gguf" : "folder";
}

static pare_status begin(pare_distill_run *x, pare_job_from *from, const pare_job_opts *jo, pare_prune_opts *v, int n,
                         pare_diag *d) {
    pare_student *s = &x->student;
    pare_job *earlier = from->earlier;
    pare_status st = PARE_OK;
    for (int i = 0; st == PARE_OK && i + 1 < n; i++)
        st = from->sizes_only ? plan_step(from, format_of(x), &v[i], &earlier, d)
                              : step(x, from, format_of(x), &v[i], d);
    from->on_the_way = false;
    if (st == PARE_OK) st = pare_job_begin(from, x->o.out, jo, &s->job, d);
    if (st == PARE_OK) s->job->earlier = earlier;
    else pare_job_close(&earlier);
    return st;
}

static uint64_t teacher_bytes(const pare_distill_run *x) {
    uint64_t sum = 0;
    for (size_t i = 0; i < x->teacher_src->n_tensors; i++) sum += x->teacher_src->tensors[i].bytes;
    return sum;
}

pare_status pare_student_cut(pare_distill_run *x, const pare_job_from *of, const pare_job_opts *jo, pare_diag *d) {
    pare_student *s = &x->student;
    pare_job_from from = *of;
    pare_prune_opts v[MOST];
    int n = 0;
    if (!x->o.student) PARE_TRY(list(x, v, &n, d));
    if (!x->o.student && !of->sizes_only) pare_student_width_tell(x);
    PARE_TRY(begin(x, &from, jo, v, n, d));
    PARE_TRY(pare_arch_read(s->job->src, &s->arch, d));
    if (x->given && of->sizes_only) s->job->narrowed = true, s->job->bytes_before = teacher_bytes(x);
    if (n == 0) return PARE_OK;
    pare_prune_opts *last = &v[n - 1];
    if (x->o.keep_layers) PARE_TRY(to_drop(s, x->o.keep_layers, &last->drop, d));
    if (last->drop && !last->drop[0]) return PARE_OK;
    PARE_TRY(pare_job_narrow(s->job, last, d));
    s->arch = s->job->map->arch;
    s->job->bytes_before = teacher_bytes(x); /* not of the last model on the way */
    return PARE_OK;
}

/* The teacher as a folder: names and order of rows are then those of what is made from it. */
static pare_status unpack(pare_distill_run *x, pare_job_from *from, pare_diag *d) {
    const pare_job_opts jo = {.format = "folder", .force = true};
    pare_student *s = &x->student;
    pare_job *job = NULL;
    char *path = pare_arena_alloc(s->arena, strlen(x->o.out) + 24);
    if (!path) return no_memory(d);
    sprintf(path, "%s.pare-cut-%d", x->o.out, s->n_on_the_way);
    s->on_the_way[s->n_on_the_way++] = path;
    pare_status st = PARE_OK;
    if (pare_team_rank() == 0) {
        st = pare_job_begin(from, path, &jo, &job, d);
        if (st == PARE_OK) st = pare_job_plan_convert(job, &jo, d);
        if (st == PARE_OK) st = pare_job_run(job, d);
        pare_job_close(&job);
    }
    from->path = path;
    return pare_team_agree(st, d);
}

pare_status pare_student_cut_to(pare_distill_run *x, const char **path, pare_diag *d) {
    pare_job_from from = {.path = x->o.teacher, .title = x->title};
    pare_prune_opts v[MOST];
    int n = 0;
    PARE_TRY(list(x, v, &n, d));
    for (int i = 0; i < n; i++) PARE_TRY(step(x, &from, "folder", &v[i], d));
    if (n == 0 && x->teacher_src->kind == PARE_SOURCE_GGUF) PARE_TRY(unpack(x, &from, d));
    *path = from.path;
    return PARE_OK;
}

void pare_student_cut_close(pare_student *s) {
    for (int i = 0; i < s->n_on_the_way; i++) pare_out_remove(s->on_the_way[i]);
    s->n_on_the_way = 0;
}
