/* SPDX-License-Identifier: Apache-2.0
 *
 * Operators that sum over rows: LayerNormalization, RMSNormalization, Softmax, ReduceMean; and RotaryEmbedding. */
#include "tests/tools/parity.h"

#include <math.h>
#include <string.h>

#define ULP 0x1p-23

static const int64_t row_lengths[] = {1,   3,   4,   5,   31,   32,   33,   64,   127,
                                      128, 129, 288, 512, 1000, 1024, 1025, 4096, 5000};
#define N_LENGTHS ((int)(sizeof row_lengths / sizeof *row_lengths))

typedef struct span { /* a tensor seen as [outer][n][inner] */
    int64_t outer, n, inner;
} span;

/* ---- norms ---- */

static void expect_norm(pc_run *r, pc_case *c, int64_t rows, int64_t n, const double *scale, const double *bias) {
    const float *x = c->in[0].data;
    bool layer = c->op == PARE_OP_LayerNormalization;
    pc_expect(r, c, 0, "4 units of |x - mean| inv |scale| + |bias|, 1 of the mean");
    for (int o = 1; o < c->n_out; o++) pc_expect(r, c, o, c->equal);
    for (int64_t i = 0; i < rows; i++, x += n) {
        double mean = 0, square = 0;
        for (int64_t k = 0; k < n; k++) mean += layer ? (double)x[k] / (double)n : 0;
        for (int64_t k = 0; k < n; k++) square += ((double)x[k] - mean) * ((double)x[k] - mean) / (double)n;
        double inv = 1 / sqrt(square + (double)c->attr.norm.epsilon);
        for (int64_t k = 0; k < n; k++) {
            double v = ((double)x[k] - mean) * inv * scale[k], b = bias ? bias[k] : 0;
            c->want[0][i * n + k] = v + b;
            c->bound[0][i * n + k] = 4 * ULP * (fabs(v) + fabs(b)) + ULP * fabs(mean) * inv * fabs(scale[k]) + 1e-42;
        }
        if (c->n_out > 1) c->want[1][i] = mean, c->bound[1][i] = ULP * fabs(mean) + 1e-42;
        if (c->n_out > 2) c->want[2][i] = inv, c->bound[2][i] = 2 * ULP * inv;
    }
}

static const double *vector(pc_run *r, pc_case *c, const pare_qtype *qt, int64_t n) {
    char *p = pc_in(r, c, PC_WEIGHT, qt, PC_SHAPE(n));
    double *d = pc_alloc(r, (size_t)n * sizeof *d);
    for (int64_t i = 0; i < n; i++) {
        float v = 1.0f + 0.3f * pare_rng_normal(&r->rng);
        uint16_t h = qt == &pare_qtype_bf16 ? pare_f32_to_bf16(v) : pare_f32_to_f16(v);
        if (qt == &pare_qtype_f32) memcpy(p + 4 * i, &v, 4);
        else memcpy(p + 2 * i, &h, 2), v = qt == &pare_qtype_bf16 ? pare_bf16_to_f32(h) : pare_f16_to_f32(h);
        d[i] = (double)v;
    }
    return d;
}

