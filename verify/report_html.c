/* SPDX-License-Identifier: Apache-2.0
 *
 * The HTML report: one file that works offline; tables and inline SVG. */
#include "verify/report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char head[] =
    "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
    "content=\"width=device-width\">\n"
    "<title>pare verify</title><style>\n"
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 "
    "1rem;color:#1b1f24;background:#fff}\n"
    "h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}table{border-collapse:collapse;margin:.5rem 0}\n"
    "td,th{padding:.2rem .7rem;border-bottom:1px solid "
    "#d5dae0;text-align:left;vertical-align:top}td.n{text-align:right;"
    "font-variant-numeric:tabular-nums;white-space:nowrap}small{color:#5b6672}.pass{color:#11693a;font-weight:600}\n"
    ".fail{color:#b3211c;font-weight:600}.flag{background:#fff1d6}svg{max-width:100%;height:auto}\n"
    "svg text{font:11px system-ui,sans-serif;fill:#5b6672}svg rect{fill:#3b6fb6}svg rect.flag{fill:#d9822b}svg "
    "line{stroke:#d5dae0}\n"
    "</style></head><body>\n";

static void value(pare_text *t, double x) {
    if (isinf(x)) pare_text_add(t, x > 0 ? "&infin;" : "-&infin;");
    else pare_text_add(t, "%.6g", x);
}

static void column_notes(pare_text *t, const pare_column *c) {
    if (*c->device_text) pare_text_add(t, "<br>"), pare_text_xml(t, c->device_text);
    if (c->n_fallbacks) pare_text_add(t, "<br>%zu nodes run by the CPU:", c->n_fallbacks);
    for (size_t i = 0; i < c->n_fallbacks && i < 10; i++) pare_text_add(t, " "), pare_text_xml(t, c->fallbacks[i]);
    if (c->n_fallbacks > 10) pare_text_add(t, " ...");
    if (c->streamed) pare_text_add(t, "<br>weights came stage by stage");
    if (c->memory_bytes) pare_text_add(t, "<br>%.1f MB on the device", (double)c->memory_bytes / 1e6);
}

static void metric_table(const pare_verify_report *r, pare_text *t) {
    pare_text_add(t, "<h2>Metrics</h2><table><tr><th>metric</th>");
    for (int c = 0; c < r->n_columns; c++) {
        pare_text_add(t, "<th>");
        pare_text_xml(t, r->columns[c].role);
        pare_text_add(t, "<br><small>");
        pare_text_xml(t, r->columns[c].model);
        pare_text_add(t, "<br>%.1f MB, ", (double)r->columns[c].bytes / 1e6);
        pare_text_xml(t, r->columns[c].device);
        pare_text_add(t, ", activations ");
        pare_text_xml(t, r->columns[c].act);
        column_notes(t, &r->columns[c]);
        pare_text_add(t, "</small></th>");
    }
    pare_text_add(t, "</tr>\n");
    for (size_t i = 0; i < r->n_metrics; i++) {
        const pare_metric *m = &r->metrics[i];
        pare_text_add(t, "<tr><td>");
        pare_text_xml(t, m->label);
        pare_text_add(t, " <small>%s%s</small></td>", m->key,
                      m->better > 0   ? " &uarr;"
                      : m->better < 0 ? " &darr;"
                                      : "");
        for (int c = 0; c < r->n_columns; c++) {
            pare_text_add(t, "<td class=\"n\">");
            if (m->at[c].has) value(t, m->at[c].value);
            if (m->at[c].has && m->at[c].has_range && m->at[c].lo != m->at[c].hi) {
                pare_text_add(t, "<br><small>");
                value(t, m->at[c].lo);
                pare_text_add(t, " &ndash; ");
                value(t, m->at[c].hi);
                pare_text_add(t, "</small>");
            }
            pare_text_add(t, "</td>");
        }
        pare_text_add(t, "</tr>\n");
    }
    pare_text_add(t, "</table>\n");
}

