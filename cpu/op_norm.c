/* SPDX-License-Identifier: Apache-2.0
 *
 * LayerNormalization and RMSNormalization over dimensions axis .. last. Scale and bias broadcast to x; the usual case,
 * one value per normalized element, is done in the row kernel, any other in a second pass. */
#include "cpu/ops_cpu.h"
#include "cpu/vec.h"

#include <math.h>

bool pare_cpu_norm_supports(const pare_op_call *c) {
    for (int i = 0; i < c->n_out; i++)
        if (c->out[i] && !pare_cpu_is_f32(c->out[i])) return false;
    return pare_cpu_is_f32(c->in[0]) && pare_cpu_decodable(c->in[1]) &&
           (c->n_in < 3 || !c->in[2] || pare_cpu_decodable(c->in[2]));
}

size_t pare_cpu_norm_workspace(const pare_op_call *c) {
    return pare_cpu_f32_bytes(c->in[1]) + (c->n_in > 2 ? pare_cpu_f32_bytes(c->in[2]) : 0);
}

typedef struct norm_job {
    const float *x, *scale, *bias;
    float *y, *mean, *inv;
    size_t n;
    float eps;
    bool layer;
} norm_job;

static void norm_item(void *ctx, size_t i) {
    const norm_job *j = ctx;
    const float *x = j->x + i * j->n;
    float *y = j->y + i * j->n, stats[2];
    if (!j->layer) {
        pare_vec()->rms_norm_f32(x, j->scale, y, j->n, j->eps);
        return;
    }
    pare_vec()->layer_norm_f32(x, j->scale, j->bias, y, j->n, j->eps, stats);
    if (j->mean) j->mean[i] = stats[0];
    if (j->inv) j->inv[i] = stats[1];
}

/* One value per normalized element: t's shape, leading ones dropped, equals x's from axis on. */
static bool per_element(const pare_tensor *t, const pare_tensor *x, int axis) {
    if (!t) return true;
    if (t->ndim > x->ndim) return false;
    for (int k = 0; k < x->ndim; k++) {
        int64_t dim = k < t->ndim ? t->shape[t->ndim - 1 - k] : 1;
        if (dim != (x->ndim - 1 - k >= axis ? x->shape[x->ndim - 1 - k] : 1)) return false;
    }
    return true;
}

pare_status pare_cpu_norm_run(const pare_op_call *c, pare_diag *d) {
    const pare_attr_norm *attr = c->attr;
    const pare_tensor *x = c->in[0], *y = c->out[0], *scale = c->in[1], *bias = c->n_in > 2 ? c->in[2] : NULL;
    int axis = pare_cpu_axis(attr ? attr->axis : -1, x->ndim);
    if (axis < 0 || !pare_cpu_same_shape(x, y))
        return pare_cpu_fail(c, d, "the axis does not exist, or the output has another shape");
    size_t rows = (size_t)pare_cpu_span(x, 0, axis);
    char *scratch = c->workspace;
    const float *scale_data = pare_cpu_f32(scale, &scratch), *bias_data = pare_cpu_f32(bias, &scratch);
    bool fused = per_element(scale, x, axis) && per_element(bias, x, axis);
    norm_job j = {.x = x->data,
                  .y = y->data,
                  .n = (size_t)pare_cpu_span(x, axis, x->ndim),
                  .layer = c->op == PARE_OP_LayerNormalization};
    j.eps = attr ? attr->epsilon : 1e-5f;
    if (fused) j.scale = scale_data, j.bias = bias_data;
    for (int i = 1; i < c->n_out; i++)
        if (c->out[i] && (size_t)pare_tensor_elems(c->out[i]) != rows)
            return pare_cpu_fail(c, d, "output %d should have %zu elements", i, rows);
    if (c->n_out > 1 && c->out[1]) j.mean = c->out[1]->data;
    if (c->n_out > 2 && c->out[2]) j.inv = c->out[2]->data;
    if (j.n == 0) return PARE_OK;
    pare_cpu_for(rows, 2 * j.n, norm_item, &j);
    if (fused) return PARE_OK;
    bool ok = pare_cpu_binary_f32(PARE_OP_Mul, y, y->data, scale, scale_data, y) &&
              (!bias || pare_cpu_binary_f32(PARE_OP_Add, y, y->data, bias, bias_data, y));
    return ok ? PARE_OK : pare_cpu_fail(c, d, "scale or bias does not broadcast to the input");
}
