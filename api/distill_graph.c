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

/* What leaves layer l: the residual stream. */
static pare_value stream(const pare_graph *g, const pare_arch *a, int64_t l) {
    char name[64];
    snprintf(name, sizeof name, "blk.%lld.%s", (long long)l,
             a->family == PARE_FAMILY_BERT ? "layer_output_norm" : "ffn_sum");
    return pare_graph_find(g, name);
}

static bool compares_hidden(const pare_distill_run *x) {
    return x->weight[PARE_TERM_HIDDEN] > 0 || x->weight[PARE_TERM_COSINE] > 0;
}

static pare_status open_teacher(pare_distill_run *x, pare_diag *d) {
    const pare_arch *a = &x->teacher_arch;
    int64_t layers = x->student.arch.layers;
    if (!x->needs_teacher) return PARE_OK;
    if (a->vocab != x->student.arch.vocab)
        return pare_fail(d, PARE_ERR_MISMATCH, x->teacher_src->path, "vocab_size",
                         "the teacher knows %lld tokens, the student %lld; logits compare only over one vocabulary",
                         (long long)a->vocab, (long long)x->student.arch.vocab);
    if (compares_hidden(x) && a->dim != x->student.arch.dim)
        return pare_fail(d, PARE_ERR_MISMATCH, x->teacher_src->path, "hidden_size",
                         "hidden states of %lld and %lld numbers do not compare; leave hidden and cosine out of --loss",
                         (long long)a->dim, (long long)x->student.arch.dim);
    PARE_TRY(pare_weights_open(x->teacher_src, a, &x->teacher_w, d));
    PARE_TRY(pare_lm_run_build(x->teacher_w, 0, &x->teacher, d));
    x->hidden_teacher = pare_calloc((size_t)layers + 1, sizeof *x->hidden_teacher);
    x->hidden_in = pare_calloc((size_t)layers + 1, sizeof *x->hidden_in);
    if (!x->hidden_teacher || !x->hidden_in) return no_memory(d);
    for (int64_t l = 0; compares_hidden(x) && l < layers; l++) {
        x->hidden_teacher[l] = stream(x->teacher.m.g, a, x->student.teacher_layer[l]);
        pare_graph_mark_output(x->teacher.m.g, x->hidden_teacher[l]);
    }
    PARE_TRY(pare_lm_run_start(x->teacher_w, 0, &(pare_exec_opts){0}, &x->teacher, d));
    return pare_lm_run_shape(&x->teacher, x->teacher_w, x->o.micro, x->o.ctx, NULL, 0, d);
}

/* The mean over layers. */
static pare_value hidden_term(pare_distill_run *x, bool cosine) {
    pare_graph *g = x->student.run.m.g;
    int64_t layers = x->student.arch.layers, dim = x->student.arch.dim;
    pare_value term[4096];
    float weight[4096];
    for (int64_t l = 0; l < layers; l++) {
        pare_value h = stream(g, &x->student.arch, l);
        term[l] = cosine ? pare_loss_cosine(g, h, x->hidden_in[l]) : pare_loss_mse(g, h, x->hidden_in[l], dim);
        weight[l] = 1 / (float)layers;
    }
    float one = 1;
    return pare_loss_total(g, (int)layers, term, weight, pare_graph_const_f32(g, "loss.one", 0, NULL, &one));
}

static void add_inputs(pare_distill_run *x) {
    pare_graph *g = x->student.run.m.g;
    const pare_arch *a = &x->student.arch;
    const int64_t tokens[] = {PARE_SYM_BATCH, PARE_SYM_SEQ}, logits[] = {PARE_SYM_BATCH, PARE_SYM_SEQ, a->vocab},
                  hidden[] = {PARE_SYM_BATCH, PARE_SYM_SEQ, a->dim};
    x->labels = pare_graph_input(g, "labels", &pare_qtype_i64, 2, tokens);
    x->scale = pare_graph_input(g, "loss.scale", &pare_qtype_f32, 0, NULL);
    x->teacher_logits =
        x->weight[PARE_TERM_KL] > 0 ? pare_graph_input(g, "teacher.logits", &pare_qtype_f32, 3, logits) : PARE_NO_VALUE;
    for (int64_t l = 0; compares_hidden(x) && l < a->layers; l++) {
        char name[64];
        snprintf(name, sizeof name, "teacher.hidden.%lld", (long long)l);
        x->hidden_in[l] = pare_graph_input(g, name, &pare_qtype_f32, 3, hidden);
    }
}

static void add_losses(pare_distill_run *x) {
    pare_graph *g = x->student.run.m.g;
    pare_value logits = x->student.run.m.out, term[PARE_TERMS];
    float weight[PARE_TERMS];
    int n = 0;
    for (int t = 0; t < PARE_TERMS; t++) {
        x->term[t] = PARE_NO_VALUE;
        if (!(x->weight[t] > 0)) continue;
        x->term[t] = t == PARE_TERM_KL
                         ? pare_loss_divergence(g, x->divergence, logits, x->teacher_logits, (float)x->o.temperature)
                     : t == PARE_TERM_CE ? pare_loss_cross_entropy(g, logits, x->labels)
                                         : hidden_term(x, t == PARE_TERM_COSINE);
        pare_graph_mark_output(g, x->term[t]);
        term[n] = x->term[t], weight[n++] = x->weight[t];
    }
    x->loss = pare_loss_total(g, n, term, weight, x->scale);
    pare_graph_mark_output(g, x->loss);
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
    x->tensor[at] = i, x->of_codes[at] = true, wanted[at] = v;
    x->param[at] = (pare_param){.name = x->param[at - 1].name, .w = c->at, .n = n, .mask = c->zeros};
    x->r->trained += n;
}

