/* SPDX-License-Identifier: Apache-2.0
 *
 * The teacher's graph, and the student's with losses and gradients behind it. The loss is in the head's stage: what is
 * computed there is used at once and need not be kept. */
#include "api/distill.h"

#include "core/log.h"
#include "core/status.h"
#include "graph/grad.h"
#include "graph/graph_impl.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define SPARSE 0.01 /* a matrix with this share of zeros was pruned */

static pare_status no_memory(pare_diag *d) {
    return pare_fail(d, PARE_ERR_NOMEM, NULL, "training", "not enough memory for the graph of losses and gradients");
}

static pare_status build_teacher(pare_distill_run *x, pare_diag *d) {
    if (!x->needs_teacher) return PARE_OK;
    PARE_TRY(pare_weights_open(x->teacher_src, &x->teacher_arch, &x->teacher_w, d));
    return pare_lm_run_build(x->teacher_w, 0, &x->teacher, d);
}

/* After the terms have marked what they want of it. */
static pare_status start_teacher(pare_distill_run *x, pare_diag *d) {
    pare_exec_opts on;
    if (!x->needs_teacher) return PARE_OK;
    PARE_TRY(pare_distill_device(x, &on, d));
    PARE_TRY(pare_lm_run_start(x->teacher_w, 0, &on, &x->teacher, d));
    return pare_lm_run_shape(&x->teacher, x->teacher_w, x->o.micro, x->o.ctx, NULL, 0, d);
}

/* What a token of a text may look at, for relations. */
static pare_status causal_mask(pare_distill_run *x, pare_diag *d) {
    size_t n = (size_t)x->o.ctx;
    if (x->relation_mask < 0 || x->relation_mask_at) return PARE_OK;
    if (!(x->relation_mask_at = pare_calloc(n * n, sizeof(float)))) return no_memory(d);
    for (size_t i = 0; i < n; i++)
        for (size_t j = i + 1; j < n; j++) x->relation_mask_at[i * n + j] = -1e9F;
    return PARE_OK;
}

/* Which zeros stay, or NULL for a dense matrix. */
static pare_status mask_of(const float *w, size_t n, uint8_t **out, pare_diag *d) {
    size_t zeros = 0;
    for (size_t i = 0; i < n; i++) zeros += w[i] == 0;
    *out = NULL;
    if ((double)zeros < SPARSE * (double)n) return PARE_OK;
    if (!(*out = pare_calloc((n + 7) / 8, 1))) return no_memory(d);
    for (size_t i = 0; i < n; i++)
        if (w[i] == 0) (*out)[i / 8] |= (uint8_t)(1u << i % 8);
    return PARE_OK;
}

/* Norms beside factors: relative, too. Weights of one norm can lie a hundredfold apart, and the smallest multiply the
 * largest activations. Where an element is 0 it is the mean size of the others. */
static pare_status own_size(const float *w, size_t n, float **out, pare_diag *d) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += fabs((double)w[i]);
    if (!(*out = pare_malloc(n * sizeof **out))) return no_memory(d);
    for (size_t i = 0; i < n; i++) (*out)[i] = w[i] != 0 ? fabsf(w[i]) : sum > 0 ? (float)(sum / (double)n) : 1.0f;
    return PARE_OK;
}

/* Behind a matrix's scales: the latents of its codes. */
static void add_codes(pare_distill_run *x, size_t i, pare_value v, pare_value *wanted) {
    const pare_codes *c = x->student.codes[i];
    size_t n = c->scales->rows * c->scales->cols, at = x->n_params++;
    x->tensor[at] = i, x->second[at] = true, wanted[at] = v;
    x->param[at] = (pare_param){.name = x->param[at - 1].name, .w = c->at, .n = n, .mask = c->zeros};
    x->r->trained += n;
}

/* Behind an adapter's a: its b. */
static void add_b(pare_distill_run *x, size_t i, pare_value v, pare_value *wanted) {
    const pare_adapter *a = x->student.adapters[i];
    size_t at = x->n_params++;
    x->tensor[at] = i, x->second[at] = true, wanted[at] = v;
    x->param[at] = (pare_param){.name = x->param[at - 1].name, .w = a->b, .n = a->rows * a->rank, .decay = true};
    x->r->trained += a->rows * a->rank;
}

