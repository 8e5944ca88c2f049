/* SPDX-License-Identifier: Apache-2.0
 *
 * A student cut from the teacher, by `pare prune`'s own patterns: channels, heads, neurons, whole layers, in this
 * order. All cuts but the last are models beside the output, which go when the run ends: they follow from teacher, data
 * and options alone, so that a run that goes on makes them again. */
#include "api/distill.h"

#include "api/narrow.h"
#include "core/log.h"
#include "core/status.h"
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
static pare_status groups(const pare_source *src, int64_t heads, int64_t *out, pare_diag *d) {
    pare_arch a;
    PARE_TRY(pare_arch_read(src, &a, d));
    int64_t each = a.heads / a.kv_heads;
    if (heads % each)
        return pare_fail(d, PARE_ERR_USAGE, src->path, "--heads",
                         "%lld query heads share a key; %lld heads are no multiple of that", (long long)each,
                         (long long)heads);
    *out = heads / each;
    return PARE_OK;
}

/* The cuts that are asked for, in their order. */
static pare_status list(const pare_distill_run *x, const pare_source *src, pare_prune_opts cut[4], int *n,
                        pare_diag *d) {
    const pare_distill_opts *o = &x->o;
    const int64_t windows = 16; /* whole layers are easy to tell apart */
    *n = 0;
    if (o->hidden) cut[(*n)++] = (pare_prune_opts){.pattern = "hidden", .stay = o->hidden};
    if (o->heads) {
        PARE_TRY(groups(src, o->heads, &cut[*n].stay, d));
        cut[*n] = (pare_prune_opts){.pattern = "heads", .stay = cut[*n].stay};
        ++*n;
    }
    if (o->ffn) cut[(*n)++] = (pare_prune_opts){.pattern = "ffn", .stay = o->ffn};
    if (o->layers || o->keep_layers)
        cut[(*n)++] =
            (pare_prune_opts){.pattern = "layers", .stay = o->layers, .no_heal = true, .calib_windows = windows};
    for (int i = 0; i < *n; i++) cut[i].calib = o->data, cut[i].multiple = 1;
    return PARE_OK;
}

bool pare_student_is_cut(const pare_distill_opts *o) {
    return o->keep_layers || o->layers || o->hidden || o->heads || o->ffn;
}

/* A model on the way, which is removed when the student is closed. */
static pare_status before_last(pare_distill_run *x, pare_job_from *from, int number, pare_prune_opts *po,
                               pare_diag *d) {
    pare_student *s = &x->student;
    char text[24];
    snprintf(text, sizeof text, ".pare-cut-%d", number);
    char *path = pare_arena_alloc(s->arena, strlen(x->o.out) + sizeof text);
    if (!path) return no_memory(d);
    sprintf(path, "%s%s", x->o.out, text);
    pare_job *job = NULL;
    po->format = x->teacher_src->kind == PARE_SOURCE_GGUF ? "gguf" : "folder";
    po->force = true;
    s->on_the_way[s->n_on_the_way++] = path;
    pare_status st = pare_job_prune_from(from, path, po, &job, d);
    if (st == PARE_OK) st = pare_job_run(job, d);
    pare_job_close(&job);
    if (!from->title) from->title = from->path;
    from->path = path;
    return st;
}

pare_status pare_student_cut(pare_distill_run *x, const pare_job_from *begin, const pare_job_opts *jo, pare_diag *d) {
    pare_student *s = &x->student;
    pare_job_from from = *begin;
    pare_prune_opts cut[4];
    int n = 0;
    if (!x->o.student && x->teacher_src) PARE_TRY(list(x, x->teacher_src, cut, &n, d));
    for (int i = 0; i + 1 < n; i++) PARE_TRY(before_last(x, &from, i, &cut[i], d));
    PARE_TRY(pare_job_begin(&from, x->o.out, jo, &s->job, d));
    PARE_TRY(pare_arch_read(s->job->src, &s->arch, d));
    if (!x->o.student && !x->teacher_src) PARE_TRY(list(x, s->job->src, cut, &n, d)); /* a plan alone */
    if (n == 0) return PARE_OK;
    pare_prune_opts *last = &cut[n - 1];
    if (x->o.keep_layers) PARE_TRY(to_drop(s, x->o.keep_layers, &last->drop, d));
    if (last->drop && !last->drop[0]) return PARE_OK;
    PARE_TRY(pare_job_narrow(s->job, last, d));
    s->arch = s->job->map->arch;
    return PARE_OK;
}

void pare_student_cut_close(pare_student *s) {
    for (int i = 0; i < s->n_on_the_way; i++) pare_out_remove(s->on_the_way[i]);
    s->n_on_the_way = 0;
}
