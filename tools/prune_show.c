/* SPDX-License-Identifier: Apache-2.0
 *
 * How sensitive layers are, as a table and as JSON; pruning to a size or to a quality (tools/prune_show.h). */
#include "tools/prune_show.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_SCANS = 8, MOST_AMOUNTS = 12 };

static int usage(const char *option, const char *expected) {
    fprintf(stderr, "pare prune: %s: %s; `pare prune --help` has the options\n", option, expected);
    return 2;
}

/* ---- sensitivity ---- */
typedef struct scans {
    size_t n;
    pare_sensitivity *v[MOST_SCANS];
} scans;

static bool parse_amounts(const char *text, double *to, size_t *n) {
    for (*n = 0; text && *text;) {
        char *end;
        if (*n == MOST_AMOUNTS) return false;
        to[(*n)++] = strtod(text, &end);
        if (end == text || (*end && *end != ',')) return false;
        text = *end ? end + 1 : end;
    }
    return true;
}

/* Columns of all scans side by side; the printer takes 16. */
static void print_scan(const pare_sensitivity *s) {
    const char *head[16] = {"layer", "weights"};
    char align[17] = "rr", titles[MOST_AMOUNTS][32];
    size_t m = s->n_amounts < MOST_AMOUNTS ? s->n_amounts : MOST_AMOUNTS;
    for (size_t k = 0; k < m; k++) {
        if (m == 1) snprintf(titles[k], sizeof titles[k], "%.20s", s->pattern);
        else snprintf(titles[k], sizeof titles[k], "%g %%", 100 * s->amounts[k]);
        head[2 + k] = titles[k], align[2 + k] = 'r', align[3 + k] = 0;
    }
    pare_cli_table *t = pare_cli_table_new(align, head);
    for (size_t l = 0; l < s->n_layers; l++) {
        char cell[2 + MOST_AMOUNTS][32];
        const char *cells[2 + MOST_AMOUNTS];
        snprintf(cell[0], sizeof cell[0], "%zu", l);
        snprintf(cell[1], sizeof cell[1], "%llu", (unsigned long long)s->weights[l]);
        for (size_t k = 0; k < m; k++)
            if (s->weights[l]) snprintf(cell[2 + k], sizeof cell[0], "%.5f", s->loss[l * s->n_amounts + k]);
            else snprintf(cell[2 + k], sizeof cell[0], "kept");
        for (size_t k = 0; k < 2 + m; k++) cells[k] = cell[k];
        pare_cli_table_row(t, cells);
    }
    printf("%s%s%s: %s when one layer alone is pruned, %s\n", s->pattern, *s->method ? " by " : "", s->method,
           s->measure, s->data);
    pare_cli_table_print(&t);
}

static json_t *scan_json(const pare_sensitivity *s) {
    json_t *amounts = json_array(), *layers = json_array();
    for (size_t k = 0; k < s->n_amounts; k++) json_array_append_new(amounts, json_real(s->amounts[k]));
    for (size_t l = 0; l < s->n_layers; l++) {
        json_t *loss = json_array();
        for (size_t k = 0; s->weights[l] && k < s->n_amounts; k++)
            json_array_append_new(loss, json_real(s->loss[l * s->n_amounts + k]));
        json_array_append_new(layers, json_pack("{s:I, s:I, s:o}", "layer", (json_int_t)l, "weights",
                                                (json_int_t)s->weights[l], "loss", loss));
    }
    return json_pack("{s:s, s:s, s:s, s:s, s:o, s:o}", "pattern", s->pattern, "method", s->method, "measure",
                     s->measure, "data", s->data, "amounts", amounts, "layers", layers);
}

static int scans_json(const char *model, const scans *all) {
    const char *path = pare_cli_json();
    if (!path) return 0;
    json_t *list = json_array();
    for (size_t i = 0; i < all->n; i++) json_array_append_new(list, scan_json(all->v[i]));
    json_t *j = json_pack("{s:s, s:o}", "model", model, "sensitivity", list);
    bool to_stdout = strcmp(path, "-") == 0;
    int bad = !j || (to_stdout ? json_dumpf(j, stdout, JSON_INDENT(1)) : json_dump_file(j, path, JSON_INDENT(1)));
    if (to_stdout) printf("\n");
    json_decref(j);
    if (bad) fprintf(stderr, "pare: %s: the JSON could not be written\n", path);
    return bad ? 4 : 0;
}

/* A method goes to the patterns that it judges: zeros, or parts. */
static bool fits_parts(const char *method) {
    return !method || strcmp(method, "magnitude") == 0 || strcmp(method, "wanda") == 0 ||
           strcmp(method, "activation") == 0;
}

static int scan_all(const char *model, const pare_prune_opts *o, const pare_sensitivity_opts *so, char *patterns,
                    scans *all) {
    char *rest = NULL;
    for (char *p = strtok_r(patterns, ",", &rest); p; p = strtok_r(NULL, ",", &rest)) {
        pare_prune_opts one = *o;
        pare_diag d = {0};
        if (all->n == MOST_SCANS) return usage("--pattern", "eight patterns at most");
        one.pattern = p;
        if (pare_prune_smaller(p) && !fits_parts(o->method)) one.method = NULL;
        if (!pare_prune_smaller(p) && !one.method) one.method = "magnitude";
        if (strcmp(p, "layers") == 0) one.method = NULL;
        pare_status s = pare_prune_sensitivity(model, &one, so, &all->v[all->n], &d);
        if (s != PARE_OK) return pare_cli_fail(s, &d);
        all->n++;
    }
    return 0;
}

