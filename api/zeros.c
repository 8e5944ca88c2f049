/* SPDX-License-Identifier: Apache-2.0
 *
 * Zeros of a pruned model: which grids can hold them, counting them, and quantizing without losing one. A grid that
 * decodes to exactly 0 keeps them when codes are chosen weight by weight; a method that moves weights to make good the
 * errors of others is told which ones are not to move (quant/method.h, keep_zeros). */
#include "api/job.h"

#include "core/status.h"

#include <stdio.h>
#include <string.h>

static pare_status no_memory(const char *name, pare_diag *d) {
    return pare_fail(d, PARE_ERR_NOMEM, NULL, name, "no memory for the weights of a layer");
}

bool pare_keeps_zeros(const pare_qtype *q) {
    enum { N = 256 };
    float w[N], decoded[N];
    int8_t codes[N];
    uint8_t params[1024];
    if (q->grid->param_bytes > sizeof params || q->grid->group > N) return false;
    size_t n = q->grid->group ? q->grid->group : N;
    for (size_t shift = 0; shift < 3; shift++) { /* around 0, above it, below it */
        for (size_t i = 0; i < n; i++) w[i] = (float)((i * 37 + 11) % 101) / 50.0f - (float)shift;
        q->grid->fit(q, w, n, NULL, NULL, 1, n, params);
        memset(w, 0, sizeof w);
        q->grid->snap(q, params, n, w, n, 1, 0, n, codes, n, decoded, n);
        for (size_t i = 0; i < n; i++)
            if (decoded[i] != 0) return false;
    }
    return true;
}

/* Zeros among the rows of x. */
static pare_status count(const pare_source *src, const pare_stored *x, size_t rows, size_t n, uint64_t *zeros,
                         pare_diag *d) {
    size_t row = pare_row_bytes(x->type, n);
    float *w = pare_malloc(n * sizeof *w);
    void *raw = pare_malloc(row);
    *zeros = 0;
    for (size_t r = 0; w && raw && r < rows; r++) {
        x->type->decode(x->type, pare_source_rows(src, x, r, 1, raw), w, n);
        for (size_t j = 0; j < n; j++) *zeros += w[j] == 0;
    }
    bool read = w && raw;
    pare_free(w);
    pare_free(raw);
    if (read) pare_source_release(src, x, 0, rows);
    return read ? PARE_OK : no_memory(x->name, d);
}

pare_status pare_job_count_zeros(const pare_source *src, pare_job_tensor *t, double wanted, pare_diag *d) {
    const pare_stored *x = pare_source_find(src, t->map->name);
    if (!x) return pare_fail(d, PARE_ERR_INTERNAL, src->path, t->map->name, "the written model does not have it");
    PARE_TRY(count(src, x, (size_t)t->rows, (size_t)t->cols, &t->zeros, d));
    if ((double)t->zeros < wanted)
        return pare_fail(d, PARE_ERR_INTERNAL, src->path, t->map->name, "the written model has %llu zeros, not %.0f",
                         (unsigned long long)t->zeros, wanted);
    return PARE_OK;
}

/* The tensor's zeros in the source; of a model that is only planned, none or one. */
static pare_status find(const pare_job *job, pare_job_tensor *t, pare_diag *d) {
    const pare_stored *x = t->map->src;
    if (!job->before) return count(job->src, x, (size_t)t->rows, (size_t)t->cols, &t->zeros, d);
    for (size_t i = 0; i < job->before->n; i++)
        if (strcmp(job->before->t[i].map->name, x->name) == 0) t->zeros = job->before->t[i].pruned;
    return PARE_OK;
}

pare_status pare_job_zeros_plan(pare_job *job, pare_diag *d) {
    for (size_t i = 0; i < job->n; i++) {
        pare_job_tensor *t = &job->t[i];
        if (pare_job_why_not_pruned(t) || t->from->kind != PARE_QK_FLOAT || !t->from->decode) continue;
        PARE_TRY(find(job, t, d));
        if (t->zeros && t->to->grid && !pare_keeps_zeros(t->to))
            return pare_fail(d, PARE_ERR_UNSUPPORTED, job->src->path, t->map->src->name,
                             "%s has no exact 0, so its zeros would not survive; int8, int4 (also :asym), q8_0, q4_0, "
                             "q5_0, q6_k and q3_k have one",
                             t->to->name);
        t->zeros_wanted = t->zeros;
    }
    return PARE_OK;
}

pare_status pare_job_zeros_check(pare_job *job, pare_diag *d) {
    pare_source *src = NULL;
    PARE_TRY(pare_source_open(job->out_path, &src, d));
    pare_status s = PARE_OK;
    for (size_t i = 0; s == PARE_OK && i < job->n; i++) {
        pare_job_tensor *t = &job->t[i];
        if (!t->zeros_wanted) continue;
        s = pare_job_count_zeros(src, t, (double)t->zeros_wanted, d);
        t->pruned = true;
        t->sparsity = (double)t->zeros_wanted / ((double)t->rows * (double)t->cols);
    }
    if (s == PARE_OK) s = pare_job_try(src, job->ran, d);
    pare_source_close(&src);
    return s;
}
