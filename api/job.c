/* SPDX-License-Identifier: Apache-2.0
 *
 * Jobs: opening source and mapping, the output's tensors and metadata, running, what callers see of the plan. */
#include "api/calibrate.h"
#include "api/narrow.h"

#include "core/log.h"
#include "core/status.h"
#include "core/team.h"
#include "formats/int_pack.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static pare_status nomem(pare_diag *d) { return pare_fail(d, PARE_ERR_NOMEM, NULL, NULL, "no memory for the plan"); }

static bool ends(const char *s, const char *tail) {
    size_t n = strlen(s), k = strlen(tail);
    return n >= k && strcasecmp(s + n - k, tail) == 0;
}

pare_status pare_job_kind_of(const char *out, const char *format, pare_source_kind *kind, pare_diag *d) {
    static const struct {
        const char *name;
        pare_source_kind kind;
    } kinds[] = {{"gguf", PARE_SOURCE_GGUF}, {"folder", PARE_SOURCE_FOLDER}, {"safetensors", PARE_SOURCE_SAFETENSORS}};
    for (size_t i = 0; format && i < 3; i++)
        if (strcasecmp(format, kinds[i].name) == 0) return *kind = kinds[i].kind, PARE_OK;
    if (format)
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--format", "`%s` is no format; gguf, folder and safetensors are",
                         format);
    if (!out) return PARE_OK;
    if (ends(out, ".gguf")) *kind = PARE_SOURCE_GGUF;
    else if (ends(out, ".safetensors")) *kind = PARE_SOURCE_SAFETENSORS;
    else if (ends(out, ".onnx") || ends(out, ".pth") || ends(out, ".npz"))
        return pare_fail(d, PARE_ERR_UNSUPPORTED, out, "-o",
                         "this version writes .gguf files, .safetensors files and folders");
    else *kind = PARE_SOURCE_FOLDER;
    return PARE_OK;
}

static pare_status choose_layout(pare_job *job, const char *layout, pare_diag *d) {
    job->hold = job->kind == PARE_SOURCE_GGUF ? PARE_HOLD_GGUF : PARE_HOLD_CT;
    job->layout = job->kind == PARE_SOURCE_GGUF ? "" : "ct";
    if (!layout) return PARE_OK;
    if (job->kind == PARE_SOURCE_GGUF)
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--layout",
                         "GGUF files have one layout, in which zeros are stored; --layout is for folders");
    static const char *const names[] = {"ct", "pack", "gptq", "compact"};
    for (size_t i = 0; i < 4; i++)
        if (strcasecmp(layout, names[i]) == 0) {
            job->layout = names[i];
            if (i == 2) job->hold = PARE_HOLD_GPTQ;
            job->compact = i == 3;
            return PARE_OK;
        }
    return pare_fail(d, PARE_ERR_USAGE, NULL, "--layout", "`%s` is no layout; ct, pack, gptq and compact are", layout);
}

static int by_order(const void *a, const void *b) {
    return pare_mix_order(((const pare_job_tensor *)a)->map->name, ((const pare_job_tensor *)b)->map->name);
}

static pare_status list_tensors(pare_job *job, pare_diag *d) {
    const pare_mapping *m = job->map;
    job->n = m->n_tensors;
    job->t = pare_arena_alloc(job->arena, (job->n + 1) * sizeof *job->t);
    if (!job->t) return nomem(d);
    for (size_t i = 0; i < job->n; i++) {
        pare_job_tensor *t = &job->t[i];
        const pare_mapped *x = &m->tensors[i];
        *t = (pare_job_tensor){.map = x, .from = x->src ? x->src->type : &pare_qtype_f32, .rows = 1, .cols = 1};
        for (int k = 0; k + 1 < x->ndim; k++) t->rows *= x->shape[k];
        if (x->ndim) t->cols = x->shape[x->ndim - 1];
        if (x->ndim == 1 && x->order != PARE_ROWS_SAME) t->rows = t->cols, t->cols = 1;
    }
    if (job->kind == PARE_SOURCE_GGUF) qsort(job->t, job->n, sizeof *job->t, by_order);
    return PARE_OK;
}

