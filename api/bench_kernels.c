/* SPDX-License-Identifier: Apache-2.0
 *
 * Matrix products with stored weights: every storage format of the choice, one token and 512, every instruction set
 * this machine has, against the ceilings measured first and against the scalar kernels. */
#include <stdio.h>
#include <string.h>

#include "api/bench.h"
#include "core/alloc.h"
#include "core/cpu_features.h"
#include "core/rng.h"
#include "core/status.h"
#include "cpu/matmul.h"

#define K         2048
#define N_PROMPT  4096
#define ROWS_SEED 61 /* stored rows that are random; the rest repeats them, so that filling is quick */

static const struct {
    const char *format;
    pare_act_round act;
} choice[] = {{"f32", PARE_ACT_NONE},
              {"f16", PARE_ACT_NONE},
              {"bf16", PARE_ACT_NONE},
              {"q8_0", PARE_ACT_INT8_BLOCK},
              {"q4_0", PARE_ACT_INT8_BLOCK},
              {"q4_k", PARE_ACT_INT8_BLOCK},
              {"q6_k", PARE_ACT_INT8_BLOCK},
              {"int8", PARE_ACT_INT8_TOKEN},
              {"int8", PARE_ACT_INT8_BLOCK},
              {"int8:g128", PARE_ACT_INT8_BLOCK},
              {"int4:g32", PARE_ACT_INT8_BLOCK},
              {"int4:g128", PARE_ACT_INT8_BLOCK},
              {"int4:g32:asym", PARE_ACT_INT8_BLOCK},
              {"q4_1", PARE_ACT_INT8_BLOCK},
              {"q5_0", PARE_ACT_INT8_BLOCK},
              {"q5_k", PARE_ACT_INT8_BLOCK},
              {"q3_k", PARE_ACT_INT8_BLOCK},
              {"q2_k", PARE_ACT_INT8_BLOCK},
              {"iq4_nl", PARE_ACT_INT8_BLOCK},
              {"iq4_xs", PARE_ACT_INT8_BLOCK},
              {"q4_0", PARE_ACT_NONE},
              {"q4_k", PARE_ACT_NONE},
              {"q8_0", PARE_ACT_NONE}};

static const struct {
    uint32_t mask;
    const char *name;
} levels[] = {{0, "scalar"}, {1, "AVX2"}, {3, "AVX-512"}, {39, "VNNI"}, {47, "BF16"}, {63, "AMX"}};

void pare_bench_run_product(void *ctx) {
    pare_bench_product *p = ctx;
    pare_matmul_stored(&p->w, p->x, p->y, p->m, p->act, p->workspace);
}

/* Any codes; the cleared bits keep f16, bf16 and f32 fields below 2 in magnitude. */
static void fill_weights(uint8_t *w, const pare_qtype *q, size_t row_bytes, size_t bytes, pare_rng *rng) {
    size_t seed = row_bytes * ROWS_SEED < bytes ? row_bytes * ROWS_SEED : bytes;
    for (size_t i = 0; i < seed; i++) w[i] = (uint8_t)(pare_rng_u64(rng) & 0xB7);
    /* Plain numbers of the size of weights, 2^-7 to 2^-5: subnormal ones take some processors a hundred times longer.
     */
    size_t number = q == &pare_qtype_f32 ? 4 : q == &pare_qtype_bf16 ? 2 : 0;
    for (size_t i = number; number && i <= seed; i += number) w[i - 1] = (uint8_t)((w[i - 1] & 0x80) | 0x3c);
    for (size_t i = seed; i < bytes; i += seed) memcpy(w + i, w, seed < bytes - i ? seed : bytes - i);
}

