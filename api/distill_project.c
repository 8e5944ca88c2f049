/* SPDX-License-Identifier: Apache-2.0
 *
 * Projections: where the student is not as wide as the teacher, a matrix takes its rows into the teacher's width before
 * they are compared (FitNets, Romero et al. 2015). It is trained along, a tensor behind those of the student's view,
 * and no part of what is written. */
#include "api/distill.h"

#include "core/rng.h"
#include "core/status.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static pare_status no_memory(pare_diag *d) {
    return pare_fail(d, PARE_ERR_NOMEM, NULL, "projection", "not enough memory for a learned projection");
}

/* The teacher's channel that each of the student's was, where channels were taken out; else NULL. */
static const uint32_t *channels(const pare_student *s) {
    const pare_stored *e =
        pare_arch_tensor(&s->view.s, &s->arch,
                         s->arch.family == PARE_FAMILY_BERT ? PARE_ROLE_BERT_WORD_EMBD : PARE_ROLE_TOKEN_EMBD, -1,
                         false);
    return e ? s->of[e - s->tensors]->pick_cols : NULL;
}

static void start(const pare_distill_run *x, size_t number, float *w, int64_t rows, int64_t cols) {
    const uint32_t *was = channels(&x->student);
    pare_rng r;
    if (was) {
        memset(w, 0, (size_t)(rows * cols) * sizeof *w);
        for (int64_t i = 0; i < rows; i++) w[i * cols + was[i]] = 1;
        return;
    }
    pare_rng_seed(&r, x->o.seed + number);
    for (int64_t i = 0; i < rows * cols; i++) w[i] = pare_rng_normal(&r) / sqrtf((float)rows);
}

const float *pare_student_projection(const pare_student *s, const char *name) {
    size_t n = strlen(name);
    for (size_t i = s->n; i < s->n + s->n_extra; i++)
        if (strncmp(s->tensors[i].name, name, n) == 0 && strcmp(s->tensors[i].name + n, ".weight") == 0)
            return s->master[i];
    return NULL;
}

pare_status pare_student_project(pare_distill_run *x, const char *name, pare_value *v, pare_diag *d) {
    pare_student *s = &x->student;
    int64_t rows = s->arch.dim, cols = x->teacher_arch.dim, shape[] = {rows, cols};
    if (rows == cols) return PARE_OK;
    pare_value there = pare_graph_find(s->run.m.g, name);
    if (there >= 0) return *v = there, PARE_OK;
    size_t at = s->n + s->n_extra, n = (size_t)(rows * cols);
    char label[96];
    snprintf(label, sizeof label, "%.80s.weight", name);
    if (at == s->room) return pare_fail(d, PARE_ERR_INTERNAL, NULL, name, "no room for it");
    float *w = s->master[at] = pare_malloc_aligned(n * sizeof *w);
    const char *own = pare_arena_strndup(s->arena, label, strlen(label));
    if (!w || !own) return no_memory(d);
    s->n_extra++;
    start(x, s->n_extra, w, rows, cols);
    s->tensors[at] = (pare_stored){.name = own, .type = &pare_qtype_f32, .ndim = 2, .shape = {rows, cols}, .data = w};
    s->tensors[at].bytes = n * sizeof *w;
    pare_tensor t = pare_tensor_make(&pare_qtype_f32, 2, shape, w);
    pare_value matrix = pare_graph_weight(s->run.m.g, own, &t);
    *v = pare_graph_node(s->run.m.g, PARE_OP_MatMul, name, NULL, 0, 2, (pare_value[]){*v, matrix}, 1);
    return PARE_OK;
}
