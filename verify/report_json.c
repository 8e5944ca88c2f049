/* SPDX-License-Identifier: Apache-2.0
 *
 * The JSON report, schema pare-verify-1: keys are stable, new ones may be added. Numbers have 17 digits and read back
 * exactly; infinities are the strings "inf" and "-inf". Nothing in it depends on time or the number of threads. */
#include "verify/report.h"

#include <math.h>
#include <string.h>

/* Bytes of the UTF-8 character at s, 0 when it is not one (overlong forms and surrogates included). */
static int utf8_length(const unsigned char *s) {
    if (s[0] < 0x80) return 1;
    if (s[0] < 0xC2 || s[0] > 0xF4) return 0;
    int n = s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : 4;
    for (int i = 1; i < n; i++)
        if ((s[i] & 0xC0) != 0x80) return 0;
    if ((s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xED && s[1] > 0x9F)) return 0;
    if ((s[0] == 0xF0 && s[1] < 0x90) || (s[0] == 0xF4 && s[1] > 0x8F)) return 0;
    return n;
}

static void string(pare_text *t, const char *s) {
    pare_text_add(t, "\"");
    for (; s && *s; s++) {
        unsigned char c = (unsigned char)*s;
        int n = utf8_length((const unsigned char *)s);
        if (n != 1) { /* a file name may hold any bytes */
            if (n) pare_text_add(t, "%.*s", n, s), s += n - 1;
            else pare_text_add(t, "\\ufffd");
            continue;
        }
        if (c == '"' || c == '\\') pare_text_add(t, "\\%c", c);
        else if (c < 0x20 || c == 0x7F) pare_text_add(t, "\\u%04x", c);
        else pare_text_add(t, "%c", c);
    }
    pare_text_add(t, "\"");
}

static void number(pare_text *t, double x) {
    if (isnan(x)) pare_text_add(t, "null");
    else if (isinf(x)) pare_text_add(t, x > 0 ? "\"inf\"" : "\"-inf\"");
    else if (x == floor(x) && fabs(x) < 1e15) pare_text_add(t, "%.0f", x);
    else pare_text_add(t, "%.17g", x);
}

static void estimate(pare_text *t, const pare_estimate *e) {
    pare_text_add(t, "\"value\": ");
    number(t, e->value);
    pare_text_add(t, ", \"lo\": ");
    number(t, e->has_range ? e->lo : NAN);
    pare_text_add(t, ", \"hi\": ");
    number(t, e->has_range ? e->hi : NAN);
}

static void columns(const pare_verify_report *r, pare_text *t) {
    pare_text_add(t, "  \"columns\": [");
    for (int c = 0; c < r->n_columns; c++) {
        const pare_column *k = &r->columns[c];
        pare_text_add(t, "%s\n    {\"role\": ", c ? "," : "");
        string(t, k->role);
        pare_text_add(t, ", \"model\": ");
        string(t, k->model);
        pare_text_add(t, ", \"arch\": ");
        string(t, k->arch);
        pare_text_add(t, ", \"device\": ");
        string(t, k->device);
        pare_text_add(t, ", \"activations\": ");
        string(t, k->act);
        pare_text_add(t, ", \"weight_bytes\": %llu, \"device_text\": ", (unsigned long long)k->bytes);
        string(t, k->device_text);
        pare_text_add(t, ", \"fallbacks\": [");
        for (size_t i = 0; i < k->n_fallbacks; i++) {
            if (i) pare_text_add(t, ", ");
            string(t, k->fallbacks[i]);
        }
        pare_text_add(t, "], \"streamed\": %s", k->streamed ? "true" : "false");
        if (k->memory_bytes) pare_text_add(t, ", \"memory_bytes\": %llu", (unsigned long long)k->memory_bytes);
        pare_text_add(t, "}");
    }
    pare_text_add(t, "\n  ],\n");
}

static void metrics(const pare_verify_report *r, pare_text *t) {
    pare_text_add(t, "  \"metrics\": {");
    for (size_t i = 0; i < r->n_metrics; i++) {
        const pare_metric *m = &r->metrics[i];
        pare_text_add(t, "%s\n    \"%s\": {\"label\": ", i ? "," : "", m->key);
        string(t, m->label);
        pare_text_add(t, ", \"better\": \"%s\", ", m->better > 0 ? "higher" : m->better < 0 ? "lower" : "neither");
        for (int c = 1; c < r->n_columns;
             c++) /* the first column that has it again, for short queries: .metrics.KEY.value */
            if (m->at[c].has) {
                estimate(t, &m->at[c]);
                pare_text_add(t, ", ");
                break;
            }
        pare_text_add(t, "\"values\": [");
        for (int c = 0; c < r->n_columns; c++) {
            if (c) pare_text_add(t, ", ");
            if (!m->at[c].has) {
                pare_text_add(t, "null");
                continue;
            }
            pare_text_add(t, "{");
            estimate(t, &m->at[c]);
            pare_text_add(t, "}");
        }
        pare_text_add(t, "]}");
    }
    pare_text_add(t, "\n  },\n");
}

