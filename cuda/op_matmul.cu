/* SPDX-License-Identifier: Apache-2.0
 *
 * MatMul (numpy's rules, batched and broadcast) and Gemm. A right operand stored as N rows of K columns goes to the
 * first kernel of cuda/matmul.def that can do it, f32 matrices to cuda/dense.cuh. */
#include "core/sparse.h"
#include "cuda/dense.cuh"
#include "cuda/dev.cuh"
#include "cuda/matmul.cuh"

#include <stdlib.h>
#include <string.h>

#define THREADS 256

pare_cuda_rule pare_cuda_rule_for(const pare_qtype *weight, pare_act_round act) {
    if (weight->sparse) weight = weight->sparse->dense;
    pare_cuda_type t = pare_cuda_type_of(weight);
    pare_cuda_rule own = t == PARE_CT_F16 ? PARE_CR_F16 : t == PARE_CT_BF16 ? PARE_CR_BF16 : PARE_CR_NONE;
    if (act == PARE_ACT_NONE) return PARE_CR_NONE;
    if (act == PARE_ACT_F16) return t == PARE_CT_F32 || t == PARE_CT_BF16 ? own : PARE_CR_F16;
    if (weight->kind == PARE_QK_FLOAT) return act == PARE_ACT_INT8_TOKEN ? PARE_CR_NONE : own;
    if (act == PARE_ACT_INT8_TOKEN) return PARE_CR_TOKEN;
    if (weight->kind == PARE_QK_BLOCK && weight->block_elems == 256) return PARE_CR_Q8_K;
    pare_cuda_format f = pare_cuda_format_of(weight);
    return f == PARE_CF_Q4_1 || f == PARE_CF_Q5_1 ? PARE_CR_Q8_1 : PARE_CR_Q8_0;
}

/* ---- stored weights ---- */

static const pare_cuda_mm_kernel *const kernels[] = {
#define PARE_CUDA_MM(sym) &sym,
#include "cuda/matmul.def"
#undef PARE_CUDA_MM
};

const pare_cuda_mm_kernel *pare_cuda_mm_choose(const pare_cuda *dev, const pare_cuda_mm *p) {
    const char *name = getenv("PARE_CUDA_MM");
    size_t n = name ? strcspn(name, "!") : 0;
    const pare_cuda_mm_kernel *best = NULL;
    for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++) {
        bool named = name && strlen(kernels[i]->name) == n && strncmp(name, kernels[i]->name, n) == 0;
        bool other = best || (name && name[n]);
        if ((!other || named) && kernels[i]->can(dev, p)) best = kernels[i];
    }
    return best;
}

static pare_cuda_mm product_of(const pare_op_call *c, const pare_tensor *b, int64_t m) {
    pare_cuda_mm p = {};
    p.format = pare_cuda_format_of(b->type), p.plain = pare_cuda_type_of(b->type);
    if (p.format == PARE_CF_2OF4) p.plain = pare_cuda_type_of(b->type->sparse->dense); /* OTHER: 8 bits */
    if (p.format != PARE_CF_NONE) p.w = pare_cuda_weight_view(b);
    p.plain_w = b->data;
    p.m = m, p.n = pare_cuda_rows(b), p.k = pare_cuda_cols(b);
    p.x = (const float *)c->in[0]->data, p.y = (float *)c->out[0]->data;
    p.rule = pare_cuda_rule_for(b->type, c->act);
    p.workspace = c->workspace;
    return p;
}

/* Stored as rows of the contracted dimension, effectively [N, K]. */
static bool is_rows(const pare_tensor *b, bool trans_b) { return b->transposed != trans_b && b->ndim == 2; }
/* Two f32 matrices whose product is in bf16, however they lie. */
static bool in_bf16(const pare_op_call *c) { return c->bf16 && pare_cuda_type_of(c->in[1]->type) == PARE_CT_F32; }

static bool can_multiply(const pare_cuda *dev, const pare_op_call *c, bool stored, int64_t m) {
    if (!pare_cuda_is_f32(c->in[0]) || !pare_cuda_is_f32(c->out[0])) return false;
    if (!stored) return pare_cuda_is_f32(c->in[1]) && (!c->in[1]->transposed || c->in[1]->ndim == 2);
    pare_cuda_mm p = product_of(c, c->in[1], m > 0 ? m : 1);
    return pare_cuda_mm_choose(dev, &p) != NULL;
}

static size_t stored_workspace(const pare_cuda *dev, const pare_op_call *c, int64_t m) {
    pare_cuda_mm p = product_of(c, c->in[1], m);
    const pare_cuda_mm_kernel *kernel = m > 0 ? pare_cuda_mm_choose(dev, &p) : NULL;
    return kernel ? kernel->workspace(dev, &p) : 0;
}

