/* SPDX-License-Identifier: Apache-2.0
 *
 * Calibration's dense algebra on one square layer, as a fraction of the better sgemm (OpenBLAS or ours) of the same
 * run: second moments, the factor of their inverse, the sweep of GPTQ, and both together with the corrected target.
 *
 * Operations counted (a multiply and an add are two): second moments T n^2 (half of a product, as SYRK does them);
 * factor 4/3 n^3 (Cholesky, inverse of the triangle, its square not formed); sweep n^3 (rows n^2); so GPTQ of
 * 4096 x 4096 is 160 GFLOP, whatever it takes in fact. */
#include "api/bench.h"

#include "calib/linalg.h"
#include "calib/sweep.h"
#include "core/alloc.h"
#include "core/qtype.h"
#include "core/rng.h"
#include "core/status.h"
#include "cpu/matmul.h"

#include <cblas.h>
#include <stdio.h>
#include <string.h>

#define N      4096
#define TOKENS 4096

typedef struct layer {
    float *a, *x, *h, *u, *w; /* [N, N] each but x [TOKENS, N] */
    uint8_t *out;
    const pare_qtype *type;
    pare_status status;
} layer;

static void do_openblas(void *ctx) {
    layer *l = ctx;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, N, N, N, 1.0f, l->a, N, l->x, N, 0.0f, l->w, N);
}
static void do_sgemm(void *ctx) {
    layer *l = ctx;
    pare_sgemm(false, false, N, N, N, 1.0f, l->a, N, l->x, N, 0.0f, l->w, N);
}
static void do_sgemm_bf16(void *ctx) {
    layer *l = ctx;
    pare_sgemm_bf16(false, false, N, N, N, 1.0f, l->a, N, l->x, N, 0.0f, l->w, N);
}
static void do_moments(void *ctx) {
    layer *l = ctx;
    pare_gram_add(N, TOKENS, l->x, l->h);
}
static void do_factor(void *ctx) {
    layer *l = ctx;
    double used;
    pare_status s = pare_inverse_factor(N, l->h, 0.01, l->u, &used, NULL);
    if (s != PARE_OK) l->status = s;
}
static void do_sweep(void *ctx) {
    layer *l = ctx;
    memcpy(l->w, l->a, sizeof(float) * N * N); /* 2 % of the time: the sweep works in place */
    pare_sweep sweep = {.rows = N, .n = N, .u = l->u, .type = l->type, .w = l->w, .out = l->out};
    pare_status s = pare_sweep_run(&sweep, NULL);
    if (s != PARE_OK) l->status = s;
}
static void do_gptq(void *ctx) { do_factor(ctx), do_sweep(ctx); }

static double emit(const pare_bench_run *r, layer *l, const char *name, const char *variant, pare_bench_body *body,
                   double flops, double sgemm) {
    char shape[64];
    snprintf(shape, sizeof shape, "%d x %d, %d tokens", N, N, TOKENS);
    double s = pare_bench_time(r, body, l), rate = flops / s / 1e9;
    pare_bench_row row = {.bench = "calib",
                          .name = name,
                          .variant = variant,
                          .shape = shape,
                          .threads = pare_threads(),
                          .seconds = s,
                          .value = rate,
                          .unit = "GF/s",
                          .of_limit = sgemm > 0 ? rate / sgemm : 0,
                          .limit = sgemm > 0 ? "sgemm" : ""};
    pare_bench_emit(r, &row);
    return rate;
}

static pare_status measure(const pare_bench_run *r, layer *l) {
    static const char *const grids[] = {"q4_0", "q4_k", "int4:g128", "iq4_xs"};
    double cube = (double)N * N * N, sgemm = emit(r, l, "sgemm", "OpenBLAS", do_openblas, 2 * cube, 0);
    double own = emit(r, l, "sgemm", "pare", do_sgemm, 2 * cube, sgemm);
    sgemm = own > sgemm ? own : sgemm;
    emit(r, l, "sgemm", "pare, in bf16", do_sgemm_bf16, 2 * cube, sgemm);
    memset(l->h, 0, sizeof(float) * N * N);
    emit(r, l, "second moments", "", do_moments, cube, sgemm);
    if (pare_is_interrupted()) return PARE_ERR_INTERRUPTED;
    emit(r, l, "factor of the inverse", "", do_factor, 4.0 / 3.0 * cube, sgemm);
    for (size_t i = 0; i < sizeof grids / sizeof *grids && !pare_is_interrupted(); i++) {
        l->type = pare_qtype_by_name(r->opts.only ? r->opts.only : grids[i]);
        if (!l->type || !l->type->grid) return PARE_ERR_USAGE;
        emit(r, l, "sweep", l->type->name, do_sweep, cube, sgemm);
        emit(r, l, "gptq, second moments given", l->type->name, do_gptq, 7.0 / 3.0 * cube, sgemm);
        if (r->opts.only) break;
    }
    return pare_is_interrupted() ? PARE_ERR_INTERRUPTED : l->status;
}

/* Inputs whose channels differ in size and lean on each other, as a model's do. */
static void fill(layer *l) {
    pare_rng rng;
    pare_rng_seed(&rng, 7);
    float *size = l->w;
    for (size_t j = 0; j < N; j++) size[j] = 0.1f + pare_rng_normal(&rng) * pare_rng_normal(&rng);
    for (size_t t = 0; t < TOKENS; t++) {
        float common = pare_rng_normal(&rng);
        for (size_t j = 0; j < N; j++) l->x[t * N + j] = size[j] * (pare_rng_normal(&rng) + 0.5f * common);
    }
    for (size_t i = 0; i < (size_t)N * N; i++) l->a[i] = 0.02f * pare_rng_normal(&rng);
}

pare_status pare_bench_calib(pare_bench_run *r, pare_diag *d) {
    size_t square = sizeof(float) * N * N;
    layer l = {.status = PARE_OK};
    l.a = pare_malloc_aligned(square), l.x = pare_malloc_aligned(sizeof(float) * TOKENS * N);
    l.h = pare_malloc_aligned(square), l.u = pare_malloc_aligned(square), l.w = pare_malloc_aligned(square);
    l.out = pare_malloc_aligned(square);
    pare_status s = PARE_OK;
    if (!l.a || !l.x || !l.h || !l.u || !l.w || !l.out)
        s = pare_fail(d, PARE_ERR_NOMEM, NULL, "bench", "no memory for six matrices of %d x %d", N, N);
    else {
        fill(&l);
        s = measure(r, &l);
        if (s == PARE_ERR_INTERRUPTED) s = pare_interrupted(d);
        else if (s == PARE_ERR_USAGE)
            s = pare_fail(d, s, NULL, r->opts.only, "no grid of this name; q4_0, q4_k, int4:g128, iq4_xs are some");
        else if (s != PARE_OK) s = pare_fail(d, s, NULL, "bench", "the solver failed");
    }
    pare_free(l.a), pare_free(l.x), pare_free(l.h), pare_free(l.u), pare_free(l.w), pare_free(l.out);
    return s;
}
