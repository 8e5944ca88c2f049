/* SPDX-License-Identifier: Apache-2.0
 *
 * Products with stored weights: every storage format, every rounding of activations, every kernel of cuda/matmul.def,
 * sizes around the tiles. Expectations are sums in double of what cpu/matmul.h and cuda/matmul.cuh say is multiplied;
 * where scales are 1 the products are integers and must be exactly right. */
#include "tests/tools/parity.h"

#include "cpu/matmul_kernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef enum numbers { NORMAL, OUTLIERS, ZEROS, EQUAL, LARGE, TINY, NAN_ROW, INTEGER, N_NUMBERS } numbers;
static const char *const numbers_text[] = {"normal", "outliers", "zeros", "equal", "large", "tiny", "NaN", "integers"};

typedef struct problem {
    const pare_qtype *qt;
    int64_t m, n, k;
    pare_act_round act;
    pc_fill fill;
    numbers x;
    const char *kernel;
    bool gemm;
} problem;

/* ---- activations ---- */

static void fill_x(pc_run *r, const problem *q, float *x) {
    pare_act_rule rule = pare_act_rule_for(q->qt, q->act);
    /* f16 scales and f16 numbers end at 65504 */
    bool narrow = rule == PARE_RULE_F16 || rule == PARE_RULE_Q8_0 || rule == PARE_RULE_Q8_1;
    float size = q->x == LARGE ? (narrow ? 1e3f : 1e30f) : q->x == TINY ? 1e-25f : q->x == ZEROS ? 0.0f : 1.0f;
    for (int64_t i = 0; i < q->m * q->k; i++) {
        int64_t col = i % q->k;
        if (q->x == INTEGER) {
            x[i] = col % 32 == 0 ? (pare_rng_below(&r->rng, 2) ? 127.0f : -127.0f)
                                 : (float)((int)pare_rng_below(&r->rng, 5) - 2);
            continue;
        }
        x[i] = q->x == EQUAL ? 0.75f : size * pare_rng_normal(&r->rng);
        if (q->x == OUTLIERS && pare_rng_below(&r->rng, 50) == 0) x[i] *= 1000.0f;
    }
    if (q->x == NAN_ROW) x[q->m / 2 * q->k + (int64_t)pare_rng_below(&r->rng, (uint64_t)q->k)] = NAN;
    if (q->x == NORMAL && q->m > 2) memset(x + q->k, 0, (size_t)q->k * sizeof *x); /* a row of zeros among others */
}

/* A row as it meets the weights: r(x); for Q8_1 also what a minimum multiplies per column. */
typedef struct acts {
    double *x, *of_minimum;
} acts;

static void round_acts(pc_run *r, const problem *q, const float *x, acts *a) {
    pare_act_rule rule = pare_act_rule_for(q->qt, q->act);
    size_t k = (size_t)q->k, block = pare_act_block(rule, k);
    float *f = pc_alloc(r, k * sizeof *f), *scale = pc_alloc(r, (k / 32 + 2) * sizeof *scale);
    int8_t *codes = pc_alloc(r, k);
    a->x = pc_alloc(r, (size_t)q->m * k * sizeof(double));
    a->of_minimum = pc_alloc(r, (size_t)q->m * k * sizeof(double));
    for (int64_t i = 0; i < q->m; i++) {
        double *to = a->x + i * q->k, *min = a->of_minimum + i * q->k;
        const float *from = x + i * q->k;
        if (!block) {
            pare_act_round_row(rule, from, k, f);
            for (size_t j = 0; j < k; j++) to[j] = min[j] = (double)f[j];
            continue;
        }
        pare_act_quant_ref(rule, from, k, codes, scale);
        for (size_t j = 0; j < k; j++) to[j] = min[j] = (double)codes[j] * (double)scale[j / block];
        if (rule != PARE_RULE_Q8_1) continue;
        for (size_t b = 0; b < k; b += 32) { /* s = f16(amax / 127 * sum of codes), all of it in the first column */
            float amax = 0;
            int sum = 0;
            for (size_t j = b; j < b + 32; j++) amax = fmaxf(amax, fabsf(from[j])), sum += codes[j], min[j] = 0;
            min[b] = (double)pare_f16_to_f32(pare_f32_to_f16(amax / 127.0f * (float)sum));
            if (isnan((double)scale[b / 32])) min[b] = NAN;
        }
    }
}

/* ---- expectations ---- */

