/* SPDX-License-Identifier: Apache-2.0
 *
 * Pruning's work: layers by criteria without data, one layer for the calibration walk, and the trial of the output. */
#include "api/finite.h"
#include "api/gradients.h"
#include "api/job.h"

#include "core/log.h"
#include "core/status.h"
#include "core/threads.h"
#include "models/lm.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static pare_status no_memory(const char *name, pare_diag *d) {
    return pare_fail(d, PARE_ERR_NOMEM, NULL, name, "no memory for the weights of a layer");
}

typedef struct rows_work {
    const pare_qtype *type;
    uint8_t *stored;
    float *w;
    size_t n;
} rows_work;

static void decode_row(void *ctx, size_t r) {
    const rows_work *k = ctx;
    k->type->decode(k->type, k->stored + r * pare_row_bytes(k->type, k->n), k->w + r * k->n, k->n);
}

static void store_row(void *ctx, size_t r) {
    const rows_work *k = ctx;
    void *to = k->stored + r * pare_row_bytes(k->type, k->n);
    const float *w = k->w + r * k->n;
    if (k->type == &pare_qtype_f16) pare_f32_to_f16_n(w, to, k->n);
    else if (k->type == &pare_qtype_bf16) pare_f32_to_bf16_n(w, to, k->n);
    else memcpy(to, w, k->n * sizeof *w);
}

static pare_status check_finite(const pare_job *job, const pare_job_tensor *t, const float *w, pare_diag *d) {
    size_t n = (size_t)t->rows * (size_t)t->cols, at = pare_find_beyond(w, n, FLT_MAX);
    if (at == n) return PARE_OK;
    return pare_fail(d, PARE_ERR_INPUT, job->src->path, t->map->src->name,
                     "%s at row %zu, column %zu: weights must be finite", isnan(w[at]) ? "NaN" : "Inf",
                     at / (size_t)t->cols, at % (size_t)t->cols);
}

/* A layer without a weight left, or rows without one: the first is refused, the second is worth a word. */
static pare_status check_left(const pare_job_tensor *t, const float *w, pare_diag *d) {
    size_t empty = 0, n = (size_t)t->cols;
    for (size_t r = 0; r < (size_t)t->rows; r++) {
        size_t j = 0;
        while (j < n && w[r * n + j] == 0) j++;
        empty += j == n;
    }
    if (empty == (size_t)t->rows)
        return pare_fail(d, PARE_ERR_USAGE, NULL, t->map->src->name,
                         "nothing would be left of this layer; choose a lower sparsity, leave it out with --keep, or "
                         "use --scope layer");
    if (empty) pare_log(PARE_LOG_WARN, "%s: %zu rows have no weight left", t->map->name, empty);
    return PARE_OK;
}

pare_status pare_job_prune_layer(pare_job *job, const pare_job_tensor *t, const char *name, float *w,
                                 const pare_stats *s, const float *u, void *out, pare_diag *d) {
    pare_job_prune *p = job->prune;
    const pare_qtype *grid = t->to->grid ? t->to : NULL;
    pare_prune_layer l = {.name = name,
                          .rows = (size_t)t->rows,
                          .n = (size_t)t->cols,
                          .criterion = p->criterion,
                          .spec = &p->spec,
                          .scope = p->scope,
                          .sparsity = t->sparsity,
                          .limit = p->scope == PARE_SCOPE_GLOBAL ? &p->limit : NULL,
                          .s = s,
                          .u = u,
                          .gradient = t->gradient,
                          .type = grid,
                          .w = w,
                          .out = out};
    PARE_TRY(check_finite(job, t, w, d));
    PARE_TRY(pare_prune_solve(&l, d));
    PARE_TRY(check_left(t, w, d));
    rows_work k = {t->to, out, w, l.n};
    if (!grid) pare_parallel(l.rows, 64, store_row, &k);
    return PARE_OK;
}

static void decode(const pare_job_tensor *t, float *w) {
    rows_work k = {t->from, (uint8_t *)(uintptr_t)t->map->src->data, w, (size_t)t->cols};
    pare_parallel((size_t)t->rows, 64, decode_row, &k);
}

/* The limit that all layers share: `sparsity` of each tensor counts towards how many go in all. */
static pare_status find_limit(pare_job *job, float *w, float *score, pare_diag *d) {
    pare_prune_rank *rank = pare_prune_rank_new();
    if (!rank) return no_memory("--scope global", d);
    pare_status s = PARE_OK;
    double k = 0;
    for (int turn = 0; turn < 2; turn++) {
        for (size_t i = 0; s == PARE_OK && i < job->n; i++) {
            pare_job_tensor *t = &job->t[i];
            if (!t->pruned) continue;
            size_t n = (size_t)t->rows * (size_t)t->cols;
            decode(t, w);
            s = check_finite(job, t, w, d);
            pare_score_in in = {.w = w,
                                .rows = (size_t)t->rows,
                                .cols = (size_t)t->cols,
                                .ld = (size_t)t->cols,
                                .gradient = t->gradient};
            job->prune->criterion->score(&in, score);
            pare_prune_rank_add(rank, score, n);
            if (!turn) k += t->sparsity * (double)n;
        }
        if (!turn) pare_prune_rank_turn(rank, (uint64_t)floor(k + 1e-6));
    }
    job->prune->limit = pare_prune_rank_limit(rank);
    pare_prune_rank_free(&rank);
    return s;
}

