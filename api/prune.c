/* SPDX-License-Identifier: Apache-2.0
 *
 * Pruning: which matrices lose which share of their weights, and what is refused before any work. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "api/narrow.h"

#include "core/status.h"

#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Those of zeros first; then those of structured patterns, less the names that both know. */
bool pare_prune_method(size_t i, const char **name, const char **text) {
    for (size_t k = 0; pare_criterion_at(k); k++)
        if (i-- == 0) return *name = pare_criterion_at(k)->name, *text = pare_criterion_at(k)->text, true;
    for (size_t k = 0; pare_narrow_method(k, name, text); k++)
        if (!pare_criterion_by_name(*name) && i-- == 0) return true;
    return false;
}

bool pare_prune_pattern(size_t i, const char **name, const char **text) {
    for (size_t k = 0; pare_pattern_at(k); k++)
        if (i-- == 0) return *name = pare_pattern_at(k)->name, *text = pare_pattern_at(k)->text, true;
    return pare_narrow_pattern(i, name, text);
}

bool pare_prune_smaller(const char *pattern) { return pare_narrow_claims(pattern); }

/* ---- the options ---- */
static pare_status choose_method(pare_job_prune *p, const pare_prune_opts *o, pare_diag *d) {
    char list[256] = "";
    for (size_t i = 0; pare_criterion_at(i); i++)
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i ? ", " : "", pare_criterion_at(i)->name);
    if (!o->method) return pare_fail(d, PARE_ERR_USAGE, NULL, "--method", "name one of %s", list);
    p->criterion = pare_criterion_by_name(o->method);
    if (!p->criterion)
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--method", "`%s` is no method; there are %s", o->method, list);
    if (!p->criterion->needs && (o->calib || o->calib_ctx || o->calib_windows))
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--calib", "%s looks at no data", o->method);
    if (o->to && !(p->criterion->needs & PARE_NEEDS_SWEEP))
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--to",
                         "%s does not round; prune with sparsegpt, which does both at once, or quantize afterwards",
                         o->method);
    return PARE_OK;
}

static pare_status choose_scope(pare_job_prune *p, const char *scope, pare_diag *d) {
    static const char *const names[] = {"row", "layer", "global"};
    int found = -1;
    p->scope = p->criterion->scope;
    if (!scope) return PARE_OK;
    for (int i = 0; i < 3; i++)
        if (strcmp(scope, names[i]) == 0) found = i;
    if (found < 0)
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--scope", "`%s` is no scope; row, layer and global are", scope);
    if (!p->spec.together)
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--scope", "%s leaves no choice: every group has its zeros",
                         p->spec.text);
    if (found == PARE_SCOPE_GLOBAL && (!p->criterion->comparable || p->spec.unit_rows * p->spec.unit_cols > 1))
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--scope",
                         "scores compare across layers for magnitude, taylor and unstructured zeros only");
    p->scope = (pare_prune_scope)found;
    return PARE_OK;
}

static pare_status sparsity_of(const pare_job_prune *p, double wanted, const char *option, double *out, pare_diag *d) {
    if (!(wanted >= 0 && wanted < 1))
        return pare_fail(d, PARE_ERR_USAGE, NULL, option, "%g is no share of zeros; 0 <= share < 1", wanted);
    if (p->spec.ratio >= 0 && wanted != 0 && (wanted - p->spec.ratio > 1e-6 || p->spec.ratio - wanted > 1e-6))
        return pare_fail(d, PARE_ERR_USAGE, NULL, option, "%s has a share of zeros of %g, not %g", p->spec.text,
                         p->spec.ratio, wanted);
    *out = wanted != 0 && p->spec.ratio >= 0 ? p->spec.ratio : wanted;
    return PARE_OK;
}

/* ---- which tensors ---- */
static bool has(const char *name, const char *part) { return strstr(name, part) != NULL; }

const char *pare_job_why_not_pruned(const pare_job_tensor *t) {
    const char *n = t->map->name;
    if (t->map->ndim != 2) return "not a matrix";
    if (has(n, "embd") || has(n, "embed") || has(n, "wte") || has(n, "wpe") || has(n, "token_types"))
        return "embedding";
    if (strcmp(n, "output.weight") == 0 || has(n, "lm_head")) return "output matrix";
    if (has(n, "ffn_gate_inp") || has(n, "router")) return "router";
    if (has(n, "norm")) return "norm";
    return t->map->linear && t->map->src ? NULL : "not a linear layer";
}

typedef struct rule {
    const char *option, *regex;
    double sparsity;
} rule;