static void norm(pc_run *r, pare_op op, int64_t rows, int64_t n, int kind) {
    static const char *const kinds[] = {"normal", "offset", "large", "zeros", "NaN", "tiny"};
    static const pare_qtype *const types[] = {&pare_qtype_f32, &pare_qtype_f16, &pare_qtype_bf16};
    bool layer = op == PARE_OP_LayerNormalization, cut = n % 3 == 0 && n > 3; /* over two dimensions */
    pc_case c;
    pc_begin(r, &c, op, "rows");
    pc_params(&c, "rows=%lld n=%lld x=%s%s", (long long)rows, (long long)n, kinds[kind], cut ? " axis=-2" : "");
    float *x = cut ? pc_normal(r, &c, PC_SHAPE(rows, n / 3, 3), 1.0f) : pc_normal(r, &c, PC_SHAPE(rows, n), 1.0f);
    if (cut) c.attr.norm.axis = -2;
    float by = kind == 2 ? 1e18f : kind == 3 ? 0.0f : kind == 5 ? 1e-20f : 1.0f;
    for (int64_t i = 0; i < rows * n; i++) x[i] = x[i] * by + (kind == 1 ? 100.0f : 0.0f);
    if (kind == 4) x[pare_rng_below(&r->rng, (uint64_t)(rows * n))] = NAN;
    const pare_qtype *qt = types[pare_rng_below(&r->rng, 3)];
    const double *bias = NULL, *scale = vector(r, &c, qt, n);
    if (cut) c.in[1].ndim = 2, c.in[1].shape[0] = n / 3, c.in[1].shape[1] = 3;
    if (layer && pare_rng_below(&r->rng, 4)) bias = vector(r, &c, qt, n);
    if (bias && cut) c.in[2].ndim = 2, c.in[2].shape[0] = n / 3, c.in[2].shape[1] = 3;
    pc_out(r, &c, &pare_qtype_f32, c.in[0].ndim, c.in[0].shape);
    for (int o = 1; layer && o < 3 && rows % 2; o++) {
        if (cut) pc_out(r, &c, &pare_qtype_f32, PC_SHAPE(rows, 1, 1));
        else pc_out(r, &c, &pare_qtype_f32, PC_SHAPE(rows, 1));
    }
    expect_norm(r, &c, rows, n, scale, bias);
    pc_do(r, &c);
}

/* Scales of another shape: done in a second pass. */
static void norm_spread(pc_run *r, pare_op op) {
    pc_case c;
    pc_begin(r, &c, op, "broadcast scale");
    pc_params(&c, "[6, 5, 40], scale [5, 1]");
    pc_normal(r, &c, PC_SHAPE(6, 5, 40), 1.0f);
    const float *s = pc_normal(r, &c, PC_SHAPE(5, 1), 1.0f);
    pc_out(r, &c, &pare_qtype_f32, PC_SHAPE(6, 5, 40));
    double *one = pc_alloc(r, 40 * sizeof *one);
    for (int i = 0; i < 40; i++) one[i] = 1;
    expect_norm(r, &c, 30, 40, one, NULL);
    for (int i = 0; i < 1200; i++) {
        double v = (double)s[i / 40 % 5];
        c.want[0][i] *= v, c.bound[0][i] = c.bound[0][i] * fabs(v) + ULP * fabs(c.want[0][i]);
    }
    pc_do(r, &c);
}

/* ---- softmax, mean and sum over one axis ---- */

static void expect_softmax(pc_run *r, pc_case *c, span s) {
    const float *x = c->in[0].data;
    pc_expect(r, c, 0, "(8 + |x - max|) units in the last place");
    for (int64_t i = 0; i < s.outer * s.inner; i++) {
        int64_t first = i / s.inner * s.n * s.inner + i % s.inner;
        double max = -INFINITY, sum = 0;
        bool nan = false;
        for (int64_t k = 0; k < s.n; k++) {
            double v = (double)x[first + k * s.inner];
            max = fmax(max, v), nan |= isnan(v);
        }
        for (int64_t k = 0; k < s.n; k++) sum += exp((double)x[first + k * s.inner] - max);
        for (int64_t k = 0; k < s.n; k++) {
            double v = (double)x[first + k * s.inner], y = nan ? NAN : exp(v - max) / sum, *want = c->want[0];
            want[first + k * s.inner] = y;
            c->bound[0][first + k * s.inner] = isinf(v) ? 0 : (8 + (max - v)) * ULP * y + 1.2e-38;
            if (c->op != PARE_OP_LogSoftmax) continue;
            want[first + k * s.inner] = nan ? NAN : (v - max) - log(sum);
            c->bound[0][first + k * s.inner] = isinf(v) ? 0 : 4 * ULP * ((max - v) + fabs(log(sum)) + 1);
        }
    }
}

static void expect_mean(pc_run *r, pc_case *c, span s) {
    const float *x = c->in[0].data;
    pc_expect(r, c, 0, "1 unit in the last place");
    for (int64_t i = 0; i < s.outer * s.inner; i++) {
        int64_t first = i / s.inner * s.n * s.inner + i % s.inner;
        double sum = 0, mag = 0;
        for (int64_t k = 0; k < s.n; k++) {
            sum += (double)x[first + k * s.inner], mag += fabs((double)x[first + k * s.inner]);
        }
        double count = c->op == PARE_OP_ReduceMean ? (double)s.n : 1;
        c->want[0][i] = sum / count;
        c->bound[0][i] = ULP * fabs(c->want[0][i]) + 1e-13 * mag / count + 1e-42;
    }
}

