/* SPDX-License-Identifier: Apache-2.0
 *
 * device_parity: every operator of a device backend against the CPU's scalar reference and against sums in double
 * (tests/tools/parity.h). Needs core/, cpu/, quant/ and graph/ alone, so that it builds on a bare machine with a GPU.
 * exit: 0 all cases hold, 1 some do not, 2 wrong use, 77 no device (the reason is printed). */
#include "tests/tools/parity.h"

#include "core/cpu_features.h"
#include "core/log.h"

#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: device_parity [options]\n"
    "  --op NAME      this operator alone      --label TEXT  rows whose label has TEXT alone\n"
    "  --kernel NAME  products through this kernel of cuda/matmul.def alone\n"
    "  --full         every size and kernel    --quick       a choice of them (default)\n"
    "  --seed N       of the numbers (1)       --list        the rows and how many cases each has, nothing is run\n"
    "  --seconds N    no case begins later than that; what is left out is counted\n"
    "  --first        end with the first failure\n"
    "  --json FILE    all rows and failures    --device NAME backend (cuda)\n";

typedef struct options {
    const char *device, *json;
} options;

static int bad_use(const char *what) {
    fprintf(stderr, "device_parity: %s\n%s", what, usage);
    return 2;
}

/* -1: go on */
static int parse(int argc, char **argv, pc_run *r, options *o) {
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(a, "--full") == 0) r->full = true;
        else if (strcmp(a, "--quick") == 0) r->full = false;
        else if (strcmp(a, "--list") == 0) r->list = true;
        else if (strcmp(a, "--first") == 0) r->first = true;
        else if (strcmp(a, "--help") == 0) return printf("%s", usage), 0;
        else if (!value) return bad_use(a);
        else if (strcmp(a, "--op") == 0) r->only_op = value, i++;
        else if (strcmp(a, "--label") == 0) r->only_label = value, i++;
        else if (strcmp(a, "--kernel") == 0) r->only_kernel = value, i++;
        else if (strcmp(a, "--seconds") == 0) r->limit = atof(value), i++;
        else if (strcmp(a, "--seed") == 0) r->seed = strtoull(value, NULL, 0), i++;
        else if (strcmp(a, "--json") == 0) o->json = value, i++;
        else if (strcmp(a, "--device") == 0) o->device = value, i++;
        else return bad_use(a);
    }
    if (r->only_op && pare_op_find(r->only_op) < 0) return bad_use("no such operator");
    return -1;
}

/* ---- the table ---- */

static const char *verdict(const pc_row *w) {
    return w->failed ? "FAILED" : w->unsupported == w->cases ? "not on CUDA" : w->unsupported ? "partly" : "ok";
}

static void table(const pc_run *r) {
    printf("%-20s %-28s %-10s %6s %6s %9s  %-12s %s\n", "operator", "case", "kernel", "cases", "failed", "of bound", "",
           "bound");
    for (size_t i = 0; i < r->n_rows; i++) {
        const pc_row *w = &r->rows[i];
        char worst[16] = "";
        if (w->worst > 0) snprintf(worst, sizeof worst, "%.3f", w->worst);
        if (w->unsupported == w->cases && !r->list) continue;
        printf("%-20s %-28s %-10s %6d %6d %9s  %-12s %s\n", pare_op_get(w->op)->name, w->label,
               w->kernel ? w->kernel : "", w->cases - w->unsupported, w->failed, worst, r->list ? "" : verdict(w),
               w->equal);
    }
}

/* Operators and rows that the device leaves to the CPU: said, never passed over. False: an operator without cases. */
static bool missing(const pc_run *r) {
    bool covered = true;
    for (int op = 0; op < PARE_OP_COUNT; op++) {
        int cases = 0, unsupported = 0;
        if (!pc_wants(r, (pare_op)op)) continue;
        for (size_t i = 0; i < r->n_rows; i++)
            if (r->rows[i].op == (pare_op)op) cases += r->rows[i].cases, unsupported += r->rows[i].unsupported;
        const char *name = pare_op_get((pare_op)op)->name;
        if (!cases && r->n_late) continue; /* no time */
        if (!cases && !r->only_label && !r->only_kernel) printf("%-20s has no cases here\n", name), covered = false;
        else if (cases && unsupported == cases) printf("%-20s not on CUDA\n", name);
        else
            for (size_t i = 0; i < r->n_rows; i++) {
                const pc_row *w = &r->rows[i];
                if (w->op == (pare_op)op && w->unsupported)
                    printf("%-20s %-28s not on CUDA (%d of %d cases)\n", name, w->label, w->unsupported, w->cases);
            }
    }
    return covered;
}