/* What a planned job will write, as a source. */
static pare_status planned(const pare_job *before, pare_arena *arena, pare_source **out, pare_diag *d) {
    pare_stored *t = pare_arena_alloc(arena, (before->n + 1) * sizeof *t);
    if (!t) return nomem(d);
    for (size_t i = 0; i < before->n; i++) {
        const pare_mapped *m = before->t[i].map;
        t[i] = (pare_stored){.name = m->name, .type = before->t[i].to, .ndim = m->ndim};
        memcpy(t[i].shape, m->shape, sizeof t[i].shape);
    }
    const pare_derive from = {.kind = before->kind,
                              .n_tensors = before->n,
                              .tensors = t,
                              .n_meta = before->meta.n,
                              .meta = before->meta.v,
                              .config = before->config_text};
    return pare_source_derive(before->src, &from, out, d);
}

pare_status pare_job_begin(const pare_job_from *from, const char *out, const pare_job_opts *o, pare_job **out_job,
                           pare_diag *d) {
    *out_job = NULL;
    pare_job *job = pare_calloc(1, sizeof *job);
    if (!job || !(job->arena = pare_arena_new())) {
        pare_free(job);
        return nomem(d);
    }
    job->force = o->force;
    job->keep_zeros = o->keep_zeros;
    job->calib = o->calib;
    job->imatrix = o->imatrix, job->save_imatrix = o->save_imatrix;
    job->no_refine = o->no_refine;
    job->calib_ctx = o->calib_ctx, job->calib_windows = o->calib_windows;
    job->max_shard_bytes = o->max_shard_bytes;
    job->meta.arena = job->arena;
    pare_status s = PARE_OK;
    if (out && !(job->out_path = pare_arena_strndup(job->arena, out, strlen(out)))) s = nomem(d);
    job->journal_at = from->journal, job->on_the_way = from->on_the_way;
    job->before = from->before, job->sizes_only = from->sizes_only || from->before;
    if (s == PARE_OK && from->before) s = planned(from->before, job->arena, &job->src, d);
    else if (s == PARE_OK) s = pare_source_open(from->path, &job->src, d);
    if (s == PARE_OK) job->src->title = from->title;
    if (s == PARE_OK) job->kind = job->src->kind, s = pare_job_kind_of(job->out_path, o->format, &job->kind, d);
    if (s == PARE_OK) s = choose_layout(job, o->layout, d);
    if (s == PARE_OK) s = pare_mapping_open(job->src, job->kind, &job->map, d);
    if (s == PARE_OK) s = list_tensors(job, d);
    if (s != PARE_OK) pare_job_close(&job);
    *out_job = job;
    return s;
}

void *pare_job_keep(pare_job *job, size_t bytes) {
    if (pare_grow((void **)&job->kept, &job->cap_kept, job->n_kept + 1, sizeof *job->kept) != PARE_OK) return NULL;
    void *p = pare_malloc_aligned(bytes);
    if (p) job->kept[job->n_kept++] = p;
    return p;
}

void pare_job_close(pare_job **jp) {
    pare_job *job = jp ? *jp : NULL;
    if (!job) return;
    for (size_t i = 0; i < job->n_kept; i++) pare_free(job->kept[i]);
    pare_free(job->kept);
    pare_free(job->seen);
    pare_journal_close(&job->journal);
    pare_mapping_close(&job->map);
    pare_source_close(&job->src);
    pare_arena_free(&job->arena);
    pare_job_close(&job->earlier);
    pare_free(job);
    *jp = NULL;
}

pare_status pare_job_adopt(pare_job *job, pare_job_tensor *t, void *rows, pare_diag *d) {
    pare_mapped *m = pare_arena_alloc(job->arena, sizeof *m);
    pare_stored *s = pare_arena_alloc(job->arena, sizeof *s);
    if (!m || !s) return nomem(d);
    *m = *t->map;
    *s = *m->src;
    s->type = t->to, s->data = rows, s->layout = PARE_LAYOUT_PLAIN,
    s->bytes = (size_t)t->rows * pare_row_bytes(t->to, (size_t)t->cols);
    m->src = s;
    t->was = t->from, t->was_bytes = t->map->src->bytes;
    t->map = m;
    t->encoded = true;
    return PARE_OK;
}

