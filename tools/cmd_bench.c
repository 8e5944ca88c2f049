/* SPDX-License-Identifier: Apache-2.0
 *
 * pare bench: how fast this machine is, and how near our kernels come to it. */
#include <stdio.h>
#include <string.h>

#include "tools/cli.h"

int pare_cmd_bench(int argc, char **argv);

#define EXAMPLES                                                                                                       \
    "  pare bench roofline                  memory bandwidth and arithmetic peaks of this machine\n"                   \
    "  pare bench kernels                   every kernel, as a fraction of those\n"                                    \
    "  pare bench kernels --only q4_k       one storage format, every activation rounding\n"                           \
    "  pare bench kernels --json bench.json also as JSON\n"                                                            \
    "  pare bench sparse                    sparse weights against the same stored densely\n"                          \
    "  pare bench calib                     the solver behind gptq and sparsegpt, as a fraction of sgemm\n"            \
    "  pare bench quantize                  file to file, with a model of 1.1e9 weights made for it\n"                 \
    "  pare bench decode --peer-bin DIR     tokens per second, next to llama.cpp's programs in DIR\n"

typedef struct output {
    pare_cli_table *table;
    FILE *json;
    size_t rows;
} output;

static void json_row(FILE *f, const pare_bench_row *r, bool first) {
    fprintf(f,
            "%s\n  {\"bench\": \"%s\", \"name\": \"%s\", \"variant\": \"%s\", \"shape\": \"%s\", \"threads\": %d, "
            "\"seconds\": %.9g, \"value\": %.6g, \"unit\": \"%s\", \"limit\": \"%s\", \"of_limit\": %.4g, \"of_ref\": "
            "%.4g}",
            first ? "" : ",", r->bench, r->name, r->variant, r->shape, r->threads, r->seconds, r->value, r->unit,
            r->limit, r->of_limit, r->of_ref);
}

static void on_row(void *user, const pare_bench_row *r) {
    output *o = user;
    char threads[16], value[32], limit[48] = "", ref[32] = "";
    snprintf(threads, sizeof threads, "%d", r->threads);
    snprintf(value, sizeof value, "%.*f %s", r->value < 10 ? 2 : 1, r->value, r->unit);
    if (r->of_limit > 0) snprintf(limit, sizeof limit, "%.0f %% of %s", 100 * r->of_limit, r->limit);
    if (r->of_ref > 0) snprintf(ref, sizeof ref, "%.1f x", r->of_ref);
    const char *cells[] = {r->name, r->variant, r->shape, threads, value, limit, ref};
    if (o->table) pare_cli_table_row(o->table, cells);
    if (o->json) json_row(o->json, r, o->rows == 0);
    o->rows++;
}

static bool known(const char *what) {
    for (const char *const *n = pare_bench_names(); *n; n += 2)
        if (strcmp(*n, what) == 0) return true;
    return false;
}

static int usage_of_names(void) {
    fprintf(stderr, "pare: `pare bench` wants one of:\n");
    for (const char *const *n = pare_bench_names(); *n; n += 2) fprintf(stderr, "  %-10s %s\n", n[0], n[1]);
    return 2;
}

int pare_cmd_bench(int argc, char **argv) {
    pare_bench_opts opts = {0};
    const char *pos[1];
    const pare_cli_opt options[] =
        {{"--only", 0, 's', &opts.only, "FORMAT", "this storage format, grid or mix only"},
         {"--memory", 0, 'b', &opts.memory_bytes, "BYTES", "traffic per repetition where memory is the limit (256M)"},
         {"--model", 0, 's', &opts.model, "FILE", "quantize, decode, prompt: this GGUF file instead of a made one"},
         {"--peer-bin", 0, 's', &opts.peer_bin, "DIR", "also run llama-quantize and llama-bench of this folder"},
         {"--prompt-tokens", 0, 'i', &opts.prompt_tokens, "N", "length of the prompt (512)"},
         {"--decode-tokens", 0, 'i', &opts.decode_tokens, "N", "tokens to decode (32)"},
         {"--seconds", 0, 'd', &opts.seconds, "S", "time per measurement (0.3)"}};
    int n =
        pare_cli_parse(argc, argv,
                       "bench roofline|kernels|sparse|calib|quantize|decode|prompt [--only FORMAT] [--memory BYTES] "
                       "[--json FILE]",
                       EXAMPLES, options, sizeof options / sizeof *options, pos, 1);
    if (n < 0) return n == -2 ? 0 : 2;
    if (n != 1 || !known(pos[0])) return usage_of_names();
    const char *path = pare_cli_json();
    bool to_stdout = path && strcmp(path, "-") == 0;
    static const char *const head[] = {"what", "variant", "M x N x K", "threads", "rate", "share", "to scalar"};
    output o = {.table = to_stdout ? NULL : pare_cli_table_new("lllrrrr", head)};
    if (path && !(o.json = to_stdout ? stdout : fopen(path, "w"))) return perror(path), 4;
    if (o.json) fprintf(o.json, "[");
    opts.row = on_row;
    opts.user = &o;
    pare_diag d = {0};
    pare_status s = pare_bench(pos[0], &opts, &d);
    if (o.table) pare_cli_table_print(&o.table);
    bool written = true;
    if (o.json) {
        fprintf(o.json, "\n]\n");
        written = !ferror(o.json) && (to_stdout ? fflush(o.json) : fclose(o.json)) == 0;
    }
    if (s != PARE_OK) return pare_cli_fail(s, &d);
    if (!written) return fprintf(stderr, "pare: %s: cannot be written\n", path), 4;
    return 0;
}
