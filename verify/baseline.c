/* SPDX-License-Identifier: Apache-2.0
 *
 * An older report as a set of gates. */
#include "verify/gates.h"

#include "core/status.h"
#include "verify/metrics.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Protocol lines that must agree, or the two reports do not measure the same thing. */
static const char *const must_agree[] = {"data_sha256", "context", "windows", "scored", "bos",
                                         "sentences",   "pairs",   "top_k",   NULL};

static const pare_protocol *find(const pare_verify_report *r, const char *key) {
    for (size_t i = 0; i < r->n_protocol; i++)
        if (strcmp(r->protocol[i].key, key) == 0) return &r->protocol[i];
    return NULL;
}

static pare_status check_protocol(const pare_verify_report *r, const json_t *old, const char *path, pare_diag *d) {
    const json_t *protocol = json_object_get(old, "protocol");
    for (int i = 0; must_agree[i]; i++) {
        const pare_protocol *now = find(r, must_agree[i]);
        const json_t *was = json_object_get(protocol, must_agree[i]);
        bool same = !now && !was;
        if (now && now->is_number) same = json_is_number(was) && json_number_value(was) == now->number;
        else if (now) same = json_is_string(was) && strcmp(json_string_value(was), now->text) == 0;
        if (same) continue;
        char *a = was ? json_dumps(was, JSON_ENCODE_ANY) : NULL, b[96];
        if (!now) snprintf(b, sizeof b, "nothing");
        else if (now->is_number) snprintf(b, sizeof b, "%.17g", now->number);
        else snprintf(b, sizeof b, "\"%.80s\"", now->text);
        pare_status s =
            pare_fail(d, PARE_ERR_MISMATCH, path, must_agree[i],
                      "the baseline was measured with %.90s, this run with %s; measure it again on the same data",
                      a ? a : "nothing", b);
        free(a);
        return s;
    }
    return PARE_OK;
}

static pare_status one(pare_verify_report *r, const char *key, const json_t *entry, const char *path, double tolerance,
                       bool strict, pare_diag *d) {
    const pare_metric *m = pare_report_find(r, key);
    const json_t *values = json_object_get(entry, "values");
    if (!json_is_array(values)) return pare_fail(d, PARE_ERR_INPUT, path, key, "`values` must be an array");
    const char *better = json_string_value(json_object_get(entry, "better"));
    if (!better || strcmp(better, "neither") == 0) return PARE_OK;
    for (size_t c = 1; c < json_array_size(values); c++) {
        const json_t *v = json_object_get(json_array_get(values, c), "value");
        if (!v) continue;
        if (!m || (int)c >= r->n_columns || !m->at[c].has)
            return pare_fail(d, PARE_ERR_MISMATCH, path, key,
                             "the baseline has this metric in column %zu and this run has not", c);
        if (!pare_metric_judged(m, (int)c)) continue;
        double limit;
        if (json_is_number(v)) limit = json_number_value(v);
        else if (json_is_string(v) && strcmp(json_string_value(v), "inf") == 0) limit = INFINITY;
        else return pare_fail(d, PARE_ERR_INPUT, path, key, "`value` must be a number or \"inf\"");
        if (isfinite(limit))
            limit -= m->better * (tolerance * fabs(limit) + 1e-9); /* 1e-9: the last digits of another machine */
        char name[80];
        snprintf(name, sizeof name, "baseline %.64s", key);
        PARE_TRY(pare_gate_one(r, name, m, (int)c, limit, strict, d));
    }
    return PARE_OK;
}

pare_status pare_gates_baseline(pare_verify_report *r, const char *json, size_t n_bytes, const char *path,
                                double tolerance, bool strict, pare_diag *d) {
    json_error_t e;
    json_t *old = json_loadb(json, n_bytes, JSON_REJECT_DUPLICATES, &e);
    pare_status s = PARE_OK;
    if (!old)
        return pare_fail(d, PARE_ERR_INPUT, path, NULL, "line %d: %s; a JSON report of pare verify was expected",
                         e.line, e.text);
    const char *schema = json_string_value(json_object_get(old, "schema"));
    const char *kind = json_string_value(json_object_get(old, "kind"));
    json_t *metrics = json_object_get(old, "metrics"), *entry;
    const char *key;
    if (!schema || strcmp(schema, PARE_VERIFY_SCHEMA) != 0 || !json_is_object(metrics))
        s = pare_fail(d, PARE_ERR_INPUT, path, "schema",
                      "this is not a report of schema %s (`pare verify --json` writes them)", PARE_VERIFY_SCHEMA);
    else if (!kind || strcmp(kind, pare_verify_kind_name(r->kind)) != 0)
        s = pare_fail(d, PARE_ERR_MISMATCH, path, "kind", "the baseline is a report of kind `%.20s`, this run is `%s`",
                      kind ? kind : "", pare_verify_kind_name(r->kind));
    if (s == PARE_OK) s = check_protocol(r, old, path, d);
    if (s == PARE_OK) json_object_foreach(metrics, key, entry) {
            s = one(r, key, entry, path, tolerance, strict, d);
            if (s != PARE_OK) break;
        }
    json_decref(old);
    return s == PARE_OK ? pare_report_status(r, d) : s;
}