int pare_cli_sensitivity(const char *model, const pare_prune_opts *o, const char *amounts, const char *svg) {
    double tried[MOST_AMOUNTS];
    pare_sensitivity_opts so = {.amounts = tried};
    scans all = {0};
    pare_diag d = {0};
    if (!parse_amounts(amounts, tried, &so.n_amounts)) return usage("--amounts", "shares like 0.25,0.5 were expected");
    char *patterns = strdup(o->pattern ? o->pattern : "unstructured");
    int code = patterns ? scan_all(model, o, &so, patterns, &all) : 4;
    bool table = !pare_cli_json() || strcmp(pare_cli_json(), "-") != 0;
    for (size_t i = 0; code == 0 && table && i < all.n; i++) print_scan(all.v[i]);
    if (code == 0) code = scans_json(model, &all);
    if (code == 0 && svg) {
        pare_status s = pare_sensitivity_draw((const pare_sensitivity *const *)all.v, all.n, svg, &d);
        if (s != PARE_OK) code = pare_cli_fail(s, &d);
    }
    for (size_t i = 0; i < all.n; i++) pare_sensitivity_close(&all.v[i]);
    free(patterns);
    return code;
}

/* ---- goals ---- */
static bool parse_fit(const char *text, pare_prune_goal *g) {
    char *end;
    double x = strtod(text, &end), unit = 1;
    if (end == text || !(x > 0)) return false;
    if (strcmp(end, "%") == 0) return g->fit_share = x / 100, x < 100;
    if (*end == 'K' || *end == 'k') unit = 1e3, end++;
    else if (*end == 'M' || *end == 'm') unit = 1e6, end++;
    else if (*end == 'G' || *end == 'g') unit = 1e9, end++;
    if (*end == 'B' || *end == 'b') end++;
    if (*end || x * unit >= 1e18) return false;
    g->fit_bytes = (uint64_t)(x * unit);
    return true;
}

static void print_choice(const pare_prune_choice *c) {
    char size[32];
    printf("chosen: %s", c->text);
    if (c->bytes) printf("; %s expected", pare_cli_bytes(size, c->bytes));
    if (c->kl >= 0) printf("; KL divergence %.5f, after %d models", c->kl, c->evaluations);
    printf("\n");
    for (size_t l = 0; l < c->n_layers; l++)
        printf("%s%zu: %.0f %%", l % 10 ? ", " : l ? "\n  " : "  layer ", l, 100 * c->share[l]);
    if (c->n_layers) printf("\n");
    fflush(stdout);
}

static json_t *choice_json(const pare_prune_choice *c) {
    json_t *share = json_array();
    for (size_t l = 0; l < c->n_layers; l++) json_array_append_new(share, json_real(c->share[l]));
    json_t *j = json_pack("{s:s, s:i, s:o}", "text", c->text, "evaluations", c->evaluations, "share", share);
    if (c->kl >= 0) json_object_set_new(j, "kl", json_real(c->kl));
    if (c->most_bytes) json_object_set_new(j, "fit_bytes", json_integer((json_int_t)c->most_bytes));
    if (c->bytes) json_object_set_new(j, "expected_bytes", json_integer((json_int_t)c->bytes));
    return j;
}

/* The written output against the size asked for. */
static int check_size(const char *out, uint64_t most) {
    uint64_t bytes;
    pare_diag d = {0};
    if (!most) return 0;
    pare_status s = pare_output_bytes(out, &bytes, &d);
    if (s != PARE_OK) return pare_cli_fail(s, &d);
    if (bytes > most)
        fprintf(stderr, "pare: %s: --fit: it has %llu bytes, not at most %llu\n", out, (unsigned long long)bytes,
                (unsigned long long)most);
    else if (!pare_cli_quiet() && (!pare_cli_json() || strcmp(pare_cli_json(), "-") != 0))
        printf("%s has %llu bytes, of %llu asked for\n", out, (unsigned long long)bytes, (unsigned long long)most);
    return bytes > most ? pare_exit_status(PARE_ERR_GATE) : 0;
}

int pare_cli_prune_goal(const char *model, const char *out, const pare_prune_opts *o, pare_prune_goal *g,
                        const char *fit, bool dry_run) {
    pare_prune_choice *c = NULL;
    pare_job *job = NULL;
    pare_diag d = {0};
    if (fit && !parse_fit(fit, g)) return usage("--fit", "a size like 80MB, or a share like 60% was expected");
    pare_status s = pare_prune_choose(model, out, o, g, &c, &d);
    if (s == PARE_OK && (!pare_cli_json() || strcmp(pare_cli_json(), "-") != 0)) print_choice(c);
    if (s == PARE_OK) s = pare_prune_open(model, out, &c->opts, &job, &d);
    int code = s == PARE_OK ? 0 : pare_cli_fail(s, &d);
    if (code == 0) {
        const pare_gate gate = {"max-kl", "kl_mean", true, g->max_kl};
        const pare_verify_opts v = {.data = g->data,
                                    .ctx = g->ctx,
                                    .windows = g->windows,
                                    .gates = &gate,
                                    .n_gates = g->max_kl > 0};
        pare_cli_job_add("choice", choice_json(c));
        code = pare_cli_job_verified(&job, model, out, dry_run, &v);
        if (code == 0 && !dry_run) code = check_size(out, c->most_bytes);
    }
    pare_prune_choice_close(&c);
    return code;
}
