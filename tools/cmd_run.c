/* SPDX-License-Identifier: Apache-2.0
 *
 * pare run: text from a language model, as it comes; embeddings from an encoder. */
#include "tools/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int pare_cmd_run(int argc, char **argv);

static const char usage[] = "run MODEL --prompt TEXT [options]";
static const char examples[] = "  pare run stories.gguf --prompt \"Once upon a time\" -n 64\n"
                               "  pare run model-folder --prompt \"The capital of France is\" --temp 0\n"
                               "  pare run minilm-folder --prompt \"a sentence\" --json vector.json\n"
                               "  pare run minilm-folder --input sentences.txt > vectors.txt\n";

typedef struct text {
    char *v;
    size_t n, cap;
    bool to_stdout;
    FILE *ids;
    int64_t count;
} text;

static void die_memory(void) {
    fprintf(stderr, "pare: out of memory\n");
    exit(4);
}

static void append(text *t, const char *p, size_t n) {
    if (t->n + n + 1 > t->cap) {
        t->cap = (t->n + n + 1) * 2;
        t->v = realloc(t->v, t->cap);
        if (!t->v) die_memory();
    }
    memcpy(t->v + t->n, p, n);
    t->v[t->n += n] = 0;
}

static bool on_token(void *user, int64_t id, const char *p, size_t n) {
    text *t = user;
    append(t, p, n);
    if (t->ids) fprintf(t->ids, "%s%lld", t->count++ ? ", " : "", (long long)id);
    if (!t->to_stdout) return true;
    fwrite(p, 1, n, stdout);
    return fflush(stdout) == 0; /* a reader that went away ends the run */
}

static void json_string(FILE *f, const char *s, size_t n) {
    fputc('"', f);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c == '"' || c == '\\') fprintf(f, "\\%c", c);
        else if (c < 0x20 || c == 0x7F) fprintf(f, "\\u%04x", c);
        else fputc(c, f);
    }
    fputc('"', f);
}

static FILE *open_json(const char *path) {
    if (strcmp(path, "-") == 0) return stdout;
    FILE *f = fopen(path, "w");
    if (!f) fprintf(stderr, "pare: %s: %s\n", path, strerror(errno));
    return f;
}

static int close_json(FILE *f, const char *path) {
    if (f == stdout) return 0;
    bool bad = ferror(f);
    if (fclose(f) != 0 || bad) return fprintf(stderr, "pare: %s: could not be written: %s\n", path, strerror(errno)), 4;
    return 0;
}

static const char *stop_word(pare_stop s) {
    return s == PARE_STOP_END ? "end" : s == PARE_STOP_COUNT ? "count" : s == PARE_STOP_CONTEXT ? "context" : "caller";
}

static int generate(pare_runner *r, const char *prompt, pare_generate_opts *o) {
    pare_diag d = {0};
    pare_generate_result g;
    text t = {.to_stdout = !pare_cli_json() || strcmp(pare_cli_json(), "-") != 0};
    FILE *f = NULL;
    if (pare_cli_json()) {
        if (!(f = open_json(pare_cli_json()))) return 4;
        fprintf(f, "{\"ids\": [");
        t.ids = f;
    }
    o->token = on_token;
    o->user = &t;
    pare_status s = pare_generate(r, prompt, o, &g, &d);
    if (t.to_stdout && t.n) printf("\n");
    int rc = s == PARE_OK ? 0 : pare_cli_fail(s, &d);
    if (f) {
        fprintf(f, "], \"prompt_tokens\": %lld, \"tokens\": %lld, \"stop\": \"%s\", \"text\": ",
                (long long)g.prompt_tokens, (long long)g.tokens, s == PARE_OK ? stop_word(g.stop) : "error");
        json_string(f, t.v ? t.v : "", t.n);
        fprintf(f, "}\n");
        int wrote = close_json(f, pare_cli_json());
        rc = rc ? rc : wrote;
    }
    free(t.v);
    if (rc || pare_cli_quiet()) return rc;
    if (g.stop == PARE_STOP_CONTEXT)
        fprintf(stderr, "stopped: the context of %lld tokens is full\n", (long long)pare_runner_describe(r)->context);
    fprintf(stderr, "prompt: %lld tokens, %.1f tokens/s; decode: %lld tokens, %.1f tokens/s\n",
            (long long)g.prompt_tokens, g.prompt_s > 0 ? (double)g.prompt_tokens / g.prompt_s : 0, (long long)g.tokens,
            g.decode_s > 0 && g.tokens > 1 ? (double)(g.tokens - 1) / g.decode_s : 0);
    return 0;
}

typedef struct lines {
    char **v;
    size_t n;
} lines;

static bool read_lines(const char *path, lines *l) {
    FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "r");
    if (!f) return false;
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    while ((n = getline(&line, &cap, f)) >= 0) {
        while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r')) line[--n] = 0;
        char **v = realloc(l->v, (l->n + 1) * sizeof *v);
        if (!v || !(v[l->n] = strdup(line))) die_memory();
        l->v = v;
        l->n++;
    }
    free(line);
    bool ok = !ferror(f);
    if (f != stdin) fclose(f);
    return ok;
}

