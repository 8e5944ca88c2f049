/* SPDX-License-Identifier: Apache-2.0
 *
 * MatMul (numpy's rules, batched and broadcast) and Gemm. A right operand stored as N rows of K columns goes to the
 * stored-weight kernels (cpu/matmul.h) in whatever format it is; f32 matrices are multiplied by pare_sgemm. */
#include "cpu/matmul.h"
#include "cpu/ops_cpu.h"

#include <string.h>

/* f32 operands: as they are, or rounded to bf16. */
typedef void pare_sgemm_fn(bool, bool, int64_t, int64_t, int64_t, float, const float *, int64_t, const float *, int64_t,
                           float, float *, int64_t);
static bool in_bf16(const pare_op_call *c) { return c->bf16 && c->in[1]->type == &pare_qtype_f32; }
static pare_sgemm_fn *gemm_of(const pare_op_call *c) { return in_bf16(c) ? pare_sgemm_bf16 : pare_sgemm; }

/* A batch of matrix products: dimensions before the last two, broadcast; strides in matrices. */
typedef struct batch {
    int n;
    int64_t dim[PARE_MAX_DIMS], sa[PARE_MAX_DIMS], sb[PARE_MAX_DIMS], count;
    const float *a, *b;
    float *y;
    int64_t rows, cols, depth;
    pare_sgemm_fn *gemm;
} batch;

static void batch_item(void *ctx, size_t i) {
    const batch *j = ctx;
    size_t rest = i, at_a = 0, at_b = 0;
    for (int k = j->n - 1; k >= 0; k--) {
        size_t x = rest % (size_t)j->dim[k];
        rest /= (size_t)j->dim[k];
        at_a += x * (size_t)j->sa[k], at_b += x * (size_t)j->sb[k];
    }
    j->gemm(false, false, j->rows, j->cols, j->depth, 1.0f, j->a + at_a * (size_t)(j->rows * j->depth), j->depth,
            j->b + at_b * (size_t)(j->depth * j->cols), j->cols, 0.0f, j->y + i * (size_t)(j->rows * j->cols), j->cols);
}

/* Shapes as matrices: a 1-D left operand is a row, a 1-D right one a column, and that dimension is dropped from y.
 * When b is one matrix, the batch of a is only more rows. */
static bool plan_batch(batch *j, const pare_tensor *a, const pare_tensor *b, const pare_tensor *y) {
    int na = a->ndim < 2 ? 0 : a->ndim - 2, nb = b->ndim < 2 ? 0 : b->ndim - 2;
    if (a->ndim < 1 || b->ndim < 1) return false;
    *j = (batch){.n = na > nb ? na : nb, .count = 1};
    j->rows = a->ndim < 2 ? 1 : a->shape[a->ndim - 2], j->depth = pare_tensor_cols(a);
    j->cols = b->ndim < 2 ? 1 : pare_tensor_cols(b);
    if (j->depth != (b->ndim < 2 ? b->shape[0] : b->shape[b->ndim - 2])) return false;
    int64_t sa = 1, sb = 1;
    for (int i = j->n - 1; i >= 0; i--) {
        int ia = i - (j->n - na), ib = i - (j->n - nb);
        int64_t da = ia >= 0 ? a->shape[ia] : 1, db = ib >= 0 ? b->shape[ib] : 1;
        if (da != db && da != 1 && db != 1) return false;
        j->dim[i] = da == 1 ? db : da;
        j->sa[i] = da == 1 ? 0 : sa, j->sb[i] = db == 1 ? 0 : sb;
        sa *= da, sb *= db, j->count *= j->dim[i];
    }
    if (nb == 0) j->rows *= j->count, j->count = 1, j->n = 0;
    return pare_tensor_elems(y) == j->count * j->rows * j->cols;
}

/* Stored as rows of the contracted dimension, effectively [N, K]. */
static bool is_stored(const pare_tensor *b, bool trans_b) { return b->transposed != trans_b && b->ndim == 2; }
static size_t round64(size_t n) { return (n + 63) & ~(size_t)63; }

bool pare_cpu_matmul_supports(const pare_op_call *c) {
    const pare_tensor *b = c->in[1];
    return pare_cpu_is_f32(c->in[0]) && pare_cpu_is_f32(c->out[0]) && pare_cpu_decodable(b) &&
           (!b->transposed || b->ndim == 2);
}

size_t pare_cpu_matmul_workspace(const pare_op_call *c) {
    const pare_tensor *b = c->in[1];
    if (!is_stored(b, false)) return pare_cpu_f32_bytes(b);
    return pare_matmul_stored_workspace(b, pare_tensor_rows(c->in[0]), c->act);
}

