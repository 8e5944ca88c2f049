/* SPDX-License-Identifier: Apache-2.0
 *
 * Learned rounding of one stage (api/rounding.h): the model's graph up to the end of the stage, an error behind it and
 * the gradients of its matrices; the executor then runs these two stages alone, on what the walk has kept. */
#include "api/rounding.h"

#include "api/block_graph.h"
#include "api/distill.h"
#include "core/log.h"
#include "core/status.h"
#include "distill/order.h"
#include "graph/grad.h"

#include <string.h>

#define STEPS   120 /* of one batch each */
#define RATE    1e-3
#define AVERAGE 0.97 /* of the last steps is what counts: one batch each is noisy */
#define LEAN    0.5f /* of the way to the original weights is where latents begin */
#define HELD    8    /* one batch in so many judges */

typedef struct block {
    pare_round_stage *r;
    pare_lm_run run;
    pare_borders at; /* cut values that the stage reads, and what it is judged by */
    pare_value target, loss;
    pare_value *grad;    /* per matrix */
    pare_scales *scales; /* per matrix: master, from codes and scales */
    pare_codes *codes;
    float **master;
    pare_param *param; /* of each matrix its scales, then its codes */
    pare_trainer trainer;
    pare_binding *bind;
    size_t held; /* batches at the end; the others are trained on */
} block;

static pare_status no_memory(pare_diag *d) {
    return pare_fail(d, PARE_ERR_NOMEM, NULL, "learned rounding", "no memory for the matrices of a layer in f32");
}

/* The graph ends with the stage. */
static void cut_behind(pare_graph *g, int stage, int end) {
    for (size_t v = 0; v < g->n_values; v++)
        if (g->values[v].kind == PARE_VALUE_NODE && g->values[v].node >= end)
            g->values[v].kind = PARE_VALUE_INPUT, g->values[v].node = -1, g->values[v].output = false;
    g->n_nodes = (size_t)end, g->n_stages = (size_t)stage + 1;
}

bool pare_round_can(const pare_job_tensor *t) { return t->to->grid && !t->to->sparse && pare_scales_known(t->to); }

/* ---- matrices ---- */

static pare_status mask(block *b, size_t i, pare_diag *d) {
    size_t n = b->scales[i].rows * b->scales[i].cols;
    if (!b->r->keep_zeros) return PARE_OK;
    if (!(b->codes[i].zeros = pare_calloc((n + 7) / 8, 1))) return no_memory(d);
    for (size_t k = 0; k < n; k++)
        if (b->master[i][k] == 0) b->codes[i].zeros[k / 8] |= (uint8_t)(1u << k % 8);
    return PARE_OK;
}

/* Latents begin between GPTQ's codes and the original weights: where these lie near a border, it takes less to cross.
 */
static pare_status lean(block *b, size_t i, pare_diag *d) {
    const pare_tensor *t = &b->run.m.g->values[b->r->v[i].value].tensor;
    size_t rows = b->scales[i].rows, cols = b->scales[i].cols;
    float *w = pare_malloc(rows * cols * sizeof *w);
    if (!w) return no_memory(d);
    for (size_t r = 0; r < rows; r++)
        t->type->decode(t->type, (const char *)t->data + r * pare_row_bytes(t->type, cols), w + r * cols, cols);
    pare_status s = pare_codes_lean(&b->codes[i], w, LEAN, d);
    pare_free(w);
    return s;
}

static pare_status matrices(block *b, pare_diag *d) {
    size_t n = b->r->n;
    b->scales = pare_calloc(n, sizeof *b->scales), b->codes = pare_calloc(n, sizeof *b->codes);
    b->master = pare_calloc(n, sizeof *b->master), b->param = pare_calloc(2 * n, sizeof *b->param);
    if (!b->scales || !b->codes || !b->master || !b->param) return no_memory(d);
    for (size_t i = 0; i < n; i++) {
        const pare_job_tensor *t = b->r->v[i].t;
        pare_scales *s = &b->scales[i];
        size_t rows = (size_t)t->rows, cols = (size_t)t->cols;
        PARE_TRY(pare_scales_room(t->to, rows, cols, s, d));
        memcpy(s->data, t->map->src->data, rows * s->row_bytes);
        PARE_TRY(pare_codes_open(s, &b->codes[i], d));
        if (!(b->master[i] = pare_malloc_aligned(rows * cols * sizeof(float)))) return no_memory(d);
        PARE_TRY(pare_scales_values(s, b->master[i], d));
        PARE_TRY(mask(b, i, d));
        PARE_TRY(lean(b, i, d));
        b->param[2 * i] = (pare_param){.name = t->map->name, .w = s->factor, .n = s->n};
        b->param[2 * i + 1] =
            (pare_param){.name = t->map->name, .w = b->codes[i].at, .n = rows * cols, .mask = b->codes[i].zeros};
        pare_tensor *view = &b->run.m.g->values[b->r->v[i].value].tensor;
        view->type = &pare_qtype_f32, view->data = b->master[i];
    }
    return PARE_OK;
}

