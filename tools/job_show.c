/* SPDX-License-Identifier: Apache-2.0
 *
 * The plan as a person and a program read it. */
#include "tools/job_show.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static void shape_text(char buf[64], const pare_job_row *r) {
    size_t n = 0;
    buf[0] = 0;
    for (int i = 0; i < r->ndim && n < 48; i++)
        n += (size_t)snprintf(buf + n, 64 - n, "%s%lld", i ? " x " : "", (long long)r->shape[i]);
}

static void print_plan(const pare_job *job) {
    static const char *const head[] = {"tensor", "shape", "from", "to", "bytes", "why"};
    pare_cli_table *t = pare_cli_table_new("llllrl", head);
    for (size_t i = 0; i < pare_job_count(job); i++) {
        pare_job_row r = pare_job_at(job, i);
        char shape[64], bytes[32], why[128];
        shape_text(shape, &r);
        snprintf(bytes, sizeof bytes, "%llu", (unsigned long long)r.bytes_out);
        snprintf(why, sizeof why, "%s%s", r.fallback ? "fallback: " : "", r.note);
        const char *cells[] = {r.name, shape, r.from, r.to, bytes, why};
        pare_cli_table_row(t, cells);
    }
    pare_cli_table_print(&t);
    for (size_t i = 0; pare_job_dropped(job, i); i++)
        printf("dropped: %s (the output format has no place for it)\n", pare_job_dropped(job, i));
}

static void print_sum(const pare_job *job) {
    pare_job_totals s = pare_job_sum(job);
    char in[32], out[32];
    printf("%zu tensors, %zu quantized", s.tensors, s.quantized);
    if (s.fallbacks) printf(", %zu of them not as asked for", s.fallbacks);
    printf("; %s -> %s", pare_cli_bytes(in, s.bytes_in), pare_cli_bytes(out, s.bytes_out));
    printf(" (%s%s%s), %.2f bits per weight, %.2fx smaller\n", s.format, *s.layout ? ", " : "", s.layout,
           s.bits_per_weight, s.bytes_out ? (double)s.bytes_in / (double)s.bytes_out : 0);
}

/* After a pruning run: what the output has, tensor by tensor. */
static void print_zeros(const pare_job *job) {
    static const char *const titles[] = {"pruned tensor", "wanted", "zeros", "of"};
    pare_job_totals s = pare_job_sum(job);
    if (!s.pruned) return;
    pare_cli_table *t = pare_cli_table_new("lrrr", titles);
    for (size_t i = 0; i < pare_job_count(job); i++) {
        pare_job_row r = pare_job_at(job, i);
        char wanted[32], zeros[32], of[32];
        if (!r.pruned) continue;
        snprintf(wanted, sizeof wanted, "%.2f %%", 100 * r.sparsity);
        snprintf(zeros, sizeof zeros, "%.2f %%", r.elems ? 100.0 * (double)r.zeros / (double)r.elems : 0);
        snprintf(of, sizeof of, "%llu", (unsigned long long)r.elems);
        const char *cells[] = {r.name, wanted, zeros, of};
        pare_cli_table_row(t, cells);
    }
    pare_cli_table_print(&t);
    printf("%zu tensors pruned: %llu zeros, %.2f %% of their weights, %.2f %% of all; %s\n", s.pruned,
           (unsigned long long)s.zeros, 100.0 * (double)s.zeros / (double)s.pruned_weights,
           100.0 * (double)s.zeros / (double)s.weights, s.ran);
    printf("Zeros are stored like other weights: they save no bytes here, and no time in engines without kernels for "
           "them.\n");
}