/* One line per level that has kernels of its own; slow levels get a smaller product of the same kind. */
static void one_shape(pare_bench_run *r, pare_bench_product *p, int64_t n, uint32_t have) {
    double ref = 0, last = 0;
    for (size_t l = 0; l < sizeof levels / sizeof *levels && !pare_is_interrupted(); l++) {
        if ((levels[l].mask & ~PARE_CPU_VBMI2 & ~have) != 0) break; /* VBMI2 goes with VNNI where there is any */
        pare_cpu_limit(levels[l].mask);
        p->w.shape[0] = l == 0 ? (n + 15) / 16 : n;
        p->m = l == 0 && p->m > 1 ? p->m / 8 : p->m;
        double s = pare_bench_time(r, pare_bench_run_product, p), rows = (double)p->w.shape[0];
        double bytes = rows * (double)pare_row_bytes(p->w.type, K), ops = 2.0 * rows * K * (double)p->m;
        bool memory = p->m == 1, floats = p->act == PARE_ACT_NONE;
        double limit = memory ? r->read_gbs[1] : floats ? r->fma_gfs[1] : r->dot8_gops[1];
        char shape[64], variant[48];
        snprintf(shape, sizeof shape, "%lld x %.0f x %d", (long long)p->m, rows, K);
        snprintf(variant, sizeof variant, "%s, act %s", levels[l].name, pare_act_name(p->act));
        pare_bench_row row = {.bench = "kernels",
                              .name = p->w.type->name,
                              .variant = variant,
                              .shape = shape,
                              .threads = pare_threads(),
                              .seconds = s,
                              .value = (memory ? bytes : ops) / s / 1e9,
                              .unit = memory   ? "GB/s"
                                      : floats ? "GF/s"
                                               : "GOP/s",
                              .limit = memory   ? "read"
                                       : floats ? "f32 peak"
                                                : "int8 peak"};
        row.of_limit = row.value / limit;
        if (l == 0) {
            ref = row.value;
            p->m = p->m > 1 ? p->m * 8 : 1;
        }
        row.of_ref = row.value / ref;
        if (l <= 3 || row.value > 1.1 * last) pare_bench_emit(r, &row); /* above VNNI only what is faster */
        last = row.value;
    }
    pare_cpu_limit(UINT32_MAX);
}

static pare_status one_format(pare_bench_run *r, const pare_qtype *qt, pare_act_round act, pare_diag *d) {
    size_t rb = pare_row_bytes(qt, K), n = r->opts.memory_bytes / rb / 64 * 64, bytes = n * rb;
    int64_t shape[2] = {(int64_t)n, K}, m = 512, n_out = (int64_t)n > m * N_PROMPT ? (int64_t)n : m * N_PROMPT;
    pare_bench_product p = {.w = pare_tensor_make(qt, 2, shape, NULL), .m = m, .act = act};
    p.w.transposed = true;
    uint8_t *w = pare_malloc_aligned(bytes + 64);
    float *x = pare_malloc_aligned((size_t)(m * K) * sizeof *x);
    p.y = pare_malloc_aligned((size_t)n_out * sizeof(float));
    p.workspace = pare_malloc_aligned(pare_matmul_stored_workspace(&p.w, m, act));
    pare_status s = PARE_OK;
    if (!w || !x || !p.y || !p.workspace || n < N_PROMPT)
        s = pare_fail(d, PARE_ERR_NOMEM, NULL, qt->name, "the product needs more memory; give --memory 16M at least");
    else {
        pare_rng rng;
        pare_rng_seed(&rng, 7);
        p.w.data = w + 6; /* as in mapped files, aligned to nothing */
        fill_weights(p.w.data, p.w.type, rb, bytes, &rng);
        for (int64_t i = 0; i < m * K; i++) x[i] = pare_rng_normal(&rng);
        p.x = x;
        uint32_t have = pare_cpu_mask();
        p.m = 1;
        one_shape(r, &p, (int64_t)n, have);
        p.m = m;
        one_shape(r, &p, N_PROMPT, have);
    }
    void *all[] = {w, x, p.y, p.workspace};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) pare_free(all[i]);
    return s;
}

pare_status pare_bench_kernels(pare_bench_run *r, pare_diag *d) {
    const pare_qtype *only = r->opts.only ? pare_qtype_by_name(r->opts.only) : NULL;
    if (r->opts.only && (!only || !only->decode || only->sparse || !pare_qtype_fits(only, K)))
        return pare_fail(d, PARE_ERR_USAGE, NULL, r->opts.only, "no storage format of weights has this name");
    PARE_TRY(pare_bench_roofline(r, d));
    pare_status s = PARE_OK;
    for (int act = PARE_ACT_NONE; only && act <= PARE_ACT_INT8_BLOCK && s == PARE_OK; act++)
        if (only->kind != PARE_QK_FLOAT || act == PARE_ACT_NONE) s = one_format(r, only, (pare_act_round)act, d);
    for (size_t i = 0; !only && i < sizeof choice / sizeof *choice && s == PARE_OK; i++) {
        const pare_qtype *qt = pare_qtype_by_name(choice[i].format);
        if (qt) s = one_format(r, qt, choice[i].act, d);
        if (s == PARE_OK && pare_is_interrupted()) s = pare_interrupted(d);
    }
    return s;
}
