/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention (opset 24): the operands are understood and checked, present keys and values written, and one of the
 * kernels of cuda/attention.cuh chosen, all from shapes. The scores as an output are left to the CPU. */
#include "cuda/attention.cuh"

#include "core/status.h"

#include <limits.h>
#include <math.h>

#define COPY_THREADS 256
#define FEW_ROWS     8   /* attn_decode.cu */
#define MAX_SIZE     256 /* of a head, for the fast kernels */

static const pare_attr_attention attr_default = {};

static const pare_tensor *input(const pare_op_call *c, int i) { return i < c->n_in ? c->in[i] : NULL; }
static pare_tensor *output(const pare_op_call *c, int i) { return i < c->n_out ? c->out[i] : NULL; }

bool pare_cuda_attention_supports(const pare_cuda *dev, const pare_op_call *c) {
    const pare_tensor *mask = input(c, 3), *nonpad = input(c, 6);
    static const int f32_in[] = {0, 1, 2, 4, 5};
    int ndim = c->in[0]->ndim;
    for (int i : f32_in) {
        const pare_tensor *t = input(c, i);
        if (t && (!pare_cuda_is_f32(t) || t->ndim != (i > 2 ? 4 : ndim))) return false;
    }
    for (int i = 0; i < 3; i++)
        if (output(c, i) && !pare_cuda_is_f32(output(c, i))) return false;
    if (mask && !pare_cuda_is_f32(mask) && pare_cuda_type_of(mask->type) != PARE_CT_BOOL) return false;
    if (nonpad && !pare_cuda_is_i64(nonpad)) return false;
    return (ndim == 3 || ndim == 4) && !output(c, 3);
}

/* [batch, heads, n, size], or [batch, n, heads * size] */
static bool view_of(pare_cuda_attn_view *v, const pare_tensor *t, int64_t heads) {
    for (int i = 0; i < t->ndim; i++)
        if (t->shape[i] > INT_MAX) return false;
    v->data = (float *)t->data;
    v->n = (int)t->shape[t->ndim - 2];
    if (t->ndim == 4) {
        v->heads = (int)t->shape[1], v->size = (int)t->shape[3];
        v->row = v->size, v->head = (int64_t)v->n * v->size, v->batch = v->heads * v->head;
        return true;
    }
    if (heads <= 0 || t->shape[2] % heads) return false;
    v->heads = (int)heads, v->size = (int)(t->shape[2] / heads);
    v->row = t->shape[2], v->head = v->size, v->batch = v->n * v->row;
    return true;
}

static pare_status describe_past(const pare_op_call *c, pare_cuda_attn *a, pare_diag *d) {
    const pare_tensor *pk = input(c, 4), *pv = input(c, 5);
    if (!pk != !pv) return pare_cuda_fail(c, d, "past_key and past_value come together");
    if (!pk) return PARE_OK;
    bool fits = view_of(&a->past_k, pk, 0) && view_of(&a->past_v, pv, 0);
    a->past = a->past_k.n;
    fits = fits && a->past_v.n == a->past && a->past_k.heads == a->k.heads && a->past_v.heads == a->k.heads &&
           a->past_k.size == a->k.size && a->past_v.size == a->v.size && pk->shape[0] == a->batch &&
           pv->shape[0] == a->batch && a->past <= INT_MAX - a->k.n;
    return fits ? PARE_OK : pare_cuda_fail(c, d, "past keys and values must have the new ones' heads and sizes");
}

static pare_status describe_mask(const pare_op_call *c, pare_cuda_attn *a, pare_diag *d) {
    const pare_tensor *mask = input(c, 3);
    if (!mask) return PARE_OK;
    if (mask->ndim < 1 || mask->ndim > 4) return pare_cuda_fail(c, d, "the mask must have 1 to 4 dimensions");
    const int64_t full[4] = {a->batch, a->q.heads, a->q.n, a->keys};
    int64_t stride = 1;
    for (int k = 3; k >= 0; k--) {
        int at = k - (4 - mask->ndim);
        int64_t dim = at >= 0 ? mask->shape[at] : 1;
        if (k == 3) a->mask_keys = (int)(dim == 1 ? full[3] : dim);
        if (dim != 1 && dim != full[k] && !(k == 3 && dim < full[k]))
            return pare_cuda_fail(c, d, "dimension %d of the mask is %lld, expected 1 or %lld", at, (long long)dim,
                                  (long long)full[k]);
        a->mask_stride[k] = dim == 1 ? 0 : stride;
        stride *= dim;
    }
    a->mask = mask->data;
    a->mask_bool = pare_cuda_type_of(mask->type) == PARE_CT_BOOL;
    return PARE_OK;
}