static json_t *as_json(const pare_job *job, const char *model, const char *out, double seconds) {
    pare_job_totals s = pare_job_sum(job);
    json_t *rows = json_array(), *dropped = json_array();
    for (size_t i = 0; i < pare_job_count(job); i++) {
        pare_job_row r = pare_job_at(job, i);
        json_t *shape = json_array();
        for (int k = 0; k < r.ndim; k++) json_array_append_new(shape, json_integer(r.shape[k]));
        json_t *row =
            json_pack("{s:s, s:s?, s:s, s:s, s:s, s:b, s:b, s:o, s:I, s:I}", "name", r.name, "source", r.source_name,
                      "from", r.from, "to", r.to, "note", r.note, "quantized", r.quantized, "fallback", r.fallback,
                      "shape", shape, "bytes_in", (json_int_t)r.bytes_in, "bytes_out", (json_int_t)r.bytes_out);
        if (row && r.pruned) {
            json_object_set_new(row, "sparsity", json_real(r.sparsity));
            json_object_set_new(row, "weights", json_integer((json_int_t)r.elems));
            if (seconds >= 0) json_object_set_new(row, "zeros", json_integer((json_int_t)r.zeros));
        }
        json_array_append_new(rows, row);
    }
    for (size_t i = 0; pare_job_dropped(job, i); i++)
        json_array_append_new(dropped, json_string(pare_job_dropped(job, i)));
    json_t *j = json_pack("{s:s, s:s?, s:s, s:s, s:i, s:i, s:i, s:I, s:I, s:I, s:f, s:o, s:o}", "model", model,
                          "output", out, "format", s.format, "layout", s.layout, "tensors", (int)s.tensors, "quantized",
                          (int)s.quantized, "fallbacks", (int)s.fallbacks, "weights", (json_int_t)s.weights, "bytes_in",
                          (json_int_t)s.bytes_in, "bytes_out", (json_int_t)s.bytes_out, "bits_per_weight",
                          s.bits_per_weight, "dropped", dropped, "plan", rows);
    if (j && !s.pruned && *s.ran) json_object_set_new(j, "ran", json_string(s.ran));
    if (j && s.pruned) {
        json_t *p = json_pack("{s:i, s:I}", "tensors", (int)s.pruned, "weights", (json_int_t)s.pruned_weights);
        if (p && seconds >= 0) {
            json_object_set_new(p, "zeros", json_integer((json_int_t)s.zeros));
            json_object_set_new(p, "ran", json_string(s.ran));
        }
        json_object_set_new(j, "pruned", p);
    }
    if (j && seconds >= 0)
        json_object_set_new(j, "seconds",
                            json_pack("{s:f, s:f, s:f, s:f}", "all", seconds, "work", s.work_s, "read_back", s.check_s,
                                      "sync", s.sync_s));
    return j;
}

static int write_json(const pare_job *job, const char *model, const char *out, double seconds) {
    const char *path = pare_cli_json();
    if (!path) return 0;
    json_t *j = as_json(job, model, out, seconds);
    bool to_stdout = strcmp(path, "-") == 0;
    int bad = !j || (to_stdout ? json_dumpf(j, stdout, JSON_INDENT(1)) : json_dump_file(j, path, JSON_INDENT(1)));
    if (to_stdout) printf("\n");
    json_decref(j);
    if (bad) fprintf(stderr, "pare: %s: the JSON could not be written\n", path);
    return bad ? 4 : 0;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

int pare_cli_job(pare_job **job, const char *model, const char *out, bool dry_run) {
    bool table = !pare_cli_json() || strcmp(pare_cli_json(), "-") != 0;
    if (table && (!pare_cli_quiet() || dry_run)) {
        print_plan(*job);
        print_sum(*job);
        fflush(stdout);
    }
    double start = now(), seconds = -1;
    int status = 0;
    if (!dry_run) {
        pare_diag d = {0};
        pare_status s = pare_job_run(*job, &d);
        seconds = now() - start;
        if (s != PARE_OK) status = pare_cli_fail(s, &d);
        else if (table && !pare_cli_quiet()) {
            pare_job_totals t = pare_job_sum(*job);
            print_zeros(*job);
            if (!t.pruned && *t.ran) printf("%s\n", t.ran);
            printf("wrote %s in %.2f s (work %.2f, reading back %.2f, disk %.2f)\n", out, seconds, t.work_s, t.check_s,
                   t.sync_s);
        }
    }
    if (status == 0) status = write_json(*job, model, out, seconds);
    pare_job_close(job);
    return status;
}
