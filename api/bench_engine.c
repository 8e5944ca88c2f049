/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine end to end: quantizing a file, decoding, reading a prompt; beside llama.cpp's programs where they are. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "api/bench.h"
#include "core/alloc.h"
#include "core/cpu_features.h"
#include "core/log.h"
#include "core/status.h"
#include "models/lm.h"

static const char *const targets[] = {"q8_0", "q4_0", "q4_k_m", NULL};

typedef struct engine {
    pare_bench_run *r;
    pare_bench_dir dir;
    char *model; /* f16 */
    uint64_t model_bytes;
} engine;

static uint64_t file_bytes(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
}

static pare_status begin(engine *e, pare_bench_run *r, pare_diag *d) {
    *e = (engine){.r = r};
    PARE_TRY(pare_bench_dir_make(&e->dir, d));
    e->model = r->opts.model ? pare_strdup(r->opts.model) : pare_bench_dir_file(&e->dir, "f16.gguf");
    if (!e->model) return pare_fail(d, PARE_ERR_NOMEM, NULL, NULL, "no memory for a path");
    if (!r->opts.model) PARE_TRY(pare_bench_model_make(e->model, d));
    e->model_bytes = file_bytes(e->model);
    return PARE_OK;
}

static void end(engine *e) {
    pare_free(e->model);
    pare_bench_dir_remove(&e->dir);
}

/* Peak resident memory of this process since the last reset, or 0 where the system does not tell. */
static uint64_t peak_memory(bool reset) {
    if (reset) {
        FILE *f = fopen("/proc/self/clear_refs", "w");
        if (f) fputs("5", f), fclose(f);
    }
    char line[128];
    unsigned long long kb = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %llu kB", &kb) == 1) break;
    if (f) fclose(f);
    return kb * 1024;
}

typedef struct clock {
    double start, written;
} clock;

static void on_progress(void *user, const pare_progress *p) {
    clock *c = user;
    if (p->done == p->total && strcmp(p->what, "write") == 0) c->written = pare_now_s();
}

/* Quantizes e->model into out; seconds until all bytes were handed to the system, and until they were on disk, read
 * back and compared. */
static pare_status quantize(const engine *e, const char *to, const char *out, double *written, double *whole,
                            pare_diag *d) {
    pare_job *job = NULL;
    clock c = {0};
    pare_hooks before = pare_get_hooks(), mine = {.progress = on_progress, .user = &c};
    pare_job_opts o = {.to = to, .force = true};
    pare_set_hooks(&mine);
    c.start = pare_now_s();
    pare_status s = pare_quantize_open(e->model, out, &o, &job, d);
    if (s == PARE_OK) s = pare_job_run(job, d);
    *whole = pare_now_s() - c.start;
    *written = c.written - c.start;
    pare_job_close(&job);
    pare_set_hooks(&before);
    return s;
}

static void emit(const engine *e, const char *bench, const char *name, const char *variant, double seconds,
                 double value, const char *unit, double limit_value, const char *limit) {
    pare_bench_row row = {.bench = bench,
                          .name = name,
                          .variant = variant,
                          .shape = "",
                          .threads = pare_threads(),
                          .seconds = seconds,
                          .value = value,
                          .unit = unit,
                          .limit = limit};
    if (limit_value > 0) row.of_limit = value / limit_value;
    pare_bench_emit(e->r, &row);
}

static const char *peer_type(const char *to, char *buf, size_t n) { /* Q4_K_M */
    size_t i = 0;
    for (; to[i] && i + 1 < n; i++) buf[i] = (char)(to[i] >= 'a' && to[i] <= 'z' ? to[i] - 32 : to[i]);
    buf[i] = 0;
    return buf;
}

/* llama-quantize on the same file: seconds, 0 when there is no peer or it refuses. */
static pare_status peer_quantize(const engine *e, const char *to, pare_peer_run *p, pare_diag *d) {
    *p = (pare_peer_run){0};
    if (!e->r->opts.peer_bin) return PARE_OK;
    char type[32], threads[16];
    char *out = pare_bench_dir_file(&e->dir, "peer.gguf");
    snprintf(threads, sizeof threads, "%d", pare_threads());
    const char *argv[] = {"llama-quantize", e->model, out, peer_type(to, type, sizeof type), threads, NULL};
    pare_status s = out ? pare_bench_peer(e->r->opts.peer_bin, argv, p, d) : PARE_ERR_NOMEM;
    pare_free(p->output);
    p->output = NULL;
    if (out) remove(out);
    pare_free(out);
    return s;
}