static pare_status gradients(pare_job *job, pare_diag *d) {
    pare_arch a;
    pare_weights *w = NULL;
    pare_calib_data data = {0};
    PARE_TRY(pare_arch_read(job->src, &a, d));
    PARE_TRY(pare_arch_check(job->src, &a, d));
    pare_status s = pare_calib_data_open(job->src, &a, job->calib, job->calib_ctx, job->calib_windows, &data, d);
    if (s == PARE_OK) pare_log(PARE_LOG_INFO, "gradients of %s", data.note);
    if (s == PARE_OK) s = pare_weights_open(job->src, &a, &w, d);
    if (s == PARE_OK) s = pare_job_gradients(job, w, &data, d);
    pare_weights_close(&w);
    pare_calib_data_free(&data);
    return s;
}

pare_status pare_job_prune_rows(pare_job *job, pare_diag *d) {
    size_t most = 0, done = 0, all = 0;
    if (job->prune->criterion->needs & PARE_NEEDS_GRADIENTS) PARE_TRY(gradients(job, d));
    for (size_t i = 0; i < job->n; i++) {
        size_t n = (size_t)job->t[i].rows * (size_t)job->t[i].cols;
        if (job->t[i].pruned) most = n > most ? n : most, all++;
    }
    bool global = job->prune->scope == PARE_SCOPE_GLOBAL;
    float *w = pare_malloc(most * sizeof *w), *score = global ? pare_malloc(most * sizeof *score) : NULL;
    pare_status s = w && (score || !global) ? PARE_OK : no_memory("pruning", d);
    if (s == PARE_OK && global) s = find_limit(job, w, score, d);
    pare_meter meter;
    pare_meter_start(&meter, "prune", "tensors", all);
    for (size_t i = 0; s == PARE_OK && i < job->n; i++) {
        pare_job_tensor *t = &job->t[i];
        if (!t->pruned) continue;
        void *out = pare_job_keep(job, (size_t)t->rows * pare_row_bytes(t->to, (size_t)t->cols));
        if (!out) s = no_memory(t->map->name, d);
        if (s == PARE_OK) decode(t, w);
        if (s == PARE_OK) s = pare_job_prune_layer(job, t, t->map->name, w, NULL, NULL, out, d);
        if (s == PARE_OK) s = pare_job_adopt(job, t, out, d);
        if (s == PARE_OK && pare_is_interrupted()) s = pare_interrupted(d);
        t->from = t->to;
        pare_meter_step(&meter, t->map->name, ++done);
    }
    pare_free(w);
    pare_free(score);
    return s;
}

/* ---- the trial of the output ---- */
pare_status pare_job_try(const pare_source *src, char ran[128], pare_diag *d) {
    enum { TOKENS = 8 };
    pare_lm *lm = NULL;
    pare_diag why = {0};
    pare_lm_opts lo = {0};
    pare_status s = pare_lm_open(src, &lo, &lm, &why);
    if (s == PARE_ERR_UNSUPPORTED) {
        snprintf(ran, 128, "not run: %.100s", why.text);
        return PARE_OK;
    }
    const pare_tensor *y = NULL;
    if (s == PARE_OK) {
        const pare_lm_info *info = pare_lm_describe(lm);
        int64_t ids[TOKENS], n = info->context < TOKENS ? info->context : TOKENS;
        for (int64_t i = 0; i < n; i++) ids[i] = (i * 7 + 1) % info->vocab;
        s = pare_lm_forward(lm, ids, NULL, 1, n, &y, &why);
        if (s == PARE_OK &&
            pare_find_beyond(y->data, (size_t)pare_tensor_elems(y), FLT_MAX) < (size_t)pare_tensor_elems(y))
            s = pare_fail(&why, PARE_ERR_INPUT, src->path, NULL, "its outputs are not finite");
        snprintf(ran, 128, "opened again and run on %lld tokens: outputs finite", (long long)n);
    }
    pare_lm_close(&lm);
    if (s != PARE_OK) {
        ran[0] = 0;
        return pare_fail(d, s, src->path, NULL, "written, but it does not run, so do not use it: %s", why.text);
    }
    return PARE_OK;
}

pare_status pare_job_prune_check(pare_job *job, pare_diag *d) {
    pare_source *src = NULL;
    PARE_TRY(pare_source_open(job->out_path, &src, d));
    pare_status s = PARE_OK;
    for (size_t i = 0; s == PARE_OK && i < job->n; i++) {
        pare_job_tensor *t = &job->t[i];
        double share = job->prune->scope == PARE_SCOPE_GLOBAL ? 0 : t->sparsity; /* promises no single tensor any */
        double slack = (double)t->rows * (double)job->prune->spec.unit_cols;     /* a row's share is rounded down */
        if (t->pruned) s = pare_job_count_zeros(src, t, share * (double)t->rows * (double)t->cols - slack, d);
    }
    if (s == PARE_OK) s = pare_job_try(src, job->ran, d);
    if (s == PARE_OK && job->compact) s = pare_job_compact_time(job, src, d);
    pare_source_close(&src);
    return s;
}