static void gate_table(const pare_verify_report *r, pare_text *t) {
    if (!r->n_gates) return;
    pare_text_add(t, "<h2>Gates</h2><table><tr><th></th><th>gate</th><th>value</th><th>limit</th><th>95 %% "
                     "interval</th></tr>\n");
    for (size_t i = 0; i < r->n_gates; i++) {
        const pare_gate_result *g = &r->gates[i];
        pare_text_add(t, "<tr><td class=\"%s\">%s</td><td>", g->pass ? "pass" : "fail", g->pass ? "PASS" : "FAIL");
        pare_text_xml(t, g->name);
        if (r->n_columns > 2) {
            pare_text_add(t, " <small>");
            pare_text_xml(t, r->columns[g->column].role);
            pare_text_add(t, ", ");
            pare_text_xml(t, r->columns[g->column].device);
            pare_text_add(t, "</small>");
        }
        pare_text_add(t, "</td><td class=\"n\">");
        value(t, g->got.value);
        pare_text_add(t, "</td><td class=\"n\">%s ", g->upper ? "&le;" : "&ge;");
        value(t, g->limit);
        pare_text_add(t, "</td><td>");
        if (g->got.has_range) {
            value(t, g->got.lo);
            pare_text_add(t, " &ndash; ");
            value(t, g->got.hi);
            if (g->straddles) pare_text_add(t, ", straddles the limit");
        }
        pare_text_add(t, "</td></tr>\n");
    }
    pare_text_add(t, "</table>\n");
}

static void histogram(const pare_verify_report *r, pare_text *t) {
    if (!r->has_histogram) return;
    uint64_t most = 1;
    for (int i = 0; i < PARE_VERIFY_BINS; i++)
        if (r->kl_histogram[i] > most) most = r->kl_histogram[i];
    pare_text_add(t, "<h2>KL divergence of the positions</h2><svg viewBox=\"0 0 840 220\" width=\"840\" height=\"220\" "
                     "role=\"img\" "
                     "aria-label=\"histogram of KL divergence, logarithmic\">\n");
    for (int i = 0; i < PARE_VERIFY_BINS; i++) {
        double h = 170.0 * (double)r->kl_histogram[i] / (double)most, from = pow(10, -8 + 0.25 * i);
        pare_text_add(t,
                      "<rect x=\"%d\" y=\"%.1f\" width=\"18\" height=\"%.1f\"><title>from %.2g: %llu</title></rect>\n",
                      20 + 20 * i, 180 - h, h, from, (unsigned long long)r->kl_histogram[i]);
    }
    for (int e = -8; e <= 2; e += 2) pare_text_add(t, "<text x=\"%d\" y=\"200\">1e%d</text>\n", 20 + 80 * (e + 8), e);
    pare_text_add(t, "<line x1=\"20\" y1=\"180.5\" x2=\"820\" y2=\"180.5\"/></svg>\n");
}

static void parts(pare_text *t, const char *title, const pare_part *p, size_t n) {
    if (!n) return;
    double most = 1;
    for (size_t i = 0; i < n; i++)
        if (isfinite(p[i].sqnr_db) && p[i].sqnr_db > most) most = p[i].sqnr_db;
    pare_text_add(t,
                  "<h2>%s</h2><svg viewBox=\"0 0 840 180\" width=\"840\" height=\"180\" preserveAspectRatio=\"none\" "
                  "role=\"img\" "
                  "aria-label=\"SQNR in order\">\n",
                  title);
    for (size_t i = 0; i < n; i++) {
        double db = p[i].sqnr_db < 0      ? 0
                    : isinf(p[i].sqnr_db) ? most
                                          : p[i].sqnr_db,
               h = 150 * db / most, w = 800.0 / (double)n;
        pare_text_add(t, "<rect%s x=\"%.2f\" y=\"%.1f\" width=\"%.2f\" height=\"%.1f\"><title>",
                      p[i].flagged ? " class=\"flag\"" : "", 20 + w * (double)i, 160 - h, w > 2 ? w - 1 : w, h);
        pare_text_xml(t, p[i].name);
        pare_text_add(t, ": %.2f dB</title></rect>\n", p[i].sqnr_db);
    }
    pare_text_add(t,
                  "<line x1=\"20\" y1=\"160.5\" x2=\"820\" y2=\"160.5\"/><text x=\"20\" y=\"176\">SQNR, 0 to %.0f dB; "
                  "orange stands out</text>"
                  "</svg>\n<details><summary>%zu rows</summary><table><tr><th>name</th><th></th><th>SQNR "
                  "dB</th><th>cosine</th><th>max "
                  "error</th></tr>\n",
                  most, n);
    for (size_t i = 0; i < n; i++) {
        pare_text_add(t, "<tr%s><td>", p[i].flagged ? " class=\"flag\"" : "");
        pare_text_xml(t, p[i].name);
        pare_text_add(t, "</td><td>");
        pare_text_xml(t, p[i].what);
        pare_text_add(t, "</td><td class=\"n\">");
        value(t, p[i].sqnr_db);
        pare_text_add(t, "</td><td class=\"n\">%.6f</td><td class=\"n\">%.4g</td></tr>\n", p[i].cosine, p[i].max_error);
    }
    pare_text_add(t, "</table></details>\n");
}

