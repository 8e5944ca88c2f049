/* SPDX-License-Identifier: Apache-2.0
 *
 * A verification on the terminal. */
#include "tools/verify_show.h"
#include "tools/cli.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *digits(char buf[32], double x) {
    if (isinf(x)) snprintf(buf, 32, "%s", x > 0 ? "equal" : "-inf");
    else snprintf(buf, 32, fabs(x) >= 100 ? "%.2f" : fabs(x) >= 1e-3 || x == 0 ? "%.5f" : "%.2e", x);
    return buf;
}

static void print_protocol(const pare_verify_report *r) {
    int wide = 9;
    for (size_t i = 0; i < r->n_protocol; i++)
        if ((int)strlen(r->protocol[i].key) > wide) wide = (int)strlen(r->protocol[i].key);
    for (int c = 0; c < r->n_columns; c++) {
        char size[32];
        const pare_column *k = &r->columns[c];
        printf("%-*s  %s (%s), %s%s%s%s, activations %s\n", wide, k->role, k->model, pare_cli_bytes(size, k->bytes),
               k->device, *k->device_text ? " (" : "", k->device_text, *k->device_text ? ")" : "", k->act);
        if (k->n_fallbacks) printf("%-*s    %zu nodes run by the CPU:", wide, "", k->n_fallbacks);
        for (size_t i = 0; i < k->n_fallbacks && i < 6; i++) printf(" %s", k->fallbacks[i]);
        if (k->n_fallbacks) printf("%s\n", k->n_fallbacks > 6 ? " ..." : "");
        if (k->streamed) printf("%-*s    the weights did not fit and came stage by stage\n", wide, "");
        if (k->memory_bytes) printf("%-*s    %s on the device\n", wide, "", pare_cli_bytes(size, k->memory_bytes));
    }
    for (size_t i = 0; i < r->n_protocol; i++) {
        const pare_protocol *p = &r->protocol[i];
        if (p->is_number) printf("%-*s  %.15g\n", wide, p->key, p->number);
        else printf("%-*s  %s\n", wide, p->key, p->text);
    }
    printf("\n");
}

static void print_metrics(const pare_verify_report *r) {
    char title[PARE_VERIFY_COLUMNS][64];
    const char *head[4 + PARE_VERIFY_COLUMNS] = {"metric", "key"};
    int n = r->n_columns;
    for (int c = 0; c < n; c++) {
        if (n > 2) snprintf(title[c], sizeof title[c], "%s, %s", r->columns[c].role, r->columns[c].device);
        else snprintf(title[c], sizeof title[c], "%s", r->columns[c].role);
        head[2 + c] = title[c];
    }
    head[2 + n] = n > 2 ? "95 % interval (2nd column)" : "95 % interval";
    pare_cli_table *t = pare_cli_table_new(n > 2 ? "llrrrrr" : "llrrr", head);
    for (size_t i = 0; i < r->n_metrics; i++) {
        const pare_metric *m = &r->metrics[i];
        const pare_estimate *e = &m->at[1];
        char x[PARE_VERIFY_COLUMNS][32] = {""}, lo[32], hi[32], range[80] = "";
        const char *row[4 + PARE_VERIFY_COLUMNS] = {m->label, m->key};
        for (int c = 0; c < n; c++) {
            if (m->at[c].has) digits(x[c], m->at[c].value);
            row[2 + c] = x[c];
        }
        if (e->has && e->has_range && e->lo != e->hi)
            snprintf(range, sizeof range, "%s .. %s", digits(lo, e->lo), digits(hi, e->hi));
        row[2 + n] = range;
        pare_cli_table_row(t, row);
    }
    pare_cli_table_print(&t);
}

static void print_parity_nodes(const pare_parity *y) {
    const char *head[] = {"", "node", "", "SQNR dB", "max error", "worst channel", "dB"};
    pare_cli_table *t = pare_cli_table_new("lllrrrr", head);
    for (size_t i = 0; i < y->n_nodes; i++) {
        const pare_parity_node *n = &y->nodes[i];
        char s[32], e[32], c[32] = "", b[32] = "";
        snprintf(e, sizeof e, "%.3g", n->max_error);
        if (isinf(n->sqnr_db)) snprintf(s, sizeof s, "%s", n->sqnr_db > 0 ? "equal" : "-inf");
        else snprintf(s, sizeof s, "%.2f", n->sqnr_db);
        if (n->channel >= 0)
            snprintf(c, sizeof c, "%lld", (long long)n->channel), snprintf(b, 32, "%.2f", n->channel_db);
        const char *row[] = {n->diverges ? "!" : "", n->name, n->what, s, e, c, b};
        pare_cli_table_row(t, row);
    }
    pare_cli_table_print(&t);
}