/* Calls of a rule in order: the first that matches a tensor decides; one that matches nothing is refused. */
static pare_status apply(pare_job *job, const rule *r, bool *decided, pare_diag *d) {
    int code;
    PCRE2_SIZE at;
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)r->regex, PCRE2_ZERO_TERMINATED, PCRE2_UTF, &code, &at, NULL);
    if (!re)
        return pare_fail(d, PARE_ERR_USAGE, NULL, r->option, "`%s` is no valid pattern, at character %zu", r->regex,
                         (size_t)at + 1);
    pcre2_match_data *md = pcre2_match_data_create_from_pattern(re, NULL);
    size_t found = 0;
    for (size_t i = 0; md && i < job->n; i++) {
        pare_job_tensor *t = &job->t[i];
        const char *name[2] = {t->map->name, t->map->src ? t->map->src->name : NULL};
        bool hit = false;
        for (int k = 0; k < 2; k++)
            hit |= name[k] && pcre2_match(re, (PCRE2_SPTR)name[k], strlen(name[k]), 0, 0, md, NULL) >= 0;
        found += hit;
        if (!hit || decided[i]) continue;
        decided[i] = true;
        t->sparsity = r->sparsity;
    }
    pcre2_match_data_free(md);
    pcre2_code_free(re);
    return found ? PARE_OK
                 : pare_fail(d, PARE_ERR_USAGE, NULL, r->option,
                             "`%s` matches no tensor; `pare inspect` lists the names", r->regex);
}

static pare_status apply_rules(pare_job *job, const pare_prune_opts *o, double sparsity, bool *decided, pare_diag *d) {
    for (size_t i = 0; i < o->n_keep; i++) {
        const rule r = {"--keep", o->keep[i], 0};
        PARE_TRY(apply(job, &r, decided, d));
    }
    for (size_t i = 0; i < o->n_tensor; i++) {
        const char *eq = strrchr(o->tensor[i], '=');
        char *end = NULL;
        rule r = {.option = "--tensor", .sparsity = eq ? strtod(eq + 1, &end) : 0};
        if (!eq || eq == o->tensor[i] || end == eq + 1 || *end)
            return pare_fail(d, PARE_ERR_USAGE, NULL, "--tensor", "`%s` should read REGEX=SPARSITY", o->tensor[i]);
        if (!(r.regex = pare_arena_strndup(job->arena, o->tensor[i], (size_t)(eq - o->tensor[i]))))
            return pare_fail(d, PARE_ERR_NOMEM, NULL, NULL, "no memory for the plan");
        PARE_TRY(sparsity_of(job->prune, r.sparsity, "--tensor", &r.sparsity, d));
        PARE_TRY(apply(job, &r, decided, d));
    }
    for (size_t i = 0; i < job->n; i++)
        if (!decided[i]) job->t[i].sparsity = sparsity;
    return PARE_OK;
}

static pare_status check(const pare_job *job, const pare_job_tensor *t, pare_diag *d) {
    const pare_job_prune *p = job->prune;
    const char *name = t->map->src->name;
    if (t->from->sparse)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, job->src->path, name,
                         "its zeros are left out already (%s); `pare convert MODEL -o OTHER` stores them again, then "
                         "prune",
                         t->from->name);
    if (t->from->kind != PARE_QK_FLOAT)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, job->src->path, name,
                         "it is already rounded to %s; prune the original", t->from->name);
    bool grid = t->to->grid != NULL;
    if (grid && !pare_keeps_zeros(t->to))
        return pare_fail(d, PARE_ERR_UNSUPPORTED, job->src->path, name,
                         "%s has no exact 0, so zeros would not survive; int8, int4 (also :asym), q8_0, q4_0, q5_0, "
                         "q6_k and q3_k have one",
                         t->to->name);
    if (grid && !pare_prune_step(&p->spec, t->to->grid->group, (size_t)t->cols))
        return pare_fail(d, PARE_ERR_USAGE, NULL, name, "%s does not go with groups of %zu columns (%s)", p->spec.text,
                         t->to->grid->group, t->to->name);
    if (p->spec.unit_rows > 1 && t->map->order != PARE_ROWS_SAME)
        return pare_fail(d, PARE_ERR_USAGE, NULL, name,
                         "its rows change places in this output, which breaks blocks of %zu rows; write a folder, or "
                         "use block:1x%zu",
                         p->spec.unit_rows, p->spec.unit_rows * p->spec.unit_cols);
    return pare_pattern_check(&p->spec, (size_t)t->rows, (size_t)t->cols, t->sparsity, p->scope == PARE_SCOPE_ROW, name,
                              d);
}

