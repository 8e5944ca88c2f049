/* SPDX-License-Identifier: Apache-2.0
 *
 * Products with sparse weights (core/sparse.h) against the same weights stored densely, zeros included: both in turn,
 * the same values, the same activations, the same level of the processor. For one token memory is the limit, so what
 * can be gained is the ratio of the bytes; for many it is arithmetic, and these kernels multiply the zeros, too. */
#include <stdio.h>
#include <string.h>

#include "api/bench.h"
#include "core/alloc.h"
#include "core/cpu_features.h"
#include "core/rng.h"
#include "core/sparse.h"
#include "core/status.h"
#include "cpu/matmul.h"

#define K        4096
#define N_PROMPT 1024
#define M_PROMPT 128
#define SEED     64 /* stored rows that are random; the rest repeats them */
#define ROUNDS   3

static const struct {
    const char *format;
    pare_act_round act;
} choice[] = {{"f32:2of4", PARE_ACT_NONE},
              {"f16:2of4", PARE_ACT_NONE},
              {"bf16:2of4", PARE_ACT_NONE},
              {"int8:2of4", PARE_ACT_INT8_TOKEN},
              {"int8:2of4", PARE_ACT_INT8_BLOCK},
              {"int8:g128:2of4", PARE_ACT_INT8_BLOCK},
              {"int4:g128:2of4", PARE_ACT_INT8_BLOCK},
              {"f32:mask16.8", PARE_ACT_NONE},
              {"int8:mask16.8", PARE_ACT_INT8_TOKEN},
              {"f32:mask4.8", PARE_ACT_NONE},
              {"int8:mask4.8", PARE_ACT_INT8_TOKEN},
              {"f16:mask1.8", PARE_ACT_NONE},
              {"f32:mask1.8", PARE_ACT_NONE},
              {"int8:mask1.8", PARE_ACT_INT8_TOKEN},
              {"int8:mask1.4", PARE_ACT_INT8_TOKEN}};

static const struct {
    uint32_t mask;
    const char *name;
} levels[] = {{PARE_CPU_AVX2, "AVX2"}, {PARE_CPU_AVX2 | PARE_CPU_AVX512, "AVX-512"}, {UINT32_MAX, "best"}};

/* One row: random, pruned evenly to what the format holds, in both formats. */
static void make_row(const pare_qtype *qt, pare_rng *rng, uint8_t *sparse, uint8_t *dense) {
    const pare_sparse_format *f = qt->sparse;
    const pare_qtype *d = f->dense;
    float w[K];
    uint8_t places[K / 8], values[K * 4], scales[K];
    uint32_t runs = K / f->run, left = f->keep ? runs * f->keep / 16 : 0;
    for (size_t c = 0; c < K; c++) w[c] = f->keep ? 0 : pare_rng_normal(rng) + 2;
    for (size_t c = 0; !f->keep && c < K; c += 4) { /* two of four go */
        uint32_t a = pare_rng_below(rng, 4), b = (a + 1 + pare_rng_below(rng, 3)) % 4;
        w[c + a] = w[c + b] = 0;
    }
    for (uint32_t r = 0; f->keep && r < runs; r++) { /* `left` of the runs stay */
        bool stays = pare_rng_below(rng, runs - r) < left;
        for (size_t i = 0; stays && i < f->run; i++) w[r * f->run + i] = pare_rng_normal(rng) + 2;
        left -= stays;
    }
    if (d == &pare_qtype_f32) memcpy(dense, w, sizeof w);
    else if (d == &pare_qtype_f16) pare_f32_to_f16_n(w, (uint16_t *)(void *)dense, K);
    else if (d == &pare_qtype_bf16) pare_f32_to_bf16_n(w, (uint16_t *)(void *)dense, K);
    else d->grid->encode(d, w, K, NULL, 1, K, dense, 0);
    pare_sparse_places(d, f->keep ? f->run : 0, dense, K, places);
    size_t bytes = pare_sparse_values(d, f->keep ? f->run : 0, dense, K, places, values);
    pare_sparse_scales(d, dense, K, scales);
    pare_sparse_join(qt, K, scales, places, values, bytes, sparse);
}

