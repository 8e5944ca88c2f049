/* SPDX-License-Identifier: Apache-2.0
 *
 * Gates as options (tools/gate_opts.h). */
#include "tools/gate_opts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_NAMED = PARE_GATE_OPTS - 1 };
static double limit[N_NAMED];
static char option[N_NAMED][32]; /* "--max-kl" */

static pare_cli_list gate_list;
static pare_gate *gates; /* the named ones that were set, then those of --gate, whose keys are copies */
static size_t n_named, n_gates;

void pare_gate_opts_add(pare_cli_opt *o) {
    pare_gate g;
    const char *text;
    for (size_t i = 0; i < N_NAMED && pare_gate_named(i, &g, &text); i++) {
        limit[i] = NAN;
        snprintf(option[i], sizeof option[i], "--%s", g.name);
        o[i] = (pare_cli_opt){option[i], 0, 'd', &limit[i], "X", text};
    }
    o[N_NAMED] =
        (pare_cli_opt){"--gate", 0, 'S', &gate_list, "KEY<=X", "a gate on any metric (also KEY>=X), repeatable"};
}

static int bad_usage(const char *command, const char *what, const char *arg) {
    fprintf(stderr, "pare %s: %s%s; `pare %s --help` has the options\n", command, what, arg, command);
    return 2;
}

static int add_gate(const char *command, const char *text) { /* KEY<=X */
    const char *at = strpbrk(text, "<>");
    if (!at || at == text || at[1] != '=' || !at[2])
        return bad_usage(command, "--gate wants KEY<=X or KEY>=X, not ", text);
    char *end;
    double x = strtod(at + 2, &end);
    if (*end || !isfinite(x)) return bad_usage(command, "--gate: the limit is not a number in ", text);
    char *key = strndup(text, (size_t)(at - text));
    if (!key) return bad_usage(command, "no memory", "");
    gates[n_gates++] = (pare_gate){text, key, *at == '<', x};
    return 0;
}

int pare_gate_opts_make(const char *command, pare_verify_opts *v) {
    gates = calloc(N_NAMED + gate_list.n, sizeof *gates);
    if (!gates) return bad_usage(command, "no memory", "");
    pare_gate g;
    const char *text;
    for (size_t i = 0; i < N_NAMED && pare_gate_named(i, &g, &text); i++)
        if (!isnan(limit[i])) gates[n_gates] = g, gates[n_gates++].limit = limit[i];
    n_named = n_gates;
    int wrong = 0;
    for (size_t i = 0; i < gate_list.n && !wrong; i++) wrong = add_gate(command, gate_list.v[i]);
    v->gates = gates, v->n_gates = n_gates;
    return wrong;
}

void pare_gate_opts_free(void) {
    for (size_t i = n_named; i < n_gates; i++) free((char *)gates[i].key);
    free(gates);
    free(gate_list.v);
}