typedef struct limit {
    double relative;
    const char *text;
    bool rounds; /* the weight may be rounded otherwise than decoding has it */
} limit;

static limit limit_of(const problem *q) {
    switch (pare_act_rule_for(q->qt, q->act)) {
    case PARE_RULE_F16: return (limit){0x1p-10, "2^-10 sum |x w|", true};
    case PARE_RULE_BF16: return (limit){0x1p-7, "2^-7 sum |x w|", true};
    case PARE_RULE_NONE: return (limit){2e-6, "2e-6 sum |x w|", false};
    default: return (limit){2e-6, "2e-6 sum |r(x) w|", false};
    }
}

typedef struct sums {
    double want, mag;
    double left;    /* |x| times what decoding rounds away of code * scale + minimum */
    double nothing; /* numbers of x so small that they may count as 0 */
} sums;

/* Over k, for one output; apart: code's share and minimum's are multiplied apart (int8 activations). */
static sums sum_of(const problem *q, const pc_parts *w, const double *x, const double *of_minimum, bool apart) {
    sums s = {0, 0, 0, 0};
    for (int64_t j = 0; j < q->k; j++) {
        s.want += apart ? w->code[j] * x[j] + w->minimum[j] * of_minimum[j] : w->w[j] * x[j];
        s.mag += w->code ? w->code_share[j] * fabs(x[j]) + w->minimum_share[j] * fmax(fabs(x[j]), fabs(of_minimum[j]))
                         : fabs(w->w[j] * x[j]);
        s.nothing += 0x1p-96 * (w->code ? w->code_share[j] + w->minimum_share[j] : fabs(w->w[j]));
        if (w->code) s.left += fabs(x[j]) * fabs(w->w[j] - w->code[j] - w->minimum[j]);
    }
    return s;
}

/* False when sums would leave the integers that f32 holds. */
static bool expect(pc_run *r, pc_case *c, const problem *q, const float *x) {
    acts a;
    limit lim = limit_of(q);
    pc_parts w = pc_parts_new(r, &c->in[1]);
    bool apart = w.code && pare_act_block(pare_act_rule_for(q->qt, q->act), 1);
    const pare_attr_gemm *g = &c->attr.gemm;
    const float *bias = q->gemm ? c->in[2].data : NULL;
    bool exact = q->x == INTEGER && !bias;
    round_acts(r, q, x, &a);
    pc_expect(r, c, 0, exact ? "exactly (integers)" : lim.text);
    for (int64_t n = 0; n < q->n; n++) {
        pc_parts_row(&c->in[1], n, &w);
        for (int64_t i = 0; i < q->m; i++) {
            double *want = &c->want[0][i * q->n + n], *bound = &c->bound[0][i * q->n + n];
            sums s = sum_of(q, &w, a.x + i * q->k, a.of_minimum + i * q->k, apart);
            *want = s.want;
            if (exact && s.mag >= 0x1p24) return false;
            *bound = exact ? 0 : lim.relative * s.mag + (lim.rounds ? s.left : 0) + s.nothing + 1e-42;
            if (!bias) continue;
            double product = (double)g->alpha * *want, add = (double)g->beta * (double)bias[n];
            *want = product + add;
            *bound = fabs((double)g->alpha) * *bound + 0x1p-23 * (fabs(product) + 2 * fabs(add));
        }
    }
    return true;
}

/* The call without its numbers. */
static float *set_up(pc_run *r, pc_case *c, const problem *q) {
    pc_begin(r, c, q->gemm ? PARE_OP_Gemm : PARE_OP_MatMul, "%s %s%s", q->qt->name, pare_act_name(q->act),
             q->x == INTEGER ? " exact" : "");
    pc_params(c, "M=%lld N=%lld K=%lld x=%s weights=%d", (long long)q->m, (long long)q->n, (long long)q->k,
              numbers_text[q->x], (int)q->fill);
    c->kernel = q->kernel, c->act = q->act;
    float *x = pc_in(r, c, PC_INPUT, &pare_qtype_f32, PC_SHAPE(q->m, q->k));
    pc_in(r, c, PC_WEIGHT, q->qt, PC_SHAPE(q->n, q->k));
    c->in[1].transposed = true;
    pc_out(r, c, &pare_qtype_f32, PC_SHAPE(q->m, q->n));
    return x;
}