static void over_axis(pc_run *r, pare_op op, span s, int kind) {
    static const char *const kinds[] = {"normal", "wide", "-inf", "NaN", "equal", "spike"};
    pc_case c;
    pc_begin(r, &c, op, "%s", s.inner == 1 ? "last axis" : "inner axis");
    pc_params(&c, "[%lld, %lld, %lld] x=%s", (long long)s.outer, (long long)s.n, (long long)s.inner, kinds[kind]);
    float *x = pc_normal(r, &c, PC_SHAPE(s.outer, s.n, s.inner), kind == 1 ? 40.0f : kind == 4 ? 0.0f : 1.0f);
    int64_t n = s.outer * s.n * s.inner;
    if (s.inner == 1) c.in[0].ndim = 2;
    bool soft = op == PARE_OP_Softmax || op == PARE_OP_LogSoftmax;
    if (kind == 2 && soft && s.n > 1)
        for (int64_t i = 0; i < n; i++)
            if (i / s.inner % s.n % 3) x[i] = -INFINITY;
    if (kind == 3) x[pare_rng_below(&r->rng, (uint64_t)n)] = NAN;
    for (int64_t i = 0; kind == 5 && i < s.outer * s.inner; i++) /* one number per row rules it */
        x[(i / s.inner * s.n + (int64_t)pare_rng_below(&r->rng, (uint64_t)s.n)) * s.inner + i % s.inner] = 1000.0f;
    if (soft) {
        c.attr.softmax.axis = s.inner == 1 ? -1 : 1;
        pc_out(r, &c, &pare_qtype_f32, c.in[0].ndim, c.in[0].shape);
        expect_softmax(r, &c, s);
    } else {
        int64_t *axes = pc_in(r, &c, PC_CONST, &pare_qtype_i64, PC_SHAPE(1));
        axes[0] = s.inner == 1 ? -1 : 1;
        if (s.inner == 1) pc_out(r, &c, &pare_qtype_f32, PC_SHAPE(s.outer, 1));
        else pc_out(r, &c, &pare_qtype_f32, PC_SHAPE(s.outer, 1, s.inner));
        expect_mean(r, &c, s);
    }
    pc_do(r, &c);
}

/* Several axes, and none named: all. */
static void mean_axes(pc_run *r, pare_op op, int which) {
    static const int64_t sets[3][2] = {{0, 2}, {1, 3}, {0, 3}};
    pc_case c;
    pc_begin(r, &c, op, "%s", which == 3 ? "all axes" : "two axes");
    pc_params(&c, "set %d", which);
    const float *x = pc_normal(r, &c, PC_SHAPE(3, 5, 4, 33), 1.0f);
    bool gone[4] = {which == 3, which == 3, which == 3, which == 3};
    if (which < 3) {
        int64_t *axes = pc_in(r, &c, PC_CONST, &pare_qtype_i64, PC_SHAPE(2));
        for (int i = 0; i < 2; i++) axes[i] = sets[which][i], gone[axes[i]] = true;
    }
    int64_t dims[4] = {3, 5, 4, 33}, y[4], per = 1;
    for (int i = 0; i < 4; i++) y[i] = gone[i] ? 1 : dims[i], per *= gone[i] ? dims[i] : 1;
    if (op == PARE_OP_ReduceSum) per = 1;
    pc_out(r, &c, &pare_qtype_f32, 4, y);
    pc_expect(r, &c, 0, "1 unit in the last place");
    for (int64_t i = 0; i < 3 * 5 * 4 * 33; i++) {
        int64_t rest = i, at = 0, step = 1;
        for (int k = 3; k >= 0; k--) at += gone[k] ? 0 : rest % dims[k] * step, step *= y[k], rest /= dims[k];
        c.want[0][at] += (double)x[i] / (double)per, c.bound[0][at] += 1e-13 * fabs((double)x[i]);
    }
    for (int64_t i = 0; i < pare_tensor_elems(&c.out[0]); i++) c.bound[0][i] += ULP * fabs(c.want[0][i]);
    pc_do(r, &c);
}

