/* SPDX-License-Identifier: Apache-2.0
 *
 * What the benchmarks share. A benchmark is a function here and a line in the table of api/bench.c. */
#ifndef PARE_API_BENCH_H
#define PARE_API_BENCH_H

#include "core/op.h"
#include "core/tensor.h"
#include "pare/pare.h"

typedef struct pare_bench_run {
    pare_bench_opts opts;                         /* defaults filled in */
    double read_gbs[2], fma_gfs[2], dot8_gops[2]; /* ceilings with 1 and with all threads; 0 = not measured yet */
} pare_bench_run;

typedef void pare_bench_body(void *ctx);
/* The best time of body: repeated until opts.seconds have passed, at least three times unless one takes longer. */
double pare_bench_time(const pare_bench_run *r, pare_bench_body *body, void *ctx);
void pare_bench_emit(const pare_bench_run *r, const pare_bench_row *row);

/* Fills the ceilings without emitting lines, if they are not known yet. */
pare_status pare_bench_ceilings(pare_bench_run *r, pare_diag *d);

/* One product of stored weights, as a pare_bench_body: y = x w^T, shapes as pare_matmul_stored (cpu/matmul.h). */
typedef struct pare_bench_product {
    pare_tensor w;
    const float *x;
    float *y;
    int64_t m;
    pare_act_round act;
    void *workspace;
} pare_bench_product;
void pare_bench_run_product(void *ctx);

/* ---- files that benchmarks make: api/bench_model.c ---- */
typedef struct pare_bench_dir {
    char *path;
} pare_bench_dir;
pare_status pare_bench_dir_make(pare_bench_dir *dir, pare_diag *d);     /* a fresh folder under $TMPDIR */
char *pare_bench_dir_file(const pare_bench_dir *dir, const char *name); /* pare_free it; NULL when out of memory */
void pare_bench_dir_remove(pare_bench_dir *dir);                        /* with the files in it */
/* A GGUF file of f16 weights in the shape of a Llama of 1.1e9 weights: 16 layers, 2048 wide, 8192 in the feed-forward,
 * 32 query and 8 key heads, vocabulary 32000, no tokenizer. Rows differ in scale, one weight in 4096 is an outlier. */
pare_status pare_bench_model_make(const char *path, pare_diag *d);

/* ---- programs of peers: api/bench_peer.c ---- */
typedef struct pare_peer_run {
    double seconds;
    uint64_t peak_bytes; /* resident */
    char *output;        /* standard output, terminated; pare_free it */
    int exit_status;
} pare_peer_run;
/* Runs bin/argv[0] with argv (NULL-terminated) and waits. PARE_ERR_IO when it cannot be started. */
pare_status pare_bench_peer(const char *bin, const char *const *argv, pare_peer_run *out, pare_diag *d);
/* The first number after "key": in JSON text, or 0. */
double pare_bench_json_number(const char *text, const char *key);

pare_status pare_bench_quantize(pare_bench_run *r, pare_diag *d);
pare_status pare_bench_decode(pare_bench_run *r, pare_diag *d);
pare_status pare_bench_prompt(pare_bench_run *r, pare_diag *d);
pare_status pare_bench_roofline(pare_bench_run *r, pare_diag *d);
pare_status pare_bench_kernels(pare_bench_run *r, pare_diag *d);
pare_status pare_bench_sparse(pare_bench_run *r, pare_diag *d);
pare_status pare_bench_calib(pare_bench_run *r, pare_diag *d);

#endif
