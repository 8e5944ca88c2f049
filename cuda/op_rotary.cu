/* SPDX-License-Identifier: Apache-2.0
 *
 * RotaryEmbedding of [batch, heads, sequence, size] or [batch, sequence, heads * size], as cpu/op_rotary.c has it.
 * Positions are device memory: one outside the angles' rows, which the CPU refuses, gives NaN in the whole token.
 * equal: bit for bit to the CPU's reference. */
#include "cuda/backend.cuh"
#include "cuda/dev.cuh"

#define THREADS 256

typedef struct rotary_args {
    const float *x, *cos, *sin;
    float *y;
    const void *ids; /* NULL: the angles are [batch, sequence, half] */
    bool wide;       /* i64 */
    int64_t positions, seq, head_stride, seq_stride, batch_stride;
    unsigned heads, size, half;
} rotary_args;

/* W = 4 or 1 elements; the rest of v is not used. */
template <int W> static __device__ __forceinline__ void load(const float *p, float v[4]) {
    if (W == 4) {
        float4 f = pare_load4(p);
        v[0] = f.x, v[1] = f.y, v[2] = f.z, v[3] = f.w;
    } else v[0] = *p;
}
template <int W> static __device__ __forceinline__ void store(float *p, const float v[4]) {
    if (W == 4) pare_store4(p, make_float4(v[0], v[1], v[2], v[3]));
    else *p = v[0];
}
static __device__ __forceinline__ void rotate(float c, float s, float &a, float &b) {
    float p = c * a - s * b, q = s * a + c * b;
    a = p, b = q;
}

/* A block is a piece of one token; a thread has W pairs of one head, or W elements that are only copied. */
template <bool INTERLEAVED, int W> __global__ void __launch_bounds__(THREADS) rotary_kernel(rotary_args a) {
    unsigned u = blockIdx.y * THREADS + threadIdx.x, units = (a.size - a.half) / W, head = u / units;
    unsigned i = (u - head * units) * W;
    if (head >= a.heads) return;
    int64_t token = blockIdx.x, pos = token, b = token / a.seq, t = token - b * a.seq;
    if (a.ids) pos = a.wide ? ((const int64_t *)a.ids)[token] : ((const int32_t *)a.ids)[token];
    bool known = pos >= 0 && pos < a.positions;
    int64_t at = b * a.batch_stride + t * a.seq_stride + head * a.head_stride;
    const float *x = a.x + at;
    float *y = a.y + at, v[4], w[4], c[4], s[4];
    if (i >= a.half) { /* behind the rotated dimensions */
        load<W>(x + a.half + i, v);
        for (int k = 0; k < W; k++) v[k] = known ? v[k] : pare_float(0x7fc00000u);
        store<W>(y + a.half + i, v);
        return;
    }
    for (int k = 0; k < W; k++) c[k] = s[k] = pare_float(0x7fc00000u);
    if (known) load<W>(a.cos + pos * a.half + i, c), load<W>(a.sin + pos * a.half + i, s);
    unsigned first = INTERLEAVED ? 2 * i : i, second = INTERLEAVED ? 2 * i + W : i + a.half;
    load<W>(x + first, v), load<W>(x + second, w);
    if (INTERLEAVED && W == 4) { /* v = a0 b0 a1 b1, w = a2 b2 a3 b3 */
        rotate(c[0], s[0], v[0], v[1]), rotate(c[1], s[1], v[2], v[3]);
        rotate(c[2], s[2], w[0], w[1]), rotate(c[3], s[3], w[2], w[3]);
    } else {
        for (int k = 0; k < W; k++) rotate(c[k], s[k], v[k], w[k]);
    }
    store<W>(y + first, v), store<W>(y + second, w);
}

bool pare_cuda_rotary_supports(const pare_cuda *dev, const pare_op_call *c) {
    return pare_cuda_is_f32(c->in[0]) && pare_cuda_is_f32(c->in[1]) && pare_cuda_is_f32(c->in[2]) &&
           pare_cuda_is_f32(c->out[0]) && (c->n_in < 4 || !c->in[3] || pare_cuda_is_index(c->in[3]));
}

