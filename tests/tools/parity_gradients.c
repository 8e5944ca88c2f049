/* SPDX-License-Identifier: Apache-2.0
 *
 * Operators of gradients and losses: slopes against libm in double, what moves or is summed in an order by the bits of
 * the reference. Exp, Log, Sign, LogSoftmax and ReduceSum are among their kin (parity_elementwise.c, parity_norms.c),
 * gradients with sums in parity_grad_sums.c.
 */
#include "tests/tools/parity_grad.h"

#include <math.h>

/* f'(x), and what its rounding errors are relative to. */
static double slope(const pc_case *c, double x, double *mag) {
    if (c->op == PARE_OP_SwishGrad) {
        double a = (double)c->attr.swish.alpha, s = 1 / (1 + exp(-a * x));
        *mag = s * (1 + fabs(a * x)) * (1 + fabs(a * x));
        return s * (1 + a * x * (1 - s));
    }
    if (c->attr.gelu.tanh_approx) {
        double u = 0.7978845608028654 * (x + 0.044715 * x * x * x), t = tanh(u);
        double du = 0.7978845608028654 * (1 + 0.134145 * x * x);
        *mag = 1 + fabs(t) + (1 - t * t) * (1 + fabs(u)) * (1 + fabs(x * du)) + fabs(0.5 * x * du) * 2 * fabs(t);
        return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * du;
    }
    double phi = 0.3989422804014327 * exp(-0.5 * x * x);
    *mag = 1 + fabs(x) * phi * (1 + x * x);
    return 0.5 * (1 + erf(x * 0.7071067811865476)) + x * phi;
}

static void unary_grad(pc_run *r, pare_op op, int64_t n, bool tanh_approx) {
    pc_case c;
    pc_begin(r, &c, op, "%s", tanh_approx ? "tanh" : "f32");
    pc_params(&c, "n=%lld", (long long)n);
    if (op == PARE_OP_GeluGrad) c.attr.gelu.tanh_approx = tanh_approx;
    else c.attr.swish.alpha = n % 2 ? 1.0f : 1.702f;
    const float *dy = pc_normal(r, &c, PC_SHAPE(n), 1.0f);
    float *x = pc_normal(r, &c, PC_SHAPE(n), 3.0f);
    if (n > 4) x[n / 2] = NAN, x[1] = 0, x[2] = -20.0f, x[3] = 20.0f;
    pc_out(r, &c, &pare_qtype_f32, PC_SHAPE(n));
    pc_expect(r, &c, 0, "8 units of |dY| and the terms of f'");
    for (int64_t i = 0; i < n; i++) {
        double mag = 0, y = slope(&c, (double)x[i], &mag);
        c.want[0][i] = (double)dy[i] * y;
        c.bound[0][i] = 8 * 0x1p-23 * fabs((double)dy[i]) * mag + 1.2e-38;
    }
    pc_do(r, &c);
}

static void ints(pc_run *r, pc_case *c, int n, const int64_t *v) {
    int64_t *p = pc_in(r, c, PC_CONST, &pare_qtype_i64, PC_SHAPE(n));
    for (int i = 0; i < n; i++) p[i] = v[i];
}

/* ---- shapes ---- */

static void expand(pc_run *r, int which) {
    static const struct {
        int nx, ny;
        int64_t x[4], y[4];
    } shapes[] = {{1, 2, {33}, {4, 33}},     {2, 2, {5, 1}, {5, 70}},
                  {2, 3, {3, 1}, {2, 3, 4}}, {4, 4, {2, 1, 3, 1}, {2, 5, 3, 6}},
                  {0, 2, {0}, {3, 4}},       {3, 3, {1, 1, 256}, {7, 9, 256}},
                  {2, 2, {1, 5}, {0, 5}},    {2, 2, {6, 6}, {6, 6}},
                  {1, 1, {1}, {1000}}};
    int n = sizeof shapes / sizeof *shapes;
    if (which >= n) return;
    pc_case c;
    pc_begin(r, &c, PARE_OP_Expand, "f32");
    pc_params(&c, "shapes %d", which);
    pc_normal(r, &c, shapes[which].nx, shapes[which].x, 1.0f);
    ints(r, &c, shapes[which].ny, shapes[which].y);
    pc_out(r, &c, &pare_qtype_f32, shapes[which].ny, shapes[which].y);
    pc_do(r, &c);
}

static void shape(pc_run *r, int64_t start, int64_t end, int64_t n) {
    pc_case c;
    pc_begin(r, &c, PARE_OP_Shape, "f32");
    pc_params(&c, "[%lld, %lld) of 4", (long long)start, (long long)end);
    c.attr.shape.start = start, c.attr.shape.end = end;
    pc_normal(r, &c, PC_SHAPE(4, 33, 1, 2), 1.0f);
    pc_out(r, &c, &pare_qtype_i64, PC_SHAPE(n));
    pc_do(r, &c);
}

