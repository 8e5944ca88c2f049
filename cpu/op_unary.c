/* SPDX-License-Identifier: Apache-2.0
 *
 * Elementwise functions of one f32 tensor (Sqrt, Erf, Exp, Log, Sign, Sigmoid, Tanh, Relu, Gelu, Swish), and
 * Softmax and LogSoftmax over any axis. */
#include "cpu/ops_cpu.h"
#include "cpu/vec.h"

#include <math.h>

#define COLS     4096
#define EXP_WORK 4 /* an exponential weighs about as much as this many additions */

typedef struct unary_job {
    pare_unary_f32_fn *fn;
    const float *x;
    float *y;
    size_t n;
    float alpha;
} unary_job;

static void unary_item(void *ctx, size_t i) {
    const unary_job *j = ctx;
    size_t first = i * COLS, n = j->n - first < COLS ? j->n - first : COLS;
    j->fn(j->x + first, j->y + first, n, j->alpha);
}

bool pare_cpu_unary_supports(const pare_op_call *c) { return pare_cpu_is_f32(c->in[0]) && pare_cpu_is_f32(c->out[0]); }

static pare_unary_f32_fn *unary_fn(const pare_op_call *c) {
    const pare_vec_table *v = pare_vec();
    switch (c->op) {
    case PARE_OP_Sqrt: return v->sqrt_f32;
    case PARE_OP_Erf: return v->erf_f32;
    case PARE_OP_Exp: return v->exp_f32;
    case PARE_OP_Log: return v->log_f32;
    case PARE_OP_Sign: return v->sign_f32;
    case PARE_OP_Sigmoid: return v->sigmoid_f32;
    case PARE_OP_Tanh: return v->tanh_f32;
    case PARE_OP_Relu: return v->relu_f32;
    case PARE_OP_Gelu:
        return c->attr && ((const pare_attr_gelu *)c->attr)->tanh_approx ? v->gelu_tanh_f32 : v->gelu_f32;
    default: return v->swish_f32;
    }
}

pare_status pare_cpu_unary_run(const pare_op_call *c, pare_diag *d) {
    const pare_tensor *x = c->in[0];
    if (!pare_cpu_same_shape(x, c->out[0])) return pare_cpu_fail(c, d, "input and output differ in shape");
    unary_job j = {unary_fn(c), x->data, c->out[0]->data, (size_t)pare_tensor_elems(x), 1.0f};
    if (c->op == PARE_OP_Swish && c->attr) j.alpha = ((const pare_attr_swish *)c->attr)->alpha;
    pare_cpu_for((j.n + COLS - 1) / COLS, COLS * EXP_WORK, unary_item, &j);
    return PARE_OK;
}

typedef struct softmax_job {
    void (*row)(const float *x, float *y, size_t n);
    const float *x;
    float *y;
    size_t n, inner;
} softmax_job;

static void softmax_item(void *ctx, size_t i) {
    const softmax_job *j = ctx;
    j->row(j->x + i * j->n, j->y + i * j->n, j->n);
}

/* An axis that is not the last: each column is a strided vector; rare, so kept plain. */
static void softmax_column(void *ctx, size_t i) {
    const softmax_job *j = ctx;
    size_t at = i / j->inner * j->n * j->inner + i % j->inner;
    const float *x = j->x + at;
    float *y = j->y + at, max = -INFINITY;
    for (size_t k = 0; k < j->n; k++)
        if (!(x[k * j->inner] <= max)) max = x[k * j->inner];
    double sum = 0;
    for (size_t k = 0; k < j->n; k++) sum += y[k * j->inner] = expf(x[k * j->inner] - max);
    for (size_t k = 0; k < j->n; k++) y[k * j->inner] = (float)(y[k * j->inner] / sum);
}

/* y = x - max - log sum exp(x - max); the sum in double, in the row's order. */
static void log_softmax_row(const float *x, float *y, size_t n) {
    const pare_vec_table *v = pare_vec();
    float max = -INFINITY, e[256];
    for (size_t i = 0; i < n; i++)
        if (!(x[i] <= max)) max = x[i];
    double sum = 0;
    for (size_t i = 0; i < n; i += 256) {
        size_t m = n - i < 256 ? n - i : 256;
        v->sub_f32(x + i, &max, e, m, PARE_VEC_B1);
        v->exp_f32(e, e, m, 0);
        for (size_t k = 0; k < m; k++) sum += e[k];
    }
    double log_sum = log(sum);
    for (size_t i = 0; i < n; i++) y[i] = (float)((double)x[i] - max - log_sum);
}

static void log_softmax_column(void *ctx, size_t i) {
    const softmax_job *j = ctx;
    size_t at = i / j->inner * j->n * j->inner + i % j->inner;
    const float *x = j->x + at;
    float *y = j->y + at, max = -INFINITY;
    for (size_t k = 0; k < j->n; k++)
        if (!(x[k * j->inner] <= max)) max = x[k * j->inner];
    double sum = 0;
    for (size_t k = 0; k < j->n; k++) sum += expf(x[k * j->inner] - max);
    for (size_t k = 0; k < j->n; k++) y[k * j->inner] = (float)((double)x[k * j->inner] - max - log(sum));
}

static pare_status over_axis(const pare_op_call *c, void (*row)(const float *x, float *y, size_t n),
                             pare_item_fn *column, pare_diag *d) {
    const pare_tensor *x = c->in[0];
    int axis = pare_cpu_axis(c->attr ? ((const pare_attr_softmax *)c->attr)->axis : -1, x->ndim);
    if (axis < 0 || !pare_cpu_same_shape(x, c->out[0]))
        return pare_cpu_fail(c, d, "the axis does not exist, or input and output differ in shape");
    softmax_job j = {row, x->data, c->out[0]->data, (size_t)x->shape[axis],
                     (size_t)pare_cpu_span(x, axis + 1, x->ndim)};
    size_t rows = (size_t)pare_cpu_span(x, 0, axis) * j.inner;
    if (j.n) pare_cpu_for(rows, j.n * EXP_WORK, j.inner == 1 ? softmax_item : column, &j);
    return PARE_OK;
}

pare_status pare_cpu_softmax_run(const pare_op_call *c, pare_diag *d) {
    return over_axis(c, pare_vec()->softmax_f32, softmax_column, d);
}

pare_status pare_cpu_log_softmax_run(const pare_op_call *c, pare_diag *d) {
    return over_axis(c, log_softmax_row, log_softmax_column, d);
}
