/* SPDX-License-Identifier: Apache-2.0
 *
 * The pass, and what pruning sums up in it (api/gradients.h). Gradients are no outputs of the graph: a hook sees each
 * as it is made, and the planner gives its memory to the next. */
#include "api/gradients.h"

#include "core/log.h"
#include "core/status.h"
#include "core/threads.h"
#include "distill/loss.h"
#include "graph/grad.h"

#include <string.h>

#define RUN 65536

static pare_status no_memory(pare_diag *d) {
    return pare_fail(d, PARE_ERR_NOMEM, NULL, "gradients", "no memory for the gradients of the calibration text");
}

typedef struct pass {
    pare_weights *w;
    const pare_calib_data *data;
    pare_lm_run run;
    pare_value labels, loss, *grad; /* grad: per matrix */
    size_t n;
    int64_t *label;
    pare_binding *bind;
    pare_gradient_fn *take;
    void *ctx;
} pass;

static pare_status build(pass *p, const pare_value *weight, pare_diag *d) {
    const pare_arch *a = pare_weights_arch(p->w);
    const pare_grad_opts opts = {.recompute = true};
    const int64_t n_labels = p->data->ctx - 1;
    if (a->family != PARE_FAMILY_LLAMA)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, NULL, a->name,
                         "taylor takes gradients of the loss of the text's next token, and this model has none; use "
                         "another method");
    PARE_TRY(pare_lm_run_build(p->w, 0, &p->run, d));
    pare_graph *g = p->run.m.g;
    p->labels = pare_graph_input(g, "labels", &pare_qtype_i64, 1, &n_labels);
    p->loss = pare_loss_cross_entropy(g, p->run.m.out, p->labels);
    pare_graph_mark_output(g, p->loss);
    PARE_TRY(pare_graph_status(g, d));
    PARE_TRY(pare_grad_build(g, p->loss, (int)p->n, weight, &opts, p->grad, d));
    PARE_TRY(pare_lm_run_start(p->w, 0, &(pare_exec_opts){0}, &p->run, d));
    PARE_TRY(pare_lm_run_shape(&p->run, p->w, 1, p->data->ctx, NULL, 0, d));
    p->label = pare_malloc((size_t)n_labels * sizeof *p->label);
    p->bind = pare_malloc(((size_t)p->run.m.n_kv + 8) * sizeof *p->bind);
    return p->label && p->bind ? PARE_OK : no_memory(d);
}

static bool hook(void *ctx, int node, const char *name, pare_op op, const pare_tensor *out) {
    const pass *p = ctx;
    for (size_t i = 0; i < p->n; i++)
        if (p->run.m.g->nodes[node].out[0] == p->grad[i]) p->take(p->ctx, i, out->data);
    return false;
}

static pare_status windows(pass *p, pare_diag *d) {
    const pare_calib_data *c = p->data;
    int64_t all = c->batch * (int64_t)c->batches, vocab = pare_weights_arch(p->w)->vocab;
    pare_meter meter;
    pare_meter_start(&meter, "gradients", "windows", (uint64_t)all);
    pare_exec_set_hook(p->run.e, hook, p);
    for (int64_t w = 0; w < all; w++) {
        const int64_t *ids = c->ids + w * c->ctx;
        for (int64_t t = 0; t + 1 < c->ctx; t++) p->label[t] = t * vocab + ids[t + 1];
        int n = pare_lm_run_bindings(&p->run, ids, p->bind);
        p->bind[n++] = (pare_binding){p->labels, p->label};
        PARE_TRY(pare_exec_run(p->run.e, -1, p->bind, n, d));
        pare_meter_step(&meter, NULL, (uint64_t)w + 1);
    }
    return PARE_OK;
}

pare_status pare_gradients_pass(pare_weights *w, const pare_calib_data *data, size_t n, const pare_value *weight,
                                pare_gradient_fn *take, void *ctx, pare_diag *d) {
    pass p = {.w = w, .data = data, .n = n, .take = take, .ctx = ctx};
    pare_status s = (p.grad = pare_calloc(n + 1, sizeof *p.grad)) ? PARE_OK : no_memory(d);
    if (s == PARE_OK) s = build(&p, weight, d);
    if (s == PARE_OK) s = windows(&p, d);
    pare_lm_run_close(&p.run);
    pare_free(p.grad);
    pare_free(p.label);
    pare_free(p.bind);
    return s;
}