/* ---- rotary: bits of the reference ---- */

static void rotary(pc_run *r, int64_t seq, int64_t heads, int64_t size, int64_t dim, bool interleaved, int ndim,
                   bool ids) {
    pc_case c;
    int64_t half = (dim ? dim : size) / 2, positions = ids ? 50 : 2 * seq;
    pc_begin(r, &c, PARE_OP_RotaryEmbedding, "%s%s", interleaved ? "interleaved" : "halves", ids ? " positions" : "");
    pc_params(&c, "seq=%lld heads=%lld size=%lld dim=%lld ndim=%d", (long long)seq, (long long)heads, (long long)size,
              (long long)dim, ndim);
    c.attr.rotary = (pare_attr_rotary){interleaved, heads, dim};
    if (ndim == 4) pc_normal(r, &c, PC_SHAPE(2, heads, seq, size), 1.0f);
    else pc_normal(r, &c, PC_SHAPE(2, seq, heads * size), 1.0f);
    for (int i = 0; i < 2; i++) {
        if (ids) pc_normal(r, &c, PC_SHAPE(positions, half), 1.0f);
        else pc_normal(r, &c, PC_SHAPE(2, seq, half), 1.0f);
    }
    if (ids) {
        int64_t *p = pc_in(r, &c, PC_INPUT, &pare_qtype_i64, PC_SHAPE(2, seq));
        for (int64_t i = 0; i < 2 * seq; i++) p[i] = (int64_t)pare_rng_below(&r->rng, (uint64_t)positions);
    }
    pc_out(r, &c, &pare_qtype_f32, c.in[0].ndim, c.in[0].shape);
    pc_do(r, &c);
}

static void rotaries(pc_run *r) {
    static const int64_t sizes[][2] = {{8, 0}, {64, 0}, {64, 32}, {128, 0}, {6, 0}, {10, 4}, {36, 12}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int way = 0; way < 8; way++)
            rotary(r, 1 + (int64_t)pare_rng_below(&r->rng, 9), 1 + (int64_t)pare_rng_below(&r->rng, 5), sizes[i][0],
                   sizes[i][1], way & 1, way & 2 ? 3 : 4, way & 4);
}

void pc_cases_norms(pc_run *r) {
    static const int64_t inners[] = {2, 5, 33, 64};
    for (int op = PARE_OP_LayerNormalization; op <= PARE_OP_RMSNormalization; op++) {
        if (!pc_wants(r, (pare_op)op)) continue;
        for (int i = 0; i < N_LENGTHS; i++)
            for (int kind = 0; kind < 6; kind++)
                if (r->full || kind == i % 6 || kind == 0)
                    norm(r, (pare_op)op, 1 + (int64_t)pare_rng_below(&r->rng, 6), row_lengths[i], kind);
        norm_spread(r, (pare_op)op);
    }
    static const pare_op along[] = {PARE_OP_Softmax, PARE_OP_ReduceMean, PARE_OP_LogSoftmax, PARE_OP_ReduceSum};
    for (int turn = 0; turn < 4; turn++) {
        pare_op op = along[turn];
        if (!pc_wants(r, op)) continue;
        for (int i = 0; i < N_LENGTHS; i++)
            for (int kind = 0; kind < 6; kind++) {
                int64_t outer = 1 + (int64_t)pare_rng_below(&r->rng, 5);
                if (!r->full && kind && kind != 5 && kind != 1 + i % 4) continue;
                over_axis(r, op, (span){outer, row_lengths[i], 1}, kind);
                if (row_lengths[i] < 200)
                    over_axis(r, op, (span){outer, row_lengths[i], inners[pare_rng_below(&r->rng, 4)]}, kind);
            }
    }
    for (int turn = 1; turn < 4; turn += 2)
        for (int which = 0; which < 4 && pc_wants(r, along[turn]); which++) mean_axes(r, along[turn], which);
    if (pc_wants(r, PARE_OP_RotaryEmbedding)) rotaries(r);
}
