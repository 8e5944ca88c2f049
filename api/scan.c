/* SPDX-License-Identifier: Apache-2.0
 *
 * Sensitivity scans: opening, one point after another (api/scan.h). */
#include "api/scan.h"

#include "core/log.h"
#include "core/status.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define CTX         256 /* of the windows that are measured on */
#define WINDOWS     4
#define LOGIT_BYTES ((size_t)256 << 20) /* of the original's outputs that are kept */

static pare_status no_memory(pare_diag *d) {
    return pare_fail(d, PARE_ERR_NOMEM, NULL, "sensitivity", "no memory for the scan");
}

void pare_scan_put(pare_scan *s, size_t i, size_t k, const pare_qtype *type, void *rows) {
    pare_free(s->rows[i][k]);
    s->rows[i][k] = rows;
    s->types[i] = type;
}

static void drop(pare_scan *s, int stage) {
    for (size_t i = 0; i < s->lin.n; i++)
        for (size_t k = 0; s->lin.v[i].stage == stage && k < s->out->n_amounts; k++) {
            pare_free(s->rows[i][k]);
            s->rows[i][k] = NULL;
        }
}

/* Swaps the stage's matrices for those of amount k; how many weights they have. */
static uint64_t swap(pare_scan *s, int stage, size_t k, bool in) {
    uint64_t weights = 0;
    for (size_t i = 0; i < s->lin.n; i++) {
        const pare_linear *l = &s->lin.v[i];
        if (l->stage != stage || !s->rows[i][k]) continue;
        pare_probe_put(&s->probe, l->weight, s->types[i], in ? s->rows[i][k] : NULL);
        weights += (uint64_t)l->rows * (uint64_t)l->cols;
    }
    return weights;
}

pare_status pare_scan_measure(pare_scan *s, int stage, pare_diag *d) {
    size_t m = s->out->n_amounts, layer = (size_t)stage - 1;
    pare_status st = PARE_OK;
    if (stage < 1 || layer >= s->out->n_layers) return PARE_OK; /* no layer: embedding, output */
    for (size_t k = 0; st == PARE_OK && k < m; k++) {
        char name[32];
        s->weights[layer] = swap(s, stage, k, true);
        if (s->weights[layer]) st = pare_probe_loss(&s->probe, &s->loss[layer * m + k], d);
        swap(s, stage, k, false);
        if (st == PARE_OK && pare_is_interrupted()) st = pare_interrupted(d);
        snprintf(name, sizeof name, "layer %zu", layer);
        pare_meter_step(&s->meter, name, ++s->done);
    }
    drop(s, stage);
    return st;
}

/* ---- opening ---- */
static pare_status windows(pare_scan *s, const pare_arch *a, const pare_sensitivity_opts *so, pare_diag *d) {
    int64_t longest = pare_arch_context(a), ctx = so->ctx ? so->ctx : longest < CTX ? longest : CTX;
    int64_t n = so->windows ? so->windows : WINDOWS;
    size_t width = (size_t)(a->family == PARE_FAMILY_LLAMA ? a->vocab : a->dim);
    while (n > 1 && (size_t)(n * ctx) * width * sizeof(float) > LOGIT_BYTES) n--;
    PARE_TRY(pare_calib_data_open(s->job->src, a, s->o->calib, ctx, n, &s->few, d));
    s->few.batch *= (int64_t)s->few.batches; /* all at once */
    s->few.batches = 1;
    char text[200];
    snprintf(text, sizeof text, "%s", s->few.note);
    s->out->data = pare_arena_strndup(s->arena, text, strlen(text));
    return s->out->data ? PARE_OK : no_memory(d);
}

static pare_status room(pare_scan *s, pare_diag *d) {
    size_t m = s->out->n_amounts, layers = s->out->n_layers;
    s->weights = pare_arena_alloc(s->arena, (layers + 1) * sizeof *s->weights);
    s->loss = pare_arena_alloc(s->arena, (layers * m + 1) * sizeof *s->loss);
    s->rows = pare_arena_alloc(s->arena, (s->lin.n + 1) * sizeof *s->rows);
    s->types = pare_arena_alloc(s->arena, (s->lin.n + 1) * sizeof *s->types);
    if (!s->weights || !s->loss || !s->rows || !s->types) return no_memory(d);
    for (size_t i = 0; i < s->lin.n; i++)
        if (!(s->rows[i] = pare_arena_alloc(s->arena, m * sizeof **s->rows))) return no_memory(d);
    s->out->weights = s->weights, s->out->loss = s->loss;
    return PARE_OK;
}