pare_status pare_cuda_attn_describe(const pare_op_call *c, pare_cuda_attn *a, pare_diag *d) {
    const pare_tensor *q = c->in[0], *k = c->in[1], *v = c->in[2], *y = c->out[0], *nonpad = input(c, 6);
    const pare_attr_attention *at = c->attr ? (const pare_attr_attention *)c->attr : &attr_default;
    *a = pare_cuda_attn{};
    bool fits = k->shape[0] == q->shape[0] && v->shape[0] == q->shape[0] && y->ndim == q->ndim &&
                y->shape[0] == q->shape[0] && view_of(&a->q, q, at->q_num_heads) &&
                view_of(&a->k, k, at->kv_num_heads) && view_of(&a->v, v, at->kv_num_heads) &&
                view_of(&a->y, y, at->q_num_heads);
    if (!fits || a->k.n != a->v.n || a->k.heads != a->v.heads || a->q.size != a->k.size || !a->k.heads ||
        a->q.heads % a->k.heads || a->y.heads != a->q.heads || a->y.size != a->v.size || a->y.n != a->q.n)
        return pare_cuda_fail(c, d, "queries, keys, values and output do not fit together (heads, sizes, batch)");
    a->batch = (int)q->shape[0];
    a->group = a->q.heads / a->k.heads;
    if ((int64_t)a->batch * a->q.heads * a->q.n > INT_MAX) /* blocks of a launch */
        return pare_cuda_fail(c, d, "%lld queries in all are too many",
                              (long long)a->batch * a->q.heads * (long long)a->q.n);
    a->rows = a->q.n * a->group;
    PARE_TRY(describe_past(c, a, d));
    a->keys = a->past + a->k.n;
    a->scale = at->scale != 0 ? at->scale : 1.0f / sqrtf((float)a->q.size);
    a->softcap = at->softcap;
    a->causal = at->is_causal, a->upper_left = at->causal_upper_left;
    if (nonpad && (a->past || pare_cuda_elems(nonpad) != a->batch))
        return pare_cuda_fail(c, d, "nonpad_kv_seqlen has one entry per batch and excludes past keys");
    a->nonpad = nonpad ? (const int64_t *)nonpad->data : NULL;
    return describe_mask(c, a, d);
}

/* ---- present = past followed by new, [batch, heads, keys, size] ---- */

__global__ void __launch_bounds__(COPY_THREADS)
    attn_present_kernel(pare_cuda_attn_view past, pare_cuda_attn_view now, int keys, float *out, int64_t n) {
    int64_t at = (int64_t)blockIdx.x * COPY_THREADS + threadIdx.x;
    if (at >= n) return;
    int e = (int)(at % now.size), i = (int)(at / now.size % keys), before = keys - now.n;
    int64_t pair = at / now.size / keys;
    int h = (int)(pair % now.heads), b = (int)(pair / now.heads);
    out[at] = i < before ? pare_attn_row(past, b, h, i)[e] : pare_attn_row(now, b, h, i - before)[e];
}

static pare_status write_present(pare_cuda *dev, const pare_op_call *c, const pare_cuda_attn *a, int out,
                                 pare_diag *d) {
    pare_tensor *y = output(c, out);
    if (!y) return PARE_OK;
    const pare_cuda_attn_view *past = out == 1 ? &a->past_k : &a->past_v, *now = out == 1 ? &a->k : &a->v;
    int64_t n = (int64_t)a->batch * now->heads * a->keys * now->size;
    if (pare_cuda_elems(y) != n) return pare_cuda_fail(c, d, "output %d should hold %d keys", out, a->keys);
    if (n)
        pare_launch<attn_present_kernel>(dev->rt.stream, dim3((unsigned)pare_cuda_ceil(n, COPY_THREADS)), COPY_THREADS,
                                         0, *past, *now, a->keys, (float *)y->data, n);
    return PARE_OK;
}

/* ---- which kernel ---- */

typedef enum way { WAY_GENERAL, WAY_DECODE, WAY_TILES } way;

/* Planning asks without addresses; a call with odd ones takes the general way, which needs no workspace. */
static bool aligned(const pare_cuda_attn *a) {
    const pare_cuda_attn_view *all[] = {&a->q, &a->k, &a->v, &a->y, &a->past_k, &a->past_v};
    for (const pare_cuda_attn_view *v : all)
        if ((uintptr_t)v->data % 16) return false;
    return true;
}

static way way_of(const pare_cuda *dev, const pare_cuda_attn *a, int *splits) {
    *splits = 1;
    if (a->q.size % 8 || a->v.size % 8 || a->q.size > MAX_SIZE || a->v.size > MAX_SIZE || !a->q.size || !a->v.size)
        return WAY_GENERAL;
    if (a->rows <= FEW_ROWS) {
        *splits = pare_cuda_attn_decode_splits(a);
        return WAY_DECODE;
    }
    if (!pare_cuda_attn_tiles_fit(dev, a)) return WAY_GENERAL;
    *splits = pare_cuda_attn_tiles_splits(a);
    return WAY_TILES;
}

size_t pare_cuda_attention_workspace(const pare_cuda *dev, const pare_op_call *c) {
    pare_cuda_attn a;
    int splits;
    if (pare_cuda_attn_describe(c, &a, NULL) != PARE_OK) return 0;
    way_of(dev, &a, &splits);
    if (splits == 1) return 0;
    return (size_t)pare_cuda_attn_pairs(&a) * (size_t)splits * (size_t)a.rows * ((size_t)a.v.size + 2) * sizeof(float);
}

pare_status pare_cuda_attention_run(pare_cuda *dev, const pare_op_call *c, pare_diag *d) {
    pare_cuda_attn a;
    int splits;
    float *part = (float *)c->workspace;
    PARE_TRY(pare_cuda_attn_describe(c, &a, d));
    PARE_TRY(write_present(dev, c, &a, 1, d));
    PARE_TRY(write_present(dev, c, &a, 2, d));
    if (!a.batch || !a.rows) return pare_cuda_check(dev, c, d);
    switch (aligned(&a) ? way_of(dev, &a, &splits) : WAY_GENERAL) {
    case WAY_DECODE: pare_cuda_attn_decode(dev, &a, splits, part); break;
    case WAY_TILES: pare_cuda_attn_tiles(dev, &a, splits, part); break;
    default: pare_cuda_attn_general(dev, &a), splits = 1; break;
    }
    if (splits > 1) pare_cuda_attn_merge(dev, &a, splits, part);
    return pare_cuda_check(dev, c, d);
}
