/* SPDX-License-Identifier: Apache-2.0
 *
 * ReduceMean and ReduceSum (axes are an input). Each output element is summed in double, in the input's order. */
#include "cpu/ops_cpu.h"

#define COLUMNS 64 /* of a block that is summed down together: its sums stay in the first-level cache */

bool pare_cpu_reduce_supports(const pare_op_call *c) {
    return pare_cpu_is_f32(c->in[0]) && pare_cpu_is_f32(c->out[0]) &&
           (c->n_in < 2 || !c->in[1] || pare_cpu_is_index(c->in[1]));
}

typedef struct reduce_job {
    const float *x;
    float *y;
    int n_kept, n_gone; /* coalescing is not worth it: at most 8 dimensions */
    int64_t kept[PARE_MAX_DIMS], kept_stride[PARE_MAX_DIMS], gone[PARE_MAX_DIMS], gone_stride[PARE_MAX_DIMS];
    size_t count, out; /* elements per output, outputs */
    double divisor;
} reduce_job;

static void reduce_item(void *ctx, size_t i) {
    const reduce_job *j = ctx;
    const float *x = j->x;
    size_t rest = i;
    for (int k = j->n_kept - 1; k >= 0; k--) {
        x += rest % (size_t)j->kept[k] * (size_t)j->kept_stride[k];
        rest /= (size_t)j->kept[k];
    }
    int64_t at[PARE_MAX_DIMS] = {0};
    double sum = 0;
    int last = j->n_gone - 1;
    size_t inner = last >= 0 ? (size_t)j->gone[last] : 1, step = last >= 0 ? (size_t)j->gone_stride[last] : 0;
    for (size_t done = 0; done < j->count; done += inner) {
        const float *p = x;
        for (int k = 0; k < last; k++) p += at[k] * j->gone_stride[k];
        for (size_t e = 0; e < inner; e++) sum += p[e * step];
        for (int k = last - 1; k >= 0 && ++at[k] == j->gone[k]; k--) at[k] = 0;
    }
    j->y[i] = (float)(sum / j->divisor);
}

/* The leading axes: rows of `out` elements are added up. */
static void columns_item(void *ctx, size_t item) {
    const reduce_job *j = ctx;
    size_t first = item * COLUMNS, n = j->out - first < COLUMNS ? j->out - first : COLUMNS;
    double sum[COLUMNS] = {0};
    for (size_t r = 0; r < j->count; r++) {
        const float *x = j->x + r * j->out + first;
        for (size_t k = 0; k < n; k++) sum[k] += x[k];
    }
    for (size_t k = 0; k < n; k++) j->y[first + k] = (float)(sum[k] / j->divisor);
}

static pare_status which_axes(const pare_op_call *c, bool gone[PARE_MAX_DIMS], pare_diag *d) {
    const pare_attr_reduce *attr = c->attr;
    const pare_tensor *x = c->in[0], *axes = c->n_in > 1 ? c->in[1] : NULL;
    int64_t n = axes ? pare_tensor_elems(axes) : 0;
    for (int k = 0; k < x->ndim; k++) gone[k] = n == 0 && !(attr && attr->noop_with_empty_axes);
    for (int64_t i = 0; i < n; i++) {
        int axis = pare_cpu_axis(pare_cpu_index(axes, i), x->ndim);
        if (axis < 0)
            return pare_cpu_fail(c, d, "axis %lld of a tensor of %d dimensions", (long long)pare_cpu_index(axes, i),
                                 x->ndim);
        gone[axis] = true;
    }
    return PARE_OK;
}

pare_status pare_cpu_reduce_run(const pare_op_call *c, pare_diag *d) {
    const pare_tensor *x = c->in[0];
    bool gone[PARE_MAX_DIMS] = {0};
    PARE_TRY(which_axes(c, gone, d));
    reduce_job j = {.x = x->data, .y = c->out[0]->data, .count = 1, .out = 1};
    bool leading = true; /* no axis goes behind one that stays */
    for (int k = 0; k < x->ndim; k++) {
        int64_t stride = pare_cpu_span(x, k + 1, x->ndim);
        if (gone[k] && j.n_kept) leading = false;
        if (gone[k]) j.gone[j.n_gone] = x->shape[k], j.gone_stride[j.n_gone++] = stride, j.count *= (size_t)x->shape[k];
        else j.kept[j.n_kept] = x->shape[k], j.kept_stride[j.n_kept++] = stride, j.out *= (size_t)x->shape[k];
    }
    if ((size_t)pare_tensor_elems(c->out[0]) != j.out)
        return pare_cpu_fail(c, d, "the output should have %zu elements", j.out);
    j.divisor = c->op == PARE_OP_ReduceMean ? (double)j.count : 1;
    if (leading && j.n_gone && j.n_kept)
        pare_cpu_for((j.out + COLUMNS - 1) / COLUMNS, j.count * COLUMNS, columns_item, &j);
    else pare_cpu_for(j.out, j.count, reduce_item, &j);
    return PARE_OK;
}