/* ---- the output's tensors ---- */
static pare_status part(pare_job *job, const pare_job_tensor *t, const char *suffix, const pare_qtype *type, int64_t a,
                        int64_t b, pare_diag *d) {
    const char *name = t->map->name;
    size_t base = strlen(name) - strlen(".weight"), n = base + strlen(suffix);
    char *s = pare_arena_alloc(job->arena, n + 1);
    if (!s) return nomem(d);
    memcpy(s, name, base);
    memcpy(s + base, suffix, strlen(suffix));
    job->out[job->n_out++] = (pare_out_tensor){.name = s, .type = type, .ndim = b ? 2 : 1, .shape = {a, b}};
    return PARE_OK;
}

static pare_status parts(pare_job *job, const pare_job_tensor *t, pare_diag *d) {
    const pare_qtype *scale = t->to->int_format->scale_type;
    int64_t n = t->rows, k = t->cols, g = (int64_t)pare_int_groups(t->to, (size_t)k),
            kw = (int64_t)pare_int_words(t->to, (size_t)k), nw = (int64_t)pare_int_words(t->to, (size_t)n);
    if (t->emit == PARE_EMIT_GPTQ) {
        PARE_TRY(part(job, t, ".qweight", &pare_qtype_i32, kw, n, d));
        PARE_TRY(part(job, t, ".qzeros", &pare_qtype_i32, g, nw, d));
        PARE_TRY(part(job, t, ".scales", scale, g, n, d));
        return part(job, t, ".g_idx", &pare_qtype_i32, k, 0, d);
    }
    if (t->emit == PARE_EMIT_CT_INT8) {
        PARE_TRY(part(job, t, ".weight", &pare_qtype_i8, n, k, d));
        return part(job, t, ".weight_scale", scale, n, 1, d);
    }
    PARE_TRY(part(job, t, ".weight_packed", &pare_qtype_i32, n, kw, d));
    PARE_TRY(part(job, t, ".weight_scale", scale, n, g, d));
    PARE_TRY(part(job, t, ".weight_shape", &pare_qtype_i64, 2, 0, d));
    return t->to->int_format->asym ? part(job, t, ".weight_zero_point", &pare_qtype_i32, nw, g, d) : PARE_OK;
}

static pare_emit emit_of(const pare_job *job, const pare_job_tensor *t) {
    const pare_int_format *f = t->to->int_format;
    if (t->sparse) return PARE_EMIT_SPARSE;
    if (t->to->kind != PARE_QK_GROUP) return PARE_EMIT_ROWS;
    if (job->hold == PARE_HOLD_GPTQ) return PARE_EMIT_GPTQ;
    bool w8a8 = f->bits == 8 && !f->asym && f->group == 0 && strcmp(job->layout, "ct") == 0;
    return w8a8 ? PARE_EMIT_CT_INT8 : PARE_EMIT_CT_PACKED;
}

static pare_status metadata(pare_job *job, pare_diag *d) {
    pare_meta_list *l = &job->meta;
    if (job->kind == PARE_SOURCE_GGUF) {
        const pare_mapping *m = job->map;
        l->cap = m->n_meta + 8; /* room for ours below, so that no value is copied twice */
        if (!(l->v = pare_arena_alloc(job->arena, l->cap * sizeof *l->v))) return nomem(d);
        if (m->n_meta) memcpy(l->v, m->meta, m->n_meta * sizeof *l->v);
        l->n = m->n_meta;
        pare_meta_u32(l, "general.quantization_version", 2);
        pare_meta_u32(l, "general.file_type", (uint64_t)job->file_type);
    } else pare_meta_text(l, "format", "pt", 2);
    return l->nomem ? nomem(d) : PARE_OK;
}

pare_status pare_job_layout(pare_job *job, pare_diag *d) {
    job->out = pare_arena_alloc(job->arena, (job->n * 5 + 1) * sizeof *job->out);
    if (!job->out) return nomem(d);
    job->n_out = 0, job->meta.n = 0; /* a second time, when zeros are known */
    if (job->compact) job->layout = "compact";
    bool any = false;
    for (size_t i = 0; i < job->n; i++) {
        pare_job_tensor *t = &job->t[i];
        t->emit = emit_of(job, t);
        t->out0 = job->n_out, t->bytes_out = 0;
        any |= t->emit != PARE_EMIT_ROWS;
        if (t->emit == PARE_EMIT_ROWS) {
            job->out[job->n_out] = (pare_out_tensor){.name = t->map->name, .type = t->to, .ndim = t->map->ndim};
            memcpy(job->out[job->n_out++].shape, t->map->shape, sizeof t->map->shape);
        } else PARE_TRY(t->sparse ? pare_job_compact_parts(job, t, part, d) : parts(job, t, d));
        t->n_out = job->n_out - t->out0;
        for (size_t k = t->out0; k < job->n_out; k++) {
            const pare_out_tensor *o = &job->out[k];
            pare_tensor view = pare_tensor_make(o->type, o->ndim, o->shape, NULL);
            t->bytes_out += pare_tensor_bytes(&view);
        }
    }
    if (!any && !job->compact) job->layout = "";
    PARE_TRY(metadata(job, d));
    return job->kind == PARE_SOURCE_GGUF ? PARE_OK : pare_job_config(job, d);
}