/* The graph's weights that are masters, each once. */
static pare_status list_parameters(pare_distill_run *x, pare_value *wanted, pare_diag *d) {
    const pare_graph *g = x->student.run.m.g;
    size_t sparse = 0, scaled = 0;
    for (size_t i = 0; i < x->student.n; i++) {
        float *w = x->student.master[i];
        if (!w || !x->student.tensors[i].data) continue;
        size_t v = 0;
        while (v < g->n_values && (g->values[v].kind != PARE_VALUE_WEIGHT || g->values[v].tensor.data != w)) v++;
        if (v == g->n_values) continue; /* a tied model's spare output matrix */
        size_t n = (size_t)pare_tensor_elems(&g->values[v].tensor);
        const pare_scales *k = x->student.scales[i];
        bool matrix = x->student.tensors[i].ndim > 1 && !k;
        if (k) w = k->factor, n = k->n, scaled++;
        x->tensor[x->n_params] = i;
        if (matrix) PARE_TRY(mask_of(w, n, &x->mask[x->n_params], d));
        sparse += x->mask[x->n_params] != NULL;
        wanted[x->n_params] = (pare_value)v;
        x->param[x->n_params] =
            (pare_param){.name = g->values[v].name, .w = w, .n = n, .decay = matrix, .mask = x->mask[x->n_params]};
        if (x->train != PARE_TRAIN_ALL && !k) PARE_TRY(own_size(w, n, &x->unit[x->n_params], d));
        x->param[x->n_params].unit = x->unit[x->n_params];
        x->n_params++;
        x->r->trained += n;
        if (!x->student.codes[i]) continue;
        add_codes(x, i, (pare_value)v, wanted);
        sparse += x->student.codes[i]->zeros != NULL;
    }
    if (x->train == PARE_TRAIN_SCALES && !scaled)
        return pare_fail(d, PARE_ERR_USAGE, x->student.job->src->path, "--train",
                         "no matrix of the student is quantized, so there are no scales; quantize it first");
    if (sparse) pare_log(PARE_LOG_INFO, "%zu matrices have zeros that were pruned; they stay zeros", sparse);
    return PARE_OK;
}

static pare_status gradients(pare_distill_run *x, pare_diag *d) {
    pare_graph *g = x->student.run.m.g;
    const pare_grad_opts opts = {.recompute = x->o.recompute};
    size_t room = 2 * x->student.n + 1; /* scales and codes of each */
    pare_value *wanted = pare_calloc(room, sizeof *wanted);
    x->grad = pare_calloc(room, sizeof *x->grad);
    x->param = pare_calloc(room, sizeof *x->param);
    x->mask = pare_calloc(room, sizeof *x->mask);
    x->tensor = pare_calloc(room, sizeof *x->tensor);
    x->of_codes = pare_calloc(room, sizeof *x->of_codes);
    x->unit = pare_calloc(room, sizeof *x->unit);
    pare_status s = wanted && x->grad && x->param && x->mask && x->tensor && x->of_codes && x->unit
                        ? list_parameters(x, wanted, d)
                        : no_memory(d);
    if (s == PARE_OK) s = pare_grad_build(g, x->loss, (int)x->n_params, wanted, &opts, x->grad, d);
    for (size_t i = 0; s == PARE_OK && i < x->n_params; i++) {
        if (x->grad[i] < 0)
            s = pare_fail(d, PARE_ERR_USAGE, NULL, x->param[i].name,
                          "the loss does not depend on it; with --loss hidden or cosine alone, nothing behind the last "
                          "layer can be trained: add kl or ce");
        else pare_graph_mark_output(g, x->grad[i]);
    }
    pare_free(wanted);
    return s;
}

pare_status pare_distill_graph(pare_distill_run *x, pare_diag *d) {
    pare_student *s = &x->student;
    if (s->arch.family != PARE_FAMILY_LLAMA || x->teacher_arch.family != PARE_FAMILY_LLAMA)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, s->job->src->path, s->arch.name,
                         "language models of the Llama family can be distilled");
    PARE_TRY(open_teacher(x, d));
    PARE_TRY(pare_lm_run_build(s->w, 0, &s->run, d));
    x->forward_stages = pare_graph_stages(s->run.m.g);
    add_inputs(x);
    add_losses(x);
    PARE_TRY(pare_graph_status(s->run.m.g, d));
    PARE_TRY(gradients(x, d));
    PARE_TRY(pare_lm_run_start(s->w, 0, &(pare_exec_opts){0}, &s->run, d));
    PARE_TRY(pare_lm_run_shape(&s->run, s->w, x->o.micro, x->o.ctx, NULL, 0, d));
    x->r->memory_bytes = pare_exec_memory_bytes(s->run.e);
    x->ids = pare_calloc((size_t)(x->o.micro * x->o.ctx), sizeof *x->ids);
    x->labels_at = pare_calloc((size_t)(x->o.micro * x->o.ctx), sizeof *x->labels_at);
    x->bind = pare_calloc((size_t)s->arch.layers + 16, sizeof *x->bind);
    return x->ids && x->labels_at && x->bind ? PARE_OK : no_memory(d);
}
