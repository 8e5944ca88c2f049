/* SPDX-License-Identifier: Apache-2.0
 *
 * Gradients of norms and of Attention, against sums in double (formulas in cpu/op_grad_norm.c and
 * cpu/op_grad_attention.c). A bound is units in the last place of the sum of magnitudes. */
#include "tests/tools/parity_grad.h"

#include <math.h>

#define ULP 5.9604644775390625e-8 /* 2^-24 */

/* ---- norms ---- */

typedef struct norm_row {
    double mean, inv, g, gh, g_size, gh_size; /* the last four: means of scale dY, of scale dY h, of their magnitudes */
} norm_row;

static norm_row measure(const float *dy, const float *x, const float *scale, int64_t n, bool layer) {
    norm_row m = {0};
    double square = 0;
    for (int64_t i = 0; layer && i < n; i++) m.mean += (double)x[i] / (double)n;
    for (int64_t i = 0; i < n; i++) square += ((double)x[i] - m.mean) * ((double)x[i] - m.mean) / (double)n;
    m.inv = 1 / sqrt(square + (double)1e-5f);
    for (int64_t i = 0; i < n; i++) {
        double g = (double)dy[i] * (double)scale[i], h = ((double)x[i] - m.mean) * m.inv;
        m.g += g / (double)n, m.gh += g * h / (double)n;
        m.g_size += fabs(g) / (double)n, m.gh_size += fabs(g * h) / (double)n;
    }
    return m;
}

static void norm(pc_run *r, pare_op op, int64_t rows, int64_t n, float shift, int outs) {
    pc_case c;
    bool layer = op == PARE_OP_LayerNormalizationGrad;
    pc_begin(r, &c, op, "%d outputs", outs);
    pc_params(&c, "[%lld, %lld], mean %g", (long long)rows, (long long)n, (double)shift);
    c.attr.norm.axis = -1, c.attr.norm.epsilon = 1e-5f;
    const float *dy = pc_normal(r, &c, PC_SHAPE(rows, n), 1.0f);
    float *x = pc_normal(r, &c, PC_SHAPE(rows, n), 1.0f);
    const float *scale = pc_normal(r, &c, PC_SHAPE(n), 1.0f);
    for (int64_t i = 0; i < rows * n; i++) x[i] += shift;
    pc_out(r, &c, &pare_qtype_f32, PC_SHAPE(rows, n));
    for (int o = 1; o < outs; o++) pc_out(r, &c, &pare_qtype_f32, PC_SHAPE(n));
    for (int o = 0; o < outs; o++) pc_expect(r, &c, o, "8 ulp of the magnitudes");
    for (int64_t k = 0; k < rows; k++) {
        norm_row m = measure(dy + k * n, x + k * n, scale, n, layer);
        for (int64_t i = 0; i < n; i++) {
            double d = (double)dy[k * n + i], g = d * (double)scale[i], h = ((double)x[k * n + i] - m.mean) * m.inv;
            double near = (1 + fabs((double)shift)) * ULP; /* x - mean, rounded */
            c.want[0][k * n + i] = m.inv * (g - (layer ? m.g : 0) - h * m.gh);
            c.bound[0][k * n + i] =
                8 * near * m.inv * (fabs(g) + m.g_size + (1 + fabs(h)) * (m.gh_size + m.g_size)) + 1e-37;
            if (outs > 1) c.want[1][i] += d * h, c.bound[1][i] += 8 * near * fabs(d) * (1 + fabs(h));
            if (outs > 2) c.want[2][i] += d, c.bound[2][i] += 8 * ULP * fabs(d);
        }
    }
    pc_do(r, &c);
}

void pc_cases_norm_grads(pc_run *r) {
    static const int64_t shapes[][2] = {{37, 96},  {1, 64},   {5, 1},    {3, 259},
                                        {130, 33}, {4, 1025}, {2, 8192}, {70, 384}};
    static const pare_op ops[] = {PARE_OP_RMSNormalizationGrad, PARE_OP_LayerNormalizationGrad};
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < 8 && pc_wants(r, ops[k]); i++)
            norm(r, ops[k], shapes[i][0], shapes[i][1], k && i == 3 ? 20.0f : 0.5f, i == 6 ? 1 : 2 + k);
}