static void print_vectors(FILE *f, const lines *l, const float *v, int64_t dim, bool json) {
    if (json) fprintf(f, "[");
    for (size_t i = 0; i < l->n; i++) {
        if (json) {
            fprintf(f, "%s{\"text\": ", i ? ",\n " : "");
            json_string(f, l->v[i], strlen(l->v[i]));
            fprintf(f, ", \"embedding\": [");
        }
        for (int64_t k = 0; k < dim; k++)
            fprintf(f, "%s%.9g", k ? (json ? ", " : " ") : "", (double)v[(int64_t)i * dim + k]);
        fprintf(f, json ? "]}" : "\n");
    }
    if (json) fprintf(f, "]\n");
}

static int embed(pare_runner *r, const lines *l) {
    pare_diag d = {0};
    int64_t dim = pare_runner_describe(r)->dim;
    float *v = malloc(l->n * (size_t)dim * sizeof *v + 1);
    if (!v) die_memory();
    pare_status s = pare_embed(r, (const char *const *)l->v, l->n, v, &d);
    int rc = s == PARE_OK ? 0 : pare_cli_fail(s, &d);
    if (!rc && pare_cli_json()) {
        FILE *f = open_json(pare_cli_json());
        if (f) print_vectors(f, l, v, dim, true);
        rc = f ? close_json(f, pare_cli_json()) : 4;
    } else if (!rc) print_vectors(stdout, l, v, dim, false);
    free(v);
    return rc;
}

static int run_model(pare_runner *r, const char *prompt, const char *input, pare_generate_opts *o) {
    if (pare_runner_describe(r)->decoder) {
        if (prompt && !input) return generate(r, prompt, o);
        return fprintf(stderr, "pare run: a language model wants --prompt TEXT\n"), 2;
    }
    lines l = {0};
    int rc = 2;
    if (!prompt == !input) fprintf(stderr, "pare run: an encoder wants either --prompt TEXT or --input FILE\n");
    else if (input && !read_lines(input, &l)) rc = 3, fprintf(stderr, "pare: %s: %s\n", input, strerror(errno));
    else {
        if (prompt) {
            l.v = malloc(sizeof *l.v);
            if (!l.v || !(l.v[0] = strdup(prompt))) die_memory();
            l.n = 1;
        }
        rc = embed(r, &l);
    }
    for (size_t i = 0; i < l.n; i++) free(l.v[i]);
    free(l.v);
    return rc;
}

int pare_cmd_run(int argc, char **argv) {
    const char *model = NULL, *prompt = NULL, *input = NULL;
    pare_runner_opts ro = {0};
    double temp = 0.8, top_p = 0.95;
    int64_t n = 256, top_k = 40, seed = 0;
    const pare_cli_opt opts[] = {
        {"--prompt", 'p', 's', &prompt, "TEXT", "text to continue; encoders: text to embed"},
        {"--input", 'i', 's', &input, "FILE", "encoders: one text per line (- = standard input)"},
        {"--tokens", 'n', 'i', &n, "N", "tokens to make (256); 0 = until the text ends or the context is full"},
        {"--temp", 0, 'd', &temp, "T", "temperature (0.8); 0 = the likeliest token every time"},
        {"--top-k", 0, 'i', &top_k, "K", "choose among the K likeliest tokens (40); 0 = all"},
        {"--top-p", 0, 'd', &top_p, "P", "choose among the likeliest that hold P of the probability (0.95)"},
        {"--seed", 0, 'i', &seed, "S", "seed of the choices (0): same seed, same text"},
        {"--act", 0, 's', &ro.act, "A", "rounding of activations: none, f16, int8-token, int8-block"},
        {"--device", 0, 's', &ro.device, "D", "where to run: cpu, cuda (cpu)"},
    };
    int n_pos = pare_cli_parse(argc, argv, usage, examples, opts, sizeof opts / sizeof *opts, &model, 1);
    if (n_pos < 0) return n_pos == -2 ? 0 : 2;
    if (n_pos != 1) return fprintf(stderr, "pare run: name a model; `pare run --help` has examples\n"), 2;
    if (n < 0 || temp < 0 || top_k < 0 || top_p < 0 || top_p > 1)
        return fprintf(stderr, "pare run: -n, --temp and --top-k want numbers from 0, --top-p one from 0 to 1\n"), 2;
    if (!prompt && !input)
        return fprintf(stderr, "pare run: --prompt TEXT is missing; `pare run --help` has examples\n"), 2;
    pare_diag d = {0};
    pare_runner *r;
    pare_status s = pare_runner_open(model, &ro, &r, &d);
    if (s != PARE_OK) return pare_cli_fail(s, &d);
    pare_generate_opts o = {.n = n, .temp = temp, .top_k = top_k, .top_p = top_p, .seed = (uint64_t)seed};
    int rc = run_model(r, prompt, input, &o);
    pare_runner_close(&r);
    return rc;
}
