/* SPDX-License-Identifier: Apache-2.0
 *
 * The student: the tensors of a job (as stored, or what of a teacher stays), decoded into f32 masters. The masters are
 * shown to the graph builder as a source of their own, so that every architecture that can be run can be trained. */
#include "api/distill.h"

#include "core/log.h"
#include "core/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pare_status no_memory(pare_diag *d) {
    return pare_fail(d, PARE_ERR_NOMEM, NULL, "student", "the student's weights in f32 do not fit into memory");
}

static bool is_float_type(const char *to) {
    return strcmp(to, "f32") == 0 || strcmp(to, "f16") == 0 || strcmp(to, "bf16") == 0;
}

static bool stored_as_codes(const pare_job *job) {
    for (size_t i = 0; i < job->n; i++)
        if (job->t[i].from->kind == PARE_QK_BLOCK || job->t[i].from->kind == PARE_QK_GROUP) return true;
    return false;
}

static pare_status plan(pare_distill_run *x, pare_job_opts jo, pare_diag *d) {
    pare_job *job = x->student.job;
    if (x->train == PARE_TRAIN_QAT) return pare_qat_plan(x, &jo, d);
    if (jo.to && x->train == PARE_TRAIN_SCALES)
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--to", "with --train scales codes stay as they are; leave it out");
    if (!jo.to && x->given) jo.to = x->given->type;
    if (!jo.to && (x->train == PARE_TRAIN_ALL || x->train == PARE_TRAIN_ADAPTERS) && stored_as_codes(job)) {
        jo.to = "f16";
        pare_log(PARE_LOG_INFO,
                 "the student's weights are quantized: they are decoded, trained and written as f16 (--to "
                 "chooses another type)");
    }
    jo.allow_requantize = true;
    return jo.to && !is_float_type(jo.to) ? pare_job_plan_quantize(job, &jo, d) : pare_job_plan_convert(job, &jo, d);
}

/* ---- masters ---- */

static bool picked(const pare_job_tensor *t) { return t->pick_rows || t->pick_cols; }

/* Values of t in the source's order of rows, without what was taken out. */
static pare_status decode(const pare_student *s, const pare_job_tensor *t, float *out, pare_diag *d) {
    const pare_stored *src = t->map->src;
    size_t cols_in = src->ndim ? (size_t)src->shape[src->ndim - 1] : 1, cols = (size_t)t->cols;
    if (src->ndim == 1 && cols == 1) cols_in = 1; /* a vector whose elements are rows */
    if (!src->type->decode)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, s->job->src->path, src->name, "format %s cannot be decoded",
                         src->type->name);
    size_t row = pare_row_bytes(src->type, cols_in);
    void *raw = pare_malloc(row);
    float *line = pare_malloc(cols_in * sizeof *line);
    for (size_t r = 0; raw && line && r < (size_t)t->rows; r++) {
        size_t from = t->pick_rows ? t->pick_rows[r] : r;
        const void *p = cols_in == 1 && src->ndim == 1 ? (const char *)src->data + from * row
                                                       : pare_source_rows(s->job->src, src, from, 1, raw);
        src->type->decode(src->type, p, line, cols_in);
        for (size_t c = 0; c < cols; c++) out[r * cols + c] = line[t->pick_cols ? t->pick_cols[c] : c];
    }
    bool read = raw && line;
    pare_free(raw);
    pare_free(line);
    return read ? PARE_OK : no_memory(d);
}

/* Norms and biases are trained, and matrices where all is, or where they have scales; rotary factors never. */
static bool trained(const pare_distill_run *x, const pare_job_tensor *t, pare_tensor_name name) {
    if (name.role == PARE_ROLE_ROPE_FREQS) return false;
    if (x->train == PARE_TRAIN_ADAPTERS) return !pare_job_why_not_pruned(t); /* the matrices of layers */
    if (t->map->ndim == 1) return true;
    if (x->train == PARE_TRAIN_QAT) return pare_qat_trains(t);
    return x->train == PARE_TRAIN_ALL || (x->train == PARE_TRAIN_SCALES && pare_scales_known(t->map->src->type));
}