static pare_status refresh(block *b, pare_diag *d) {
    for (size_t i = 0; i < b->r->n; i++) {
        PARE_TRY(pare_codes_snap(&b->codes[i], d));
        PARE_TRY(pare_scales_values(&b->scales[i], b->master[i], d));
    }
    return PARE_OK;
}

/* ---- the graph ---- */

static pare_status add_loss(block *b, pare_diag *d) {
    pare_graph *g = b->run.m.g;
    const pare_calib_data *data = b->r->data;
    int64_t dim = pare_weights_arch(b->r->w)->dim;
    const int64_t shape[] = {PARE_SYM_BATCH, PARE_SYM_SEQ, dim};
    float one = 1, each = 1 / (float)(data->batch * data->ctx);
    size_t n = b->r->n;
    pare_value *wanted = pare_calloc(n, sizeof *wanted);
    b->grad = pare_calloc(n, sizeof *b->grad);
    if (!wanted || !b->grad) {
        pare_free(wanted);
        return no_memory(d);
    }
    b->target = pare_graph_input(g, "target", &pare_qtype_f32, 3, shape);
    pare_value term = pare_loss_mse(g, b->at.out, b->target, dim);
    b->loss = pare_loss_total(g, 1, &term, &one, pare_graph_const_f32(g, "loss.scale", 0, NULL, &each));
    pare_status s = pare_graph_status(g, d);
    if (s == PARE_OK) pare_graph_mark_output(g, b->loss);
    for (size_t i = 0; i < n; i++) wanted[i] = b->r->v[i].value;
    if (s == PARE_OK) s = pare_grad_build(g, b->loss, (int)n, wanted, NULL, b->grad, d);
    for (size_t i = 0; s == PARE_OK && i < n; i++) pare_graph_mark_output(g, b->grad[i]);
    pare_free(wanted);
    return s;
}

size_t pare_round_held(size_t batches) { return batches / HELD; }

static pare_status open_block(block *b, pare_diag *d) {
    const pare_calib_data *data = b->r->data;
    const pare_optim optim = {.steps = STEPS,
                              .warmup = STEPS / 20,
                              .rate = RATE,
                              .min_rate = 0.1,
                              .beta1 = 0.9,
                              .beta2 = 0.95,
                              .eps = 1e-8,
                              .ema = AVERAGE};
    int first, end;
    PARE_TRY(pare_lm_run_build(b->r->w, 0, &b->run, d));
    pare_graph_stage_range(b->run.m.g, b->r->stage, &first, &end);
    PARE_TRY(pare_borders_find(b->run.m.g, b->r->stage, &b->at, d));
    if (b->at.out < 0) return PARE_OK; /* the last one: nothing to aim at */
    cut_behind(b->run.m.g, b->r->stage, end);
    PARE_TRY(matrices(b, d));
    PARE_TRY(add_loss(b, d));
    PARE_TRY(pare_lm_run_start(b->r->w, 0, &(pare_exec_opts){0}, &b->run, d));
    PARE_TRY(pare_lm_run_shape(&b->run, b->r->w, data->batch, data->ctx, NULL, 0, d));
    b->held = pare_round_held(data->batches);
    b->bind = pare_calloc((size_t)b->at.n_in + (size_t)b->run.m.n_kv + 8, sizeof *b->bind);
    if (!b->bind) return no_memory(d);
    return pare_trainer_open(&optim, b->param, 2 * b->r->n, &b->trainer, d);
}

/* ---- passes ---- */

