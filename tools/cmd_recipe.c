/* SPDX-License-Identifier: Apache-2.0
 *
 * pare recipe: the chain, step by step, and one report on all of it. */
#include "tools/distill_show.h"
#include "tools/job_show.h"
#include "tools/verify_show.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char head[] =
    "recipe RECIPE.json [MODEL] [-o OUT] [options]\n\n"
    "Does what RECIPE says, step by step, on one calibration text:\n\n"
    "  {\"model\": \"SmolLM2-135M\", \"output\": \"small.gguf\", \"calib\": {\"text\": \"wiki.txt\", \"windows\": "
    "64},\n"
    "   \"steps\": [{\"do\": \"prune\", \"method\": \"sparsegpt\", \"pattern\": \"2:4\"},\n"
    "             {\"do\": \"distill\", \"data\": \"book.txt\", \"steps\": 200},\n"
    "             {\"do\": \"quantize\", \"to\": \"q8_0\", \"method\": \"gptq\"},\n"
    "             {\"do\": \"verify\", \"data\": \"other.txt\", \"gates\": {\"max-kl\": 0.5, \"min-top1\": 0.7}}]}\n\n"
    "Also for all steps: keep (patterns of names that are left alone), format, layout, max_shard_size. Names of files "
    "in it\nbegin at its folder. After an interruption the same command goes on where it was. A failed gate gives exit "
    "status 1.\n";

static const char examples[] =
    "  pare recipe recipe.json --dry-run\n"
    "  pare recipe recipe.json --json all.json --report last-verify.html\n"
    "  pare recipe docs/examples/sparse-q8.json SmolLM2-135M -o small.gguf --calib wiki.txt\n";

static const char *usage(void) {
    static char text[8192];
    const char *name, *what;
    size_t n = (size_t)snprintf(text, sizeof text, "%s", head);
    for (size_t i = 0; pare_recipe_step_kind(i, &name, &what); i++) {
        n += (size_t)snprintf(text + n, sizeof text - n, "\nstep %s: %s\n", name, what);
        for (size_t k = 0; pare_recipe_step_key(i, k, &name, &what); k++)
            n += (size_t)snprintf(text + n, sizeof text - n, "    %-16s %s\n", name, what);
    }
    text[n - 1] = 0; /* the last newline */
    return text;
}

static bool dry_run;
static const char *html, *junit;

static bool tables(void) { return !pare_cli_json() || strcmp(pare_cli_json(), "-") != 0; }

/* ---- the chain ---- */
static void print_chain(const pare_recipe *r) {
    static const char *const titles[] = {"step",           "does",  "reads",          "writes",
                                         "tensors before", "after", "bits per weight"};
    pare_cli_table *t = pare_cli_table_new("rlllrrr", titles);
    for (size_t i = 0; i < pare_recipe_describe(r).n_steps; i++) {
        pare_recipe_at s = pare_recipe_step_at(r, i);
        char number[24], in[32] = "", out[32] = "", bits[32] = "";
        snprintf(number, sizeof number, "%zu", i + 1);
        if (s.job) {
            pare_job_totals j = pare_job_sum(s.job);
            pare_cli_bytes(in, j.bytes_in);
            pare_cli_bytes(out, j.bytes_out);
            snprintf(bits, sizeof bits, "%.2f", j.bits_per_weight);
        }
        const char *cells[] = {number, s.kind, s.in, s.out ? s.out : s.done ? "(done already)" : "", in, out, bits};
        pare_cli_table_row(t, cells);
    }
    pare_cli_table_print(&t);
}

/* ---- the report ---- */
static json_t *report_json(pare_verify_report *report) {
    const char *text;
    size_t n;
    pare_diag d = {0};
    return pare_verify_render(report, PARE_VERIFY_JSON, &text, &n, &d) == PARE_OK ? json_loadb(text, n, 0, NULL) : NULL;
}

static json_t *distilled_json(pare_distill_report *report) {
    const char *text;
    size_t n;
    pare_diag d = {0};
    return pare_distill_render(report, PARE_DISTILL_JSON, &text, &n, &d) == PARE_OK ? json_loadb(text, n, 0, NULL)
                                                                                    : NULL;
}

/* A step that is done, or planned; what an earlier run did is in its note. */
static json_t *step_json(const pare_recipe_at *s) {
    json_t *j = s->reused && s->note ? json_loads(s->note, 0, NULL) : NULL;
    if (!j) j = json_pack("{s:s, s:s}", "step", s->kind, "model", s->in);
    if (j && s->done) json_object_set_new(j, "seconds", json_real(s->seconds));
    json_object_set_new(j, "reused", json_boolean(s->reused));
    if (s->job && !s->reused)
        json_object_set_new(j, "job", pare_cli_job_json(s->job, s->in, s->out, s->done ? s->seconds : -1));
    if (s->report) json_object_set_new(j, "report", report_json(s->report));
    if (s->distilled) json_object_set_new(j, "distill", distilled_json(s->distilled));
    return j;
}