static pare_status quantize_one(engine *e, const char *to, pare_diag *d) {
    char *out = pare_bench_dir_file(&e->dir, "out.gguf"), name[64];
    double gb = (double)e->model_bytes / 1e9, written = 0, whole = 0;
    pare_peer_run peer;
    if (!out) return pare_fail(d, PARE_ERR_NOMEM, NULL, NULL, "no memory for a path");
    pare_status s = peer_quantize(e, to, &peer, d);
    bool have_peer = s == PARE_OK && peer.seconds > 0 && peer.exit_status == 0;
    peak_memory(true);
    if (s == PARE_OK) s = quantize(e, to, out, &written, &whole, d);
    if (s == PARE_OK) {
        double theirs = have_peer ? gb / peer.seconds : 0;
        snprintf(name, sizeof name, "f16 to %s", to);
        emit(e, "quantize", name, "until written", written, gb / written, "GB/s", theirs, "llama.cpp");
        emit(e, "quantize", name, "synced, read back, compared", whole, gb / whole, "GB/s", theirs, "llama.cpp");
        if (have_peer) emit(e, "quantize", name, "llama-quantize", peer.seconds, theirs, "GB/s", 0, "");
        emit(e, "quantize", name, "peak memory", whole, (double)peak_memory(false) / 1e6, "MB", 0, "");
        if (have_peer)
            emit(e, "quantize", name, "llama-quantize, peak memory", peer.seconds, (double)peer.peak_bytes / 1e6, "MB",
                 0, "");
    }
    remove(out);
    pare_free(out);
    return s;
}

pare_status pare_bench_quantize(pare_bench_run *r, pare_diag *d) {
    engine e;
    pare_status s = begin(&e, r, d);
    const char *const one[] = {r->opts.only, NULL};
    for (const char *const *to = r->opts.only ? one : targets; *to && s == PARE_OK; to++) s = quantize_one(&e, *to, d);
    end(&e);
    return s;
}

/* The best of five runs: a prompt of n_prompt tokens, or n_decode tokens one by one from an empty cache. */
static pare_status tokens_per_s(const char *path, int64_t n_prompt, int64_t n_decode, double *out, pare_diag *d) {
    pare_source *src = NULL;
    pare_lm *lm = NULL;
    int64_t n = n_prompt > n_decode ? n_prompt : n_decode, *ids = pare_malloc((size_t)n * sizeof *ids);
    pare_lm_opts o = {.act = PARE_ACT_INT8_BLOCK, .capacity = n};
    pare_status s = ids ? pare_source_open(path, &src, d) : PARE_ERR_NOMEM;
    if (s == PARE_OK) s = pare_lm_open(src, &o, &lm, d);
    double best = 0;
    for (int rep = 0; rep < 6 && s == PARE_OK; rep++) { /* the first run warms up */
        const pare_lm_info *info = pare_lm_describe(lm);
        for (int64_t i = 0; i < n; i++) ids[i] = (1 + i * 7919 + rep) % info->vocab;
        const float *logits;
        double t = pare_now_s();
        if (n_prompt) s = pare_lm_step(lm, ids, n_prompt, 0, &logits, d);
        for (int64_t i = 0; i < n_decode && s == PARE_OK; i++) s = pare_lm_step(lm, ids + i, 1, i, &logits, d);
        t = pare_now_s() - t;
        if (rep > 0 && (best == 0 || t < best)) best = t;
        if (s == PARE_OK && pare_is_interrupted()) s = pare_interrupted(d);
    }
    if (s == PARE_OK) *out = (double)(n_prompt + n_decode) / best;
    pare_lm_close(&lm);
    pare_source_close(&src);
    pare_free(ids);
    return s;
}

