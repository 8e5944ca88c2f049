/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention (opset 24): softmax(softcap(scale Q K') + mask) V with grouped heads, past keys, and caches of fixed
 * capacity. Here the operands are understood and checked, and it is decided who sees whom; the work is done tile by
 * tile in cpu/op_attention_tiles.c or, when the scores themselves are asked for, in cpu/op_attention_rows.c.
 * A query that sees no key at all gets zeros. */
#include "cpu/attention.h"

#include <math.h>
#include <string.h>

static const pare_attr_attention attr_default;

static int64_t seq_of(const pare_tensor *t) { return t->shape[t->ndim - 2]; }

/* [batch, heads, n, size], or [batch, n, heads * size] */
static bool view_of(pare_attn_view *v, const pare_tensor *t, int64_t heads) {
    v->data = t->data;
    v->n = (size_t)seq_of(t);
    if (t->ndim == 4) {
        v->heads = (size_t)t->shape[1], v->size = (size_t)t->shape[3];
        v->row = v->size, v->head = v->n * v->size, v->batch = v->heads * v->head;
        return true;
    }
    if (heads <= 0 || t->shape[2] % heads) return false;
    v->heads = (size_t)heads, v->size = (size_t)(t->shape[2] / heads);
    v->row = (size_t)t->shape[2], v->head = v->size, v->batch = v->n * v->row;
    return true;
}

static const pare_tensor *input(const pare_op_call *c, int i) { return i < c->n_in ? c->in[i] : NULL; }
static pare_tensor *output(const pare_op_call *c, int i) { return i < c->n_out ? c->out[i] : NULL; }

bool pare_cpu_attention_supports(const pare_op_call *c) {
    const pare_tensor *mask = input(c, 3), *nonpad = input(c, 6);
    static const int f32_in[] = {0, 1, 2, 4, 5};
    int ndim = c->in[0] ? c->in[0]->ndim : 0;
    for (size_t i = 0; i < sizeof f32_in / sizeof *f32_in; i++) {
        const pare_tensor *t = input(c, f32_in[i]);
        if (t && !pare_cpu_is_f32(t)) return false;
        if (t && t->ndim != (f32_in[i] > 2 ? 4 : ndim)) return false;
    }
    for (int i = 0; i < 4; i++)
        if (output(c, i) && !pare_cpu_is_f32(output(c, i))) return false;
    if (mask && !pare_cpu_is_f32(mask) && mask->type != &pare_qtype_bool) return false;
    if (nonpad && !pare_cpu_is_index(nonpad)) return false;
    return ndim == 3 || ndim == 4;
}

static pare_status check_past(const pare_op_call *c, pare_attn *a, pare_diag *d) {
    const pare_tensor *pk = input(c, 4), *pv = input(c, 5);
    if (!pk != !pv) return pare_cpu_fail(c, d, "past_key and past_value come together");
    if (!pk) return PARE_OK;
    view_of(&a->past_k, pk, 0);
    view_of(&a->past_v, pv, 0);
    a->past = a->past_k.n;
    bool fits = a->past_v.n == a->past && a->past_k.heads == a->k.heads && a->past_v.heads == a->k.heads &&
                a->past_k.size == a->k.size && a->past_v.size == a->v.size && pk->shape[0] == c->in[0]->shape[0] &&
                pv->shape[0] == c->in[0]->shape[0];
    return fits ? PARE_OK : pare_cpu_fail(c, d, "past keys and values must have the new ones' heads and sizes");
}

static pare_status check_mask(const pare_op_call *c, pare_attn *a, pare_diag *d) {
    const pare_tensor *mask = input(c, 3);
    if (!mask) return PARE_OK;
    if (mask->ndim < 1 || mask->ndim > 4) return pare_cpu_fail(c, d, "the mask must have 1 to 4 dimensions");
    const size_t full[4] = {a->batch, a->q.heads, a->q.n, a->keys};
    size_t stride = 1;
    for (int k = 3; k >= 0; k--) {
        int at = k - (4 - mask->ndim);
        size_t dim = at >= 0 ? (size_t)mask->shape[at] : 1;
        if (k == 3) a->mask_keys = dim == 1 ? full[3] : dim;
        if (dim != 1 && dim != full[k] && !(k == 3 && dim < full[k]))
            return pare_cpu_fail(c, d, "dimension %d of the mask is %zu, expected 1 or %zu", at, dim, full[k]);
        a->mask_stride[k] = dim == 1 ? 0 : stride;
        stride *= dim;
    }
    a->mask = mask->data;
    a->mask_bool = mask->type == &pare_qtype_bool;
    return PARE_OK;
}

/* The only check that reads data: not part of pare_attn_describe(), which also serves planning. */
pare_status pare_attn_check_nonpad(const pare_op_call *c, const pare_attn *a, pare_diag *d) {
    const pare_tensor *nonpad = a->nonpad;
    if (!nonpad) return PARE_OK;
    if (a->past || (size_t)pare_tensor_elems(nonpad) != a->batch)
        return pare_cpu_fail(c, d, "nonpad_kv_seqlen has one entry per batch and excludes past keys");
    for (size_t b = 0; b < a->batch; b++) {
        int64_t n = pare_cpu_index(nonpad, (int64_t)b);
        if (n < 0 || n > (int64_t)a->keys || (a->mask && n > (int64_t)a->mask_keys))
            return pare_cpu_fail(c, d, "nonpad_kv_seqlen %lld of %zu keys", (long long)n, a->keys);
    }
    return PARE_OK;
}

pare_status pare_attn_describe(const pare_op_call *c, pare_attn *a, pare_diag *d) {
    const pare_tensor *q = c->in[0], *k = c->in[1], *v = c->in[2], *y = c->out[0];
    *a = (pare_attn){.attr = c->attr ? c->attr : &attr_default};
    int64_t batch = q->shape[0];
    bool fits = k->shape[0] == batch && v->shape[0] == batch && y->ndim == q->ndim && y->shape[0] == batch &&
                view_of(&a->q, q, a->attr->q_num_heads) && view_of(&a->k, k, a->attr->kv_num_heads) &&
                view_of(&a->v, v, a->attr->kv_num_heads) && view_of(&a->y, y, a->attr->q_num_heads);
    if (!fits || a->k.n != a->v.n || a->k.heads != a->v.heads || a->q.size != a->k.size || !a->k.heads ||
        a->q.heads % a->k.heads || a->y.heads != a->q.heads || a->y.size != a->v.size || a->y.n != a->q.n)
        return pare_cpu_fail(c, d, "queries, keys, values and output do not fit together (heads, sizes, batch)");
    a->batch = (size_t)batch;
    PARE_TRY(check_past(c, a, d));
    a->keys = a->past + a->k.n;
    a->group = a->q.heads / a->k.heads;
    a->scale = a->attr->scale != 0 ? a->attr->scale : 1.0f / sqrtf((float)a->q.size);
    a->nonpad = input(c, 6);
    return check_mask(c, a, d);
}

/* How many leading keys query i of batch entry b may see, before any mask. */
size_t pare_attn_visible(const pare_attn *a, size_t b, size_t i) {
    size_t n = a->nonpad ? (size_t)pare_cpu_index(a->nonpad, (int64_t)b) : a->keys;
    if (!a->attr->is_causal) return n;
    int64_t offset = (int64_t)a->past; /* position of query 0 */
    if (a->nonpad && !a->attr->causal_upper_left) offset = (int64_t)n - (int64_t)a->q.n;
    int64_t end = offset + (int64_t)i + 1;
    return end < 0 ? 0 : (size_t)end < n ? (size_t)end : n;
}

/* Adds the mask of query i, head h to the scores of keys first .. first+n-1. */
void pare_attn_add_mask(const pare_attn *a, size_t b, size_t h, size_t i, size_t first, size_t n, float *s) {
    size_t row = b * a->mask_stride[0] + h * a->mask_stride[1] + i * a->mask_stride[2], step = a->mask_stride[3];
    size_t known = first >= a->mask_keys ? 0 : a->mask_keys - first < n ? a->mask_keys - first : n;
    for (size_t j = 0; j < known; j++) {
        size_t at = row + (first + j) * step;
        if (!a->mask_bool) s[j] += ((const float *)a->mask)[at];
        else if (!((const uint8_t *)a->mask)[at]) s[j] = -INFINITY;
    }
    for (size_t j = known; j < n; j++) s[j] = -INFINITY;
}

/* present = past followed by new, [batch, heads, past + n, size] */
static pare_status write_present(const pare_op_call *c, const pare_attn *a, int out, pare_diag *d) {
    const pare_tensor *y = output(c, out);
    if (!y) return PARE_OK;
    const pare_attn_view *past = out == 1 ? &a->past_k : &a->past_v, *now = out == 1 ? &a->k : &a->v;
    if ((size_t)pare_tensor_elems(y) != a->batch * now->heads * a->keys * now->size)
        return pare_cpu_fail(c, d, "output %d should hold %zu keys", out, a->keys);
    float *to = y->data;
    for (size_t b = 0; b < a->batch; b++)
        for (size_t h = 0; h < now->heads; h++)
            for (size_t i = 0; i < a->keys; i++, to += now->size)
                memcpy(to, i < a->past ? pare_attn_row(past, b, h, i) : pare_attn_row(now, b, h, i - a->past),
                       now->size * sizeof(float));
    return PARE_OK;
}

size_t pare_cpu_attention_workspace(const pare_op_call *c) {
    pare_attn a;
    if (pare_attn_describe(c, &a, NULL) != PARE_OK) return 0;
    return (output(c, 3) ? pare_attn_rows_floats(&a) : pare_attn_tiles_floats(&a)) * sizeof(float);
}

pare_status pare_cpu_attention_run(const pare_op_call *c, pare_diag *d) {
    pare_attn a;
    PARE_TRY(pare_attn_describe(c, &a, d));
    PARE_TRY(pare_attn_check_nonpad(c, &a, d));
    PARE_TRY(write_present(c, &a, 1, d));
    PARE_TRY(write_present(c, &a, 2, d));
    if (!a.batch || !a.q.n) return PARE_OK;
    if (output(c, 3)) return pare_attn_rows(c, &a, c->out[3], d);
    pare_attn_tiles(&a, c->workspace);
    return PARE_OK;
}
