/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention a whole row of scores at a time, in the order ONNX draws it (scores, softcap, mask, softmax, values):
 * used when the caller wants the scores (qk_matmul_output, modes 0 to 3). */
#include "cpu/attention.h"

#include <math.h>
#include <string.h>

typedef struct rows_job {
    const pare_attn *a;
    const pare_vec_table *vec;
    float *scratch, *qk;
} rows_job;

static size_t row_floats(const pare_attn *a) { return (a->keys + 15) & ~(size_t)15; }

static const float *row_at(const pare_attn *a, const pare_attn_view *past, const pare_attn_view *now, size_t b,
                           size_t h, size_t j) {
    return j < a->past ? pare_attn_row(past, b, h, j) : pare_attn_row(now, b, h, j - a->past);
}

static void rows_item(void *ctx, size_t item) {
    const rows_job *w = ctx;
    const pare_attn *a = w->a;
    size_t i = item % a->q.n, h = item / a->q.n % a->q.heads, b = item / a->q.n / a->q.heads, kv = h / a->group;
    int64_t mode = a->attr->qk_matmul_output_mode;
    float *s = w->scratch + (size_t)pare_thread_index() * row_floats(a), *qk = w->qk + item * a->keys;
    const float *q = pare_attn_row(&a->q, b, h, i);
    for (size_t j = 0; j < a->keys; j++)
        s[j] = a->scale * w->vec->row_dot_f32(q, row_at(a, &a->past_k, &a->k, b, kv, j), a->q.size);
    if (mode == 0) memcpy(qk, s, a->keys * sizeof(float));
    if (a->attr->softcap > 0)
        for (size_t j = 0; j < a->keys; j++) s[j] = a->attr->softcap * tanhf(s[j] / a->attr->softcap);
    if (mode == 1) memcpy(qk, s, a->keys * sizeof(float));
    if (a->mask) pare_attn_add_mask(a, b, h, i, 0, a->keys, s);
    for (size_t j = pare_attn_visible(a, b, i); j < a->keys; j++) s[j] = -INFINITY;
    if (mode == 2) memcpy(qk, s, a->keys * sizeof(float));
    bool any = false;
    for (size_t j = 0; j < a->keys; j++) any |= s[j] != -INFINITY;
    if (any) w->vec->softmax_f32(s, s, a->keys);
    else memset(s, 0, a->keys * sizeof(float)); /* no key seen: zeros */
    if (mode == 3) memcpy(qk, s, a->keys * sizeof(float));
    float *y = (float *)pare_attn_row(&a->y, b, h, i);
    memset(y, 0, a->v.size * sizeof(float));
    for (size_t j = 0; j < a->keys; j++)
        if (s[j] != 0) w->vec->row_axpy_f32(s[j], row_at(a, &a->past_v, &a->v, b, kv, j), y, a->v.size);
}

size_t pare_attn_rows_floats(const pare_attn *a) { return (size_t)pare_threads() * row_floats(a); }

pare_status pare_attn_rows(const pare_op_call *c, const pare_attn *a, pare_tensor *qk, pare_diag *d) {
    if ((size_t)pare_tensor_elems(qk) != a->batch * a->q.heads * a->q.n * a->keys)
        return pare_cpu_fail(c, d, "qk_matmul_output must be [batch, heads, queries, keys]");
    if (a->attr->qk_matmul_output_mode < 0 || a->attr->qk_matmul_output_mode > 3)
        return pare_cpu_fail(c, d, "qk_matmul_output_mode is 0, 1, 2 or 3");
    rows_job w = {a, pare_vec(), c->workspace, qk->data};
    pare_cpu_for(a->batch * a->q.heads * a->q.n, a->keys * (a->q.size + a->v.size), rows_item, &w);
    return PARE_OK;
}