static void one(pc_run *r, const problem *q) {
    pc_case c;
    float *x = set_up(r, &c, q);
    if (q->gemm) {
        float *bias = pc_in(r, &c, PC_INPUT, &pare_qtype_f32, PC_SHAPE(q->n));
        for (int64_t i = 0; i < q->n; i++) bias[i] = pare_rng_normal(&r->rng);
        if (pare_rng_below(&r->rng, 2)) c.attr.gemm.alpha = 0.5f, c.attr.gemm.beta = -2.0f;
    }
    bool filled = pc_fill_rows(&r->rng, q->qt, c.in[1].data, q->n, q->k, q->fill);
    if (!filled) filled = pc_fill_rows(&r->rng, q->qt, c.in[1].data, q->n, q->k, PC_RANDOM); /* no grid */
    fill_x(r, q, x);
    if (!filled) pc_failed(r, &c, "this test cannot fill rows of the format");
    else if (!expect(r, &c, q, x)) pc_failed(r, &c, "this test's numbers are too large to be exact");
    pc_do(r, &c);
}

/* ---- sizes ---- */

static const int64_t sizes_m[] = {1, 2, 3, 5, 8, 9, 16, 17, 33, 64, 65, 130};
static const int64_t sizes_n[] = {1, 7, 16, 31, 64, 65, 129, 136, 40};
static const int64_t sizes_k[] = {32, 256, 96, 512, 288, 64, 544, 224};
static const int64_t sizes_k256[] = {256, 512, 768};
#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))
#define PAIRS    20 /* of format and rounding, per kernel, in the quick set */

static int64_t a_k(pc_run *r, const pare_qtype *qt) {
    if (qt->block_elems == 256) return pc_pick(r, sizes_k256, COUNT(sizes_k256));
    if (qt->sparse && !qt->int_format) return 4 * (1 + (int64_t)pare_rng_below(&r->rng, 100));
    if (!qt->sparse && qt->block_elems <= 1 && pare_rng_below(&r->rng, 3) == 0)
        return 1 + (int64_t)pare_rng_below(&r->rng, 400);
    for (;;) {
        int64_t k = pc_pick(r, sizes_k, COUNT(sizes_k));
        if (pare_qtype_fits(qt, (size_t)k)) return k;
    }
}

static const char *const kernels[] = {
#define PARE_CUDA_MM(sym) #sym,
#include "cuda/matmul.def"
#undef PARE_CUDA_MM
};

/* Their names are their symbols without the prefix. */
static const char *kernel_name(size_t i) { return kernels[i] + strlen("pare_cuda_mm_"); }

static bool possible(pc_run *r, const problem *q) {
    pc_case c;
    set_up(r, &c, q);
    bool can = pc_supported(r, &c);
    pc_drop(r);
    return can;
}

/* The number of tokens: any for the backend's own choice (kernel NULL); else the first that the kernel takes, from a
 * random one on. False: it takes none. */
static bool choose_m(pc_run *r, problem *q) {
    size_t first = pare_rng_below(&r->rng, COUNT(sizes_m));
    for (size_t k = 0; k < COUNT(sizes_m); k++) {
        q->m = sizes_m[(first + k) % COUNT(sizes_m)];
        if (!q->kernel || possible(r, q)) return true;
    }
    return false;
}

static void smaller(const pc_run *r, problem *q) {
    if (!r->full && q->m > 17 && q->n > 70) q->n = 31;
}

/* `count` random sizes, the adversarial numbers among them. */
static void walk(pc_run *r, const pare_qtype *qt, pare_act_round act, const char *kernel, int count) {
    for (int i = 0; i < count; i++) {
        problem q = {.qt = qt, .act = act, .kernel = kernel};
        q.n = pc_pick(r, sizes_n, COUNT(sizes_n)), q.k = a_k(r, qt);
        q.x = (numbers)(pare_rng_below(&r->rng, 2) ? (int)pare_rng_below(&r->rng, INTEGER) : NORMAL);
        q.fill = (pc_fill)(pare_rng_below(&r->rng, PC_INTEGERS));
        /* hundreds of equal terms of one sign are rounded the same way each time: no sum in f32 keeps the bound */
        if (q.x == EQUAL && q.fill == PC_EXTREME) q.fill = PC_RANDOM;
        if (q.x == NAN_ROW && qt->sparse) q.x = OUTLIERS; /* a NaN shows only where it meets a stored weight */
        if (!choose_m(r, &q)) continue;
        smaller(r, &q);
        one(r, &q);
    }
}

