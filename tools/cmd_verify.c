/* SPDX-License-Identifier: Apache-2.0
 *
 * pare verify: the table, the gates, the report files, the exit status. */
#include "tools/gate_opts.h"
#include "tools/verify_show.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] = "verify ORIGINAL REDUCED [--data FILE] [--max-kl X] [--min-cosine X] ...";
static const char examples[] =
    "  pare verify smollm/ smollm-q4_k_m.gguf --data wiki.txt --windows 20 --max-kl 0.05 --min-top1 0.9\n"
    "  pare verify MiniLM/ MiniLM-int8/ --data sts-dev.csv --min-cosine 0.99 --junit gates.xml\n"
    "  pare verify model/ new.gguf --baseline last-week.json --tolerance 0.02 --json today.json\n"
    "  pare verify model/ model-q4.gguf --device cpu,cuda --layers --min-parity 60\n"
    "\nLanguage models are scored as llama-perplexity does it. Activations of the reduced model are not rounded "
    "unless\n"
    "--act says so: `none` measures the weights alone, `int8-block` what llama.cpp computes, `int8-token` what W8A8 "
    "engines do.\n";

static pare_verify_opts opts;
static const char *junit, *html;

static int parse(int argc, char **argv, const char **pos) {
    pare_cli_opt o[40] = {
        {"--data", 0, 's', &opts.data, "FILE",
         "text; for encoders STS-B rows or a sentence a line (default: a small one built in)"},
        {"--ctx", 0, 'i', &opts.ctx, "N", "tokens per window (512, or the model's context)"},
        {"--windows", 0, 'i', &opts.windows, "N", "first N windows only (encoders: rows)"},
        {"--act", 0, 's', &opts.act, "KIND", "activations of REDUCED: none, f16, int8-token, int8-block (none)"},
        {"--act-original", 0, 's', &opts.act_original, "KIND", "the same for ORIGINAL (none)"},
        {"--device", 0, 's', &opts.device, "LIST", "where to run: cpu, cuda, or both in one go: cpu,cuda (cpu)"},
        {"--layers", 0, 'f', &opts.layers, NULL, "also compare node by node; with two devices also device by device"},
        {"--weights", 0, 'f', &opts.weights, NULL, "compare weights instead of running"},
        {"--top-k", 0, 'i', &opts.top_k, "K", "encoders: neighbours for the overlap (10)"},
        {"--baseline", 0, 's', &opts.baseline, "OLD.json",
         "every metric with a direction must not be worse than in OLD.json"},
        {"--tolerance", 0, 'd', &opts.tolerance, "T", "by more than this share (0)"},
        {"--strict", 0, 'f', &opts.strict, NULL, "gates compare the bad end of the 95 % interval"},
        {"--junit", 0, 's', &junit, "FILE", "one test case per gate"},
        {"--report", 0, 's', &html, "FILE.html", "tables and plots on one page"},
    };
    size_t n = 0;
    while (o[n].name) n++;
    pare_gate_opts_add(o + n);
    return pare_cli_parse(argc, argv, usage, examples, o, n + PARE_GATE_OPTS, pos, 2);
}

static int bad_usage(const char *fmt, const char *arg) {
    fprintf(stderr, "pare verify: ");
    fprintf(stderr, fmt, arg);
    fprintf(stderr, "; `pare verify --help` has the options\n");
    return 2;
}

/* Before an hour of work: the folder of a report must be there. Returns an exit status, 0 = fine. */
static int check_folder(const char *path) {
    const char *slash = path ? strrchr(path, '/') : NULL;
    if (!slash || slash == path) return 0;
    char *folder = strndup(path, (size_t)(slash - path));
    bool ok = folder && access(folder, W_OK) == 0;
    if (!ok) fprintf(stderr, "pare: %s: the folder does not exist or cannot be written to\n", path);
    free(folder);
    return ok ? 0 : 4;
}

static pare_status write_files(pare_verify_report *r, pare_diag *d) {
    const char *json = pare_cli_json();
    pare_status s = PARE_OK;
    if (json && strcmp(json, "-") == 0) {
        const char *text = NULL;
        size_t n = 0;
        s = pare_verify_render(r, PARE_VERIFY_JSON, &text, &n, d);
        if (s == PARE_OK) fwrite(text, 1, n, stdout); /* a failure shows in pare_cli_done */
    } else if (json) s = pare_verify_save(r, PARE_VERIFY_JSON, json, d);
    if (s == PARE_OK && junit) s = pare_verify_save(r, PARE_VERIFY_JUNIT, junit, d);
    if (s == PARE_OK && html) s = pare_verify_save(r, PARE_VERIFY_HTML, html, d);
    return s;
}

static int compare(const char *original, const char *reduced) {
    const char *outputs[] = {pare_cli_json(), junit, html};
    for (int i = 0; i < 3; i++)
        if (check_folder(outputs[i])) return 4;
    pare_diag d = {0};
    pare_verify_report *r;
    pare_status s = pare_verify(original, reduced, &opts, &r, &d);
    if (s != PARE_OK) return pare_cli_fail(s, &d);
    if (!outputs[0] || strcmp(outputs[0], "-") != 0) pare_show_report(r);
    if (!pare_cli_quiet()) pare_show_seconds(r);
    int code = r->n_failed ? pare_exit_status(PARE_ERR_GATE) : 0;
    s = write_files(r, &d);
    if (s != PARE_OK) code = pare_cli_fail(s, &d);
    pare_verify_close(&r);
    return code;
}

int pare_cmd_verify(int argc, char **argv); /* as tools/main.c declares it */

int pare_cmd_verify(int argc, char **argv) {
    const char *pos[2];
    int n = parse(argc, argv, pos), code = n == -2 ? 0 : 2;
    if (n >= 0 && n != 2) bad_usage("two models are needed, the original and the reduced one%s", "");
    if (n == 2) {
        code = pare_gate_opts_make("verify", &opts);
        if (!code) code = compare(pos[0], pos[1]);
    }
    pare_gate_opts_free();
    return code;
}