pare_status pare_cpu_matmul_run(const pare_op_call *c, pare_diag *d) {
    const pare_tensor *a = c->in[0], *b = c->in[1], *y = c->out[0];
    if (is_stored(b, false)) {
        int64_t m = pare_tensor_rows(a);
        if (pare_tensor_cols(a) != b->shape[1] || pare_tensor_elems(y) != m * b->shape[0])
            return pare_cpu_fail(c, d, "rows of %lld meet a weight of %lld columns", (long long)pare_tensor_cols(a),
                                 (long long)b->shape[1]);
        if (in_bf16(c))
            pare_sgemm_bf16(false, true, m, b->shape[0], b->shape[1], 1.0f, a->data, b->shape[1], b->data, b->shape[1],
                            0.0f, y->data, b->shape[0]);
        else pare_matmul_stored(b, a->data, y->data, m, c->act, c->workspace);
        return PARE_OK;
    }
    batch j;
    char *scratch = c->workspace;
    if (!plan_batch(&j, a, b, y)) return pare_cpu_fail(c, d, "the operands' shapes do not multiply to the output's");
    if (pare_tensor_elems(y) == 0) return PARE_OK;
    if (j.depth == 0) {
        memset(y->data, 0, pare_tensor_bytes(y));
        return PARE_OK;
    }
    j.a = a->data, j.b = pare_cpu_f32(b, &scratch), j.y = y->data, j.gemm = gemm_of(c);
    pare_cpu_for((size_t)j.count, (size_t)(j.rows * j.cols * j.depth), batch_item, &j);
    return PARE_OK;
}

/* ---- Gemm: y = alpha * a' b' + beta * c ---- */

static const pare_attr_gemm gemm_default = {1.0f, 1.0f, false, false};
static const pare_attr_gemm *gemm_attr(const pare_op_call *c) { return c->attr ? c->attr : &gemm_default; }

bool pare_cpu_gemm_supports(const pare_op_call *c) {
    return pare_cpu_matmul_supports(c) && c->in[0]->ndim == 2 && c->in[1]->ndim == 2 &&
           (c->n_in < 3 || !c->in[2] || pare_cpu_decodable(c->in[2]));
}

/* An f32 weight goes the stored way as well: the same kernels, and the same bytes as MatMul. */
static bool gemm_stored(const pare_op_call *c) {
    return is_stored(c->in[1], gemm_attr(c)->trans_b) && !gemm_attr(c)->trans_a && !in_bf16(c);
}

/* The bias as f32, and (beta != 1) its scaled copy. */
static size_t bias_bytes(const pare_op_call *c) {
    const pare_tensor *bias = c->n_in > 2 ? c->in[2] : NULL;
    size_t copy = bias && gemm_attr(c)->beta != 1.0f ? (size_t)pare_tensor_elems(bias) * sizeof(float) : 0;
    return pare_cpu_f32_bytes(bias) + round64(copy);
}

size_t pare_cpu_gemm_workspace(const pare_op_call *c) {
    const pare_tensor *b = c->in[1];
    return bias_bytes(c) +
           (gemm_stored(c) ? pare_matmul_stored_workspace(b, c->in[0]->shape[0], c->act) : pare_cpu_f32_bytes(b));
}

static pare_status add_bias(const pare_op_call *c, const float *data, float *scaled, pare_diag *d) {
    const pare_tensor *bias = c->in[2], *y = c->out[0];
    float beta = gemm_attr(c)->beta;
    if (beta != 1.0f)
        for (int64_t i = 0; i < pare_tensor_elems(bias); i++) scaled[i] = beta * data[i];
    if (!pare_cpu_binary_f32(PARE_OP_Add, y, y->data, bias, beta != 1.0f ? scaled : data, y))
        return pare_cpu_fail(c, d, "the bias does not broadcast to the output");
    return PARE_OK;
}

pare_status pare_cpu_gemm_run(const pare_op_call *c, pare_diag *d) {
    const pare_attr_gemm *attr = gemm_attr(c);
    const pare_tensor *a = c->in[0], *b = c->in[1], *bias = c->n_in > 2 ? c->in[2] : NULL, *y = c->out[0];
    bool b_t = b->transposed != attr->trans_b;
    int64_t m = a->shape[attr->trans_a], k = a->shape[!attr->trans_a], n = b->shape[!b_t], kb = b->shape[b_t];
    if (k != kb || pare_tensor_elems(y) != m * n)
        return pare_cpu_fail(c, d, "a of depth %lld meets b of depth %lld", (long long)k, (long long)kb);
    char *scratch = c->workspace;
    const float *bias_data = pare_cpu_f32(bias, &scratch);
    float *scaled = (float *)scratch;
    scratch = (char *)c->workspace + bias_bytes(c);
    if (!m || !n) return PARE_OK;
    if (!k) {
        memset(y->data, 0, pare_tensor_bytes(y));
    } else if (gemm_stored(c)) {
        pare_tensor alpha = pare_tensor_make(&pare_qtype_f32, 0, NULL, (void *)&attr->alpha);
        pare_matmul_stored(b, a->data, y->data, m, c->act, scratch);
        if (attr->alpha != 1.0f) pare_cpu_binary_f32(PARE_OP_Mul, y, y->data, &alpha, &attr->alpha, y);
    } else {
        gemm_of(c)(attr->trans_a, b_t, m, n, k, attr->alpha, a->data, attr->trans_a ? m : k, pare_cpu_f32(b, &scratch),
                   b_t ? k : n, 0.0f, y->data, n);
    }
    return bias && attr->beta != 0 ? add_bias(c, bias_data, scaled, d) : PARE_OK;
}