static pare_status multiply_stored(pare_cuda *dev, const pare_op_call *c, int64_t m, pare_diag *d) {
    pare_cuda_mm p = product_of(c, c->in[1], m);
    if (!p.m || !p.n) return PARE_OK;
    if (!p.k) return rt_zero(&dev->rt, p.y, (size_t)(p.m * p.n) * sizeof(float)) ? PARE_OK : pare_cuda_check(dev, c, d);
    const pare_cuda_mm_kernel *kernel = pare_cuda_mm_choose(dev, &p);
    if (!kernel) return pare_cuda_fail(c, d, "no kernel takes this product");
    kernel->run(dev, &p);
    return pare_cuda_check(dev, c, d);
}

/* ---- MatMul ---- */

/* Shapes as matrices: a 1-D left operand is a row, a 1-D right one a column, and that dimension is dropped from y.
 * When b is one matrix, the batch of a is only more rows. */
static bool plan_batch(pare_cuda_gemm *g, const pare_tensor *a, const pare_tensor *b, const pare_tensor *y) {
    int na = a->ndim < 2 ? 0 : a->ndim - 2, nb = b->ndim < 2 ? 0 : b->ndim - 2;
    int64_t count = 1;
    if (a->ndim < 1 || b->ndim < 1) return false;
    *g = pare_cuda_gemm{};
    g->alpha = 1.0f;
    g->n_batch = na > nb ? na : nb;
    g->m = a->ndim < 2 ? 1 : a->shape[a->ndim - 2], g->k = pare_cuda_cols(a);
    g->n = b->ndim < 2 ? 1 : pare_cuda_cols(b);
    if (g->k != (b->ndim < 2 ? b->shape[0] : b->shape[b->ndim - 2])) return false;
    int64_t sa = g->m * g->k, sb = g->k * g->n;
    for (int i = g->n_batch - 1; i >= 0; i--) {
        int ia = i - (g->n_batch - na), ib = i - (g->n_batch - nb);
        int64_t da = ia >= 0 ? a->shape[ia] : 1, db = ib >= 0 ? b->shape[ib] : 1;
        if (da != db && da != 1 && db != 1) return false;
        g->batch[i] = da == 1 ? db : da;
        g->stride_a[i] = da == 1 ? 0 : sa, g->stride_b[i] = db == 1 ? 0 : sb;
        sa *= da, sb *= db, count *= g->batch[i];
    }
    if (nb == 0) g->m *= count, count = 1, g->n_batch = 0;
    return pare_cuda_elems(y) == count * g->m * g->n;
}

static bool is_stored(const pare_op_call *c) { return is_rows(c->in[1], false) && !in_bf16(c); }

/* What is no stored weight, as a product; false: the shapes do not fit. */
static bool plan_product(pare_cuda_gemm *g, const pare_op_call *c) {
    const pare_tensor *a = c->in[0], *b = c->in[1], *y = c->out[0];
    bool rows = is_rows(b, false), fits = rows || plan_batch(g, a, b, y);
    if (rows) {
        *g = pare_cuda_gemm{};
        g->m = pare_cuda_rows(a), g->n = b->shape[0], g->k = b->shape[1];
        g->trans_b = true, g->alpha = 1.0f;
        fits = pare_cuda_cols(a) == g->k && pare_cuda_elems(y) == g->m * g->n;
    }
    g->bf16 = in_bf16(c);
    g->a = (const float *)a->data, g->b = (const float *)b->data, g->c = (float *)y->data;
    return fits;
}

bool pare_cuda_matmul_supports(const pare_cuda *dev, const pare_op_call *c) {
    return can_multiply(dev, c, is_stored(c), pare_cuda_rows(c->in[0]));
}
size_t pare_cuda_matmul_workspace(const pare_cuda *dev, const pare_op_call *c) {
    pare_cuda_gemm g;
    if (is_stored(c)) return stored_workspace(dev, c, pare_cuda_rows(c->in[0]));
    return plan_product(&g, c) ? pare_cuda_gemm_workspace(dev, &g) : 0;
}

pare_status pare_cuda_matmul_run(pare_cuda *dev, const pare_op_call *c, pare_diag *d) {
    const pare_tensor *a = c->in[0], *b = c->in[1], *y = c->out[0];
    pare_cuda_gemm g;
    if (is_stored(c)) {
        int64_t m = pare_cuda_rows(a);
        if (pare_cuda_cols(a) != b->shape[1] || pare_cuda_elems(y) != m * b->shape[0])
            return pare_cuda_fail(c, d, "rows of %lld meet a weight of %lld columns", (long long)pare_cuda_cols(a),
                                  (long long)b->shape[1]);
        return multiply_stored(dev, c, m, d);
    }
    if (!plan_product(&g, c)) return pare_cuda_fail(c, d, "the operands' shapes do not multiply to the output's");
    if (!pare_cuda_elems(y)) return PARE_OK;
    pare_cuda_gemm_run(dev, &g, c->workspace);
    return pare_cuda_check(dev, c, d);
}

/* ---- Gemm: y = alpha * a' b' + beta * c ---- */

