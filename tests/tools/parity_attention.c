/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention: softmax(softcap(scale q k') + mask) v in double, for plain sequences, past keys, and caches of fixed
 * capacity; few and many queries, grouped heads, head sizes around the tiles. */
#include "tests/tools/parity.h"

#include <math.h>
#include <string.h>

typedef struct shape {
    int64_t batch, heads, kv_heads, queries, keys, past, size, v_size; /* keys: new ones, or the cache's capacity */
    bool causal, cache, flat;                                          /* flat: [batch, n, heads * size] */
    int mask;                                                          /* 0 none, 1 bool, 2 f32, 3 bool per head */
    float softcap, scale, spread;
} shape;

/* operand [batch][head][n][size], or flat */
static float at(const float *p, const shape *s, int64_t heads, int64_t n, int64_t size, int64_t b, int64_t h, int64_t i,
                int64_t e) {
    return s->flat ? p[((b * n + i) * heads + h) * size + e] : p[((b * heads + h) * n + i) * size + e];
}

typedef struct data {
    const float *q, *k, *v, *past_k, *past_v, *mask_f;
    const uint8_t *mask_b;
    const int64_t *valid;
} data;

static double score(const shape *s, const data *d, int64_t b, int64_t h, int64_t i, int64_t j, double scale,
                    double *mag) {
    int64_t hk = h / (s->heads / s->kv_heads), all = s->past + s->keys;
    double sum = 0;
    *mag = 0;
    for (int64_t e = 0; e < s->size; e++) {
        double q = (double)at(d->q, s, s->heads, s->queries, s->size, b, h, i, e);
        double k = j < s->past ? (double)d->past_k[((b * s->kv_heads + hk) * s->past + j) * s->size + e]
                               : (double)at(d->k, s, s->kv_heads, s->keys, s->size, b, hk, j - s->past, e);
        sum += q * k, *mag += fabs(q * k);
    }
    sum *= scale, *mag *= scale;
    if (s->softcap != 0) sum = (double)s->softcap * tanh(sum / (double)s->softcap);
    if (s->mask == 1 && !d->mask_b[i * all + j]) sum = -INFINITY;
    if (s->mask == 3 && !d->mask_b[((b * s->heads + h) * s->queries + i) * all + j]) sum = -INFINITY;
    if (s->mask == 2) sum += (double)d->mask_f[i * all + j], *mag += fabs((double)d->mask_f[i * all + j]);
    return sum;
}

static void one_row(const shape *s, const data *d, int64_t b, int64_t h, int64_t i, double *p, double *y,
                    double *bound) {
    int64_t all = s->past + s->keys, n = d->valid ? d->valid[b] : all, hk = h / (s->heads / s->kv_heads);
    double scale = s->scale != 0 ? (double)s->scale : 1 / sqrt((double)s->size), max = -INFINITY, sum = 0, big = 0;
    if (s->causal) {
        int64_t end = (d->valid ? n - s->queries : s->past) + i + 1;
        n = end < 0 ? 0 : end < n ? end : n;
    }
    for (int64_t j = 0; j < n; j++) {
        double mag;
        p[j] = score(s, d, b, h, i, j, scale, &mag);
        if (p[j] > -INFINITY) big = fmax(big, mag);
        max = fmax(max, p[j]);
    }
    for (int64_t j = 0; j < n && max > -INFINITY; j++) sum += p[j] = exp(p[j] - max);
    for (int64_t e = 0; e < s->v_size; e++) {
        double most = 0;
        y[e] = 0;
        for (int64_t j = 0; j < n && max > -INFINITY; j++) {
            if (p[j] == 0) continue;
            double v = j < s->past ? (double)d->past_v[((b * s->kv_heads + hk) * s->past + j) * s->v_size + e]
                                   : (double)at(d->v, s, s->kv_heads, s->keys, s->v_size, b, hk, j - s->past, e);
            y[e] += p[j] / sum * v;
            most = fmax(most, fabs(v));
        }
        bound[e] = (2 * ((double)s->size + 32) * big + (double)all / 4 + 64) * 0x1p-24 * most + 1e-42;
    }
}

static void expect(pc_run *r, pc_case *c, const shape *s, const data *d) {
    double *p = pc_alloc(r, (size_t)(s->past + s->keys) * sizeof *p);
    double *y = pc_alloc(r, (size_t)s->v_size * sizeof *y), *bound = pc_alloc(r, (size_t)s->v_size * sizeof *y);
    pc_expect(r, c, 0, "(2 (d + 32) S + keys / 4 + 64) 2^-24 max |v|");
    for (int64_t b = 0; b < s->batch; b++)
        for (int64_t h = 0; h < s->heads; h++)
            for (int64_t i = 0; i < s->queries; i++) {
                one_row(s, d, b, h, i, p, y, bound);
                int64_t row = s->flat ? (b * s->queries + i) * s->heads + h : (b * s->heads + h) * s->queries + i;
                memcpy(c->want[0] + row * s->v_size, y, (size_t)s->v_size * sizeof *y);
                memcpy(c->bound[0] + row * s->v_size, bound, (size_t)s->v_size * sizeof *y);
            }
}

static const float *operand(pc_run *r, pc_case *c, const shape *s, int64_t heads, int64_t n, int64_t size, float by) {
    return s->flat ? pc_normal(r, c, PC_SHAPE(s->batch, n, heads * size), by)
                   : pc_normal(r, c, PC_SHAPE(s->batch, heads, n, size), by);
}

static void masks(pc_run *r, pc_case *c, const shape *s, data *d) {
    int64_t all = s->past + s->keys;
    if (s->mask == 2) {
        float *m = pc_normal(r, c, PC_SHAPE(s->queries, all), 1.0f);
        for (int64_t i = 0; i < s->queries * all; i++)
            if (pare_rng_below(&r->rng, 4) == 0) m[i] = -INFINITY;
        d->mask_f = m;
    } else if (s->mask) {
        uint8_t *m = s->mask == 1
                         ? pc_in(r, c, PC_INPUT, &pare_qtype_bool, PC_SHAPE(s->queries, all))
                         : pc_in(r, c, PC_INPUT, &pare_qtype_bool, PC_SHAPE(s->batch, s->heads, s->queries, all));
        for (int64_t i = 0; i < pare_tensor_elems(&c->in[3]); i++) m[i] = pare_rng_below(&r->rng, 3) > 0;
        if (s->queries > 1) memset(m, 0, (size_t)all); /* the first query sees nothing */
        d->mask_b = m;
    } else pc_absent(c);
}

static void one(pc_run *r, const shape *s) {
    pc_case c;
    data d = {0};
    pc_begin(r, &c, PARE_OP_Attention, "%s%s%s%s%s",
             s->cache  ? "cache"
             : s->past ? "past"
                       : "plain",
             s->causal ? " causal" : "", s->mask ? " mask" : "", s->softcap != 0 ? " softcap" : "",
             s->queries == 1 ? " decode" : "");
    pc_params(&c, "batch=%lld heads=%lld/%lld queries=%lld keys=%lld past=%lld size=%lld/%lld flat=%d mask=%d",
              (long long)s->batch, (long long)s->heads, (long long)s->kv_heads, (long long)s->queries,
              (long long)s->keys, (long long)s->past, (long long)s->size, (long long)s->v_size, s->flat, s->mask);
    c.attr.attention = (pare_attr_attention){.is_causal = s->causal, .scale = s->scale, .softcap = s->softcap};
    if (s->flat) c.attr.attention.q_num_heads = s->heads, c.attr.attention.kv_num_heads = s->kv_heads;
    d.q = operand(r, &c, s, s->heads, s->queries, s->size, s->spread);
    d.k = operand(r, &c, s, s->kv_heads, s->keys, s->size, s->spread);
    d.v = operand(r, &c, s, s->kv_heads, s->keys, s->v_size, 1.0f);
    masks(r, &c, s, &d);
    if (s->past) {
        d.past_k = pc_normal(r, &c, PC_SHAPE(s->batch, s->kv_heads, s->past, s->size), s->spread);
        d.past_v = pc_normal(r, &c, PC_SHAPE(s->batch, s->kv_heads, s->past, s->v_size), 1.0f);
    } else if (s->cache) pc_absent(&c), pc_absent(&c);
    if (s->cache) {
        int64_t *n = pc_in(r, &c, PC_INPUT, &pare_qtype_i64, PC_SHAPE(s->batch));
        for (int64_t b = 0; b < s->batch; b++)
            n[b] = s->queries + (int64_t)pare_rng_below(&r->rng, (uint64_t)(s->keys - s->queries + 1));
        d.valid = n;
    }
    if (s->flat) pc_out(r, &c, &pare_qtype_f32, PC_SHAPE(s->batch, s->queries, s->heads * s->v_size));
    else pc_out(r, &c, &pare_qtype_f32, PC_SHAPE(s->batch, s->heads, s->queries, s->v_size));
    if (s->past) { /* present: past and new, exactly */
        pc_out(r, &c, &pare_qtype_f32, PC_SHAPE(s->batch, s->kv_heads, s->past + s->keys, s->size));
        pc_out(r, &c, &pare_qtype_f32, PC_SHAPE(s->batch, s->kv_heads, s->past + s->keys, s->v_size));
    }
    expect(r, &c, s, &d);
    pc_do(r, &c);
}

static int64_t a_size(pc_run *r, bool full) {
    static const int64_t sizes[] = {64, 8, 128, 32, 20, 96, 72, 5, 256, 48};
    return pc_pick(r, sizes, full ? 10 : 8);
}

void pc_cases_attention(pc_run *r) {
    static const int64_t queries[] = {1, 1, 2, 3, 8, 17, 64, 65, 33, 100};
    static const int64_t keys[] = {1, 7, 32, 33, 64, 65, 129, 200, 16, 300};
    static const int64_t groups[] = {1, 2, 4, 1, 3, 8};
    if (!pc_wants(r, PARE_OP_Attention)) return;
    int n = r->full ? 400 : 48;
    for (int i = 0; i < n; i++) {
        shape s = {.batch = 1 + (int64_t)pare_rng_below(&r->rng, 2),
                   .kv_heads = 1 + (int64_t)pare_rng_below(&r->rng, 2)};
        s.heads = s.kv_heads * pc_pick(r, groups, 6);
        s.queries = queries[i % 10], s.keys = keys[pare_rng_below(&r->rng, 10)];
        s.size = s.v_size = a_size(r, r->full);
        if (pare_rng_below(&r->rng, 8) == 0) s.v_size = a_size(r, r->full);
        int mode = (int)pare_rng_below(&r->rng, 4); /* plain, past, cache, cache */
        s.cache = mode > 1, s.flat = pare_rng_below(&r->rng, 2);
        if (mode == 1) s.past = pc_pick(r, keys, 9);
        if (s.cache && s.keys < s.queries) s.keys = s.queries + 40;
        s.causal = pare_rng_below(&r->rng, 3) > 0;
        if (mode == 0 && pare_rng_below(&r->rng, 2)) s.causal = false; /* encoders */
        if (!s.cache && pare_rng_below(&r->rng, 2)) s.mask = 1 + (int)pare_rng_below(&r->rng, 3);
        if (pare_rng_below(&r->rng, 5) == 0) s.softcap = 20.0f;
        if (pare_rng_below(&r->rng, 4) == 0) s.scale = 0.3f;
        s.spread = pare_rng_below(&r->rng, 6) ? 1.0f : 3.0f;
        while (!r->full && s.batch * s.heads * s.queries * (s.past + s.keys) * s.size > 1500000) { /* keeps edges */
            if (s.batch > 1) s.batch = 1;
            else if (s.kv_heads > 1) s.kv_heads = 1, s.heads /= 2;
            else if (s.heads > 2) s.heads = 2;
            else break;
        }
        one(r, &s);
    }
}