static void one_shape(pare_bench_run *r, pare_bench_product *sparse, pare_bench_product *dense, int64_t m, int64_t n) {
    double floor = (double)pare_row_bytes(dense->w.type, K) / (double)pare_row_bytes(sparse->w.type, K);
    for (size_t l = 0; l < sizeof levels / sizeof *levels && !pare_is_interrupted(); l++) {
        double best[2] = {1e30, 1e30};
        pare_bench_product *both[2] = {sparse, dense};
        pare_cpu_limit(levels[l].mask);
        for (int i = 0; i < 2 * ROUNDS; i++) {
            pare_bench_product *p = both[i % 2];
            p->m = m, p->w.shape[0] = n;
            double s = pare_bench_time(r, pare_bench_run_product, p);
            best[i % 2] = s < best[i % 2] ? s : best[i % 2];
        }
        char shape[64], variant[48];
        snprintf(shape, sizeof shape, "%lld x %lld x %d", (long long)m, (long long)n, K);
        snprintf(variant, sizeof variant, "%s, act %s", levels[l].name, pare_act_name(sparse->act));
        for (int i = 1; i >= 0; i--) {
            double bytes = (double)n * (double)pare_row_bytes(both[i]->w.type, K), gain = best[1] / best[i];
            pare_bench_row row = {.bench = "sparse",
                                  .name = both[i]->w.type->name,
                                  .variant = variant,
                                  .shape = shape,
                                  .threads = pare_threads(),
                                  .seconds = best[i],
                                  .value =
                                      m == 1 ? bytes / best[i] / 1e9 : 2.0 * (double)m * (double)n * K / best[i] / 1e9,
                                  .unit = m == 1 ? "GB/s" : "GOP/s",
                                  .limit = i        ? ""
                                           : m == 1 ? "what the bytes allow"
                                                    : "dense",
                                  .of_limit = i        ? 0
                                              : m == 1 ? gain / floor
                                                       : gain,
                                  .of_ref = i ? 0 : gain};
            pare_bench_emit(r, &row);
        }
    }
    pare_cpu_limit(UINT32_MAX);
}

static pare_status one_format(pare_bench_run *r, const pare_qtype *qt, pare_act_round act, pare_diag *d) {
    const pare_qtype *dense = qt->sparse->dense;
    size_t db = pare_row_bytes(dense, K), sb = pare_row_bytes(qt, K), n = r->opts.memory_bytes / db / SEED * SEED;
    int64_t m = M_PROMPT, shape[2] = {(int64_t)n, K}, most = m * N_PROMPT > (int64_t)n ? m * N_PROMPT : (int64_t)n;
    pare_bench_product p[2] = {{.w = pare_tensor_make(qt, 2, shape, NULL), .act = act},
                               {.w = pare_tensor_make(dense, 2, shape, NULL), .act = act}};
    uint8_t *w[2] = {pare_malloc_aligned(n * sb + 64), pare_malloc_aligned(n * db + 64)};
    float *x = pare_malloc_aligned((size_t)(m * K) * sizeof *x), *y = pare_malloc_aligned((size_t)most * sizeof *y);
    size_t work = pare_matmul_stored_workspace(&p[0].w, m, act), other = pare_matmul_stored_workspace(&p[1].w, m, act);
    void *workspace = pare_malloc_aligned(work > other ? work : other);
    pare_status s = PARE_OK;
    if (!w[0] || !w[1] || !x || !y || !workspace || n < N_PROMPT)
        s = pare_fail(d, PARE_ERR_NOMEM, NULL, qt->name, "the product needs more memory; give --memory 16M at least");
    else {
        pare_rng rng;
        pare_rng_seed(&rng, 7);
        for (size_t i = 0; i < SEED; i++) make_row(qt, &rng, w[0] + i * sb, w[1] + i * db);
        for (size_t i = SEED; i < n; i += SEED) {
            memcpy(w[0] + i * sb, w[0], SEED * sb);
            memcpy(w[1] + i * db, w[1], SEED * db);
        }
        for (int64_t i = 0; i < m * K; i++) x[i] = pare_rng_normal(&rng);
        for (int i = 0; i < 2; i++) {
            p[i].w.data = w[i], p[i].w.transposed = true;
            p[i].x = x, p[i].y = y, p[i].workspace = workspace;
        }
        one_shape(r, &p[0], &p[1], 1, (int64_t)n);
        one_shape(r, &p[0], &p[1], m, N_PROMPT);
    }
    void *all[] = {w[0], w[1], x, y, workspace};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) pare_free(all[i]);
    return s;
}

pare_status pare_bench_sparse(pare_bench_run *r, pare_diag *d) {
    const pare_qtype *only = r->opts.only ? pare_qtype_by_name(r->opts.only) : NULL;
    if (r->opts.only && (!only || !only->sparse || !pare_qtype_fits(only, K)))
        return pare_fail(d, PARE_ERR_USAGE, NULL, r->opts.only,
                         "no sparse storage format has this name (int8:2of4, f16:mask4.8, ...)");
    pare_status s = PARE_OK;
    for (size_t i = 0; i < sizeof choice / sizeof *choice && s == PARE_OK; i++) {
        const pare_qtype *qt = only ? only : pare_qtype_by_name(choice[i].format);
        pare_act_round act = !only ? choice[i].act : only->int_format ? PARE_ACT_INT8_BLOCK : PARE_ACT_NONE;
        s = one_format(r, qt, act, d);
        if (only) break;
        if (s == PARE_OK && pare_is_interrupted()) s = pare_interrupted(d);
    }
    return s;
}