static pare_status pass(block *b, size_t batch, bool back, double *loss, pare_diag *d) {
    const pare_calib_data *data = b->r->data;
    int n = pare_lm_run_bindings(&b->run, data->ids + (int64_t)batch * data->batch * data->ctx, b->bind);
    for (int i = 0; i < b->at.n_in; i++)
        b->bind[n++] = (pare_binding){b->at.in[i], (void *)(uintptr_t)pare_walk_cut(b->r->walk, 1, b->at.in[i], batch)};
    b->bind[n++] = (pare_binding){b->target, (void *)(uintptr_t)pare_walk_cut(b->r->walk, 0, b->at.out, batch)};
    int last = back ? pare_exec_stages(b->run.e) - 1 : b->r->stage;
    PARE_TRY(pare_exec_run(b->run.e, b->r->stage, b->bind, n, d));
    *loss += (double)*(const float *)pare_exec_value(b->run.e, b->loss)->data;
    for (int s = b->r->stage + 1; s <= last; s++) PARE_TRY(pare_exec_run(b->run.e, s, b->bind, n, d));
    return PARE_OK;
}

/* On the batches that judge: those held, or all where there are few. */
static pare_status judge(block *b, double *loss, pare_diag *d) {
    size_t all = b->r->data->batches;
    *loss = 0;
    for (size_t i = b->held ? all - b->held : 0; i < all; i++) PARE_TRY(pass(b, i, false, loss, d));
    return PARE_OK;
}

static pare_status step(block *b, pare_diag *d) {
    size_t n = b->r->n, trained = b->r->data->batches - b->held;
    double loss = 0;
    const float **grad = pare_malloc(2 * n * sizeof *grad);
    if (!grad) return no_memory(d);
    pare_status s = pass(b, (size_t)pare_order_at(1, trained, (uint64_t)b->trainer.done), true, &loss, d);
    for (size_t i = 0; s == PARE_OK && i < n; i++) {
        grad[2 * i] = b->scales[i].grad;
        grad[2 * i + 1] = pare_exec_value(b->run.e, b->grad[i])->data;
        s = pare_scales_gradient(&b->scales[i], grad[2 * i + 1], d);
    }
    if (s == PARE_OK) pare_trainer_add(&b->trainer, true, grad);
    pare_free((void *)grad);
    PARE_TRY(s);
    PARE_TRY(pare_trainer_step(&b->trainer, loss, NULL, 0, d));
    return refresh(b, d);
}

static pare_status learn(block *b, pare_diag *d) {
    double before, after;
    PARE_TRY(judge(b, &before, d));
    for (int i = 0; i < STEPS; i++) {
        if (pare_is_interrupted()) return pare_interrupted(d);
        PARE_TRY(step(b, d));
    }
    for (size_t i = 0; i < 2 * b->r->n; i++) memcpy(b->param[i].w, b->param[i].ema, b->param[i].n * sizeof(float));
    PARE_TRY(refresh(b, d));
    for (size_t i = 0; i < b->r->n; i++) pare_scales_settle(&b->scales[i], b->master[i]);
    PARE_TRY(judge(b, &after, d));
    pare_log(PARE_LOG_INFO, "%s: error of its output %.4g -> %.4g%s", pare_graph_stage_name(b->run.m.g, b->r->stage),
             before, after, after < before ? "" : "; kept as it was");
    for (size_t i = 0; after < before && i < b->r->n; i++)
        b->r->v[i].rows = b->scales[i].data, b->scales[i].data = NULL;
    return PARE_OK;
}

static void close_block(block *b) {
    if (b->param) pare_trainer_close(&b->trainer);
    pare_lm_run_close(&b->run);
    for (size_t i = 0; i < b->r->n; i++) {
        if (b->scales) pare_scales_close(&b->scales[i]);
        if (b->codes) pare_codes_close(&b->codes[i]);
        if (b->master) pare_free(b->master[i]);
    }
    pare_free(b->scales), pare_free(b->codes), pare_free(b->master), pare_free(b->param);
    pare_borders_close(&b->at), pare_free(b->grad), pare_free(b->bind);
}

pare_status pare_round_learn(pare_round_stage *r, pare_diag *d) {
    block b = {.r = r, .at.out = PARE_NO_VALUE};
    pare_status s = open_block(&b, d);
    if (s == PARE_OK && b.at.out >= 0) s = learn(&b, d);
    close_block(&b);
    return s;
}
