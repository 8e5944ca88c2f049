/* SPDX-License-Identifier: Apache-2.0
 *
 * The plan as a person and a program read it. */
#include "tools/job_show.h"

#include "tools/verify_show.h"

#include <jansson.h>
#include <math.h>
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

void pare_cli_job_sum(const pare_job *job) {
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
}

static void sum_zeros(const pare_job *job) {
    pare_job_totals s = pare_job_sum(job);
    printf("%zu tensors pruned: %llu zeros, %.2f %% of their weights, %.2f %% of all; %s\n", s.pruned,
           (unsigned long long)s.zeros, 100.0 * (double)s.zeros / (double)s.pruned_weights,
           100.0 * (double)s.zeros / (double)s.weights, s.ran);
    if (strcmp(s.layout, "compact") != 0)
        printf("Zeros are stored like other weights: these matrices take %llu bytes with them, as without pruning, and "
               "save\nno time in engines without kernels for them. A folder with --layout compact leaves them out.\n",
               (unsigned long long)s.pruned_dense_bytes);
    if (s.timed)
        printf("one token through %s, on this processor: with its zeros %.3g us, without %.3g us, %s (%.2fx)\n",
               s.timed, s.dense_s * 1e6, s.sparse_s * 1e6,
               s.dense_s > 1.05 * s.sparse_s ? "faster" : "no gain in speed", s.dense_s / s.sparse_s);
}

/* The compact layout: what leaving zeros out saved. */
static void print_compact(const pare_job *job) {
    uint64_t dense = 0, bytes = 0;
    size_t n = 0, all = 0;
    for (size_t i = 0; i < pare_job_count(job); i++) {
        pare_job_row r = pare_job_at(job, i);
        if (!r.dense_bytes) continue;
        all++, n += r.bytes_out < r.dense_bytes;
        dense += r.dense_bytes, bytes += r.bytes_out;
    }
    if (!all) return;
    printf("zeros are left out of %zu of %zu linear matrices: %llu bytes instead of %llu, %.3f of them\n", n, all,
           (unsigned long long)bytes, (unsigned long long)dense, dense ? (double)bytes / (double)dense : 0);
}

static double bits(const pare_job_row *r) {
    double n = 1;
    for (int k = 0; k < r->ndim; k++) n *= (double)r->shape[k];
    return n > 0 ? 8.0 * (double)r->bytes_out / n : 0;
}

static double gain(const pare_job_row *r) { return r->output_error > 0 ? r->rtn_output_error / r->output_error : 0; }

/* What the method made of every matrix: relative squared errors, and how many times rounding to nearest errs as much.
 */
static void print_errors(const pare_job *job) {
    static const char *const head[] = {"tensor", "grid", "bits", "weight error", "output error", "rtn / this"};
    pare_cli_table *t = pare_cli_table_new("llrrrr", head);
    for (size_t i = 0; i < pare_job_count(job); i++) {
        pare_job_row r = pare_job_at(job, i);
        if (!r.measured) continue;
        char cell[4][32];
        snprintf(cell[0], sizeof cell[0], "%.2f", bits(&r));
        snprintf(cell[1], sizeof cell[1], "%.3g", r.weight_error);
        snprintf(cell[2], sizeof cell[2], "%.3g", r.output_error);
        snprintf(cell[3], sizeof cell[3], "%.2f", gain(&r));
        const char *cells[] = {r.name, r.to, cell[0], cell[1], cell[2], cell[3]};
        pare_cli_table_row(t, cells);
    }
    pare_cli_table_print(&t);
}

/* How many matrices were measured, and the mean of what the method gained on them. */
static size_t sum_errors(const pare_job *job, bool print) {
    double sum = 0;
    size_t n = 0, gained = 0;
    for (size_t i = 0; i < pare_job_count(job); i++) {
        pare_job_row r = pare_job_at(job, i);
        n += r.measured;
        if (r.measured && gain(&r) > 0) sum += log(gain(&r)), gained++;
    }
    if (print && gained)
        printf("output error of rounding to nearest: %.2f times this one's (geometric mean)\n",
               exp(sum / (double)gained));
    return n;
}

void pare_cli_job_brief(const pare_job *job) {
    pare_job_totals t = pare_job_sum(job);
    sum_errors(job, true);
    if (t.pruned) sum_zeros(job);
    else if (*t.ran) printf("%s\n", t.ran);
    print_compact(job);
}

