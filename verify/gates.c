/* SPDX-License-Identifier: Apache-2.0
 *
 * Judging limits. */
#include "verify/gates.h"

#include "core/alloc.h"
#include "core/status.h"
#include "verify/metrics.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static void list_keys(pare_verify_kind kind, unsigned have, char *buf, size_t n) {
    size_t at = 0;
    buf[0] = 0;
    for (int i = 0; i < PARE_M_COUNT; i++) {
        const pare_metric_info *m = pare_metric_at(i);
        if (m->kind != kind || !pare_metric_find(kind, have, m->key)) continue;
        int k = snprintf(buf + at, n - at, "%s%s", at ? " " : "", m->key);
        if (k < 0 || (size_t)k >= n - at) return;
        at += (size_t)k;
    }
}

pare_status pare_gates_check(const pare_gate *gates, size_t n, pare_verify_kind kind, unsigned have, pare_diag *d) {
    static const char *const what[] = {"a language model", "a sentence encoder", "a comparison by weights"};
    for (size_t i = 0; i < n; i++) {
        const pare_gate *g = &gates[i];
        const pare_metric_info *m = pare_metric_find(kind, have, g->key);
        if (!m && kind != PARE_VERIFY_WEIGHTS && strcmp(g->key, "parity") == 0)
            return pare_fail(d, PARE_ERR_USAGE, NULL, g->name, "parity needs two devices: --device cpu,cuda");
        if (!m) {
            char keys[400];
            list_keys(kind, have, keys, sizeof keys);
            return pare_fail(d, PARE_ERR_USAGE, NULL, g->name, "%s%s has no metric `%s`; it has: %s", what[kind],
                             kind == PARE_VERIFY_ENCODER && !(have & PARE_HAVE_PAIRS) ? " without scored pairs" : "",
                             g->key, keys);
        }
        if (!isfinite(g->limit))
            return pare_fail(d, PARE_ERR_USAGE, NULL, g->name, "the limit must be a finite number");
        if (m->share && (g->limit < 0 || g->limit > 1))
            return pare_fail(d, PARE_ERR_USAGE, NULL, g->name,
                             "`%s` is a share: the limit must be from 0 to 1 (0.95, not 95)", g->key);
    }
    return PARE_OK;
}

static pare_status judge(pare_verify_report *r, const char *name, const pare_metric *m, int column, bool upper,
                         double limit, bool strict, pare_diag *d) {
    const pare_estimate *e = &m->at[column];
    if (strict && !e->has_range)
        return pare_fail(d, PARE_ERR_USAGE, NULL, name,
                         "--strict needs a 95 %% interval, and `%s` has none here: give more data (two windows or "
                         "samples at least)",
                         m->key);
    double x = strict ? (upper ? e->hi : e->lo) : e->value;
    pare_gate_result g = {name,
                          m->key,
                          column,
                          upper,
                          upper ? x <= limit : x >= limit, /* NaN fails */
                          e->has_range && e->lo < limit && limit < e->hi,
                          limit,
                          *e};
    pare_report_gate(r, &g);
    return PARE_OK;
}

pare_status pare_gates_judge(pare_verify_report *r, const pare_gate *gates, size_t n, bool strict, pare_diag *d) {
    for (size_t i = 0; i < n; i++) {
        const pare_metric *m = pare_report_find(r, gates[i].key);
        bool any = false;
        for (int c = 1; m && c < r->n_columns; c++) {
            if (!pare_metric_judged(m, c)) continue;
            any = true;
            PARE_TRY(judge(r, gates[i].name, m, c, gates[i].upper, gates[i].limit, strict, d));
        }
        if (!any)
            return pare_fail(d, PARE_ERR_USAGE, NULL, gates[i].name, "the metric `%s` was not measured", gates[i].key);
    }
    return pare_report_status(r, d);
}

pare_status pare_gate_one(pare_verify_report *r, const char *name, const pare_metric *m, int column, double limit,
                          bool strict, pare_diag *d) {
    return judge(r, name, m, column, m->better < 0, limit, strict, d);
}