static const pare_attr_gemm gemm_default = {1.0f, 1.0f, false, false};
static const pare_attr_gemm *gemm_attr(const pare_op_call *c) {
    return c->attr ? (const pare_attr_gemm *)c->attr : &gemm_default;
}
static bool gemm_stored(const pare_op_call *c) {
    return is_rows(c->in[1], gemm_attr(c)->trans_b) && !gemm_attr(c)->trans_a && !in_bf16(c);
}
static const pare_tensor *bias_of(const pare_op_call *c) { return c->n_in > 2 ? c->in[2] : NULL; }

bool pare_cuda_gemm_op_supports(const pare_cuda *dev, const pare_op_call *c) {
    if (c->in[0]->ndim != 2 || c->in[1]->ndim != 2) return false;
    if (!can_multiply(dev, c, gemm_stored(c), c->in[0]->shape[gemm_attr(c)->trans_a])) return false;
    if (!bias_of(c)) return true;
    pare_cuda_type t = pare_cuda_type_of(bias_of(c)->type);
    return t == PARE_CT_F32 || t == PARE_CT_F16 || t == PARE_CT_BF16;
}

static pare_cuda_gemm gemm_of(const pare_op_call *c) {
    const pare_attr_gemm *attr = gemm_attr(c);
    const pare_tensor *a = c->in[0], *b = c->in[1];
    pare_cuda_gemm g = {};
    g.trans_a = attr->trans_a, g.trans_b = b->transposed != attr->trans_b;
    g.m = a->shape[g.trans_a], g.k = a->shape[!g.trans_a], g.n = b->shape[!g.trans_b];
    g.a = (const float *)a->data, g.b = (const float *)b->data, g.c = (float *)c->out[0]->data;
    g.alpha = attr->alpha, g.bf16 = in_bf16(c);
    return g;
}

size_t pare_cuda_gemm_op_workspace(const pare_cuda *dev, const pare_op_call *c) {
    pare_cuda_gemm g = gemm_of(c);
    return gemm_stored(c) ? stored_workspace(dev, c, g.m) : pare_cuda_gemm_workspace(dev, &g);
}

/* y = alpha * y + beta * bias[i * row_step + j * column_step], product and sum rounded apart */
__global__ void __launch_bounds__(THREADS)
    bias_kernel(float *y, int64_t count, int64_t n, float alpha, float beta, const void *bias, int type,
                int64_t row_step, int64_t column_step) {
    int64_t at = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (at >= count) return;
    float v = alpha * y[at];
    if (bias) {
        int64_t from = at / n * row_step + at % n * column_step;
        v += beta * (type == PARE_CT_F32   ? ((const float *)bias)[from]
                     : type == PARE_CT_F16 ? pare_h2f(((const uint16_t *)bias)[from])
                                           : pare_bf2f(((const uint16_t *)bias)[from]));
    }
    y[at] = v;
}

static pare_status finish(pare_cuda *dev, const pare_op_call *c, int64_t m, int64_t n, float alpha, pare_diag *d) {
    const pare_tensor *bias = gemm_attr(c)->beta != 0.0f ? bias_of(c) : NULL;
    if (!bias && alpha == 1.0f) return pare_cuda_check(dev, c, d);
    int64_t rows = 1, columns = 1;
    if (bias) {
        if (bias->ndim > 2) return pare_cuda_fail(c, d, "the bias does not broadcast to the output");
        columns = bias->ndim ? bias->shape[bias->ndim - 1] : 1, rows = bias->ndim == 2 ? bias->shape[0] : 1;
        if ((rows != 1 && rows != m) || (columns != 1 && columns != n))
            return pare_cuda_fail(c, d, "the bias does not broadcast to the output");
    }
    pare_launch<bias_kernel>(dev->rt.stream, dim3((unsigned)pare_cuda_ceil(m * n, THREADS)), THREADS, 0,
                             (float *)c->out[0]->data, m * n, n, alpha, gemm_attr(c)->beta,
                             (const void *)(bias ? bias->data : NULL), bias ? (int)pare_cuda_type_of(bias->type) : 0,
                             (int64_t)(rows == 1 ? 0 : columns), (int64_t)(columns == 1 ? 0 : 1));
    return pare_cuda_check(dev, c, d);
}

pare_status pare_cuda_gemm_op_run(pare_cuda *dev, const pare_op_call *c, pare_diag *d) {
    const pare_tensor *b = c->in[1];
    pare_cuda_gemm g = gemm_of(c);
    int64_t kb = b->shape[g.trans_b];
    if (g.k != kb || pare_cuda_elems(c->out[0]) != g.m * g.n)
        return pare_cuda_fail(c, d, "a of depth %lld meets b of depth %lld", (long long)g.k, (long long)kb);
    if (!g.m || !g.n) return PARE_OK;
    if (gemm_stored(c)) {
        pare_status s = multiply_stored(dev, c, g.m, d);
        return s == PARE_OK ? finish(dev, c, g.m, g.n, g.alpha, d) : s;
    }
    pare_cuda_gemm_run(dev, &g, c->workspace);
    return finish(dev, c, g.m, g.n, 1.0f, d);
}