static pare_status add_scales(pare_student *s, size_t i, const pare_job_tensor *t, pare_diag *d) {
    if (picked(t))
        return pare_fail(d, PARE_ERR_UNSUPPORTED, s->job->src->path, t->map->src->name,
                         "rows or columns were taken out of it, so its scales cannot be trained");
    pare_scales *k = s->scales[i] = pare_calloc(1, sizeof *k);
    if (!k) return no_memory(d);
    return pare_scales_open(s->job->src, t->map->src, (size_t)t->rows, (size_t)t->cols, k, d);
}

static pare_status add_adapter(pare_distill_run *x, size_t i, const pare_job_tensor *t, const float *w, pare_diag *d) {
    pare_student *s = &x->student;
    size_t rank = (size_t)x->o.rank, rows = (size_t)t->rows, cols = (size_t)t->cols;
    if (rank > rows || rank > cols)
        return pare_fail(d, PARE_ERR_USAGE, s->job->src->path, "--rank", "%zu is more than %s has (%zu x %zu)", rank,
                         t->map->src->name, rows, cols);
    pare_adapter *a = s->adapters[i] = pare_calloc(1, sizeof *a);
    if (!a) return no_memory(d);
    return pare_adapter_open(w, rows, cols, rank, x->o.alpha, x->o.seed * 1000003 + i, a, d);
}

/* The view's tensor in f32. */
static pare_status master(pare_student *s, size_t i, pare_diag *d) {
    const pare_job_tensor *t = s->of[i];
    pare_stored *v = &s->tensors[i];
    size_t n = (size_t)t->rows * (size_t)t->cols;
    float *p = s->master[i] = pare_malloc_aligned(n * sizeof *p);
    if (!p) return no_memory(d);
    PARE_TRY(decode(s, t, p, d));
    v->type = &pare_qtype_f32, v->layout = PARE_LAYOUT_PLAIN, v->data = p, v->bytes = n * sizeof *p;
    return PARE_OK;
}

pare_status pare_student_hold(pare_distill_run *x, size_t i, pare_diag *d) {
    pare_student *s = &x->student;
    const pare_job_tensor *t = s->of[i];
    pare_tensor_name name;
    bool wanted = pare_name_parse(s->arch.family, s->job->kind, t->map->name, &name) && trained(x, t, name);
    if (!wanted && !picked(t)) return PARE_OK;
    if (x->train == PARE_TRAIN_SCALES && t->map->ndim > 1) PARE_TRY(add_scales(s, i, t, d));
    if (!s->master[i]) PARE_TRY(master(s, i, d));
    if (x->train == PARE_TRAIN_ADAPTERS && wanted) PARE_TRY(add_adapter(x, i, t, s->master[i], d));
    return x->train == PARE_TRAIN_QAT && pare_qat_trains(t) ? pare_qat_add(s, i, t, s->master[i], d) : PARE_OK;
}

static void let_go(pare_student *s, size_t i) {
    if (s->scales && s->scales[i]) pare_scales_close(s->scales[i]), pare_free(s->scales[i]), s->scales[i] = NULL;
    if (s->codes && s->codes[i]) pare_codes_close(s->codes[i]), pare_free(s->codes[i]), s->codes[i] = NULL;
    if (s->adapters && s->adapters[i])
        pare_adapter_close(s->adapters[i]), pare_free(s->adapters[i]), s->adapters[i] = NULL;
    if (s->master) pare_free(s->master[i]), s->master[i] = NULL;
}

size_t pare_student_rows(const pare_student *s, size_t i, const void **rows) {
    const pare_scales *k = s->scales[i];
    *rows = k ? (const void *)k->data : s->master[i];
    return k ? k->rows * k->row_bytes : s->tensors[i].bytes;
}

