/* SPDX-License-Identifier: Apache-2.0
 *
 * The report object: rows are appended, strings are copied into the report's arena. */
#include "verify/report.h"

#include "core/alloc.h"
#include "core/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

typedef struct own {
    pare_arena *arena;
    size_t cap_protocol, cap_metrics, cap_gates, cap_layers, cap_tensors, cap_parity[2];
    bool failed;
    pare_text text[3];
} own;

static own *of(const pare_verify_report *r) { return r->impl; }

pare_verify_report *pare_report_new(pare_verify_kind kind) {
    pare_verify_report *r = pare_calloc(1, sizeof *r);
    own *o = pare_calloc(1, sizeof *o);
    if (o) o->arena = pare_arena_new();
    if (!r || !o || !o->arena) {
        pare_free(o);
        pare_free(r);
        return NULL;
    }
    r->kind = kind;
    r->impl = o;
    return r;
}

void pare_report_free(pare_verify_report **rp) {
    pare_verify_report *r = rp ? *rp : NULL;
    if (!r) return;
    own *o = of(r);
    pare_free(r->protocol);
    pare_free(r->metrics);
    pare_free(r->gates);
    pare_free(r->layers);
    pare_free(r->tensors);
    for (int i = 0; i < 2; i++) pare_free(r->parity[i].nodes);
    for (int i = 0; i < 3; i++) pare_free(o->text[i].bytes);
    pare_arena_free(&o->arena);
    pare_free(o);
    pare_free(r);
    *rp = NULL;
}

pare_status pare_report_status(const pare_verify_report *r, pare_diag *d) {
    return of(r)->failed ? pare_fail(d, PARE_ERR_NOMEM, NULL, "report", "no memory for the report") : PARE_OK;
}

const char *pare_report_str(pare_verify_report *r, const char *s) {
    if (!s) return NULL;
    const char *copy = pare_arena_strndup(of(r)->arena, s, strlen(s));
    if (!copy) of(r)->failed = true;
    return copy ? copy : "";
}

/* Room for one more element, cleared; NULL (sticky) when memory is short. */
static void *more(pare_verify_report *r, void *array, size_t *n, size_t *cap, size_t elem_bytes) {
    void **a = array;
    if (pare_grow(a, cap, *n + 1, elem_bytes) != PARE_OK) return of(r)->failed = true, NULL;
    void *p = (char *)*a + (*n)++ * elem_bytes;
    return memset(p, 0, elem_bytes);
}

void pare_report_column(pare_verify_report *r, const pare_column *c) {
    if (r->n_columns == PARE_VERIFY_COLUMNS) return;
    pare_column *to = &r->columns[r->n_columns++];
    *to = *c;
    to->n_fallbacks = 0, to->fallbacks = NULL;
    const char **text[] = {&to->model, &to->role, &to->device, &to->act, &to->arch, &to->device_text};
    for (size_t i = 0; i < sizeof text / sizeof *text; i++) *text[i] = pare_report_str(r, *text[i] ? *text[i] : "");
}

void pare_report_column_use(pare_verify_report *r, int column, const pare_column *c) {
    pare_column *to = &r->columns[column];
    const char **names = pare_arena_alloc(of(r)->arena, (c->n_fallbacks + 1) * sizeof *names);
    if (!names) of(r)->failed = true;
    for (size_t i = 0; names && i < c->n_fallbacks; i++) names[i] = pare_report_str(r, c->fallbacks[i]);
    to->fallbacks = names;
    to->n_fallbacks = names ? c->n_fallbacks : 0;
    to->streamed = c->streamed, to->memory_bytes = c->memory_bytes, to->seconds = c->seconds;
}

static pare_protocol *protocol(pare_verify_report *r) {
    return more(r, &r->protocol, &r->n_protocol, &of(r)->cap_protocol, sizeof *r->protocol);
}

void pare_report_note(pare_verify_report *r, const char *key, const char *text) {
    pare_protocol *p = protocol(r);
    if (p) *p = (pare_protocol){pare_report_str(r, key), pare_report_str(r, text), 0, false};
}

void pare_report_number(pare_verify_report *r, const char *key, double number) {
    pare_protocol *p = protocol(r);
    if (p) *p = (pare_protocol){pare_report_str(r, key), "", number, true};
}

const pare_metric *pare_report_find(const pare_verify_report *r, const char *key) {
    for (size_t i = 0; i < r->n_metrics; i++)
        if (strcmp(r->metrics[i].key, key) == 0) return &r->metrics[i];
    return NULL;
}

