/* SPDX-License-Identifier: Apache-2.0
 *
 * The folder in which a student that a config.json describes begins: that configuration, the teacher's tokenizer, and
 * for every tensor the teacher's values where they have its shape, else normal(0, initializer_range), norms 1, biases
 * 0. It follows from teacher, configuration, data and seed alone, so that a run that goes on makes it again. */
#include "api/distill.h"

#include "api/encoder_sizes.h"
#include "api/narrow.h"
#include "core/log.h"
#include "core/rng.h"
#include "core/status.h"
#include "core/team.h"
#include "formats/checksum.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK ((size_t)1 << 16) /* values at once, or one row where that is longer */

static pare_status no_memory(pare_diag *d) {
    return pare_fail(d, PARE_ERR_NOMEM, NULL, "student", "no memory for the weights it begins with");
}

/* ---- values ---- */
typedef struct maker {
    const pare_distill_run *x;
    pare_source *from; /* or NULL: all at random */
    pare_arch arch;    /* of it */
    pare_writer *w;
    float *line; /* CHUNK, or a row */
    void *raw;   /* a row of from */
} maker;

/* The teacher's tensor for t, or NULL; the first *rows of t are its. */
static const pare_stored *source_of(const maker *m, const pare_given_tensor *t, int64_t *rows) {
    pare_tensor_name n = t->name;
    if (!m->from) return NULL;
    if (n.role == PARE_ROLE_OUTPUT && m->arch.tied) n.role = PARE_ROLE_TOKEN_EMBD;
    const pare_stored *s = pare_arch_tensor(m->from, &m->arch, n.role, n.layer, n.bias);
    if (!s || s->ndim != t->ndim || !s->type->decode) return NULL;
    bool part = n.role == PARE_ROLE_BERT_POS_EMBD || n.role == PARE_ROLE_BERT_TYPE_EMBD;
    if ((t->ndim > 1 && s->shape[1] != t->shape[1]) || (!part && s->shape[0] != t->shape[0])) return NULL;
    *rows = t->ndim == 1 ? 1 : s->shape[0] < t->shape[0] ? s->shape[0] : t->shape[0];
    return s;
}

static bool is_norm(pare_role role) {
    switch (role) {
    case PARE_ROLE_OUTPUT_NORM:
    case PARE_ROLE_ATTN_NORM:
    case PARE_ROLE_FFN_NORM:
    case PARE_ROLE_ATTN_Q_NORM:
    case PARE_ROLE_ATTN_K_NORM:
    case PARE_ROLE_BERT_EMBD_NORM:
    case PARE_ROLE_BERT_ATTN_NORM:
    case PARE_ROLE_BERT_OUT_NORM: return true;
    default: return false;
    }
}

static void begin_at(const maker *m, const pare_given_tensor *t, pare_rng *rng, size_t n) {
    float range = (float)m->x->given->range;
    for (size_t i = 0; i < n; i++)
        m->line[i] = t->name.bias ? 0.0f : is_norm(t->name.role) ? 1.0f : range * pare_rng_normal(rng);
}

/* Its own stream for every name: what a tensor begins with does not depend on the others. */
static pare_status fill(maker *m, size_t number, const pare_given_tensor *t, pare_diag *d) {
    int64_t had = 0;
    const pare_stored *s = source_of(m, t, &had);
    size_t cols = (size_t)t->shape[t->ndim - 1], rows = t->ndim > 1 ? (size_t)t->shape[0] : 1, step = CHUNK / cols;
    pare_rng rng;
    pare_rng_seed(&rng, pare_checksum(m->x->o.seed, t->text, strlen(t->text)));
    if (!step) step = 1;
    for (size_t r = 0, n; r < rows; r += n) {
        bool copy = s && r < (size_t)had;
        n = copy ? 1 : rows - r < step ? rows - r : step;
        if (copy) s->type->decode(s->type, pare_source_rows(m->from, s, r, 1, m->raw), m->line, cols);
        else begin_at(m, t, &rng, n * cols);
        PARE_TRY(pare_writer_put(m->w, number, r * cols * sizeof(float), m->line, n * cols * sizeof(float), d));
        if (r % 4096 == 0 && pare_is_interrupted()) return pare_interrupted(d);
    }
    return PARE_OK;
}