/* ---- JSON ---- */

static void quoted(FILE *f, const char *key, const char *text, const char *end) {
    fprintf(f, "\"%s\": \"", key);
    for (const char *p = text ? text : ""; *p; p++)
        if (*p == '"' || *p == '\\') fprintf(f, "\\%c", *p);
        else fputc((unsigned char)*p < 32 ? ' ' : *p, f);
    fprintf(f, "\"%s", end);
}

static bool write_json(const pc_run *r, const char *path, const char *device) {
    FILE *f = fopen(path, "w");
    if (!f) return false;
    fprintf(f, "{");
    quoted(f, "device", device, ", ");
    fprintf(f, "\"seed\": %llu, \"full\": %s, \"cases\": %ld, \"left_out\": %ld, \"seconds\": %.1f, \"rows\": [",
            (unsigned long long)r->seed, r->full ? "true" : "false", r->n_done, r->n_late, r->seconds);
    for (size_t i = 0; i < r->n_rows; i++) {
        const pc_row *w = &r->rows[i];
        fprintf(f, "%s\n{", i ? "," : "");
        quoted(f, "op", pare_op_get(w->op)->name, ", ");
        quoted(f, "case", w->label, ", ");
        quoted(f, "kernel", w->kernel, ", ");
        quoted(f, "equal", w->equal, ", ");
        fprintf(f, "\"cases\": %d, \"failed\": %d, \"unsupported\": %d, \"of_bound\": %.6g, \"seconds\": %.3f}",
                w->cases, w->failed, w->unsupported, w->worst < 1e30 ? w->worst : 1e30, w->seconds);
    }
    fprintf(f, "\n], \"failures\": [");
    for (size_t i = 0; i < r->n_fails; i++) {
        const pc_fail *w = &r->fails[i];
        fprintf(f, "%s\n{", i ? "," : "");
        quoted(f, "op", pare_op_get(w->op)->name, ", ");
        quoted(f, "case", w->label, ", ");
        quoted(f, "kernel", w->kernel, ", ");
        quoted(f, "params", w->params, ", ");
        quoted(f, "text", w->text, "}");
    }
    fprintf(f, "\n]}\n");
    return fclose(f) == 0;
}

int main(int argc, char **argv) {
    pc_run r = {.seed = 1};
    options o = {.device = "cuda"};
    pare_diag d = {0};
    int rc = parse(argc, argv, &r, &o);
    if (rc >= 0) return rc;
    pare_status s = pare_backend_find(o.device, &r.be, &d);
    const char *device = s == PARE_OK && r.be->describe ? r.be->describe(0, &d) : NULL;
    if (s == PARE_OK) s = r.be->open(&r.dev, &d);
    if (s != PARE_OK) return printf("no device: %s\n", d.text), 77;
    device = device ? device : r.be->name;
    printf("%s; numbers from seed %llu, threads in the order of seed %s\n", device, (unsigned long long)r.seed,
           getenv("PARE_EMU_SEED") ? getenv("PARE_EMU_SEED") : "1 where emulated");
    pare_cpu_limit(0);
    r.start = pare_now_s();
#define RUN(family)                                                                                                    \
    pare_rng_seed(&r.rng, r.seed);                                                                                     \
    pc_cases_##family(&r);
    PC_FAMILIES(RUN)
    r.seconds = pare_now_s() - r.start;
    table(&r);
    bool covered = missing(&r);
    r.be->close(r.dev);
    bool written = !o.json || write_json(&r, o.json, device);
    if (!written) fprintf(stderr, "device_parity: %s cannot be written\n", o.json);
    printf("device parity: %ld cases, %zu failed, %ld left out, %.1f s\n", r.n_done, r.n_fails, r.n_late, r.seconds);
    free(r.rows), free(r.fails), free(r.blocks);
    return r.n_fails || !covered || !r.n_done || !written;
}