/* Codes of any size, scales of 1. */
static void exact(pc_run *r, const pare_qtype *qt, pare_act_round act, const char *kernel, int count) {
    bool integers = qt->kind == PARE_QK_BLOCK || qt->int_format;
    if (!integers || strcmp(qt->name, "q8_k") == 0) return;
    for (int i = 0; i < count; i++) {
        problem q = {.qt = qt, .act = act, .kernel = kernel, .x = INTEGER, .fill = PC_INTEGERS};
        q.n = pc_pick(r, sizes_n, COUNT(sizes_n));
        q.k = qt->block_elems == 256 ? 256 : 32 * (1 + (int64_t)pare_rng_below(&r->rng, 9));
        while (!pare_qtype_fits(qt, (size_t)q.k)) q.k += 32;
        if (!choose_m(r, &q)) continue;
        smaller(r, &q);
        one(r, &q);
    }
}

static bool is_int8(pare_act_round act) { return act == PARE_ACT_INT8_TOKEN || act == PARE_ACT_INT8_BLOCK; }

/* More blocks than one in every direction, deeper than any pipeline. */
static void large(pc_run *r, const pare_qtype *qt, pare_act_round act, const char *kernel) {
    problem q = {.qt = qt, .act = act, .kernel = kernel, .m = r->full ? 264 : 136, .n = r->full ? 265 : 200};
    q.k = r->full ? 1536 : 512;
    if (possible(r, &q)) one(r, &q);
}

/* Few tiles and many columns: kernels that split k among blocks do it here. */
static void deep(pc_run *r, const pare_qtype *qt, pare_act_round act, const char *kernel) {
    problem q = {.qt = qt, .act = act, .kernel = kernel, .n = 40, .k = r->full ? 4352 : 1280};
    if (choose_m(r, &q)) one(r, &q);
}

typedef struct pair {
    const pare_qtype *qt;
    pare_act_round act;
} pair;

static bool asked_for(const pc_run *r, const pair *p) {
    char label[80];
    snprintf(label, sizeof label, "%s %s exact", p->qt->name, pare_act_name(p->act));
    return !r->only_label || strstr(label, r->only_label);
}

/* One kernel: all pairs of format and rounding that it takes; of many the quick set chooses some. */
static void through(pc_run *r, const char *kernel) {
    pair *pairs = calloc(pare_qtype_count() * PARE_ACT_COUNT, sizeof *pairs);
    size_t n = 0;
    for (size_t f = 0; pairs && f < pare_qtype_count(); f++)
        for (int act = 0; pare_qtype_at(f)->decode && act < PARE_ACT_COUNT; act++) {
            problem q = {.qt = pare_qtype_at(f), .act = (pare_act_round)act, .kernel = kernel, .n = 16, .k = 256};
            pair p = {q.qt, q.act};
            if (asked_for(r, &p) && choose_m(r, &q)) pairs[n++] = p;
        }
    bool elsewhere = strncmp(kernel, "sparse", 6) == 0; /* its formats are not in the registry: sparse() below */
    elsewhere |= strcmp(kernel, "blas") == 0;           /* wider ones: walkers() */
    if (!n && !r->list && !elsewhere) printf("matrix kernel %s takes no product on this device\n", kernel);
    size_t count = r->full || n < PAIRS ? n : PAIRS;
    for (size_t i = 0; i < count; i++) {
        size_t k = i + pare_rng_below(&r->rng, n - i); /* any order: all of them, or as many */
        pair swap = pairs[i];
        const pair *p = &pairs[i];
        pairs[i] = pairs[k], pairs[k] = swap;
        walk(r, p->qt, p->act, kernel, r->full ? COUNT(sizes_m) : 1);
        if (is_int8(p->act)) exact(r, p->qt, p->act, kernel, r->full ? COUNT(sizes_m) : 1);
        if (r->full ? i % 7 == 0 : i == count / 2) large(r, p->qt, p->act, kernel);
        if (r->full ? i % 7 == 1 : i < 2) deep(r, p->qt, p->act, kernel);
    }
    free(pairs);
}

/* Above the tiles of kernels whose blocks walk from tile to tile: row and token tiles, more tiles than multiprocessors,
 * k split among a block's warps or among blocks. */