static pare_status peer_speed(const engine *e, const char *path, int64_t n_prompt, int64_t n_decode, double *out,
                              pare_diag *d) {
    *out = 0;
    if (!e->r->opts.peer_bin) return PARE_OK;
    char p[24], n[24], t[16];
    snprintf(p, sizeof p, "%lld", (long long)n_prompt);
    snprintf(n, sizeof n, "%lld", (long long)n_decode);
    snprintf(t, sizeof t, "%d", pare_threads());
    const char *argv[] = {"llama-bench", "-m", path, "-p", p, "-n", n, "-t", t, "-r", "5", "-o", "json", NULL};
    pare_peer_run run;
    PARE_TRY(pare_bench_peer(e->r->opts.peer_bin, argv, &run, d));
    double ns = pare_bench_json_number(run.output, "\"samples_ns\""), many = (double)(n_prompt + n_decode);
    const char *list = run.output ? strstr(run.output, "\"samples_ns\"") : NULL; /* the best of its repetitions too */
    for (const char *q = list ? strchr(list, '[') : NULL; q && *q != ']'; q = strpbrk(q + 1, ",]")) {
        double v = strtod(q + 1, NULL);
        if (v > 0 && (ns <= 0 || v < ns)) ns = v;
    }
    if (ns > 0) *out = many / (ns * 1e-9);
    pare_free(run.output);
    return PARE_OK;
}

/* What one token reads: every tensor, but of an embedding beside a separate output matrix only a row. */
static uint64_t bytes_per_token(const char *path) {
    pare_source *src = NULL;
    uint64_t sum = 0, embedding = 0;
    bool output = false;
    if (pare_source_open(path, &src, NULL) != PARE_OK) return 0;
    for (size_t i = 0; i < src->n_tensors; i++) {
        const pare_stored *t = &src->tensors[i];
        sum += t->bytes;
        if (strcmp(t->name, "token_embd.weight") == 0) embedding = t->bytes;
        output |= strcmp(t->name, "output.weight") == 0;
    }
    pare_source_close(&src);
    return output ? sum - embedding : sum;
}

static pare_status speed_one(engine *e, const char *bench, const char *to, int64_t n_prompt, int64_t n_decode,
                             pare_diag *d) {
    char *file = pare_bench_dir_file(&e->dir, "out.gguf");
    double written, whole, ours = 0, theirs = 0;
    pare_status s = file ? quantize(e, to, file, &written, &whole, d) : PARE_ERR_NOMEM;
    if (s == PARE_OK) s = tokens_per_s(file, n_prompt, n_decode, &ours, d);
    if (s == PARE_OK) s = peer_speed(e, file, n_prompt, n_decode, &theirs, d);
    if (s == PARE_OK) {
        if (n_decode) {
            double gbs = ours * (double)bytes_per_token(file) / 1e9;
            emit(e, bench, to, "weights read per second", 1 / ours, gbs, "GB/s", e->r->read_gbs[1], "read");
        }
        emit(e, bench, to, pare_cpu_name(pare_cpu_mask()), 1 / ours, ours, "tok/s", theirs,
             theirs > 0 ? "llama.cpp" : "");
        if (theirs > 0) emit(e, bench, to, "llama-bench", 1 / theirs, theirs, "tok/s", 0, "");
    }
    if (file) remove(file);
    pare_free(file);
    return s;
}

static pare_status speed(pare_bench_run *r, const char *bench, int64_t n_prompt, int64_t n_decode, pare_diag *d) {
    engine e;
    pare_status s = begin(&e, r, d);
    if (s == PARE_OK) s = pare_bench_ceilings(r, d);
    const char *const one[] = {r->opts.only, NULL};
    for (const char *const *to = r->opts.only ? one : targets; *to && s == PARE_OK; to++)
        s = speed_one(&e, bench, *to, n_prompt, n_decode, d);
    end(&e);
    return s;
}

pare_status pare_bench_decode(pare_bench_run *r, pare_diag *d) {
    return speed(r, "decode", 0, r->opts.decode_tokens, d);
}
pare_status pare_bench_prompt(pare_bench_run *r, pare_diag *d) {
    return speed(r, "prompt", r->opts.prompt_tokens, 0, d);
}