void pare_student_take(pare_student *s, size_t i, const void *rows) {
    pare_scales *k = s->scales[i];
    if (!k) memcpy(s->master[i], rows, s->tensors[i].bytes);
    else memcpy(k->data, rows, k->rows * k->row_bytes);
    for (size_t r = 0; k && r < k->rows; r++)
        k->type->decode(k->type, k->data + r * k->row_bytes, s->master[i] + r * k->cols, k->cols);
}

void pare_student_release(pare_student *s, size_t i, void *rows) {
    const void *now;
    pare_stored *v = &s->tensors[i];
    v->bytes = pare_student_rows(s, i, &now);
    if (s->scales[i]) v->type = s->scales[i]->type;
    v->layout = PARE_LAYOUT_PLAIN, v->data = rows;
    s->taught[i] = true;
    let_go(s, i);
}

static pare_status add(pare_distill_run *x, pare_job_tensor *t, pare_diag *d) {
    pare_student *s = &x->student;
    pare_tensor_name name;
    char text[160];
    if (!t->map->src || !pare_name_parse(s->arch.family, s->job->kind, t->map->name, &name) ||
        !pare_name_format(s->arch.family, s->job->src->kind, name, text, sizeof text))
        return PARE_OK; /* nothing that the graph reads */
    pare_stored *v = &s->tensors[s->n];
    *v = *t->map->src;
    if (!(v->name = pare_arena_strndup(s->arena, text, strlen(text)))) return no_memory(d);
    memcpy(v->shape, t->map->shape, sizeof v->shape);
    s->of[s->n] = t;
    s->layer[s->n] = name.layer;
    if (x->o.blockwise && picked(t)) PARE_TRY(master(s, s->n, d)); /* its shape is not the file's */
    if (!x->o.blockwise) PARE_TRY(pare_student_hold(x, s->n, d));
    s->n++;
    return PARE_OK;
}

static pare_status open_view(pare_distill_run *x, pare_diag *d) {
    pare_student *s = &x->student;
    size_t dup;
    s->room = s->job->n + (size_t)s->arch.layers + 2; /* a projection for every layer, and for what comes out */
    s->tensors = pare_calloc(s->room, sizeof *s->tensors);
    s->of = pare_calloc(s->room, sizeof *s->of);
    s->master = pare_calloc(s->room, sizeof *s->master);
    s->scales = pare_calloc(s->room, sizeof *s->scales);
    s->codes = pare_calloc(s->room, sizeof *s->codes);
    s->adapters = pare_calloc(s->room, sizeof *s->adapters);
    s->layer = pare_calloc(s->room, sizeof *s->layer);
    s->taught = pare_calloc(s->room, sizeof *s->taught);
    bool all = s->tensors && s->of && s->master && s->scales && s->codes && s->adapters && s->layer && s->taught;
    if (!all) return no_memory(d);
    for (size_t i = 0; i < s->job->n; i++) PARE_TRY(add(x, &s->job->t[i], d));
    s->view = *(pare_source_impl *)s->job->src->impl;
    memset(&s->view.by_name, 0, sizeof s->view.by_name);
    s->view.s.tensors = s->tensors, s->view.s.n_tensors = s->n, s->view.s.impl = &s->view;
    if (pare_name_index_build(&s->view.by_name, s->tensors, sizeof *s->tensors, s->n, &dup) != PARE_OK)
        return no_memory(d);
    PARE_TRY(pare_arch_check(&s->view.s, &s->arch, d));
    return pare_weights_open(&s->view.s, &s->arch, &s->w, d);
}

/* Which of the teacher's layers each layer stands for: the one it came from, or as far up; an encoder's last layer is
 * its output, and stands for the teacher's. */
