/* SPDX-License-Identifier: Apache-2.0
 *
 * Option parsing, error lines and common options. */
#include "tools/cli.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool quiet;
static const char *json_path;
static int64_t threads;
static const pare_cli_opt common[] = {
    {"--threads", 0, 'i', &threads, "N", "threads to use (default: all cores)"},
    {"--json", 0, 's', &json_path, "FILE", "also write the result as JSON (- = standard output)"},
    {"--quiet", 0, 'f', &quiet, NULL, "no progress, no notes"},
};
#define N_COMMON (sizeof common / sizeof *common)

bool pare_cli_quiet(void) { return quiet; }
const char *pare_cli_json(void) { return json_path; }

static size_t distance(const char *a, const char *b) { /* Levenshtein, short strings */
    size_t n = strlen(b), row[64];
    if (n > 62) return 99;
    for (size_t j = 0; j <= n; j++) row[j] = j;
    for (size_t i = 0; a[i]; i++) {
        size_t diag = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < n; j++) {
            size_t best = diag + (a[i] != b[j]);
            diag = row[j + 1];
            if (row[j] + 1 < best) best = row[j] + 1;
            if (diag + 1 < best) best = diag + 1;
            row[j + 1] = best;
        }
    }
    return row[n];
}

static void print_opts(const pare_cli_opt *o, size_t n) {
    for (size_t i = 0; i < n; i++) {
        char left[64], letter[8] = "";
        if (o[i].letter) snprintf(letter, sizeof letter, "-%c, ", o[i].letter);
        snprintf(left, sizeof left, "%s%s%s%s", letter, o[i].name, o[i].arg ? " " : "", o[i].arg ? o[i].arg : "");
        printf("  %-28s %s\n", left, o[i].help);
    }
}

static int wrong(const char *cmd, const char *fmt, const char *a, const char *b) {
    if (!pare_team_speaks()) return -1;
    fprintf(stderr, "pare %s: ", cmd);
    fprintf(stderr, fmt, a, b);
    fprintf(stderr, "; `pare %s --help` has the options\n", cmd);
    return -1;
}

static bool set(const pare_cli_opt *o, const char *v) {
    char *end;
    errno = 0;
    switch (o->kind) {
    case 'f': *(bool *)o->to = true; return true;
    case 's': *(const char **)o->to = v; return true;
    case 'i': *(int64_t *)o->to = strtoll(v, &end, 10); return end != v && !*end && !errno;
    case 'd': *(double *)o->to = strtod(v, &end); return end != v && !*end && isfinite(*(double *)o->to);
    case 'b': {
        double x = strtod(v, &end), unit = 1;
        if (*end == 'K' || *end == 'k') unit = 1e3;
        else if (*end == 'M' || *end == 'm') unit = 1e6;
        else if (*end == 'G' || *end == 'g') unit = 1e9;
        if (unit > 1) end++;
        if (*end == 'B' || *end == 'b') end++;
        *(uint64_t *)o->to = x >= 0 && x * unit < 1e18 ? (uint64_t)(x * unit) : 0;
        return end != v && !*end && x >= 0 && x * unit < 1e18;
    }
    case 'S': {
        pare_cli_list *l = o->to;
        const char **p = realloc(l->v, (l->n + 1) * sizeof *p);
        if (!p) return false;
        l->v = p;
        l->v[l->n++] = v;
        return true;
    }
    }
    return false;
}

static const pare_cli_opt *find(const pare_cli_opt *o, size_t n, const char *name, size_t name_len) {
    for (size_t i = 0; i < n; i++) {
        if (strlen(o[i].name) == name_len && memcmp(o[i].name, name, name_len) == 0) return &o[i];
        if (o[i].letter && name_len == 2 && name[0] == '-' && name[1] == o[i].letter) return &o[i];
    }
    return NULL;
}

int pare_cli_later(const char *what, const char *name) {
    fprintf(stderr, "pare: `%s %s` is not part of this version yet\n", what, name);
    return 2;
}

