/* SPDX-License-Identifier: Apache-2.0
 *
 * GeluGrad and SwishGrad: dX = dY f'(X), with the derivatives of
 *   gelu   x Phi(x): Phi(x) + x phi(x); tanh form: (1 + t) / 2 + x (1 - t^2) u'(x) / 2, t = tanh u (Hendrycks and
 * Gimpel) swish  x s(ax): s + a x s (1 - s) (Ramachandran et al. 2017) */
#include "cpu/ops_cpu.h"
#include "cpu/vec.h"

#define COLS  4096
#define BLOCK 512 /* what is on the stack at a time */

typedef struct grad_job {
    const float *dy, *x;
    float *dx;
    size_t n;
    pare_op op;
    bool tanh_approx;
    float alpha;
} grad_job;

static void swish_block(const grad_job *j, const float *dy, const float *x, float *dx, size_t n) {
    float s[BLOCK];
    for (size_t i = 0; i < n; i++) s[i] = j->alpha * x[i];
    pare_vec()->sigmoid_f32(s, s, n, 0);
    for (size_t i = 0; i < n; i++) dx[i] = dy[i] * (s[i] * (1.0f + j->alpha * x[i] * (1.0f - s[i])));
}

static void gelu_block(const grad_job *j, const float *dy, const float *x, float *dx, size_t n) {
    float a[BLOCK], b[BLOCK];
    for (size_t i = 0; i < n; i++) a[i] = x[i] * 0.70710678f, b[i] = -0.5f * x[i] * x[i];
    pare_vec()->erf_f32(a, a, n, 0);
    pare_vec()->exp_f32(b, b, n, 0);
    for (size_t i = 0; i < n; i++) dx[i] = dy[i] * (0.5f * (1.0f + a[i]) + x[i] * 0.39894228f * b[i]);
}

static void gelu_tanh_block(const grad_job *j, const float *dy, const float *x, float *dx, size_t n) {
    float t[BLOCK];
    for (size_t i = 0; i < n; i++) t[i] = 0.79788456f * (x[i] + 0.044715f * x[i] * x[i] * x[i]);
    pare_vec()->tanh_f32(t, t, n, 0);
    for (size_t i = 0; i < n; i++) {
        float slope = 0.79788456f * (1.0f + 0.134145f * x[i] * x[i]);
        dx[i] = dy[i] * (0.5f * (1.0f + t[i]) + 0.5f * x[i] * (1.0f - t[i] * t[i]) * slope);
    }
}

static void grad_item(void *ctx, size_t item) {
    const grad_job *j = ctx;
    size_t first = item * COLS, end = j->n - first < COLS ? j->n : first + COLS;
    for (size_t i = first; i < end; i += BLOCK) {
        size_t n = end - i < BLOCK ? end - i : BLOCK;
        if (j->op == PARE_OP_SwishGrad) swish_block(j, j->dy + i, j->x + i, j->dx + i, n);
        else if (j->tanh_approx) gelu_tanh_block(j, j->dy + i, j->x + i, j->dx + i, n);
        else gelu_block(j, j->dy + i, j->x + i, j->dx + i, n);
    }
}

bool pare_cpu_unary_grad_supports(const pare_op_call *c) {
    return pare_cpu_is_f32(c->in[0]) && pare_cpu_is_f32(c->in[1]) && pare_cpu_is_f32(c->out[0]);
}

pare_status pare_cpu_unary_grad_run(const pare_op_call *c, pare_diag *d) {
    const pare_tensor *x = c->in[1];
    if (!pare_cpu_same_shape(x, c->in[0]) || !pare_cpu_same_shape(x, c->out[0]))
        return pare_cpu_fail(c, d, "dY, X and dX differ in shape");
    grad_job j = {c->in[0]->data, x->data, c->out[0]->data, (size_t)pare_tensor_elems(x), c->op, false, 1.0f};
    if (c->attr && c->op == PARE_OP_SwishGrad) j.alpha = ((const pare_attr_swish *)c->attr)->alpha;
    if (c->attr && c->op == PARE_OP_GeluGrad) j.tanh_approx = ((const pare_attr_gelu *)c->attr)->tanh_approx;
    pare_cpu_for((j.n + COLS - 1) / COLS, COLS * 4, grad_item, &j);
    return PARE_OK;
}
