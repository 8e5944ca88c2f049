/* SPDX-License-Identifier: Apache-2.0
 *
 * LayerNormalizationGrad and RMSNormalizationGrad. With h = x normalized, r = 1 / its deviation and g = dY * scale, a
 * row of n elements has layer  dX = r (g - mean g - h mean(g h))        RMS  dX = r (g - h mean(g h)) d scale = sum
 * over rows of dY h                 d bias = sum over rows of dY Rows are cut into runs that depend on their number
 * alone; each run sums its share of d scale, and the shares are added in order. */
#include "cpu/ops_cpu.h"
#include "cpu/vec.h"

#include <math.h>
#include <string.h>

#define RUNS 32

typedef struct norm_job {
    const float *dy, *x, *scale;
    float *dx, *d_scale, *d_bias;
    float *shares, *scratch; /* per run: d scale and d bias; per thread: h and g */
    size_t rows, n, step;    /* step: rows of a run */
    float eps;
    bool layer;
} norm_job;

static size_t padded(size_t n) { return (n + 15) & ~(size_t)15; }
static size_t run_rows(size_t rows) { return (rows + RUNS - 1) / RUNS; }

static void one_row(const norm_job *j, size_t row, float *h, float *g, float *scale_share, float *bias_share) {
    const pare_vec_table *v = pare_vec();
    const float *dy = j->dy + row * j->n, *x = j->x + row * j->n;
    float *dx = j->dx + row * j->n, stats[2] = {0};
    size_t n = j->n;
    double mean_g = 0;
    if (j->layer) {
        v->layer_norm_f32(x, NULL, NULL, h, n, j->eps, stats);
        mean_g = (double)v->row_dot_f32(dy, j->scale, n) / (double)n;
    } else {
        stats[1] = (float)(1.0 / sqrt((double)v->row_dot_f32(x, x, n) / (double)n + (double)j->eps));
        v->mul_f32(x, &stats[1], h, n, PARE_VEC_B1);
    }
    v->mul_f32(dy, j->scale, g, n, PARE_VEC_AB);
    float mean_gh = (float)((double)v->row_dot_f32(g, h, n) / (double)n), shift = (float)mean_g;
    for (size_t i = 0; i < n; i++) dx[i] = stats[1] * (g[i] - shift - h[i] * mean_gh);
    if (scale_share)
        for (size_t i = 0; i < n; i++) scale_share[i] += dy[i] * h[i];
    if (bias_share)
        for (size_t i = 0; i < n; i++) bias_share[i] += dy[i];
}

static void run_item(void *ctx, size_t item) {
    const norm_job *j = ctx;
    float *h = j->scratch + (size_t)pare_thread_index() * 2 * padded(j->n), *g = h + padded(j->n);
    float *shares = j->shares + item * 2 * padded(j->n);
    size_t first = item * j->step, end = j->rows - first < j->step ? j->rows : first + j->step;
    memset(shares, 0, 2 * padded(j->n) * sizeof *shares);
    for (size_t r = first; r < end; r++)
        one_row(j, r, h, g, j->d_scale ? shares : NULL, j->d_bias ? shares + padded(j->n) : NULL);
}

static void add_shares(const norm_job *j, float *out, size_t at) {
    size_t runs = j->rows ? (j->rows + j->step - 1) / j->step : 0;
    for (size_t i = 0; out && i < j->n; i++) {
        double sum = 0;
        for (size_t k = 0; k < runs; k++) sum += (double)j->shares[k * 2 * padded(j->n) + at + i];
        out[i] = (float)sum;
    }
}

static bool axis_of(const pare_op_call *c, int *axis) {
    *axis = pare_cpu_axis(c->attr ? ((const pare_attr_norm *)c->attr)->axis : -1, c->in[1]->ndim);
    return *axis >= 0;
}

bool pare_cpu_norm_grad_supports(const pare_op_call *c) {
    int axis;
    for (int i = 0; i < 3; i++)
        if (!pare_cpu_is_f32(c->in[i]) || (i < c->n_out && c->out[i] && !pare_cpu_is_f32(c->out[i]))) return false;
    return axis_of(c, &axis);
}

size_t pare_cpu_norm_grad_workspace(const pare_op_call *c) {
    int axis;
    if (!axis_of(c, &axis)) return 0;
    return 2 * padded((size_t)pare_cpu_span(c->in[1], axis, c->in[1]->ndim)) * (RUNS + (size_t)pare_threads()) *
           sizeof(float);
}

pare_status pare_cpu_norm_grad_run(const pare_op_call *c, pare_diag *d) {
    const pare_tensor *x = c->in[1];
    int axis;
    if (!axis_of(c, &axis) || !pare_cpu_same_shape(x, c->in[0]) || !pare_cpu_same_shape(x, c->out[0]))
        return pare_cpu_fail(c, d, "dY, X and dX differ in shape, or the axis does not exist");
    norm_job j = {.dy = c->in[0]->data,
                  .x = x->data,
                  .scale = c->in[2]->data,
                  .dx = c->out[0]->data,
                  .rows = (size_t)pare_cpu_span(x, 0, axis),
                  .n = (size_t)pare_cpu_span(x, axis, x->ndim),
                  .eps = c->attr ? ((const pare_attr_norm *)c->attr)->epsilon : 1e-5f,
                  .layer = c->op == PARE_OP_LayerNormalizationGrad};
    for (int i = 1; i < c->n_out; i++)
        if (c->out[i] && (size_t)pare_tensor_elems(c->out[i]) != j.n)
            return pare_cpu_fail(c, d, "output %d should have %zu elements", i, j.n);
    if ((size_t)pare_tensor_elems(c->in[2]) != j.n)
        return pare_cpu_fail(c, d, "the scale should have %zu elements", j.n);
    if (c->n_out > 1 && c->out[1]) j.d_scale = c->out[1]->data;
    if (c->n_out > 2 && c->out[2]) j.d_bias = c->out[2]->data;
    j.step = run_rows(j.rows);
    j.shares = c->workspace;
    j.scratch = j.shares + RUNS * 2 * padded(j.n);
    if (j.rows && j.n) pare_cpu_for((j.rows + j.step - 1) / j.step, 6 * j.n * j.step, run_item, &j);
    add_shares(&j, j.d_scale, 0);
    add_shares(&j, j.d_bias, padded(j.n));
    return PARE_OK;
}
