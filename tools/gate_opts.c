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
static const struct {
    const char *name, *key;
    bool upper;
    const char *help;
} named[N_NAMED] = {
    {"--max-kl", "kl_mean", true, "language models: mean KL divergence, nats"},
    {"--max-kl99", "kl_p99", true, "its 99 % percentile"},
    {"--min-top1", "top1", false, "share of positions with the same most likely token (0..1)"},
    {"--max-ppl", "ppl", true, "perplexity of the reduced model"},
    {"--max-ppl-ratio", "ppl_ratio", true, "perplexity, reduced / original"},
    {"--min-cosine", "cosine_mean", false, "mean cosine (embeddings; logits; tensors)"},
    {"--min-spearman", "spearman", false, "encoders: rank correlation with the scores of the pairs"},
    {"--min-overlap", "overlap", false, "encoders: share of the same nearest sentences"},
    {"--min-sqnr", "sqnr", false, "signal to quantization noise, dB (output; weights)"},
    {"--max-error", "max_error", true, "weights: largest difference"},
    {"--min-parity", "parity", false, "two devices: SQNR of the second one's output against the first one's, dB"},
};

static pare_cli_list gate_list;
static pare_gate *gates; /* the named ones that were set, then those of --gate, whose keys are copies */
static size_t n_named, n_gates;

void pare_gate_opts_add(pare_cli_opt *o) {
    for (int i = 0; i < N_NAMED; i++) {
        limit[i] = NAN;
        o[i] = (pare_cli_opt){named[i].name, 0, 'd', &limit[i], "X", named[i].help};
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
    for (int i = 0; i < N_NAMED; i++)
        if (!isnan(limit[i])) gates[n_gates++] = (pare_gate){named[i].name + 2, named[i].key, named[i].upper, limit[i]};
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