/* Options that the design names for later versions: refused by name, absent from --help. */
static bool is_later(const char *cmd, const char *opt, size_t opt_len) {
    static const char *const later[] = {"quantize --calib", "quantize --fit", "quantize --max-kl", "quantize --verify",
                                        "run --image",      "run --chat",     "quantize --device"};
    size_t cmd_len = strlen(cmd);
    for (size_t i = 0; i < sizeof later / sizeof *later; i++)
        if (strncmp(later[i], cmd, cmd_len) == 0 && later[i][cmd_len] == ' ' &&
            strlen(later[i] + cmd_len + 1) == opt_len && memcmp(later[i] + cmd_len + 1, opt, opt_len) == 0)
            return true;
    return false;
}

int pare_cli_parse(int argc, char **argv, const char *usage, const char *examples, const pare_cli_opt *opts,
                   size_t n_opts, const char **pos, int max_pos) {
    int n_pos = 0;
    bool only_pos = false;
    for (int i = 1; i < argc; i++) {
        char *a = argv[i];
        if (!only_pos && strcmp(a, "--") == 0) {
            only_pos = true;
            continue;
        }
        if (!only_pos && (strcmp(a, "--help") == 0 || strcmp(a, "-h") == 0)) {
            printf("usage: pare %s\n\n", usage);
            print_opts(opts, n_opts);
            print_opts(common, N_COMMON);
            if (examples) printf("\nexamples:\n%s", examples);
            return -2;
        }
        if (only_pos || a[0] != '-' || !a[1]) {
            if (n_pos == max_pos) return wrong(argv[0], "one argument too many: `%s`", a, "");
            pos[n_pos++] = a;
            continue;
        }
        const char *eq = a[1] == '-' ? strchr(a, '=') : NULL;
        size_t len = eq ? (size_t)(eq - a) : strlen(a);
        const pare_cli_opt *o = find(opts, n_opts, a, len);
        if (!o) o = find(common, N_COMMON, a, len);
        if (!o && is_later(argv[0], a, len)) return pare_cli_later(argv[0], a), -1;
        if (!o) {
            const char *near = NULL;
            size_t best = 4;
            for (size_t k = 0; k < n_opts + N_COMMON; k++) {
                const char *name = k < n_opts ? opts[k].name : common[k - n_opts].name;
                size_t dist = distance(a, name);
                if (dist < best) best = dist, near = name;
            }
            return near ? wrong(argv[0], "no option `%s`, did you mean %s", a, near)
                        : wrong(argv[0], "no option `%s`", a, "");
        }
        const char *v = NULL;
        if (o->kind != 'f') {
            v = eq ? eq + 1 : i + 1 < argc ? argv[++i] : NULL;
            if (!v) return wrong(argv[0], "%s needs a value (%s)", o->name, o->arg ? o->arg : "");
        } else if (eq) return wrong(argv[0], "%s takes no value", o->name, "");
        if (!set(o, v)) return wrong(argv[0], "%s: `%s` is not a valid value", o->name, v);
    }
    if (threads < 0 || threads > 4096) return wrong(argv[0], "--threads wants a number from 1 to 4096%s%s", "", "");
    pare_set_threads((int)threads);
    if (pare_team_rank() == 0) pare_cli_hooks();
    else quiet = true, json_path = NULL;
    return n_pos;
}

int pare_cli_fail(pare_status s, const pare_diag *d) {
    char line[1200];
    if (!pare_team_speaks()) return pare_exit_status(s);
    pare_diag plain = {.code = s};
    fprintf(stderr, "pare: %s\n", pare_diag_line(d && d->code != PARE_OK ? d : &plain, line, sizeof line));
    return pare_exit_status(s);
}

int pare_cli_done(int exit_status) {
    if ((fflush(stdout) != 0 || ferror(stdout)) && exit_status == 0) {
        fprintf(stderr, "pare: standard output could not be written\n");
        return 4;
    }
    return exit_status;
}