static pare_status fill_all(maker *m, const pare_given_tensor *t, size_t n, pare_diag *d) {
    size_t most = CHUNK, raw = 1;
    for (size_t i = 0; i < n; i++) {
        size_t cols = (size_t)t[i].shape[t[i].ndim - 1];
        if (cols > most) most = cols;
    }
    for (size_t i = 0; m->from && i < m->from->n_tensors; i++) {
        const pare_stored *s = &m->from->tensors[i];
        size_t row = s->ndim ? pare_row_bytes(s->type, (size_t)s->shape[s->ndim - 1]) : 0;
        if (row > raw) raw = row;
    }
    m->line = pare_malloc_aligned(most * sizeof *m->line);
    m->raw = pare_malloc_aligned(raw);
    pare_status st = m->line && m->raw ? PARE_OK : no_memory(d);
    for (size_t i = 0; st == PARE_OK && i < n; i++) st = fill(m, i, &t[i], d);
    pare_free(m->line);
    pare_free(m->raw);
    return st;
}

/* ---- small files ---- */
typedef struct small {
    pare_out_file *files;
    const char **copies;
    char *config; /* jansson's */
    size_t n_files, n_copies;
} small;

static pare_status small_files(const pare_distill_run *x, const pare_mapping *m, small *s, pare_diag *d) {
    pare_arena *a = x->student.arena;
    s->files = pare_arena_alloc(a, (m->n_files + 1) * sizeof *s->files);
    s->copies = pare_arena_alloc(a, (m->n_copies + 1) * sizeof *s->copies);
    s->config = json_dumps(x->given->config, JSON_INDENT(2));
    if (!s->files || !s->copies || !s->config) return no_memory(d);
    s->files[s->n_files++] = (pare_out_file){"config.json", s->config, strlen(s->config)};
    for (size_t i = 0; i < m->n_files; i++) s->files[s->n_files++] = m->files[i];
    for (size_t i = 0; i < m->n_copies; i++)
        if (strcmp(m->copies[i], "quantize_config.json") != 0) s->copies[s->n_copies++] = m->copies[i];
    return PARE_OK;
}

/* ---- the folder ---- */
static pare_status write_folder(maker *m, const pare_mapping *map, const char *path, pare_diag *d) {
    const pare_distill_run *x = m->x;
    pare_given_tensor *t;
    size_t n;
    small s = {0};
    PARE_TRY(pare_given_tensors(x->given, x->student.arena, &t, &n, d));
    pare_out_tensor *out = pare_arena_alloc(x->student.arena, n * sizeof *out);
    if (!out) return no_memory(d);
    for (size_t i = 0; i < n; i++)
        out[i] = (pare_out_tensor){.name = t[i].text,
                                   .type = &pare_qtype_f32,
                                   .ndim = t[i].ndim,
                                   .shape = {t[i].shape[0], t[i].shape[1]}};
    pare_status st = small_files(x, map, &s, d);
    const pare_writer_opts o = {.kind = PARE_SOURCE_FOLDER,
                                .force = true,
                                .not_path = x->o.teacher,
                                .n_tensors = n,
                                .tensors = out,
                                .n_files = s.n_files,
                                .files = s.files,
                                .n_copies = s.n_copies,
                                .copies = s.copies,
                                .copy_from = x->teacher_src->path};
    if (st == PARE_OK) st = pare_writer_open(path, &o, &m->w, d);
    if (st == PARE_OK) st = fill_all(m, t, n, d);
    if (st == PARE_OK) st = pare_writer_finish(m->w, d);
    pare_writer_close(&m->w);
    free(s.config); /* jansson's */
    return st;
}

static pare_status make(pare_distill_run *x, const char *from, const char *path, pare_diag *d) {
    maker m = {.x = x};
    pare_mapping *map = NULL;
    pare_status st = pare_mapping_open(x->teacher_src, PARE_SOURCE_FOLDER, &map, d);
    if (st == PARE_OK) st = pare_encoder_resize_all(map, x->teacher_src->path, &x->teacher_arch, &x->given->arch, d);
    if (st == PARE_OK && from) st = pare_source_open(from, &m.from, d);
    if (st == PARE_OK && from) st = pare_arch_read(m.from, &m.arch, d);
    if (st == PARE_OK) st = write_folder(&m, map, path, d);
    pare_source_close(&m.from);
    pare_mapping_close(&map);
    return st;
}