/* ---- running ---- */
bool pare_job_walks(const pare_job *job) { return job->method && job->method->calibrated && !job->imatrix; }

static pare_status prepare(pare_job *job, pare_diag *d) { /* rows that are not made while they stream by */
    if (job->prune && !(job->prune->criterion->needs & PARE_NEEDS_WALK)) return pare_job_prune_rows(job, d);
    return job->prune || pare_job_walks(job) ? pare_job_calibrate(job, d) : PARE_OK;
}

static pare_status open_writer(pare_job *job, pare_writer **w, pare_diag *d) {
    if (!job->out_path) return pare_fail(d, PARE_ERR_USAGE, NULL, "-o", "no output was named");
    const pare_mapping *m = job->map;
    bool folder = job->kind == PARE_SOURCE_FOLDER;
    pare_out_file *files = pare_arena_alloc(job->arena, (m->n_files + 3) * sizeof *files);
    const char **copies = pare_arena_alloc(job->arena, (m->n_copies + 1) * sizeof *copies);
    if (!files || !copies) return nomem(d);
    size_t n_files = 0, n_copies = 0;
    if (folder && job->config_text)
        files[n_files++] = (pare_out_file){"config.json", job->config_text, strlen(job->config_text)};
    if (folder && job->quant_text)
        files[n_files++] = (pare_out_file){"quantize_config.json", job->quant_text, strlen(job->quant_text)};
    for (size_t i = 0; folder && i < m->n_files; i++) files[n_files++] = m->files[i];
    for (size_t i = 0; folder && i < m->n_copies; i++)
        if (strcmp(m->copies[i], "quantize_config.json") != 0) copies[n_copies++] = m->copies[i];
    pare_writer_opts o = {.kind = job->kind,
                          .force = job->force,
                          .not_path = job->src->path,
                          .max_shard_bytes = job->max_shard_bytes,
                          .n_tensors = job->n_out,
                          .tensors = job->out,
                          .n_meta = job->meta.n,
                          .meta = job->meta.v,
                          .n_files = n_files,
                          .files = files,
                          .n_copies = n_copies,
                          .copies = copies,
                          .copy_from = job->src->path};
    return pare_writer_open(job->out_path, &o, w, d);
}

pare_status pare_job_output_bytes(pare_job *job, uint64_t *out, pare_diag *d) {
    pare_writer *w = NULL;
    pare_status s = open_writer(job, &w, d);
    *out = s == PARE_OK ? pare_writer_bytes(w) : 0;
    pare_writer_close(&w);
    return s;
}

/* The output's layout follows the zeros, which are known only now. */
static pare_status lay_out_again(pare_job *job, pare_writer **w, pare_diag *d) {
    pare_writer_close(w);
    PARE_TRY(pare_job_compact(job, d));
    return open_writer(job, w, d);
}

bool pare_job_shares(const pare_job *job) {
    return !job->narrowed && (job->prune ? job->prune->criterion->needs != 0 : pare_job_walks(job));
}