/* The graph's weights that are masters, each once. */
static pare_status list_parameters(pare_distill_run *x, pare_value *wanted, pare_diag *d) {
    const pare_graph *g = x->student.run.m.g;
    size_t sparse = 0, scaled = 0;
    for (size_t i = 0; i < x->student.n + x->student.n_extra; i++) {
        bool extra = i >= x->student.n;
        float *w = x->student.master[i];
        if (!w || !x->student.tensors[i].data || (x->blocks && !pare_blocks_trains(x, i))) continue;
        pare_value v = pare_graph_weight_at(g, w);
        if (v < 0) continue; /* a tied model's spare output matrix */
        size_t n = (size_t)pare_tensor_elems(&g->values[v].tensor);
        const pare_scales *k = x->student.scales[i];
        bool matrix = x->student.tensors[i].ndim > 1 && !k;
        const pare_adapter *a = x->student.adapters[i];
        if (k) w = k->factor, n = k->n, scaled++;
        if (a) w = a->a, n = a->rank * a->cols, sparse += a->sparse;
        x->tensor[x->n_params] = i;
        if (matrix && !extra && !a) PARE_TRY(mask_of(w, n, &x->mask[x->n_params], d));
        sparse += x->mask[x->n_params] != NULL;
        wanted[x->n_params] = v;
        x->param[x->n_params] =
            (pare_param){.name = g->values[v].name, .w = w, .n = n, .decay = matrix, .mask = x->mask[x->n_params]};
        if (x->train != PARE_TRAIN_ALL && !k && !a) PARE_TRY(own_size(w, n, &x->unit[x->n_params], d));
        x->param[x->n_params].unit = x->unit[x->n_params];
        x->n_params++;
        if (!extra) x->r->trained += n;
        if (a) add_b(x, i, v, wanted);
        if (!x->student.codes[i]) continue;
        add_codes(x, i, v, wanted);
        sparse += x->student.codes[i]->zeros != NULL;
    }
    if (x->train == PARE_TRAIN_SCALES && !scaled)
        return pare_fail(d, PARE_ERR_USAGE, x->student.job->src->path, "--train",
                         "no matrix of the student is quantized, so there are no scales; quantize it first");
    if (sparse && !x->blocks)
        pare_log(PARE_LOG_INFO, "%zu matrices have zeros that were pruned; they stay zeros", sparse);
    return PARE_OK;
}

pare_status pare_distill_gradients(pare_distill_run *x, pare_diag *d) {
    pare_graph *g = x->student.run.m.g;
    const pare_grad_opts opts = {.recompute = x->o.recompute};
    size_t room = 2 * x->student.n + x->student.n_extra + 1; /* scales and codes of each */
    pare_value *wanted = pare_calloc(room, sizeof *wanted);
    x->grad = pare_calloc(room, sizeof *x->grad);
    x->param = pare_calloc(room, sizeof *x->param);
    x->mask = pare_calloc(room, sizeof *x->mask);
    x->tensor = pare_calloc(room, sizeof *x->tensor);
    x->second = pare_calloc(room, sizeof *x->second);
    x->unit = pare_calloc(room, sizeof *x->unit);
    pare_status s = wanted && x->grad && x->param && x->mask && x->tensor && x->second && x->unit
                        ? list_parameters(x, wanted, d)
                        : no_memory(d);
    if (s == PARE_OK) s = pare_grad_build(g, x->loss, (int)x->n_params, wanted, &opts, x->grad, d);
    for (size_t i = 0; s == PARE_OK && i < x->n_params; i++) {
        if (x->grad[i] < 0)
            s = pare_fail(d, PARE_ERR_USAGE, NULL, x->param[i].name,
                          "the loss does not depend on it; with --loss hidden, cosine or relation alone, nothing "
                          "behind "
                          "what they compare can be trained: add kl, ce or embed");
        else pare_graph_mark_output(g, x->grad[i]);
    }
    pare_free(wanted);
    return s;
}

void pare_distill_forget(pare_distill_run *x) {
    for (size_t i = 0; x->mask && i < x->n_params; i++) pare_free(x->mask[i]);
    for (size_t i = 0; x->unit && i < x->n_params; i++) pare_free(x->unit[i]);
    pare_free(x->mask), pare_free(x->unit), pare_free(x->tensor), pare_free(x->second);
    pare_free(x->param), pare_free(x->grad);
    x->mask = NULL, x->unit = NULL, x->tensor = NULL, x->second = NULL, x->param = NULL, x->grad = NULL;
    x->n_params = 0;
}

pare_status pare_distill_graph(pare_distill_run *x, pare_diag *d) {
    pare_student *s = &x->student;
    pare_exec_opts on;
    PARE_TRY(build_teacher(x, d));
    PARE_TRY(pare_lm_run_build(s->w, 0, &s->run, d));
    x->forward_stages = pare_graph_stages(s->run.m.g);
    PARE_TRY(pare_terms_add(x, d));
    PARE_TRY(causal_mask(x, d));
    PARE_TRY(start_teacher(x, d));
    PARE_TRY(pare_distill_gradients(x, d));
    PARE_TRY(pare_distill_device(x, &on, d));
    PARE_TRY(pare_lm_run_start(s->w, 0, &on, &s->run, d));
    for (size_t i = 0; i < x->n_taps && !x->top; i++) pare_exec_input_there(s->run.e, x->tap[i].to);
    if (x->teacher_logits >= 0 && !x->top) pare_exec_input_there(s->run.e, x->teacher_logits);
    PARE_TRY(pare_lm_run_shape(&s->run, s->w, x->o.micro, x->o.ctx, NULL, 0, d));
    pare_distill_tell_device(x);
    x->r->memory_bytes = pare_exec_memory_bytes(s->run.e);
    x->ids = pare_calloc((size_t)(x->o.micro * x->o.ctx), sizeof *x->ids);
    x->labels_at = pare_calloc((size_t)(x->o.micro * x->o.ctx), sizeof *x->labels_at);
    x->bind = pare_calloc(x->n_taps + 24, sizeof *x->bind);
    return x->ids && x->labels_at && x->bind ? PARE_OK : no_memory(d);
}
