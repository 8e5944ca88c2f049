/* SPDX-License-Identifier: Apache-2.0
 *
 * Shape rules of RotaryEmbedding, TensorScatter and Attention. */
#include "graph/shape.h"

pare_status pare_shape_RotaryEmbedding(const pare_op_call *c, pare_diag *d) {
    const pare_tensor *x = c->in[0], *cosv = c->in[1], *sinv = c->in[2], *pos = c->n_in > 3 ? c->in[3] : NULL;
    const pare_attr_rotary *a = c->attr;
    if (x->ndim != 3 && x->ndim != 4) return pare_shape_bad(d, c, "X must have 3 or 4 dimensions");
    int64_t heads = a ? a->num_heads : 0;
    if (x->ndim == 3 && (heads < 1 || x->shape[2] % heads))
        return pare_shape_bad(d, c, "num_heads does not divide the size of X");
    int64_t size = x->ndim == 4 ? x->shape[3] : x->shape[2] / heads, seq = x->ndim == 4 ? x->shape[2] : x->shape[1];
    int64_t rotated = a && a->rotary_embedding_dim ? a->rotary_embedding_dim : size;
    if (rotated % 2 || rotated > size)
        return pare_shape_bad(d, c, "the rotated size must be even and at most the head size");
    int cache_dims = pos ? 2 : 3;
    if (cosv->ndim != cache_dims || sinv->ndim != cache_dims)
        return pare_shape_bad(d, c, "the caches have the wrong rank");
    for (int k = 0; k < cache_dims; k++)
        if (cosv->shape[k] != sinv->shape[k]) return pare_shape_bad(d, c, "the cosine and sine caches differ");
    if (cosv->shape[cache_dims - 1] != rotated / 2)
        return pare_shape_bad(d, c, "a cache row must be half the rotated size");
    if (!pos && (cosv->shape[0] != x->shape[0] || cosv->shape[1] != seq))
        return pare_shape_bad(d, c, "without position_ids the caches must be [batch, sequence, size / 2]");
    if (pos && (pos->ndim != 2 || pos->shape[0] != x->shape[0] || pos->shape[1] != seq))
        return pare_shape_bad(d, c, "position_ids must be [batch, sequence]");
    pare_shape_set(c, 0, pare_shape_value_type(x), x->ndim, x->shape);
    return PARE_OK;
}

pare_status pare_shape_TensorScatter(const pare_op_call *c, pare_diag *d) {
    const pare_tensor *past = c->in[0], *update = c->in[1], *at = c->n_in > 2 ? c->in[2] : NULL;
    const pare_attr_scatter *a = c->attr;
    int axis = pare_shape_axis(a ? a->axis : -2, past->ndim);
    if (axis < 1) return pare_shape_bad(d, c, "axis is outside the shape (the batch cannot be written to)");
    if (update->ndim != past->ndim || update->type != past->type)
        return pare_shape_bad(d, c, "cache and update differ");
    for (int k = 0; k < past->ndim; k++)
        if (k == axis ? update->shape[k] > past->shape[k] : update->shape[k] != past->shape[k])
            return pare_shape_bad(d, c, "the update does not fit the cache");
    if (at && (at->ndim != 1 || at->shape[0] != past->shape[0]))
        return pare_shape_bad(d, c, "write_indices must be [batch]");
    pare_shape_set(c, 0, past->type, past->ndim, past->shape);
    return PARE_OK;
}

typedef struct sizes {
    int64_t batch, heads, seq, size;
} sizes;

/* 4-D [batch, heads, sequence, size] or 3-D [batch, sequence, heads * size]. */
static bool read_sizes(const pare_tensor *t, int64_t heads, sizes *s) {
    if (t->ndim == 4) *s = (sizes){t->shape[0], t->shape[1], t->shape[2], t->shape[3]};
    else if (t->ndim == 3 && heads > 0 && t->shape[2] % heads == 0)
        *s = (sizes){t->shape[0], heads, t->shape[1], t->shape[2] / heads};
    else return false;
    return true;
}

static bool broadcasts(const pare_tensor *mask, const int64_t want[4]) {
    if (mask->ndim < 2 || mask->ndim > 4) return false;
    for (int i = 0; i < mask->ndim; i++) {
        int64_t dim = mask->shape[mask->ndim - 1 - i], w = want[3 - i];
        if (i == 0 ? dim > w : dim != 1 && dim != w) return false; /* a shorter last dimension is padded (opset 24) */
    }
    return true;
}

pare_status pare_shape_Attention(const pare_op_call *c, pare_diag *d) {
    const pare_attr_attention *a = c->attr;
    const pare_tensor *in[7] = {c->in[0], c->in[1], c->in[2]}; /* required: the caller has checked them */
    for (int i = 3; i < c->n_in && i < 7; i++) in[i] = c->in[i];
    sizes q, k, v;
    if (in[0]->ndim != in[1]->ndim || in[0]->ndim != in[2]->ndim)
        return pare_shape_bad(d, c, "Q, K and V differ in rank");
    if (!read_sizes(in[0], a ? a->q_num_heads : 0, &q) || !read_sizes(in[1], a ? a->kv_num_heads : 0, &k) ||
        !read_sizes(in[2], a ? a->kv_num_heads : 0, &v))
        return pare_shape_bad(d, c,
                              "Q, K and V must be 4-D, or 3-D with q_num_heads and kv_num_heads that divide them");
    if (k.batch != q.batch || v.batch != q.batch || k.heads != v.heads || k.seq != v.seq || k.size != q.size)
        return pare_shape_bad(d, c, "Q, K and V do not fit together");
    if (k.heads < 1 || q.heads % k.heads) return pare_shape_bad(d, c, "the key heads do not divide the query heads");
    int64_t past = 0;
    if (!in[4] != !in[5]) return pare_shape_bad(d, c, "past_key and past_value come together");
    if (in[4]) {
        const int64_t *pk = in[4]->shape, *pv = in[5]->shape;
        if (in[4]->ndim != 4 || in[5]->ndim != 4 || pk[0] != k.batch || pk[1] != k.heads || pk[3] != k.size ||
            pv[0] != v.batch || pv[1] != v.heads || pv[3] != v.size || pk[2] != pv[2])
            return pare_shape_bad(d, c, "past_key and past_value do not fit K and V");
        past = pk[2];
    }
    int64_t total = past + k.seq, scores[4] = {q.batch, q.heads, q.seq, total};
    if (in[3] && !broadcasts(in[3], scores)) return pare_shape_bad(d, c, "attn_mask does not broadcast to the scores");
    if (in[6] && (in[6]->ndim != 1 || in[6]->shape[0] != q.batch))
        return pare_shape_bad(d, c, "nonpad_kv_seqlen must be [batch]");
    const pare_qtype *type = pare_shape_value_type(in[0]);
    if (in[0]->ndim == 4) pare_shape_set(c, 0, type, 4, (int64_t[]){q.batch, q.heads, q.seq, v.size});
    else pare_shape_set(c, 0, type, 3, (int64_t[]){q.batch, q.seq, q.heads * v.size});
    pare_shape_set(c, 1, type, 4, (int64_t[]){k.batch, k.heads, total, k.size});
    pare_shape_set(c, 2, type, 4, (int64_t[]){v.batch, v.heads, total, v.size});
    pare_shape_set(c, 3, type, 4, scores);
    return PARE_OK;
}