static void fill(pc_run *r, int64_t rows, float value) {
    pc_case c;
    pc_begin(r, &c, PARE_OP_ConstantOfShape, "f32");
    pc_params(&c, "[%lld, 77] of %g", (long long)rows, (double)value);
    c.attr.fill.value = value;
    ints(r, &c, 2, (const int64_t[]){rows, 77});
    pc_out(r, &c, &pare_qtype_f32, PC_SHAPE(rows, 77));
    pc_do(r, &c);
}

/* ---- scatter: rows that are named several times, in order ---- */

static void scatter(pc_run *r, int64_t rows, int64_t unit, int64_t tuples, int depth, pare_scatter how) {
    static const char *const names[] = {"set", "add", "mul", "max", "min"};
    pc_case c;
    pc_begin(r, &c, PARE_OP_ScatterND, "%s", names[how]);
    pc_params(&c, "%lld of %lld into %lld rows, depth %d", (long long)tuples, (long long)unit, (long long)rows, depth);
    c.attr.scatter_nd.reduction = how;
    if (depth == 2) pc_normal(r, &c, PC_SHAPE(rows, 3, unit), 1.0f);
    else pc_normal(r, &c, PC_SHAPE(rows, unit), 1.0f);
    int64_t *at = pc_in(r, &c, PC_INPUT, &pare_qtype_i64, PC_SHAPE(tuples, depth));
    for (int64_t i = 0; i < tuples * depth; i++) {
        int64_t dim = i % depth ? 3 : rows, v = (int64_t)pare_rng_below(&r->rng, (uint64_t)dim);
        at[i] = pare_rng_below(&r->rng, 4) ? v : v - dim; /* from the end */
    }
    pc_normal(r, &c, PC_SHAPE(tuples, unit), 1.0f);
    pc_out(r, &c, &pare_qtype_f32, c.in[0].ndim, c.in[0].shape);
    pc_do(r, &c);
}

/* One row is all there is; indices of 32 bits, written over the data. */
static void scatter_narrow(pc_run *r, int64_t rows, int64_t unit, int64_t tuples) {
    pc_case c;
    pc_begin(r, &c, PARE_OP_ScatterND, "add, i32 in place");
    pc_params(&c, "%lld of %lld into %lld rows", (long long)tuples, (long long)unit, (long long)rows);
    c.attr.scatter_nd.reduction = PARE_SCATTER_ADD;
    pc_normal(r, &c, PC_SHAPE(rows, unit), 1.0f);
    int32_t *at = pc_in(r, &c, PC_INPUT, &pare_qtype_i32, PC_SHAPE(tuples, 1));
    for (int64_t i = 0; i < tuples; i++) at[i] = (int32_t)pare_rng_below(&r->rng, (uint64_t)rows);
    pc_normal(r, &c, PC_SHAPE(tuples, unit), 1.0f);
    pc_out(r, &c, &pare_qtype_f32, PC_SHAPE(rows, unit));
    c.alias = 0;
    pc_do(r, &c);
}

void pc_cases_gradients(pc_run *r) {
    static const int64_t lengths[] = {1, 3, 4, 5, 127, 1024, 1025, 4099};
    for (int i = 0; i < 8; i++) {
        if (pc_wants(r, PARE_OP_SwishGrad)) unary_grad(r, PARE_OP_SwishGrad, lengths[i], false);
        for (int t = 0; t < 2; t++)
            if (pc_wants(r, PARE_OP_GeluGrad)) unary_grad(r, PARE_OP_GeluGrad, lengths[i], t);
    }
    for (int i = 0; i < 9; i++)
        if (pc_wants(r, PARE_OP_Expand)) expand(r, i);
    if (pc_wants(r, PARE_OP_Shape)) shape(r, 0, INT64_MAX, 4), shape(r, 1, 3, 2), shape(r, -2, INT64_MAX, 2);
    if (pc_wants(r, PARE_OP_ConstantOfShape)) fill(r, 5, 1.0f), fill(r, 0, 2.0f), fill(r, 300, -0.5f);
    for (int how = 0; how < 5 && pc_wants(r, PARE_OP_ScatterND); how++) {
        scatter(r, 6, 40, 8, 1, (pare_scatter)how), scatter(r, 9, 1, 300, 1, (pare_scatter)how);
        scatter(r, 40, 130, 129, 1, (pare_scatter)how), scatter(r, 5, 7, 20, 2, (pare_scatter)how);
    }
    if (pc_wants(r, PARE_OP_ScatterND))
        scatter_narrow(r, 1, 8, 300), scatter_narrow(r, 50, 130, 513), scatter_narrow(r, 3000, 1, 129);
    pc_cases_norm_grads(r);
    pc_cases_attention_grads(r);
}