json_t *pare_cli_job_json(const pare_job *job, const char *model, const char *out, double seconds) {
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
        if (row && r.dense_bytes) json_object_set_new(row, "dense_bytes", json_integer((json_int_t)r.dense_bytes));
        if (row && r.measured) {
            json_object_set_new(row, "bits", json_real(bits(&r)));
            json_object_set_new(row, "weight_error", json_real(r.weight_error));
            json_object_set_new(row, "output_error", json_real(r.output_error));
            json_object_set_new(row, "rtn_output_error", json_real(r.rtn_output_error));
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
            json_object_set_new(p, "bytes", json_integer((json_int_t)s.pruned_bytes));
            json_object_set_new(p, "dense_bytes", json_integer((json_int_t)s.pruned_dense_bytes));
        }
        if (p && s.timed)
            json_object_set_new(p, "one_token",
                                json_pack("{s:s, s:f, s:f}", "tensor", s.timed, "dense_seconds", s.dense_s,
                                          "sparse_seconds", s.sparse_s));
        json_object_set_new(j, "pruned", p);
    }
    if (j && seconds >= 0)
        json_object_set_new(j, "seconds",
                            json_pack("{s:f, s:f, s:f, s:f}", "all", seconds, "work", s.work_s, "read_back", s.check_s,
                                      "sync", s.sync_s));
    return j;
}

static json_t *extra; /* members that a command adds */

void pare_cli_job_add(const char *key, json_t *value) {
    if (!extra) extra = json_object();
    json_object_set_new(extra, key, value);
}

static int write_json(const pare_job *job, const char *model, const char *out, double seconds,
                      pare_verify_report *verified) {
    const char *path = pare_cli_json();
    if (!path) return 0;
    json_t *j = pare_cli_job_json(job, model, out, seconds);
    if (j && extra) json_object_update(j, extra);
    const char *text;
    size_t n;
    pare_diag d = {0};
    if (j && verified && pare_verify_render(verified, PARE_VERIFY_JSON, &text, &n, &d) == PARE_OK)
        json_object_set_new(j, "verify", json_loadb(text, n, 0, NULL));
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

/* Under mpirun: a calibration is shared, what comes before and after it is process 0's. True when this process is to
 * go on; *status: its exit status when not. */
static bool join(const pare_job *job, bool dry_run, int *status) {
    pare_diag d = {0};
    *status = 0;
    if (pare_team_started() < 2) return true;
    if (dry_run || !pare_job_shares(job)) return pare_team_rank() == 0;
    pare_status s = pare_team_join(&d);
    if (s != PARE_OK) *status = pare_cli_fail(s, &d);
    return s == PARE_OK;
}

/* Runs the job and says so; an exit status. */
static int run(pare_job *job, const char *out, bool table, double *seconds) {
    pare_diag d = {0};
    double start = now();
    pare_status s = pare_job_run_shared(job, &d);
    *seconds = now() - start;
    int status = s == PARE_OK ? 0 : pare_cli_fail(s, &d);
    pare_team_leave();
    if (status) return status;
    if (!table || pare_cli_quiet()) return 0;
    pare_job_totals t = pare_job_sum(job);
    if (sum_errors(job, false)) print_errors(job);
    if (t.pruned) print_zeros(job);
    pare_cli_job_brief(job);
    printf("wrote %s in %.2f s (work %.2f, reading back %.2f, disk %.2f)\n", out, *seconds, t.work_s, t.check_s,
           t.sync_s);
    fflush(stdout);
    return 0;
}

int pare_cli_job_verified(pare_job **job, const char *model, const char *out, bool dry_run, const pare_verify_opts *v) {
    bool table = !pare_cli_json() || strcmp(pare_cli_json(), "-") != 0;
    int joined;
    if (!join(*job, dry_run, &joined)) return pare_job_close(job), joined;
    if (table && (!pare_cli_quiet() || dry_run)) {
        print_plan(*job);
        pare_cli_job_sum(*job);
        fflush(stdout);
    }
    double seconds = -1;
    int status = dry_run ? 0 : run(*job, out, table, &seconds), gates = 0;
    if (pare_team_rank() > 0) return pare_job_close(job), status;
    pare_verify_report *verified = NULL;
    if (status == 0 && v && !dry_run) {
        pare_diag d = {0};
        pare_status s = pare_verify(model, out, v, &verified, &d);
        if (s != PARE_OK) status = pare_cli_fail(s, &d);
        else if (table) pare_show_report(verified);
        if (verified && verified->n_failed) gates = pare_exit_status(PARE_ERR_GATE);
    }
    if (status == 0) status = write_json(*job, model, out, seconds, verified);
    pare_verify_close(&verified);
    pare_job_close(job);
    return status ? status : gates;
}

int pare_cli_job(pare_job **job, const char *model, const char *out, bool dry_run) {
    return pare_cli_job_verified(job, model, out, dry_run, NULL);
}