void pare_report_metric(pare_verify_report *r, const char *key, const char *label, int better, int column,
                        pare_estimate e) {
    pare_metric *m = (pare_metric *)pare_report_find(r, key);
    if (!m && (m = more(r, &r->metrics, &r->n_metrics, &of(r)->cap_metrics, sizeof *r->metrics)))
        m->key = key, m->label = label, m->better = better;
    if (m) m->at[column] = e;
}

void pare_report_gate(pare_verify_report *r, const pare_gate_result *g) {
    pare_gate_result *p = more(r, &r->gates, &r->n_gates, &of(r)->cap_gates, sizeof *r->gates);
    if (!p) return;
    *p = *g;
    p->name = pare_report_str(r, g->name);
    p->key = pare_report_str(r, g->key);
    r->n_failed += !g->pass;
}

static void add_part(pare_verify_report *r, pare_part *to, const pare_part *p) {
    if (!to) return;
    *to = *p;
    to->name = pare_report_str(r, p->name);
    to->what = pare_report_str(r, p->what);
}

void pare_report_layer(pare_verify_report *r, const pare_part *p) {
    add_part(r, more(r, &r->layers, &r->n_layers, &of(r)->cap_layers, sizeof *r->layers), p);
}

void pare_report_tensor(pare_verify_report *r, const pare_part *p) {
    add_part(r, more(r, &r->tensors, &r->n_tensors, &of(r)->cap_tensors, sizeof *r->tensors), p);
}

void pare_report_parity(pare_verify_report *r, int model, const pare_part *output) {
    pare_parity *y = &r->parity[model];
    y->has = true;
    y->columns[0] = model, y->columns[1] = 2 + model;
    add_part(r, &y->output, output);
}

void pare_report_parity_node(pare_verify_report *r, int model, const pare_parity_node *n) {
    pare_parity *y = &r->parity[model];
    size_t first = y->first_diverging ? (size_t)(y->first_diverging - y->nodes) : SIZE_MAX;
    pare_parity_node *to = more(r, &y->nodes, &y->n_nodes, &of(r)->cap_parity[model], sizeof *y->nodes);
    if (!to) return;
    *to = *n;
    to->name = pare_report_str(r, n->name);
    to->what = pare_report_str(r, n->what);
    if (first == SIZE_MAX && n->diverges) first = y->n_nodes - 1;
    y->first_diverging = first == SIZE_MAX ? NULL : &y->nodes[first]; /* the array may have moved */
}

const char *pare_verify_kind_name(pare_verify_kind k) {
    return k == PARE_VERIFY_LM ? "lm" : k == PARE_VERIFY_ENCODER ? "encoder" : "weights";
}

void pare_text_add(pare_text *t, const char *fmt, ...) {
    if (t->failed) return;
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0 || pare_grow((void **)&t->bytes, &t->cap, t->n + (size_t)n + 1, 1) != PARE_OK) {
        t->failed = true;
        return;
    }
    va_start(ap, fmt);
    vsnprintf(t->bytes + t->n, (size_t)n + 1, fmt, ap);
    va_end(ap);
    t->n += (size_t)n;
}

void pare_text_xml(pare_text *t, const char *s) {
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '&') pare_text_add(t, "&amp;");
        else if (c == '<') pare_text_add(t, "&lt;");
        else if (c == '>') pare_text_add(t, "&gt;");
        else if (c == '"') pare_text_add(t, "&quot;");
        else if (c < 0x20 || c == 0x7F) pare_text_add(t, "?");
        else pare_text_add(t, "%c", c);
    }
}

pare_status pare_report_render(pare_verify_report *r, pare_verify_format f, const char **text, size_t *n_bytes,
                               pare_diag *d) {
    if (f < PARE_VERIFY_JSON || f > PARE_VERIFY_HTML)
        return pare_fail(d, PARE_ERR_USAGE, NULL, NULL, "no report format %d", (int)f);
    pare_text *t = &of(r)->text[f];
    if (!t->bytes) {
        if (f == PARE_VERIFY_JSON) pare_report_json(r, t);
        else if (f == PARE_VERIFY_JUNIT) pare_report_junit(r, t);
        else pare_report_html(r, t);
    }
    if (t->failed || !t->bytes) {
        pare_free(t->bytes);
        *t = (pare_text){0};
        return pare_fail(d, PARE_ERR_NOMEM, NULL, "report", "no memory for the report");
    }
    *text = t->bytes;
    *n_bytes = t->n;
    return PARE_OK;
}

pare_status pare_report_save(pare_verify_report *r, pare_verify_format f, const char *path, pare_diag *d) {
    const char *text = NULL;
    size_t n = 0;
    PARE_TRY(pare_report_render(r, f, &text, &n, d));
    return pare_write_file_atomic(path, text, n, d);
}
