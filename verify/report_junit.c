/* SPDX-License-Identifier: Apache-2.0
 *
 * The JUnit report: one test case per gate and column, as CI systems show them. */
#include "verify/report.h"

static void sentence(pare_text *t, const pare_gate_result *g) {
    pare_text_add(t, "%s = %.9g, limit %s %.9g", g->key, g->got.value, g->upper ? "at most" : "at least", g->limit);
    if (g->got.has_range && g->got.lo != g->got.hi)
        pare_text_add(t, ", 95 %% interval %.9g to %.9g%s", g->got.lo, g->got.hi,
                      g->straddles ? " straddles the limit" : "");
}

void pare_report_junit(const pare_verify_report *r, pare_text *t) {
    pare_text_add(t,
                  "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n<testsuite name=\"pare verify\" "
                  "tests=\"%zu\" failures=\"%zu\" "
                  "errors=\"0\" skipped=\"0\">\n  <properties>\n",
                  r->n_gates, r->n_failed);
    for (int c = 0; c < r->n_columns; c++) {
        pare_text_add(t, "    <property name=\"column%d\" value=\"", c);
        pare_text_xml(t, r->columns[c].role);
        pare_text_add(t, " ");
        pare_text_xml(t, r->columns[c].model);
        pare_text_add(t, " on ");
        pare_text_xml(t, r->columns[c].device);
        pare_text_add(t, ", activations ");
        pare_text_xml(t, r->columns[c].act);
        if (r->columns[c].n_fallbacks) pare_text_add(t, ", %zu nodes run by the CPU", r->columns[c].n_fallbacks);
        if (r->columns[c].streamed) pare_text_add(t, ", weights streamed");
        pare_text_add(t, "\"/>\n");
    }
    for (int i = 0; i < 2 && r->parity[i].has; i++) {
        const pare_parity *y = &r->parity[i];
        const char *model = i ? "reduced" : "original";
        pare_text_add(t, "    <property name=\"parity_%s\" value=\"SQNR %.9g dB, max error %.9g\"/>\n", model,
                      y->output.sqnr_db, y->output.max_error);
        if (!y->n_nodes) continue;
        pare_text_add(t, "    <property name=\"first_diverging_%s\" value=\"", model);
        pare_text_xml(t, y->first_diverging ? y->first_diverging->name : "none");
        pare_text_add(t, "\"/>\n");
    }
    for (size_t i = 0; i < r->n_protocol; i++) {
        pare_text_add(t, "    <property name=\"");
        pare_text_xml(t, r->protocol[i].key);
        pare_text_add(t, "\" value=\"");
        if (r->protocol[i].is_number) pare_text_add(t, "%.15g", r->protocol[i].number);
        else pare_text_xml(t, r->protocol[i].text);
        pare_text_add(t, "\"/>\n");
    }
    pare_text_add(t, "  </properties>\n");
    for (size_t i = 0; i < r->n_gates; i++) {
        const pare_gate_result *g = &r->gates[i];
        pare_text_add(t, "  <testcase classname=\"pare.verify\" name=\"");
        pare_text_xml(t, g->name);
        if (r->n_columns > 2) pare_text_add(t, " (column %d)", g->column);
        pare_text_add(t, "\">");
        pare_text_add(t, g->pass ? "<system-out>" : "<failure message=\"");
        sentence(t, g);
        pare_text_add(t, g->pass ? "</system-out>" : "\"/>");
        pare_text_add(t, "</testcase>\n");
    }
    pare_text_add(t, "</testsuite>\n</testsuites>\n");
}