static int write_json(const pare_recipe *r, json_t *steps, size_t failed) {
    const char *path = pare_cli_json();
    pare_recipe_info info = pare_recipe_describe(r);
    json_t *j = json_pack("{s:s, s:s, s:s?, s:b, s:I, s:O}", "model", info.model, "output", info.out, "calib",
                          info.calib, "dry_run", dry_run, "failed_gates", (json_int_t)failed, "steps", steps);
    bool to_stdout = strcmp(path, "-") == 0;
    int bad = !j || (to_stdout ? json_dumpf(j, stdout, JSON_INDENT(1)) : json_dump_file(j, path, JSON_INDENT(1)));
    if (to_stdout) printf("\n");
    json_decref(j);
    if (bad) fprintf(stderr, "pare: %s: the JSON could not be written\n", path);
    return bad ? 4 : 0;
}

static pare_status write_pages(pare_verify_report *report, pare_diag *d) {
    pare_status s = PARE_OK;
    if (html) s = pare_verify_save(report, PARE_VERIFY_HTML, html, d);
    if (s == PARE_OK && junit) s = pare_verify_save(report, PARE_VERIFY_JUNIT, junit, d);
    return s;
}

/* ---- the work ---- */
static void show(const pare_recipe_at *s) {
    if (!tables()) return;
    if (s->reused && !pare_cli_quiet()) printf("done by an earlier run\n");
    if (s->job && !s->reused && !pare_cli_quiet()) {
        pare_cli_job_sum(s->job);
        pare_cli_job_brief(s->job);
        printf("wrote %s in %.2f s\n", s->out, s->seconds);
    }
    if (s->distilled && !pare_cli_quiet()) pare_show_distilled(s->distilled, s->out);
    if (s->report) pare_show_report(s->report);
    fflush(stdout);
}

/* One step: run, shown, noted for the report. */
static pare_status do_step(pare_recipe *r, size_t i, json_t *steps, pare_diag *d) {
    pare_recipe_at s = pare_recipe_step_at(r, i);
    if (tables() && !pare_cli_quiet())
        printf("%sstep %zu of %zu: %s\n", i ? "\n" : "", i + 1, pare_recipe_describe(r).n_steps, s.kind),
            fflush(stdout);
    pare_status st = pare_recipe_run(r, i, d);
    if (st != PARE_OK) return st;
    s = pare_recipe_step_at(r, i);
    show(&s);
    json_t *j = step_json(&s);
    if (!s.reused) {
        char *text = json_dumps(j, JSON_COMPACT);
        if (text) st = pare_recipe_keep(r, i, text, d);
        free(text);
    }
    json_array_append_new(steps, j);
    return st == PARE_OK && s.report ? write_pages(s.report, d) : st;
}

static int run(pare_recipe *r, json_t *steps, size_t *failed) {
    size_t n = pare_recipe_describe(r).n_steps;
    pare_diag d = {0};
    for (size_t i = 0; i < n; i++) {
        pare_status s = do_step(r, i, steps, &d);
        if (s != PARE_OK) return pare_cli_fail(s, &d);
        *failed += pare_recipe_step_at(r, i).n_failed;
        if (!*failed || i + 1 == n) continue;
        fprintf(stderr, "pare: a gate failed at step %zu: the %zu steps after it are left; what is done stays in %s\n",
                i + 1, n - i - 1, pare_recipe_describe(r).steps_folder);
        return pare_exit_status(PARE_ERR_GATE);
    }
    pare_recipe_finish(r);
    return *failed ? pare_exit_status(PARE_ERR_GATE) : 0;
}

static int work(pare_recipe *r) {
    json_t *steps = json_array();
    size_t failed = 0;
    int code = 0;
    if (!dry_run) code = run(r, steps, &failed);
    for (size_t i = 0; dry_run && i < pare_recipe_describe(r).n_steps; i++) {
        pare_recipe_at s = pare_recipe_step_at(r, i);
        json_array_append_new(steps, step_json(&s));
    }
    if (dry_run && tables()) print_chain(r);
    if (pare_cli_json() && code <= 1) {
        int bad = write_json(r, steps, failed);
        if (bad) code = bad;
    }
    json_decref(steps);
    return code;
}

int pare_cmd_recipe(int argc, char **argv) {
    const char *pos[2] = {NULL, NULL};
    pare_recipe_opts o = {0};
    const pare_cli_opt opts[] = {
        {"--output", 'o', 's', &o.out, "OUT", "file or folder to write, instead of the recipe's"},
        {"--calib", 0, 's', &o.calib, "FILE", "text to calibrate on, instead of the recipe's"},
        {"--dry-run", 0, 'f', &dry_run, NULL, "check every step, print the chain with its sizes, and stop"},
        {"--report", 0, 's', &html, "FILE.html", "tables and plots of the last verify step on one page"},
        {"--junit", 0, 's', &junit, "FILE", "one test case per gate of the last verify step"},
        {"--force", 0, 'f', &o.force, NULL, "replace OUT if it exists"},
    };
    int n = pare_cli_parse(argc, argv, usage(), examples, opts, sizeof opts / sizeof *opts, pos, 2);
    if (n < 0) return n == -2 ? 0 : 2;
    if (n < 1) {
        fprintf(stderr, "pare recipe: RECIPE.json is missing; `pare recipe --help` has the options\n");
        return 2;
    }
    o.model = pos[1], o.again = html || junit;
    pare_recipe *r = NULL;
    pare_diag d = {0};
    pare_status s = pare_recipe_open(pos[0], &o, &r, &d);
    int code = s == PARE_OK ? work(r) : pare_cli_fail(s, &d);
    pare_recipe_close(&r);
    return code;
}