pare_status pare_job_run(pare_job *job, pare_diag *d) {
    if (job->sizes_only) return pare_fail(d, PARE_ERR_INTERNAL, job->out_path, NULL, "this job is only a plan");
    pare_writer *w = NULL;
    double start = pare_now_s();
    PARE_TRY(open_writer(job, &w, d)); /* first: no long work for an output that cannot be */
    pare_status s = prepare(job, d);
    if (s == PARE_OK && job->compact) s = lay_out_again(job, &w, d);
    if (s == PARE_OK) s = pare_job_stream(job, w, d);
    if (s == PARE_OK && pare_is_interrupted()) s = pare_interrupted(d);
    job->work_s = pare_now_s() - start;
    if (s == PARE_OK) s = pare_writer_finish(w, d);
    if (s == PARE_OK) pare_writer_seconds(w, &job->check_s, &job->sync_s);
    if (s == PARE_OK && job->journal) pare_journal_remove(job->journal);
    if (s == PARE_OK) pare_journal_close(&job->journal); /* its rows are in the output now */
    pare_writer_close(&w);
    if (s == PARE_OK && job->narrowed) return pare_job_narrow_check(job, d);
    if (s == PARE_OK && job->keep_zeros) return pare_job_zeros_check(job, d);
    return s == PARE_OK && job->prune ? pare_job_prune_check(job, d) : s;
}

pare_status pare_job_run_shared(pare_job *job, pare_diag *d) {
    pare_status s = pare_team_rank() == 0 ? pare_job_run(job, d) : pare_job_shares(job) ? prepare(job, d) : PARE_OK;
    return pare_team_agree(s, d);
}

/* ---- what callers see ---- */
size_t pare_job_count(const pare_job *job) { return job->n; }

const char *pare_job_dropped(const pare_job *job, size_t i) {
    return i < job->map->n_dropped ? job->map->dropped[i] : NULL;
}

static uint64_t bytes_in(const pare_job_tensor *t) {
    return t->was ? t->was_bytes : t->map->src ? t->map->src->bytes : 0;
}

pare_job_row pare_job_at(const pare_job *job, size_t i) {
    const pare_job_tensor *t = &job->t[i];
    pare_job_row r = {.name = t->map->name,
                      .source_name = t->map->src ? t->map->src->name : t->was_name,
                      .from = (t->was ? t->was : t->from)->name,
                      .to = t->sparse ? t->sparse->name : t->to->name,
                      .dense_bytes = t->dense_bytes,
                      .note = t->note,
                      .fallback = t->fallback,
                      .pruned = t->pruned,
                      .sparsity = t->sparsity,
                      .zeros = t->zeros,
                      .elems = (uint64_t)t->rows * (uint64_t)t->cols,
                      .measured = t->measured,
                      .weight_error = t->quality.weight_error,
                      .output_error = t->quality.output_error,
                      .rtn_output_error = t->quality.rtn_output,
                      .ndim = t->map->ndim,
                      .quantized = t->to->kind == PARE_QK_BLOCK || t->to->kind == PARE_QK_GROUP,
                      .bytes_in = bytes_in(t),
                      .bytes_out = t->bytes_out};
    memcpy(r.shape, t->map->shape, sizeof r.shape);
    return r;
}

pare_job_totals pare_job_sum(const pare_job *job) {
    static const char *const formats[] =
        {[PARE_SOURCE_SAFETENSORS] = "safetensors", [PARE_SOURCE_FOLDER] = "folder", [PARE_SOURCE_GGUF] = "gguf"};
    pare_job_totals s = {.format = formats[job->kind],
                         .layout = job->layout,
                         .tensors = job->n,
                         .dropped = job->map->n_dropped,
                         .ran = job->ran,
                         .timed = job->timed,
                         .dense_s = job->dense_s,
                         .sparse_s = job->sparse_s,
                         .work_s = job->work_s,
                         .check_s = job->check_s,
                         .sync_s = job->sync_s};
    for (size_t i = 0; i < job->n; i++) {
        const pare_job_tensor *t = &job->t[i];
        s.quantized += t->to->kind == PARE_QK_BLOCK || t->to->kind == PARE_QK_GROUP;
        s.fallbacks += t->fallback;
        s.weights += (uint64_t)t->rows * (uint64_t)t->cols;
        if (t->pruned) {
            s.pruned++;
            s.pruned_weights += (uint64_t)t->rows * (uint64_t)t->cols;
            s.zeros += t->zeros;
            s.pruned_bytes += t->bytes_out;
            s.pruned_dense_bytes += (uint64_t)t->rows * pare_row_bytes(t->to, (size_t)t->cols);
        }
        s.bytes_in += bytes_in(t);
        s.bytes_out += t->bytes_out;
    }
    if (job->narrowed) s.bytes_in = job->bytes_before;
    s.bits_per_weight = s.weights ? 8.0 * (double)s.bytes_out / (double)s.weights : 0;
    return s;
}