static void parity_nodes(pare_text *t, const pare_parity *y) {
    pare_text_add(t,
                  "<details><summary>%zu nodes</summary><table><tr><th>node</th><th></th><th>SQNR dB</th><th>max "
                  "error</th><th>worst channel dB</th><th>channel</th></tr>\n",
                  y->n_nodes);
    for (size_t i = 0; i < y->n_nodes; i++) {
        const pare_parity_node *n = &y->nodes[i];
        pare_text_add(t, "<tr%s><td>", n->diverges ? " class=\"flag\"" : "");
        pare_text_xml(t, n->name);
        pare_text_add(t, "</td><td>");
        pare_text_xml(t, n->what);
        pare_text_add(t, "</td><td class=\"n\">");
        value(t, n->sqnr_db);
        pare_text_add(t, "</td><td class=\"n\">%.4g</td><td class=\"n\">", n->max_error);
        value(t, n->channel_db);
        if (n->channel < 0) pare_text_add(t, "</td><td class=\"n\"></td></tr>\n");
        else pare_text_add(t, "</td><td class=\"n\">%lld</td></tr>\n", (long long)n->channel);
    }
    pare_text_add(t, "</table></details>\n");
}

static void parity(const pare_verify_report *r, pare_text *t) {
    if (!r->parity[0].has) return;
    pare_text_add(t, "<h2>Parity: ");
    pare_text_xml(t, r->columns[2].device);
    pare_text_add(t, " against ");
    pare_text_xml(t, r->columns[0].device);
    pare_text_add(t, "</h2>\n");
    for (int i = 0; i < 2; i++) {
        const pare_parity *y = &r->parity[i];
        pare_text_add(t, "<p>%s: %s SQNR ", i ? "reduced" : "original", y->output.name);
        value(t, y->output.sqnr_db);
        pare_text_add(t, " dB, max error %.4g", y->output.max_error);
        if (y->n_nodes) pare_text_add(t, "; first diverging node: ");
        if (y->n_nodes && !y->first_diverging) pare_text_add(t, "<span class=\"pass\">none</span>");
        if (y->first_diverging) {
            pare_text_add(t, "<span class=\"fail\">");
            pare_text_xml(t, y->first_diverging->name);
            pare_text_add(t, " (%s)</span>", y->first_diverging->what);
        }
        pare_text_add(t, "</p>\n");
        if (y->n_nodes) parity_nodes(t, y);
    }
}

void pare_report_html(const pare_verify_report *r, pare_text *t) {
    pare_text_add(t, "%s", head);
    pare_text_add(t, "<h1>pare verify: ");
    if (r->n_failed) pare_text_add(t, "<span class=\"fail\">%zu of %zu gates failed</span>", r->n_failed, r->n_gates);
    else if (r->n_gates) pare_text_add(t, "<span class=\"pass\">all gates passed</span>");
    else pare_text_add(t, "no gates were set");
    pare_text_add(t, "</h1>\n");
    gate_table(r, t);
    metric_table(r, t);
    histogram(r, t);
    parity(r, t);
    parts(t, "Layer view: outputs of nodes", r->layers, r->n_layers);
    parts(t, "Weights", r->tensors, r->n_tensors);
    pare_text_add(t, "<h2>Protocol</h2><table>\n");
    for (size_t i = 0; i < r->n_protocol; i++) {
        pare_text_add(t, "<tr><td>");
        pare_text_xml(t, r->protocol[i].key);
        pare_text_add(t, "</td><td>");
        if (r->protocol[i].is_number) pare_text_add(t, "%.15g", r->protocol[i].number);
        else pare_text_xml(t, r->protocol[i].text);
        pare_text_add(t, "</td></tr>\n");
    }
    if (r->first_differing) {
        pare_text_add(t, "<tr><td>first_differing</td><td>");
        pare_text_xml(t, r->first_differing);
        pare_text_add(t, "</td></tr>\n");
    }
    pare_text_add(t, "</table><p><small>pare %s. Intervals: 95 %%, bootstrap.</small></p></body></html>\n",
                  PARE_VERSION);
}