static void tell(const pare_distill_run *x) {
    const pare_given *g = x->given;
    const char *why = x->o.init ? NULL : g->why;
    if (pare_team_rank() > 0) return;
    if (!g->from_teacher)
        pare_log(PARE_LOG_INFO, "%s: begins at random, seed %llu%s%s", g->path, (unsigned long long)x->o.seed,
                 why ? "; " : "", why ? why : "");
    else pare_log(PARE_LOG_INFO, "%s: begins as parts of the teacher, those that matter most", g->path);
}

/* Process 0 alone made the cuts; which layers they left, all must know. */
static pare_status share_layers(pare_given *g, pare_diag *d) {
    size_t n = (size_t)g->arch.layers;
    if (!g->layers) return PARE_OK;
    if (!g->layer_of) g->layer_of = pare_calloc(n, sizeof *g->layer_of);
    PARE_TRY(pare_team_agree(g->layer_of ? PARE_OK : no_memory(d), d));
    pare_team_broadcast(g->layer_of, n * sizeof *g->layer_of);
    return PARE_OK;
}

pare_status pare_given_begin(pare_distill_run *x, pare_diag *d) {
    pare_given *g = x->given;
    const char *from = NULL;
    tell(x);
    if (g->from_teacher) {
        PARE_TRY(pare_student_cut_to(x, &from, d));
        PARE_TRY(share_layers(g, d));
    }
    char *path = pare_sprintf("%s.pare-student", x->o.out);
    if (!path) return no_memory(d);
    pare_status st = pare_team_rank() == 0 ? make(x, from, path, d) : PARE_OK;
    g->folder = path;
    pare_student_cut_close(&x->student);
    return pare_team_agree(st, d);
}

/* ---- a plan ---- */
/* The teacher's metadata with the student's sizes: enough for shapes. */
static pare_status plan_gguf(const pare_distill_run *x, pare_job *job, pare_diag *d) {
    pare_narrow sizes = {.job = job, .arch = x->teacher_arch, .to = x->given->arch};
    if (strcmp(sizes.arch.name, sizes.to.name) != 0)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, x->given->path, "model_type",
                         "a %s cannot be planned on the GGUF file of a %s; name the model's folder", sizes.to.name,
                         sizes.arch.name);
    PARE_TRY(pare_narrow_config(&sizes, d));
    job->meta.v = job->map->meta, job->meta.n = job->map->n_meta;
    return PARE_OK;
}

static pare_status plan_folder(const pare_distill_run *x, pare_job *job, pare_diag *d) {
    char *text = json_dumps(x->given->config, 0);
    job->config_text = text ? pare_arena_strndup(job->arena, text, strlen(text)) : NULL;
    free(text); /* jansson's */
    return job->config_text ? PARE_OK : no_memory(d);
}

static pare_status plan_tensors(const pare_distill_run *x, pare_job *job, pare_diag *d) {
    pare_given_tensor *t;
    size_t n;
    PARE_TRY(pare_given_tensors(x->given, job->arena, &t, &n, d));
    pare_mapped *m = pare_arena_alloc(job->arena, n * sizeof *m);
    job->n = 0;
    if (!m || !(job->t = pare_arena_alloc(job->arena, n * sizeof *job->t))) return no_memory(d);
    for (size_t i = 0; i < n; i++) {
        char name[160];
        m[i] = (pare_mapped){.name = t[i].text, .ndim = t[i].ndim, .shape = {t[i].shape[0], t[i].shape[1]}};
        if (job->kind == PARE_SOURCE_GGUF) {
            if (!pare_name_format(x->given->arch.family, PARE_SOURCE_GGUF, t[i].name, name, sizeof name)) continue;
            if (!(m[i].name = pare_arena_strndup(job->arena, name, strlen(name)))) return no_memory(d);
        }
        job->t[job->n++] = (pare_job_tensor){.map = &m[i], .from = &pare_qtype_f32, .to = &pare_qtype_f32};
    }
    return PARE_OK;
}

pare_status pare_given_plan(pare_distill_run *x, const pare_job_from *from, pare_job **out, pare_diag *d) {
    bool gguf = x->teacher_src->kind == PARE_SOURCE_GGUF;
    const pare_job_opts jo = {.format = gguf ? "gguf" : "folder"};
    pare_job *job = NULL;
    PARE_TRY(pare_job_begin(from, NULL, &jo, &job, d));
    pare_status st = plan_tensors(x, job, d);
    if (st == PARE_OK) st = gguf ? plan_gguf(x, job, d) : plan_folder(x, job, d);
    if (st != PARE_OK) pare_job_close(&job);
    *out = job;
    return st;
}