/* ---- attention ---- */

typedef struct shape {
    int64_t batch, heads, kv, q, k, size, v_size;
    bool causal, four; /* four: [batch, heads, n, size] */
    int mask;          /* 1: bool, 2: f32, both of [q, k]; 3: nonpad lengths */
} shape;

typedef struct operands {
    const shape *s;
    const float *dy, *y, *q, *k, *v;
    const uint8_t *seen;
    const float *add;
    const int64_t *nonpad;
} operands;

static int64_t at(const shape *s, int64_t heads, int64_t n, int64_t size, int64_t b, int64_t h, int64_t i) {
    return s->four ? ((b * heads + h) * n + i) * size : ((b * n + i) * heads + h) * size;
}
static double dot(const float *a, const float *b, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)a[i] * (double)b[i];
    return sum;
}

/* Probabilities of query i of head h; p has k numbers. */
static void softmax_row(const operands *o, int64_t b, int64_t h, int64_t i, double *p) {
    const shape *s = o->s;
    int64_t n = o->nonpad ? o->nonpad[b] : s->k, see = n;
    if (s->causal) see = (o->nonpad ? n - s->q : 0) + i + 1;
    if (see > n) see = n;
    double top = -INFINITY, sum = 0;
    for (int64_t j = 0; j < s->k; j++) {
        p[j] = -INFINITY;
        if (j >= see || (o->seen && !o->seen[i * s->k + j])) continue;
        p[j] = dot(o->q + at(s, s->heads, s->q, s->size, b, h, i),
                   o->k + at(s, s->kv, s->k, s->size, b, h / (s->heads / s->kv), j), s->size) /
               sqrt((double)s->size);
        if (o->add) p[j] += (double)o->add[i * s->k + j];
        top = fmax(top, p[j]);
    }
    for (int64_t j = 0; j < s->k; j++) sum += p[j] = top == -INFINITY ? 0 : exp(p[j] - top);
    for (int64_t j = 0; j < s->k; j++) p[j] = sum > 0 ? p[j] / sum : 0;
}

static void add(pc_case *c, int out, int64_t to, double w, const float *x, int64_t n, double slack) {
    for (int64_t e = 0; e < n; e++)
        c->want[out][to + e] += w * (double)x[e], c->bound[out][to + e] += slack * fabs((double)x[e]);
}

/* P is known to `slack` of itself, dP - D to as much of its magnitudes. */
static void expect_row(pc_case *c, const operands *o, int64_t b, int64_t h, int64_t i, double *p) {
    const shape *s = o->s;
    double scale = 1 / sqrt((double)s->size), slack = (double)(32 + s->size / 2) * ULP, size_dot = 0;
    int64_t kv = h / (s->heads / s->kv), q_at = at(s, s->heads, s->q, s->size, b, h, i);
    int64_t y_at = at(s, s->heads, s->q, s->v_size, b, h, i);
    const float *dy = o->dy + y_at, *y = o->y + y_at;
    double d = dot(dy, y, s->v_size);
    softmax_row(o, b, h, i, p);
    for (int64_t e = 0; e < s->v_size; e++) size_dot += fabs((double)dy[e]) * fabs((double)y[e]);
    for (int64_t j = 0; j < s->k; j++) {
        if (!(p[j] > 0)) continue;
        int64_t k_at = at(s, s->kv, s->k, s->size, b, kv, j), v_at = at(s, s->kv, s->k, s->v_size, b, kv, j);
        double dp = dot(dy, o->v + v_at, s->v_size), ds = p[j] * (dp - d) * scale, size_dp = 0;
        for (int64_t e = 0; e < s->v_size; e++) size_dp += fabs((double)dy[e]) * fabs((double)o->v[v_at + e]);
        double rough = slack * scale * p[j] * (size_dp + size_dot);
        add(c, 2, v_at, p[j], dy, s->v_size, slack * p[j]);
        add(c, 0, q_at, ds, o->k + k_at, s->size, rough);
        add(c, 1, k_at, ds, o->q + q_at, s->size, rough);
    }
}