/* ---- squares of each weight's gradient ---- */
typedef struct squares {
    pare_job_tensor **t; /* per matrix */
    const float *g;
    float *sum;
    size_t n;
} squares;

static void square_item(void *ctx, size_t item) {
    const squares *q = ctx;
    size_t at = item * RUN, end = q->n - at < RUN ? q->n : at + RUN;
    for (size_t i = at; i < end; i++) q->sum[i] += q->g[i] * q->g[i];
}

static void take_squares(void *ctx, size_t i, const float *g) {
    squares *q = ctx;
    q->g = g, q->sum = q->t[i]->gradient, q->n = (size_t)q->t[i]->rows * (size_t)q->t[i]->cols;
    pare_parallel((q->n + RUN - 1) / RUN, 1, square_item, q);
}

/* The graph's value that shows the rows of t. */
static pare_value value_of(const pare_graph *g, const pare_weights *w, const pare_job_tensor *t) {
    const void *rows = pare_weights_rows(w, t->map->src);
    for (size_t v = 0; rows && v < g->n_values; v++)
        if (g->values[v].kind == PARE_VALUE_WEIGHT && g->values[v].tensor.data == rows) return (pare_value)v;
    return PARE_NO_VALUE;
}

static pare_status find(pare_job *job, const pare_weights *w, const pare_graph *g, squares *q, pare_value *weight,
                        size_t *n, pare_diag *d) {
    for (size_t i = 0; i < job->n; i++) {
        pare_job_tensor *t = &job->t[i];
        if (!t->pruned) continue;
        size_t bytes = (size_t)t->rows * (size_t)t->cols * sizeof *t->gradient;
        if ((weight[*n] = value_of(g, w, t)) < 0) {
            pare_job_unreached(t);
            continue;
        }
        if (!(t->gradient = pare_job_keep(job, bytes))) return no_memory(d);
        memset(t->gradient, 0, bytes);
        q->t[(*n)++] = t;
    }
    return PARE_OK;
}

pare_status pare_job_gradients(pare_job *job, pare_weights *w, const pare_calib_data *data, pare_diag *d) {
    squares q = {.t = pare_calloc(job->n + 1, sizeof *q.t)};
    pare_value *weight = pare_calloc(job->n + 1, sizeof *weight);
    size_t n = 0;
    pare_lm_run model = {0}; /* for its graph: which value is which tensor */
    pare_status s = q.t && weight ? pare_lm_run_build(w, 0, &model, d) : no_memory(d);
    if (s == PARE_OK) s = find(job, w, model.m.g, &q, weight, &n, d);
    pare_lm_run_close(&model);
    if (s == PARE_OK) s = pare_gradients_pass(w, data, n, weight, take_squares, &q, d);
    pare_free(q.t);
    pare_free(weight);
    return s;
}

/* ---- units ---- */
typedef struct units {
    pare_unit_watch *watch;
    float *row;
} units;

static void take_units(void *ctx, size_t i, const float *g) {
    const units *k = ctx;
    pare_unit_stats *u = &k->watch->v[i];
    const pare_tensor *w = &k->watch->g->values[u->reads->weight].tensor;
    size_t cols = (size_t)pare_tensor_cols(w);
    for (int64_t r = 0; r < pare_tensor_rows(w); r++) {
        pare_weight_row(w, r, k->row);
        for (size_t c = 0; c < cols; c++) {
            double change = (double)g[(size_t)r * cols + c] * (double)k->row[c];
            if (u->slot->unit[c] >= 0) u->taylor[u->slot->unit[c]] += change * change;
        }
    }
}

pare_status pare_gradients_units(pare_weights *w, const pare_calib_data *data, pare_unit_watch *watch, pare_diag *d) {
    size_t most = 0;
    pare_value *weight = pare_calloc(watch->n + 1, sizeof *weight);
    for (size_t i = 0; weight && i < watch->n; i++) {
        weight[i] = watch->v[i].reads->weight;
        if (watch->v[i].slot->size > (int64_t)most) most = (size_t)watch->v[i].slot->size;
    }
    units k = {watch, pare_malloc((most + 1) * sizeof *k.row)};
    pare_status s = weight && k.row ? pare_gradients_pass(w, data, watch->n, weight, take_units, &k, d) : no_memory(d);
    pare_free(weight);
    pare_free(k.row);
    return s;
}