static void gates(const pare_verify_report *r, pare_text *t) {
    pare_text_add(t, "  \"gates\": [");
    for (size_t i = 0; i < r->n_gates; i++) {
        const pare_gate_result *g = &r->gates[i];
        pare_text_add(t, "%s\n    {\"name\": ", i ? "," : "");
        string(t, g->name);
        pare_text_add(t, ", \"metric\": \"%s\", \"column\": %d, \"bound\": \"%s\", \"limit\": ", g->key, g->column,
                      g->upper ? "max" : "min");
        number(t, g->limit);
        pare_text_add(t, ", ");
        estimate(t, &g->got);
        pare_text_add(t, ", \"pass\": %s, \"interval_straddles\": %s}", g->pass ? "true" : "false",
                      g->straddles ? "true" : "false");
    }
    pare_text_add(t, "\n  ],\n  \"passed\": %s", r->n_failed ? "false" : "true");
}

static void parts(pare_text *t, const char *key, const pare_part *p, size_t n) {
    if (!n) return;
    pare_text_add(t, ",\n  \"%s\": [", key);
    for (size_t i = 0; i < n; i++) {
        pare_text_add(t, "%s\n    {\"name\": ", i ? "," : "");
        string(t, p[i].name);
        pare_text_add(t, ", \"what\": ");
        string(t, p[i].what);
        pare_text_add(t, ", \"sqnr_db\": ");
        number(t, p[i].sqnr_db);
        pare_text_add(t, ", \"cosine\": ");
        number(t, p[i].cosine);
        pare_text_add(t, ", \"max_error\": ");
        number(t, p[i].max_error);
        pare_text_add(t, ", \"flagged\": %s}", p[i].flagged ? "true" : "false");
    }
    pare_text_add(t, "\n  ]");
}

static void parity_nodes(const pare_parity *y, pare_text *t) {
    pare_text_add(t, ", \"first_diverging\": ");
    if (y->first_diverging) string(t, y->first_diverging->name);
    else pare_text_add(t, "null");
    pare_text_add(t, ", \"nodes\": [");
    for (size_t i = 0; i < y->n_nodes; i++) {
        const pare_parity_node *n = &y->nodes[i];
        pare_text_add(t, "%s\n        {\"name\": ", i ? "," : "");
        string(t, n->name);
        pare_text_add(t, ", \"what\": ");
        string(t, n->what);
        pare_text_add(t, ", \"sqnr_db\": ");
        number(t, n->sqnr_db);
        pare_text_add(t, ", \"max_error\": ");
        number(t, n->max_error);
        pare_text_add(t, ", \"channel_db\": ");
        number(t, n->channel_db);
        pare_text_add(t, ", \"channel\": %lld, \"diverges\": %s}", (long long)n->channel,
                      n->diverges ? "true" : "false");
    }
    pare_text_add(t, "]");
}

static void parity(const pare_verify_report *r, pare_text *t) {
    if (!r->parity[0].has) return;
    pare_text_add(t, ",\n  \"parity\": {\n    \"devices\": [");
    string(t, r->columns[0].device);
    pare_text_add(t, ", ");
    string(t, r->columns[2].device);
    pare_text_add(t, "]");
    for (int i = 0; i < 2; i++) {
        const pare_parity *y = &r->parity[i];
        pare_text_add(t, ",\n    \"%s\": {\"columns\": [%d, %d], \"output\": ", i ? "reduced" : "original",
                      y->columns[0], y->columns[1]);
        string(t, y->output.name);
        pare_text_add(t, ", \"sqnr_db\": ");
        number(t, y->output.sqnr_db);
        pare_text_add(t, ", \"cosine\": ");
        number(t, y->output.cosine);
        pare_text_add(t, ", \"max_error\": ");
        number(t, y->output.max_error);
        if (y->n_nodes) parity_nodes(y, t);
        pare_text_add(t, "}");
    }
    pare_text_add(t, "\n  }");
}

void pare_report_json(const pare_verify_report *r, pare_text *t) {
    pare_text_add(t, "{\n  \"schema\": \"%s\",\n  \"pare\": \"%s\",\n  \"kind\": \"%s\",\n  \"protocol\": {",
                  PARE_VERIFY_SCHEMA, PARE_VERSION, pare_verify_kind_name(r->kind));
    for (size_t i = 0; i < r->n_protocol; i++) {
        pare_text_add(t, "%s\n    ", i ? "," : "");
        string(t, r->protocol[i].key);
        pare_text_add(t, ": ");
        if (r->protocol[i].is_number) number(t, r->protocol[i].number);
        else string(t, r->protocol[i].text);
    }
    pare_text_add(t, "\n  },\n");
    columns(r, t);
    metrics(r, t);
    gates(r, t);
    parts(t, "layers", r->layers, r->n_layers);
    parts(t, "tensors", r->tensors, r->n_tensors);
    parity(r, t);
    if (r->first_differing) {
        pare_text_add(t, ",\n  \"first_differing\": ");
        string(t, r->first_differing);
    }
    if (r->has_histogram) {
        pare_text_add(t, ",\n  \"kl_histogram\": {\"log10_from\": -8, \"log10_step\": 0.25, \"counts\": [");
        for (int i = 0; i < PARE_VERIFY_BINS; i++)
            pare_text_add(t, "%s%llu", i ? ", " : "", (unsigned long long)r->kl_histogram[i]);
        pare_text_add(t, "]}");
    }
    pare_text_add(t, "\n}\n");
}