static void describe(const pare_job_prune *p, pare_job_tensor *t) {
    static const char *const scopes[] = {"of each row", "of the layer", "of all layers together"};
    size_t n = strlen(t->note);
    const char *of = p->spec.together ? scopes[p->scope] : "of each group";
    snprintf(t->note + n, sizeof t->note - n, "%s%s, %g %% %s", n ? "; " : "", p->spec.text, t->sparsity * 100, of);
}

static pare_status mark(pare_job *job, const pare_prune_opts *o, double sparsity, pare_diag *d) {
    bool *decided = pare_arena_alloc(job->arena, job->n + 1);
    size_t n = 0;
    if (!decided) return pare_fail(d, PARE_ERR_NOMEM, NULL, NULL, "no memory for the plan");
    PARE_TRY(apply_rules(job, o, sparsity, decided, d));
    for (size_t i = 0; i < job->n; i++) {
        pare_job_tensor *t = &job->t[i];
        const char *why = pare_job_why_not_pruned(t);
        if (!why && t->sparsity == 0) why = "kept, as asked";
        if (why) {
            t->sparsity = 0;
            if (!t->note[0]) snprintf(t->note, sizeof t->note, "not pruned: %s", why);
            continue;
        }
        PARE_TRY(check(job, t, d));
        t->pruned = true;
        describe(job->prune, t);
        n++;
    }
    return n ? PARE_OK : pare_fail(d, PARE_ERR_USAGE, job->src->path, NULL, "no matrix of this model is left to prune");
}

static pare_status finish(pare_job *job, const pare_prune_opts *o, const pare_job_opts *jo, pare_diag *d) {
    pare_job_prune *p = job->prune = pare_arena_alloc(job->arena, sizeof *p);
    double sparsity = 0;
    const char *other = o->stay ? "--stay" : o->drop ? "--drop" : o->multiple ? "--multiple" : NULL;
    if (other || o->no_heal)
        return pare_fail(d, PARE_ERR_USAGE, NULL, other ? other : "--no-heal",
                         "it goes with patterns that make the model smaller, not with zeros");
    if (!p) return pare_fail(d, PARE_ERR_NOMEM, NULL, NULL, "no memory for the plan");
    PARE_TRY(choose_method(p, o, d));
    PARE_TRY(pare_pattern_parse(o->pattern ? o->pattern : "unstructured", &p->spec, d));
    PARE_TRY(choose_scope(p, o->scope, d));
    PARE_TRY(sparsity_of(p, o->sparsity, "--sparsity", &sparsity, d));
    if (sparsity == 0) sparsity = p->spec.ratio;
    if (sparsity < 0 && !o->n_tensor)
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--sparsity", "%s wants the share of zeros (0.5)", p->spec.text);
    PARE_TRY(jo->to ? pare_job_plan_quantize(job, jo, d) : pare_job_plan_convert(job, jo, d));
    return mark(job, o, sparsity < 0 ? 0 : sparsity, d);
}

static pare_status finish_narrow(pare_job *job, const pare_prune_opts *o, pare_job_opts jo, pare_diag *d) {
    jo.method = NULL; /* calibrated rounding would need the smaller model's own walk: quantize afterwards */
    PARE_TRY(pare_job_narrow(job, o, d));
    return jo.to ? pare_job_plan_quantize(job, &jo, d) : pare_job_plan_convert(job, &jo, d);
}

pare_status pare_job_prune_from(const pare_job_from *from, const char *out, const pare_prune_opts *o, pare_job **job,
                                pare_diag *d) {
    const pare_job_opts jo = {.to = o->to,
                              .format = o->format,
                              .layout = o->layout,
                              .keep = o->keep,
                              .n_keep = o->to ? o->n_keep : 0,
                              .method = o->to ? "gptq" : NULL,
                              .calib = o->calib,
                              .calib_ctx = o->calib_ctx,
                              .calib_windows = o->calib_windows,
                              .force = o->force,
                              .max_shard_bytes = o->max_shard_bytes};
    PARE_TRY(pare_job_begin(from, out, &jo, job, d));
    bool narrow = o->pattern && pare_narrow_claims(o->pattern);
    pare_status s = narrow ? finish_narrow(*job, o, jo, d) : finish(*job, o, &jo, d);
    if (s != PARE_OK) pare_job_close(job);
    return s;
}

pare_status pare_prune_open(const char *model, const char *out, const pare_prune_opts *o, pare_job **job,
                            pare_diag *d) {
    return pare_job_prune_from(&(pare_job_from){.path = model}, out, o, job, d);
}