static void operand(pc_run *r, pc_case *c, const shape *s, bool of_q, int64_t size, const float **to) {
    int64_t heads = of_q ? s->heads : s->kv, n = of_q ? s->q : s->k;
    *to = s->four ? pc_normal(r, c, PC_SHAPE(s->batch, heads, n, size), 1.0f)
                  : pc_normal(r, c, PC_SHAPE(s->batch, n, heads * size), 1.0f);
}

static void masks(pc_run *r, pc_case *c, const shape *s, operands *o) {
    if (s->mask == 1) {
        uint8_t *m = pc_in(r, c, PC_INPUT, &pare_qtype_bool, PC_SHAPE(s->q, s->k));
        for (int64_t i = 0; i < s->q * s->k; i++) m[i] = i / s->k != 1 && pare_rng_below(&r->rng, 3) > 0;
        o->seen = m;
    } else if (s->mask == 2) o->add = pc_normal(r, c, PC_SHAPE(s->q, s->k), 2.0f);
    else if (s->mask == 3) {
        pc_absent(c);
        int64_t *n = pc_in(r, c, PC_INPUT, &pare_qtype_i64, PC_SHAPE(s->batch));
        for (int64_t b = 0; b < s->batch; b++) n[b] = s->k - 3 * b;
        o->nonpad = n;
    }
}

static void attention(pc_run *r, const shape *s) {
    pc_case c;
    operands o = {.s = s};
    pc_begin(r, &c, PARE_OP_AttentionGrad, "%s%s", s->causal ? "causal" : "all keys",
             s->mask == 1   ? ", bool mask"
             : s->mask == 2 ? ", f32 mask"
             : s->mask      ? ", lengths"
                            : "");
    pc_params(&c, "%lld x %lld queries, %lld keys, %lld heads on %lld of %lld and %lld%s", (long long)s->batch,
              (long long)s->q, (long long)s->k, (long long)s->heads, (long long)s->kv, (long long)s->size,
              (long long)s->v_size, s->four ? ", 4-D" : "");
    c.attr.attention.is_causal = s->causal;
    c.attr.attention.q_num_heads = s->heads, c.attr.attention.kv_num_heads = s->kv;
    operand(r, &c, s, true, s->v_size, &o.dy);
    operand(r, &c, s, true, s->v_size, &o.y);
    operand(r, &c, s, true, s->size, &o.q);
    operand(r, &c, s, false, s->size, &o.k);
    operand(r, &c, s, false, s->v_size, &o.v);
    masks(r, &c, s, &o);
    for (int i = 0; i < 3; i++) {
        pc_out(r, &c, &pare_qtype_f32, c.in[2 + i].ndim, c.in[2 + i].shape);
        pc_expect(r, &c, i, "(32 + size / 2) ulp of the magnitudes");
    }
    double *p = pc_alloc(r, (size_t)s->k * sizeof *p);
    for (int64_t b = 0; b < s->batch; b++)
        for (int64_t h = 0; h < s->heads; h++)
            for (int64_t i = 0; i < s->q; i++) expect_row(&c, &o, b, h, i, p);
    for (int i = 0; i < 3; i++)
        for (int64_t k = 0; k < pare_tensor_elems(&c.out[i]); k++) c.bound[i][k] += 1e-37;
    pc_do(r, &c);
}

void pc_cases_attention_grads(pc_run *r) {
    static const shape shapes[] = {
        {2, 4, 2, 70, 70, 16, 16, true, false, 0},   {1, 8, 4, 33, 33, 8, 8, true, false, 0},
        {1, 2, 2, 65, 129, 64, 64, false, false, 0}, {1, 3, 1, 5, 5, 24, 40, true, true, 0},
        {2, 2, 1, 67, 67, 72, 72, true, true, 0},    {1, 2, 2, 40, 50, 128, 128, false, false, 0},
        {1, 1, 1, 1, 1, 4, 4, true, false, 0},       {1, 2, 1, 19, 31, 10, 6, false, true, 0},
        {1, 4, 2, 37, 41, 32, 32, false, false, 1},  {1, 4, 2, 66, 70, 32, 32, true, false, 2},
        {2, 4, 2, 35, 44, 16, 16, false, false, 3},  {2, 2, 2, 20, 44, 16, 16, true, false, 3},
    };
    for (int i = 0; i < 12 && pc_wants(r, PARE_OP_AttentionGrad); i++) attention(r, &shapes[i]);
}