/* The amounts asked for; the one that the pattern fixes where it leaves no choice. */
static pare_status amounts(pare_scan *s, const pare_sensitivity_opts *so, double fixed, pare_diag *d) {
    static const double usual[] = {0.25, 0.5, 0.75};
    const double *from = so->n_amounts ? so->amounts : usual;
    size_t n = so->n_amounts ? so->n_amounts : 3;
    if (fixed > 0) from = &fixed, n = 1;
    if (!(s->amounts = pare_arena_alloc(s->arena, n * sizeof *s->amounts))) return no_memory(d);
    for (size_t k = 0; k < n; k++) {
        if (!(from[k] > (k ? from[k - 1] : 0)) || from[k] > 1 || (from[k] == 1 && fixed <= 0))
            return pare_fail(d, PARE_ERR_USAGE, NULL, "--amounts", "shares between 0 and 1, rising, were expected");
        s->amounts[k] = from[k];
    }
    s->out->amounts = s->amounts, s->out->n_amounts = n;
    return PARE_OK;
}

static pare_status text_of(pare_scan *s, const char *text, const char **out, pare_diag *d) {
    *out = pare_arena_strndup(s->arena, text, strlen(text));
    return *out ? PARE_OK : no_memory(d);
}

static pare_status scan(pare_scan *s, const char *model, const pare_sensitivity_opts *so, pare_diag *d) {
    bool parts = s->o->pattern && pare_narrow_claims(s->o->pattern);
    pare_prune_opts o = *s->o;
    pare_job_opts none = {0};
    pare_arch a;
    o.sparsity = 0.5; /* any: every point has its own */
    const pare_job_from from = {.path = model};
    if (parts) PARE_TRY(pare_job_begin(&from, NULL, &none, &s->job, d));
    else {
        pare_pattern_spec spec;
        PARE_TRY(pare_pattern_parse(o.pattern ? o.pattern : "unstructured", &spec, d));
        if (spec.ratio >= 0) o.sparsity = 0;
        PARE_TRY(pare_job_prune_from(&from, NULL, &o, &s->job, d));
    }
    bool whole = parts && strcasecmp(o.pattern, "layers") == 0;
    PARE_TRY(amounts(s, so, whole ? 1 : parts ? -1 : s->job->prune->spec.ratio, d));
    PARE_TRY(text_of(s, parts ? o.pattern : s->job->prune->spec.text, &s->out->pattern, d));
    const char *method = parts ? o.method ? o.method : pare_importance_at(0)->name : s->job->prune->criterion->name;
    PARE_TRY(text_of(s, whole ? "" : method, &s->out->method, d));
    PARE_TRY(pare_arch_read(s->job->src, &a, d));
    PARE_TRY(pare_arch_check(s->job->src, &a, d));
    PARE_TRY(windows(s, &a, so, d));
    PARE_TRY(pare_weights_open(s->job->src, &a, &s->w, d));
    PARE_TRY(pare_probe_open(s->w, &s->few, &s->probe, d));
    PARE_TRY(pare_linears_find(s->probe.run.m.g, &s->lin, d));
    s->out->n_layers = (size_t)a.layers;
    s->out->measure = pare_probe_measure(&s->probe);
    PARE_TRY(room(s, d));
    pare_meter_start(&s->meter, "sensitivity", "points", s->out->n_layers * s->out->n_amounts);
    PARE_TRY(parts ? pare_scan_parts(s, d) : pare_scan_zeros(s, d));
    pare_meter_step(&s->meter, NULL, s->meter.total); /* layers that are kept have no points */
    return PARE_OK;
}

pare_status pare_prune_sensitivity(const char *model, const pare_prune_opts *o, const pare_sensitivity_opts *so,
                                   pare_sensitivity **out, pare_diag *d) {
    static const pare_sensitivity_opts usual;
    pare_scan s = {.o = o, .arena = pare_arena_new()};
    *out = NULL;
    if (!s.arena || !(s.out = pare_arena_alloc(s.arena, sizeof *s.out))) {
        pare_arena_free(&s.arena);
        return no_memory(d);
    }
    s.out->impl = s.arena;
    pare_status st = scan(&s, model, so ? so : &usual, d);
    for (size_t i = 0; s.rows && i < s.lin.n; i++)
        for (size_t k = 0; s.rows[i] && k < s.out->n_amounts; k++) pare_free(s.rows[i][k]);
    pare_linears_free(&s.lin);
    pare_probe_close(&s.probe);
    pare_weights_close(&s.w);
    pare_calib_data_free(&s.few);
    pare_calib_data_free(&s.data);
    pare_job_close(&s.job);
    *out = s.out;
    if (st != PARE_OK) pare_sensitivity_close(out);
    return st;
}

void pare_sensitivity_close(pare_sensitivity **s) {
    if (!s || !*s) return;
    pare_arena *arena = (*s)->impl; /* the result itself is in it */
    *s = NULL;
    pare_arena_free(&arena);
}
