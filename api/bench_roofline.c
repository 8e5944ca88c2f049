/* SPDX-License-Identifier: Apache-2.0
 *
 * The ceilings: memory read, copied and written, f32 multiply-adds and int8 dot products, by one thread and by all. */
#include <stdio.h>
#include <string.h>

#include "api/bench.h"
#include "core/alloc.h"
#include "core/cpu_features.h"
#include "core/rng.h"
#include "core/status.h"
#include "core/threads.h"
#include "cpu/probe.h"

typedef enum what { READ, COPY, COPY_NT, WRITE_NT, FMA, DOT8 } what;

typedef struct probe {
    pare_probe_table t;
    what kind;
    int parts, streams;
    size_t bytes, steps; /* per part */
    char *a, *b;
    double ops[64]; /* per part */
    float fsink;
    int32_t isink;
} probe;

static void part(void *ctx, size_t i) {
    probe *p = ctx;
    char *a = p->a + i * p->bytes, *b = p->b + i * p->bytes;
    float f = 0;
    int32_t s = (int32_t)i;
    switch (p->kind) {
    case READ: s = (int32_t)p->t.read(a, p->bytes, p->streams); break;
    case COPY: p->t.copy(b, a, p->bytes); break;
    case COPY_NT: p->t.copy_nt(b, a, p->bytes); break;
    case WRITE_NT: p->t.write_nt(b, p->bytes); break;
    case FMA: p->ops[i] = p->t.fma(p->steps, &f); break;
    case DOT8: p->ops[i] = p->t.dot8(p->steps, &s); break;
    }
    if (f > 1e30f) p->fsink = f; /* results are looked at, never used */
    if (s == INT32_MIN) p->isink = s;
}

static void all_parts(void *ctx) { pare_parallel((size_t)((probe *)ctx)->parts, 1, part, ctx); }

/* One line; returns its value. */
static double measure(pare_bench_run *r, probe *p, const char *name, what kind, int streams, int threads) {
    bool arithmetic = kind == FMA || kind == DOT8;
    p->kind = kind;
    p->streams = streams;
    p->parts = threads;
    p->bytes = r->opts.memory_bytes / (size_t)threads / (8 * PARE_PROBE_MIN) * (8 * PARE_PROBE_MIN);
    p->steps = 2000000;
    pare_set_threads(threads);
    double s = pare_bench_time(r, all_parts, p), amount = 0;
    for (int i = 0; i < threads; i++)
        amount += arithmetic ? p->ops[i] : (double)p->bytes * (kind == COPY || kind == COPY_NT ? 2 : 1);
    const char *unit = kind == FMA ? "GF/s" : kind == DOT8 ? "GOP/s" : "GB/s";
    pare_bench_row row = {.bench = "roofline",
                          .name = name,
                          .variant = pare_cpu_name(pare_cpu_mask()),
                          .shape = "",
                          .threads = threads,
                          .seconds = s,
                          .value = amount / s / 1e9,
                          .unit = unit,
                          .limit = ""};
    pare_bench_emit(r, &row);
    return row.value;
}

static void measure_all(pare_bench_run *r, probe *p, int threads, int at) {
    static const struct {
        const char *name;
        what kind;
        int streams;
    } memory[] = {{"read, 1 stream", READ, 1},
                  {"read, 2 streams", READ, 2},
                  {"read, 4 streams", READ, 4},
                  {"read, 8 streams", READ, 8},
                  {"copy (read + write)", COPY, 1},
                  {"copy, streaming stores", COPY_NT, 1},
                  {"write, streaming stores", WRITE_NT, 1}};
    for (size_t i = 0; i < sizeof memory / sizeof *memory && !pare_is_interrupted(); i++) {
        double v = measure(r, p, memory[i].name, memory[i].kind, memory[i].streams, threads);
        if (memory[i].kind == READ && v > r->read_gbs[at]) r->read_gbs[at] = v;
    }
    r->fma_gfs[at] = measure(r, p, "f32 multiply-add", FMA, 0, threads);
    r->dot8_gops[at] = measure(r, p, "int8 dot product", DOT8, 0, threads);
}

pare_status pare_bench_roofline(pare_bench_run *r, pare_diag *d) {
    int threads = pare_threads();
    if (threads > 64) threads = 64;
    size_t bytes = r->opts.memory_bytes + (size_t)64 * PARE_PROBE_MIN;
    probe p = {.t = pare_probes(), .a = pare_malloc_aligned(bytes), .b = pare_malloc_aligned(bytes)};
    pare_status s = PARE_OK;
    if (!p.a || !p.b)
        s = pare_fail(d, PARE_ERR_NOMEM, NULL, NULL, "no memory for two buffers of %zu bytes; lower --memory", bytes);
    else {
        memset(p.a, 1, bytes);
        memset(p.b, 2, bytes);
        measure_all(r, &p, 1, 0);
        if (threads > 1) measure_all(r, &p, threads, 1);
        else r->read_gbs[1] = r->read_gbs[0], r->fma_gfs[1] = r->fma_gfs[0], r->dot8_gops[1] = r->dot8_gops[0];
        pare_set_threads(threads);
        if (pare_is_interrupted()) s = pare_interrupted(d);
    }
    pare_free(p.a);
    pare_free(p.b);
    return s;
}

pare_status pare_bench_ceilings(pare_bench_run *r, pare_diag *d) {
    if (r->read_gbs[1] > 0) return PARE_OK;
    pare_bench_opts asked = r->opts;
    r->opts.row = NULL;
    pare_status s = pare_bench_roofline(r, d);
    r->opts = asked;
    return s;
}
