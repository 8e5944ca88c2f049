/* SPDX-License-Identifier: Apache-2.0
 *
 * What the benchmarks share. A benchmark is a function here and a line in the table of api/bench.c. */
#ifndef PARE_API_BENCH_H
#define PARE_API_BENCH_H

#include "pare/pare.h"

typedef struct pare_bench_run {
    pare_bench_opts opts;                         /* defaults filled in */
    double read_gbs[2], fma_gfs[2], dot8_gops[2]; /* ceilings with 1 and with all threads; 0 = not measured yet */
} pare_bench_run;

typedef void pare_bench_body(void *ctx);
/* The best time of body: repeated until opts.seconds have passed, at least three times unless one takes longer. */
double pare_bench_time(const pare_bench_run *r, pare_bench_body *body, void *ctx);
void pare_bench_emit(const pare_bench_run *r, const pare_bench_row *row);

pare_status pare_bench_roofline(pare_bench_run *r, pare_diag *d);
pare_status pare_bench_kernels(pare_bench_run *r, pare_diag *d);

#endif
