/* SPDX-License-Identifier: Apache-2.0
 *
 * pare_bench: the table of benchmarks, their clock and their defaults. */
#include "api/bench.h"

#include <string.h>

#include "core/log.h"
#include "core/status.h"

static const struct {
    const char *name, *text;
    pare_status (*run)(pare_bench_run *, pare_diag *);
} benches[] = {
    {"roofline", "what memory and arithmetic units can do, 1 thread and all", pare_bench_roofline},
    {"kernels", "matrix products in every storage format and instruction set, against those ceilings",
     pare_bench_kernels},
    {"sparse", "products with sparse weights against the same weights stored densely", pare_bench_sparse},
    {"calib", "second moments, GPTQ's factor and sweep on a layer of 4096 x 4096, against sgemm", pare_bench_calib},
    {"quantize", "file to file: rate of input, peak memory", pare_bench_quantize},
    {"decode", "tokens per second, one at a time", pare_bench_decode},
    {"prompt", "tokens per second of a long prompt", pare_bench_prompt},
};
#define N_BENCHES (sizeof benches / sizeof *benches)

const char *const *pare_bench_names(void) {
    static const char *names[2 * N_BENCHES + 1];
    for (size_t i = 0; i < N_BENCHES; i++) names[2 * i] = benches[i].name, names[2 * i + 1] = benches[i].text;
    return names;
}

double pare_bench_time(const pare_bench_run *r, pare_bench_body *body, void *ctx) {
    double best = 0, spent = 0;
    for (int i = 0; i < 1000 && (i < 3 ? spent < 4 * r->opts.seconds : spent < r->opts.seconds); i++) {
        double t = pare_now_s();
        body(ctx);
        t = pare_now_s() - t;
        spent += t;
        if (i == 0 || t < best) best = t;
    }
    return best;
}

void pare_bench_emit(const pare_bench_run *r, const pare_bench_row *row) {
    if (r->opts.row) r->opts.row(r->opts.user, row);
}

pare_status pare_bench(const char *what, const pare_bench_opts *opts, pare_diag *d) {
    pare_bench_run r = {.opts = opts ? *opts : (pare_bench_opts){0}};
    if (!r.opts.memory_bytes) r.opts.memory_bytes = 256u << 20;
    if (r.opts.seconds <= 0) r.opts.seconds = 0.3;
    if (!r.opts.prompt_tokens) r.opts.prompt_tokens = 512;
    if (!r.opts.decode_tokens) r.opts.decode_tokens = 32;
    for (size_t i = 0; i < N_BENCHES; i++)
        if (what && strcmp(benches[i].name, what) == 0) return benches[i].run(&r, d);
    return pare_fail(d, PARE_ERR_USAGE, NULL, what,
                     "no such benchmark; there are roofline, kernels, sparse, calib, quantize, decode and prompt");
}
