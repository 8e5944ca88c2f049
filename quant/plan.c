/* SPDX-License-Identifier: Apache-2.0
 *
 * Patterns (PCRE2, searched anywhere in the name), targets and fallbacks turned into one format per tensor. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "quant/plan.h"

#include "core/alloc.h"
#include "core/status.h"

#include <pcre2.h>
#include <stdio.h>
#include <string.h>

typedef struct {
    pcre2_code *re;
    pcre2_match_data *md;
} pattern;

static pare_status pattern_open(const char *option, const char *regex, pattern *p, pare_diag *d) {
    int code;
    PCRE2_SIZE at;
    p->re = pcre2_compile((PCRE2_SPTR)regex, PCRE2_ZERO_TERMINATED, PCRE2_UTF, &code, &at, NULL);
    if (!p->re) {
        char text[128];
        pcre2_get_error_message(code, (PCRE2_UCHAR *)text, sizeof text);
        return pare_fail(d, PARE_ERR_USAGE, NULL, option, "`%s` is no valid pattern: %s at character %zu", regex, text,
                         (size_t)at + 1);
    }
    p->md = pcre2_match_data_create_from_pattern(p->re, NULL);
    return p->md ? PARE_OK : pare_fail(d, PARE_ERR_NOMEM, NULL, option, "no memory for the pattern `%s`", regex);
}

static void pattern_close(pattern *p) {
    pcre2_match_data_free(p->md);
    pcre2_code_free(p->re);
}

static bool pattern_hits(const pattern *p, const char *name) {
    return name && pcre2_match(p->re, (PCRE2_SPTR)name, strlen(name), 0, 0, p->md, NULL) >= 0;
}

static bool hits(const pattern *p, const pare_plan_tensor *t) {
    return pattern_hits(p, t->name) || pattern_hits(p, t->alias);
}

static void set(pare_plan_tensor *t, const pare_qtype *to, const char *note) {
    t->to = to;
    snprintf(t->note, sizeof t->note, "%s", note ? note : "");
}

static pare_status apply_keep(const pare_plan_rule *k, size_t n, pare_plan_tensor *t, pare_diag *d) {
    pattern p = {0};
    size_t found = 0;
    pare_status s = pattern_open("--keep", k->regex, &p, d);
    for (size_t i = 0; s == PARE_OK && i < n; i++) {
        if (!hits(&p, &t[i])) continue;
        found++;
        if (t[i].to) continue;
        set(&t[i], t[i].keep, "kept, as asked");
        t[i].user = true;
    }
    if (s == PARE_OK && !found)
        s = pare_fail(d, PARE_ERR_USAGE, NULL, "--keep", "`%s` matches no tensor; `pare inspect` lists the names",
                      k->regex);
    pattern_close(&p);
    return s;
}

static pare_status apply_rule(const pare_plan_opts *o, const pare_plan_rule *r, size_t n, pare_plan_tensor *t,
                              pare_diag *d) {
    pattern p = {0};
    pare_target target;
    size_t found = 0, fixed = 0;
    pare_status s = pare_target_parse(r->to, true, &target, d);
    if (s == PARE_OK) s = pare_target_check(&target, o->hold, "--tensor", r->to, d);
    if (s == PARE_OK) s = pattern_open("--tensor", r->regex, &p, d);
    for (size_t i = 0; s == PARE_OK && i < n; i++) {
        char note[96];
        if (!hits(&p, &t[i])) continue;
        fixed += t[i].fixed != NULL;
        found += t[i].fixed == NULL;
        if (t[i].to || t[i].fixed) continue;
        const pare_qtype *q = pare_target_resolve(&target, o->hold, t[i].cols, o->scale, o->float16, note, sizeof note);
        set(&t[i], q, note[0] ? note : "as asked");
        t[i].fallback = note[0] != 0;
        t[i].user = true;
    }
    if (s == PARE_OK && !found)
        s = fixed ? pare_fail(d, PARE_ERR_USAGE, NULL, "--tensor", "`%s` matches only tensors that are never quantized",
                              r->regex)
                  : pare_fail(d, PARE_ERR_USAGE, NULL, "--tensor",
                              "`%s` matches no tensor; `pare inspect` lists the names", r->regex);
    pattern_close(&p);
    return s;
}

static pare_status apply_mix(const pare_plan_opts *o, const pare_mix *mix, size_t n, pare_plan_tensor *t,
                             pare_diag *d) {
    pare_mix_tensor *m = pare_calloc(n, sizeof *m);
    if (!m) return pare_fail(d, PARE_ERR_NOMEM, NULL, NULL, "no memory for the plan");
    for (size_t i = 0; i < n; i++)
        m[i] = (pare_mix_tensor){.name = t[i].name, .cols = t[i].cols, .skip = t[i].to != NULL};
    pare_mix_assign(mix, &o->model, o->pure, n, m);
    for (size_t i = 0; i < n; i++) {
        if (m[i].skip) continue;
        set(&t[i], m[i].type, m[i].why);
        if (!m[i].wanted) continue;
        t[i].fallback = true;
        snprintf(t[i].note, sizeof t[i].note, "row of %lld does not fit %s", (long long)t[i].cols, m[i].wanted->name);
    }
    pare_free(m);
    return PARE_OK;
}

static void apply_grid(const pare_plan_opts *o, const pare_target *target, size_t n, pare_plan_tensor *t) {
    for (size_t i = 0; i < n; i++) {
        char note[96];
        if (t[i].to) continue;
        const pare_qtype *q = pare_target_resolve(target, o->hold, t[i].cols, o->scale, o->float16, note, sizeof note);
        set(&t[i], q, note);
        t[i].fallback = note[0] != 0;
    }
}

pare_status pare_plan_make(const pare_plan_opts *o, size_t n, pare_plan_tensor *t, pare_diag *d) {
    pare_target target;
    PARE_TRY(pare_target_parse(o->to, false, &target, d));
    PARE_TRY(pare_target_check(&target, o->hold, "--to", o->to, d));
    for (size_t i = 0; i < n; i++) t[i].to = NULL, t[i].fallback = t[i].user = false, t[i].note[0] = 0;
    for (size_t k = 0; k < o->n_keep; k++) PARE_TRY(apply_keep(&o->keep[k], n, t, d));
    for (size_t k = 0; k < o->n_rules; k++) PARE_TRY(apply_rule(o, &o->rules[k], n, t, d));
    for (size_t i = 0; i < n; i++)
        if (!t[i].to && t[i].fixed) set(&t[i], t[i].rest, t[i].fixed);
    if (target.mix) PARE_TRY(apply_mix(o, target.mix, n, t, d));
    else apply_grid(o, &target, n, t);
    for (size_t i = 0; i < n; i++)
        if (!t[i].to)
            return pare_fail(d, PARE_ERR_UNSUPPORTED, NULL, t[i].name,
                             "its format under %s is not part of this version", o->to);
    return PARE_OK;
}