static void print_parity(const pare_verify_report *r) {
    if (!r->parity[0].has) return;
    for (int i = 0; i < 2; i++) {
        const pare_parity *y = &r->parity[i];
        if (!y->n_nodes) continue;
        printf("\nthe %s's nodes on %s, given the inputs they had on %s\n", i ? "reduced model" : "original",
               r->columns[y->columns[1]].device, r->columns[y->columns[0]].device);
        print_parity_nodes(y);
    }
    printf("\nparity of %s with %s\n", r->columns[2].device, r->columns[0].device);
    for (int i = 0; i < 2; i++) {
        const pare_parity *y = &r->parity[i];
        char db[32];
        printf("  %-8s  %s: SQNR %s%s, max error %.3g", i ? "reduced" : "original", y->output.name,
               digits(db, y->output.sqnr_db), isinf(y->output.sqnr_db) ? "" : " dB", y->output.max_error);
        if (y->n_nodes && !y->first_diverging) printf("; first diverging node: none");
        if (y->first_diverging)
            printf("; first diverging node: %s %s", y->first_diverging->name, y->first_diverging->what);
        printf("\n");
    }
}

static int by_sqnr(const void *a, const void *b) {
    const pare_part *x = *(const pare_part *const *)a, *y = *(const pare_part *const *)b;
    if (x->sqnr_db != y->sqnr_db) return x->sqnr_db < y->sqnr_db ? -1 : 1;
    return x < y ? -1 : x > y;
}

static void print_parts(const char *title, const pare_part *p, size_t n, bool all) {
    if (!n) return;
    const pare_part **order = calloc(n, sizeof *order);
    if (!order) return;
    for (size_t i = 0; i < n; i++) order[i] = &p[i];
    size_t shown = n;
    if (!all && n > 10) {
        shown = 10;
        qsort(order, n, sizeof *order, by_sqnr);
    }
    printf("\n%s", title);
    if (shown < n) printf(" (the %zu worst of %zu; all of them in --json and --report)", shown, n);
    printf("\n");
    const char *head[] = {"", "name", "", "SQNR dB", "cosine", "max error"};
    pare_cli_table *t = pare_cli_table_new("lllrrr", head);
    for (size_t i = 0; i < shown; i++) {
        char s[32], c[32], e[32];
        snprintf(c, sizeof c, "%.6f", order[i]->cosine);
        snprintf(e, sizeof e, "%.3g", order[i]->max_error);
        if (isinf(order[i]->sqnr_db)) snprintf(s, sizeof s, "equal");
        else snprintf(s, sizeof s, "%.2f", order[i]->sqnr_db);
        const char *row[] = {order[i]->flagged ? "!" : "", order[i]->name, order[i]->what, s, c, e};
        pare_cli_table_row(t, row);
    }
    pare_cli_table_print(&t);
    free(order);
}

static void print_gates(const pare_verify_report *r) {
    if (!r->n_gates) return;
    const char *head[] = {"gate", "name", "metric", "value", "", "limit", r->n_columns > 2 ? "column" : "", ""};
    pare_cli_table *t = pare_cli_table_new("lllrlrll", head);
    printf("\n");
    for (size_t i = 0; i < r->n_gates; i++) {
        const pare_gate_result *g = &r->gates[i];
        char v[32], l[32], column[64] = "";
        if (r->n_columns > 2)
            snprintf(column, sizeof column, "%s, %s", r->columns[g->column].role, r->columns[g->column].device);
        const char *row[] = {g->pass ? "PASS" : "FAIL",
                             g->name,
                             g->key,
                             digits(v, g->got.value),
                             g->upper ? "<=" : ">=",
                             digits(l, g->limit),
                             column,
                             g->straddles ? "the 95 % interval straddles the limit" : ""};
        pare_cli_table_row(t, row);
    }
    pare_cli_table_print(&t);
    if (r->n_failed) printf("%zu of %zu gate%s FAILED\n", r->n_failed, r->n_gates, r->n_gates == 1 ? "" : "s");
    else if (r->n_gates == 1) printf("the gate passed\n");
    else printf("all %zu gates passed\n", r->n_gates);
}

void pare_show_report(const pare_verify_report *r) {
    print_protocol(r);
    print_metrics(r);
    print_parts("nodes, in order", r->layers, r->n_layers, true);
    print_parts("weights", r->tensors, r->n_tensors, false);
    if (r->first_differing) printf("\nfirst that differs: %s\n", r->first_differing);
    else if (r->n_layers || r->n_tensors) printf("\nall are equal\n");
    print_parity(r);
    print_gates(r);
}

void pare_show_seconds(const pare_verify_report *r) {
    fprintf(stderr, "verify: %.2f s, %.2f s of it inside the models", r->seconds, r->model_seconds);
    for (int c = 0; c < r->n_columns && r->n_columns > 2; c += 2)
        fprintf(stderr, "%s %s %.2f s", c ? "," : ":", r->columns[c].device,
                r->columns[c].seconds + r->columns[c + 1].seconds);
    fprintf(stderr, "\n");
}