static void walkers(pc_run *r) {
    static const struct {
        const char *kernel, *type;
        pare_act_round act;
        int64_t m, n, k;
    } cases[] = {{"gemv", "q8_0", PARE_ACT_NONE, 2, 272, 2048},
                 {"gemv", "q4_k", PARE_ACT_F16, 2, 272, 2048},
                 {"gemv", "int4:g32", PARE_ACT_INT8_TOKEN, 2, 272, 2048},
                 {"w4a16_sm90", "q4_0", PARE_ACT_F16, 129, 257, 320},
                 {"w4a16_sm90", "q6_k", PARE_ACT_F16, 70, 40, 1024},
                 {"w4a16_sm90", "int4:g32:asym", PARE_ACT_F16, 64, 1100, 64},
                 {"w8a8_sm90", "int8", PARE_ACT_INT8_TOKEN, 257, 300, 100},
                 {"w8a8_sm90", "int8", PARE_ACT_INT8_TOKEN, 65, 129, 1100},
                 {"blas", "bf16", PARE_ACT_F16, 70, 96,
                  520}, /* cuBLAS takes no narrow products, and is not everywhere */
                 {"blas", "f16", PARE_ACT_F16, 2, 4104, 1024},
                 {"blas", "bf16", PARE_ACT_NONE, 40, 72, 1544},
                 {"blas", "f16", PARE_ACT_NONE, 257, 33, 640},
                 {"blas", "bf16", PARE_ACT_INT8_TOKEN, 5, 2056, 2048},
                 {"blas", "f16", PARE_ACT_INT8_BLOCK, 33, 40, 256}};
    for (int i = 0; i < COUNT(cases); i++) {
        problem q = {.act = cases[i].act, .kernel = cases[i].kernel, .m = cases[i].m, .n = cases[i].n, .k = cases[i].k};
        q.qt = pare_qtype_by_name(cases[i].type);
        if (r->only_kernel && strcmp(r->only_kernel, q.kernel) != 0) continue;
        if (possible(r, &q)) one(r, &q);
    }
}

/* Two of four, which the registry does not list: the kernels made for it, and the backend's own choice. */
static void sparse(pc_run *r) {
    static const char *const types[] = {"f16:2of4",      "bf16:2of4",          "int8:2of4",         "int8:f32:2of4",
                                        "int8:g32:2of4", "int8:g64:bf16:2of4", "int8:g128:f32:2of4"};
    static const char *const with[] = {NULL, "sparse", "sparse_rows"};
    for (size_t t = 0; t < sizeof types / sizeof *types; t++)
        for (int k = 0; k < 3; k++)
            for (int a = 0; a < PARE_ACT_COUNT; a++) {
                pair p = {pare_qtype_by_name(types[t]), (pare_act_round)a};
                problem q = {.qt = p.qt, .act = p.act, .kernel = with[k], .n = 16, .k = 256};
                if (r->only_kernel && (!with[k] || strcmp(r->only_kernel, with[k]) != 0)) continue;
                if (!asked_for(r, &p) || !choose_m(r, &q) || !possible(r, &q)) continue;
                walk(r, p.qt, p.act, with[k], r->full ? COUNT(sizes_m) : 2);
                if (is_int8(p.act)) exact(r, p.qt, p.act, with[k], r->full ? COUNT(sizes_m) : 1);
                if (k && a == 0) deep(r, p.qt, p.act, with[k]);
            }
}

void pc_cases_products(pc_run *r) {
    int per = r->full ? 2 * COUNT(sizes_m) : 1;
    bool matmul = pc_wants(r, PARE_OP_MatMul);
    for (size_t f = 0; (matmul || pc_wants(r, PARE_OP_Gemm)) && !r->only_kernel && f < pare_qtype_count(); f++) {
        const pare_qtype *qt = pare_qtype_at(f);
        for (int i = 0; qt->decode && i < PARE_ACT_COUNT; i++) {
            pare_act_round act = (pare_act_round)i;
            if (matmul) walk(r, qt, act, NULL, per);
            if (matmul && is_int8(act)) exact(r, qt, act, NULL, per);
            if (!pc_wants(r, PARE_OP_Gemm) || (!r->full && f % 5 != (size_t)i)) continue;
            problem q = {.qt = qt, .act = act, .m = pc_pick(r, sizes_m, 9), .n = 33, .gemm = true};
            q.k = a_k(r, qt);
            one(r, &q);
        }
    }
    for (size_t k = 0; matmul && k < sizeof kernels / sizeof *kernels; k++)
        if (!r->only_kernel || strcmp(r->only_kernel, kernel_name(k)) == 0) through(r, kernel_name(k));
    if (matmul) walkers(r);
    if (matmul) sparse(r);
}