static pare_status heads_of(const pare_op_call *c, rotary_args *r, pare_diag *d) {
    const pare_attr_rotary *attr = (const pare_attr_rotary *)c->attr;
    const pare_tensor *x = c->in[0];
    if ((x->ndim != 3 && x->ndim != 4) || !pare_cuda_same_shape(x, c->out[0]))
        return pare_cuda_fail(c, d, "the input must have 3 or 4 dimensions, and the output its shape");
    int64_t cols = pare_cuda_cols(x), heads = x->ndim == 4 ? x->shape[1] : attr ? attr->num_heads : 0, size = cols;
    if (x->ndim == 4) {
        r->seq = x->shape[2], r->seq_stride = cols, r->head_stride = r->seq * cols;
    } else {
        if (heads <= 0 || cols % heads) return pare_cuda_fail(c, d, "num_heads must divide %lld", (long long)cols);
        size = cols / heads;
        r->seq = x->shape[1], r->seq_stride = cols, r->head_stride = size;
    }
    int64_t dim = attr && attr->rotary_embedding_dim ? attr->rotary_embedding_dim : size;
    if (dim < 0 || dim > size || dim % 2)
        return pare_cuda_fail(c, d, "rotary dimension %lld of heads of %lld must be even and fit", (long long)dim,
                              (long long)size);
    if (heads * size > 65535ll * THREADS) return pare_cuda_fail(c, d, "a token of more than 2^24 numbers");
    r->batch_stride = r->seq * heads * size;
    r->heads = (unsigned)heads, r->size = (unsigned)size, r->half = (unsigned)dim / 2;
    return PARE_OK;
}

static pare_status check_angles(const pare_op_call *c, int64_t tokens, rotary_args *r, pare_diag *d) {
    const pare_tensor *cos = c->in[1], *sin = c->in[2], *ids = c->n_in > 3 ? c->in[3] : NULL;
    r->positions = pare_cuda_rows(cos);
    if (!pare_cuda_same_shape(cos, sin) || pare_cuda_cols(cos) != r->half || (!ids && r->positions != tokens))
        return pare_cuda_fail(c, d, "cos and sin must have one row of %u angles per position", r->half);
    if (ids && pare_cuda_elems(ids) != tokens) return pare_cuda_fail(c, d, "one position per token, please");
    r->ids = ids ? ids->data : NULL;
    r->wide = pare_cuda_is_i64(ids);
    return PARE_OK;
}

pare_status pare_cuda_rotary_run(pare_cuda *dev, const pare_op_call *c, pare_diag *d) {
    const pare_attr_rotary *attr = (const pare_attr_rotary *)c->attr;
    rotary_args r = {};
    r.x = (const float *)c->in[0]->data, r.y = (float *)c->out[0]->data;
    r.cos = (const float *)c->in[1]->data, r.sin = (const float *)c->in[2]->data;
    pare_status st = heads_of(c, &r, d);
    int64_t tokens = c->in[0]->shape[0] * r.seq;
    if (st == PARE_OK) st = check_angles(c, tokens, &r, d);
    if (st != PARE_OK || !pare_cuda_elems(c->in[0])) return st;
    bool vec = r.size % 4 == 0 && r.half % 4 == 0, inter = attr && attr->interleaved;
    for (const void *p : {(const void *)r.x, (const void *)r.y, (const void *)r.cos, (const void *)r.sin})
        vec = vec && pare_cuda_unit(0, p) == 16;
    int64_t units = (r.size - r.half) / (vec ? 4 : 1) * (int64_t)r.heads;
    dim3 grid((unsigned)tokens, (unsigned)pare_cuda_ceil(units, THREADS));
    dim3 block(units < THREADS ? (unsigned)pare_cuda_ceil(units, 32) * 32 : THREADS);
    void *stream = dev->rt.stream;
    if (vec && inter) pare_launch<rotary_kernel<true, 4>>(stream, grid, block, 0, r);
    else if (vec) pare_launch<rotary_kernel<false, 4>>(stream, grid, block, 0, r);
    else if (inter) pare_launch<rotary_kernel<true, 1>>(stream, grid, block, 0, r);
    else pare_launch<rotary_kernel<false, 1>>(stream, grid, block, 0, r);
    return pare_cuda_check(dev, c, d);
}
