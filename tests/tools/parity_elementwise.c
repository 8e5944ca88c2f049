/* SPDX-License-Identifier: Apache-2.0
 *
 * Add to Swish: lengths around vectors and blocks, broadcasting, in place; functions against libm in double. */
#include "tests/tools/parity.h"

#include <math.h>
#include <string.h>

static const float special[] = {0.0f,    -0.0f,    1.0f,    -1.0f,    INFINITY, -INFINITY, NAN,     1e-42f, -1e-42f,
                                1e30f,   -1e30f,   1e-30f,  88.0f,    -88.0f,   104.0f,    -104.0f, 9.0f,   -9.0f,
                                3.9e-3f, -3.9e-3f, 3.4e38f, -3.4e38f, 0.5f,     -0.5f,     5.5f,    -5.5f};
#define N_SPECIAL ((int64_t)(sizeof special / sizeof *special))

static void sprinkle(pc_run *r, float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (pare_rng_below(&r->rng, 5) == 0) x[i] = special[pare_rng_below(&r->rng, (uint64_t)N_SPECIAL)];
}

/* ---- two operands ---- */

typedef struct shapes {
    int na, nb, ny;
    int64_t a[4], b[4], y[4];
} shapes;
static const shapes pairs[] = {
    {1, 1, 1, {1}, {1}, {1}},
    {1, 1, 1, {255}, {255}, {255}},
    {2, 2, 2, {3, 257}, {3, 257}, {3, 257}},
    {2, 1, 2, {5, 96}, {96}, {5, 96}},
    {2, 1, 2, {5, 96}, {1}, {5, 96}},
    {2, 0, 2, {5, 96}, {0}, {5, 96}},
    {1, 2, 2, {7}, {9, 7}, {9, 7}},
    {3, 3, 3, {4, 1, 5}, {1, 6, 5}, {4, 6, 5}},
    {3, 2, 3, {2, 3, 4}, {3, 1}, {2, 3, 4}},
    {4, 4, 4, {2, 1, 3, 1}, {1, 5, 1, 33}, {2, 5, 3, 33}},
    {2, 2, 2, {64, 64}, {64, 1}, {64, 64}},
    {2, 2, 2, {0, 5}, {1, 5}, {0, 5}},
    {2, 2, 2, {33, 1000}, {33, 1000}, {33, 1000}},
};

static void binary(pc_run *r, pare_op op) {
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        for (int in_place = 0; in_place < 2; in_place++) {
            const shapes *s = &pairs[i];
            pc_case c;
            if (in_place && (s->na != s->ny || memcmp(s->a, s->y, sizeof s->a) != 0)) continue;
            pc_begin(r, &c, op, "%s", in_place ? "in place" : "broadcast");
            pc_params(&c, "shapes %zu", i);
            float *a = pc_normal(r, &c, s->na, s->a, 1.0f), *b = pc_normal(r, &c, s->nb, s->b, 1.0f);
            sprinkle(r, a, pare_tensor_elems(&c.in[0]));
            sprinkle(r, b, pare_tensor_elems(&c.in[1]));
            pc_out(r, &c, &pare_qtype_f32, s->ny, s->y);
            if (in_place) c.alias = 0;
            pc_do(r, &c);
        }
}

/* ---- one operand ---- */

/* Value, and the magnitude that rounding errors of the formula are relative to. */
static double value_of(pare_op op, const pc_attr *attr, double x, double *mag) {
    double y, alpha = (double)attr->swish.alpha;
    switch (op) {
    case PARE_OP_Erf: y = erf(x); break;
    case PARE_OP_Tanh: y = tanh(x); break;
    case PARE_OP_Exp: y = exp(x) > 3.4028235e38 ? INFINITY : exp(x); break;
    case PARE_OP_Log: y = log(x); break;
    case PARE_OP_Sigmoid: y = 1 / (1 + exp(-x)); break;
    case PARE_OP_Swish:
        y = x / (1 + exp(-alpha * x));
        *mag = fabs(y) * (1 + fabs(alpha * x)); /* the rounding of alpha * x goes through exp */
        return y;
    default:
        if (attr->gelu.tanh_approx) {
            double u = 0.7978845608028654 * (x + 0.044715 * x * x * x), t = tanh(u);
            *mag = fabs(0.5 * x) * (1 + fabs(t) + (1 - t * t) * fabs(u)); /* 1 + t cancels for negative x */
            return 0.5 * x * (1 + t);
        }
        *mag = fabs(0.5 * x) * 2;
        return 0.5 * x * (1 + erf(x * 0.7071067811865476));
    }
    *mag = fabs(y);
    return y;
}

static void expect(pc_run *r, pc_case *c, const float *x, int64_t n) {
    pc_expect(r, c, 0, "8 units in the last place");
    for (int64_t i = 0; i < n; i++) {
        double mag, v = (double)x[i], *want = &c->want[0][i];
        *want = value_of(c->op, &c->attr, v, &mag);
        c->bound[0][i] = 8 * 0x1p-23 * mag + 1.2e-38;
    }
}

static void unary(pc_run *r, pare_op op, bool tanh_approx) {
    static const int64_t lengths[] = {1, 3, 4, 5, 127, 128, 1023, 1024, 1025, 4099};
    bool bits = op == PARE_OP_Sqrt || op == PARE_OP_Relu || op == PARE_OP_Sign;
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        for (int in_place = 0; in_place < 2; in_place++) {
            pc_case c;
            pc_begin(r, &c, op, "%s%s", tanh_approx ? "tanh" : "f32", in_place ? " in place" : "");
            pc_params(&c, "n=%lld", (long long)lengths[i]);
            c.attr.gelu.tanh_approx = tanh_approx;
            if (op == PARE_OP_Swish) c.attr.swish.alpha = i % 2 ? 1.0f : 1.702f;
            float *x = pc_normal(r, &c, 1, &lengths[i], 3.0f);
            bool smooth = op == PARE_OP_Gelu || op == PARE_OP_Swish; /* at infinities formulas differ: not promised */
            if (!smooth) sprinkle(r, x, lengths[i]);
            if (smooth && lengths[i] > 4) x[lengths[i] / 2] = NAN, x[1] = 0, x[2] = -0.0f, x[3] = -20.0f;
            pc_out(r, &c, &pare_qtype_f32, 1, &lengths[i]);
            if (!bits) expect(r, &c, x, lengths[i]);
            if (in_place) c.alias = 0;
            pc_do(r, &c);
        }
}

void pc_cases_elementwise(pc_run *r) {
    static const pare_op two[] = {PARE_OP_Add, PARE_OP_Sub, PARE_OP_Mul, PARE_OP_Div};
    static const pare_op one[] = {PARE_OP_Sqrt, PARE_OP_Erf,   PARE_OP_Sigmoid, PARE_OP_Tanh, PARE_OP_Relu,
                                  PARE_OP_Gelu, PARE_OP_Swish, PARE_OP_Exp,     PARE_OP_Log,  PARE_OP_Sign};
    for (size_t i = 0; i < sizeof two / sizeof *two; i++)
        if (pc_wants(r, two[i])) binary(r, two[i]);
    for (size_t i = 0; i < sizeof one / sizeof *one; i++)
        if (pc_wants(r, one[i])) unary(r, one[i], false);
    if (pc_wants(r, PARE_OP_Gelu)) unary(r, PARE_OP_Gelu, true);
}
