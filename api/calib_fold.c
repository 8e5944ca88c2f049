/* SPDX-License-Identifier: Apache-2.0
 *
 * Folding scales into a normalization: (x / s) W' with W' = W diag(s), and x = norm * g + b takes the division as
 * g / s and b / s. Where the output stores g in half precision, s is what makes the rounded g / s exact. */
#include "api/calibrate.h"

#include "core/status.h"

#include <math.h>
#include <string.h>

static bool is_vector(const pare_graph *g, pare_value v, size_t n) {
    const pare_graph_value *x = &g->values[v];
    return x->kind == PARE_VALUE_WEIGHT && x->tensor.type == &pare_qtype_f32 &&
           (size_t)pare_tensor_elems(&x->tensor) == n;
}

static size_t readers(const pare_graph *g, pare_value v) {
    size_t n = g->values[v].output;
    for (size_t i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->nodes[i].n_in; k++) n += g->nodes[i].in[k] == v;
    return n;
}

static pare_job_tensor *vector_named(const pare_job *job, const char *name, size_t n) {
    char buf[256];
    for (size_t i = 0; name && i < job->n; i++) {
        pare_job_tensor *t = &job->t[i];
        if (t->map->ndim == 1 && (size_t)t->cols == n && strcmp(pare_job_gguf_name(job, t, buf), name) == 0) return t;
    }
    return NULL;
}

static bool half(const pare_qtype *q) { return q == &pare_qtype_f16 || q == &pare_qtype_bf16; }

bool pare_fold_find(const pare_job *job, const pare_graph *g, const pare_linear *l, size_t n, pare_fold *out) {
    const pare_graph_value *x = &g->values[l->input];
    if (x->kind != PARE_VALUE_NODE || readers(g, l->input) != n) return false;
    const pare_graph_node_t *node = &g->nodes[x->node];
    if (node->op != PARE_OP_RMSNormalization && node->op != PARE_OP_LayerNormalization) return false;
    *out = (pare_fold){.n = (size_t)l->cols, .parts = node->n_in > 2 && node->in[2] >= 0 ? 2 : 1};
    for (int k = 0; k < out->parts; k++) {
        pare_value v = out->value[k] = node->in[1 + k];
        if (!is_vector(g, v, out->n) || readers(g, v) != 1) return false;
        pare_job_tensor *t = out->tensor[k] = vector_named(job, g->values[v].name, out->n);
        if (!t || t->map->order != PARE_ROWS_SAME) return false;
        if (t->to != &pare_qtype_f32 && !(half(t->to) && out->parts == 1))
            return false; /* a bias has no s of its own */
    }
    return true;
}

static float rounded(const pare_qtype *to, float v) {
    if (to == &pare_qtype_f16) return pare_f16_to_f32(pare_f32_to_f16(v));
    return to == &pare_qtype_bf16 ? pare_bf16_to_f32(pare_f32_to_bf16(v)) : v;
}

void pare_fold_values(const pare_fold *f, const pare_graph *g, float *s, float *values) {
    const float *w = g->values[f->value[0]].tensor.data;
    for (size_t j = 0; j < f->n; j++) {
        float v = rounded(f->tensor[0]->to, w[j] / s[j]), back = v != 0 ? w[j] / v : 0;
        if (!(back > 0 && isfinite(back) && isfinite(v))) v = rounded(f->tensor[0]->to, w[j]), back = 1;
        values[j] = v;
        s[j] = back;
    }
    const float *b = f->parts > 1 ? g->values[f->value[1]].tensor.data : NULL;
    for (size_t j = 0; b && j < f->n; j++) values[f->n + j] = b[j] / s[j];
}

pare_status pare_fold_settle(pare_job *job, const pare_fold *f, pare_exec *e, pare_graph *g, float *values,
                             pare_diag *d) {
    for (int k = 0; k < f->parts; k++) {
        pare_job_tensor *t = f->tensor[k];
        pare_mapped *m = pare_arena_alloc(job->arena, sizeof *m);
        if (!m) return pare_fail(d, PARE_ERR_NOMEM, NULL, "calibration", "no memory for a normalization");
        *m = *t->map;
        t->was = t->from, t->was_bytes = m->src ? m->src->bytes : 0, t->was_name = m->src ? m->src->name : NULL;
        m->src = NULL, m->data = values + (size_t)k * f->n;
        t->map = m, t->from = &pare_qtype_f32;
        pare_tensor view = g->values[f->value[k]].tensor;
        view.data = values + (size_t)k * f->n;
        pare_exec_replace_weight(e, f->value[k], &view); /* the caller shapes the executor before it runs */
    }
    return PARE_OK;
}