static pare_status pair_layers(pare_distill_run *x, pare_diag *d) {
    pare_student *s = &x->student;
    int64_t n = s->arch.layers, all = x->teacher_arch.layers;
    int *map = pare_arena_alloc(s->arena, (size_t)n * sizeof *map);
    if (!map) return no_memory(d);
    for (int64_t l = 0; l < n; l++) map[l] = (int)((l + 1) * all / n) - 1;
    if (x->given && x->given->layer_of && s->arch.family != PARE_FAMILY_BERT)
        memcpy(map, x->given->layer_of, (size_t)n * sizeof *map);
    for (size_t i = 0; !x->o.student && s->arch.family != PARE_FAMILY_BERT && i < s->n;
         i++) { /* the teacher's own: names tell */
        pare_tensor_name now, was;
        const pare_job_tensor *t = s->of[i];
        if (pare_name_parse(s->arch.family, s->job->src->kind, s->tensors[i].name, &now) && now.layer >= 0 &&
            pare_name_parse(s->arch.family, s->job->src->kind, t->map->src->name, &was))
            map[now.layer] = was.layer;
    }
    s->teacher_layer = map;
    return PARE_OK;
}

pare_status pare_student_plan(pare_distill_run *x, const pare_job_from *from, pare_diag *d) {
    const pare_job_opts jo = {.to = x->o.to,
                              .format = x->o.format,
                              .force = x->o.force,
                              .max_shard_bytes = x->o.max_shard_bytes};
    pare_job_from of = *from;
    if (x->given && from->sizes_only) {
        PARE_TRY(pare_given_plan(x, from, &of.earlier, d));
        of.before = of.earlier;
    }
    PARE_TRY(pare_student_cut(x, &of, &jo, d));
    return plan(x, jo, d);
}

pare_status pare_student_open(pare_distill_run *x, pare_diag *d) {
    pare_job_from from = {.path = x->o.student ? x->o.student : x->o.teacher, .title = x->title};
    if (!(x->student.arena = pare_arena_new())) return no_memory(d);
    if (x->o.student && pare_given_is(x->o.student)) {
        PARE_TRY(pare_given_open(x, d));
        PARE_TRY(pare_given_begin(x, d));
        from.path = x->given->folder;
        if (!from.title) from.title = x->given->title;
    }
    PARE_TRY(pare_student_plan(x, &from, d));
    PARE_TRY(open_view(x, d));
    return pair_layers(x, d);
}

void pare_student_close(pare_student *s) {
    pare_lm_run_close(&s->run);
    pare_weights_close(&s->w);
    pare_name_index_free(&s->view.by_name);
    pare_job_close(&s->job);
    pare_student_cut_close(s);
    for (size_t i = 0; s->master && i < s->room; i++) let_go(s, i);
    pare_free(s->layer);
    pare_free(s->taught);
    pare_free(s->adapters);
    pare_free(s->codes);
    pare_free(s->scales);
    pare_free(s->master);
    pare_free(s->of);
    pare_free(s->tensors);
    pare_arena_free(&s->arena);
}

pare_status pare_student_settle(pare_student *s, pare_diag *d) {
    for (size_t i = 0; i < s->n; i++) {
        if (!s->master[i] && !s->taught[i]) continue;
        pare_job_tensor *t = s->of[i];
        pare_mapped *m = pare_arena_alloc(s->job->arena, sizeof *m);
        pare_stored *src = pare_arena_alloc(s->job->arena, sizeof *src);
        if (!m || !src) return no_memory(d);
        *m = *t->map;
        *src = s->tensors[i];
        m->src = src;
        const pare_scales *k = s->scales[i];
        if (k)
            *src = *t->map->src, src->layout = PARE_LAYOUT_PLAIN, src->data = k->data,
            src->bytes = k->rows * k->row_bytes;
        if (!t->was) t->was = t->from, t->was_bytes = t->map->src->bytes, t->was_name = t->map->src->name;
        t->map = m;
        t->from = k ? k->type : src->type;
        t->encoded = true, t->paged = s->taught[i];
        t->pick_rows = t->pick_cols = NULL;
    }
    return PARE_OK;
}
