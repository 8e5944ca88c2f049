/* SPDX-License-Identifier: Apache-2.0
 *
 * Importance matrices and jobs: one from a file in the place of calibration, or one saved of it. Names are GGUF's,
 * whatever the model's files call their tensors. */
#include "api/calibrate.h"

#include "core/log.h"
#include "core/status.h"
#include "formats/checksum.h"
#include "formats/imatrix.h"
#include "verify/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

const char *pare_job_gguf_name(const pare_job *job, const pare_job_tensor *t, char buf[256]) {
    pare_tensor_name n;
    const char *name = t->map->name;
    pare_family family = job->map->known ? job->map->arch.family : PARE_FAMILY_NONE;
    if (job->kind == PARE_SOURCE_GGUF || !pare_name_parse(family, job->kind, name, &n) ||
        !pare_name_format(family, PARE_SOURCE_GGUF, n, buf, 256))
        return name;
    return buf;
}

static pare_status fits(const char *path, const pare_job_tensor *t, const pare_imatrix_entry *e, pare_diag *d) {
    if (e->columns != (size_t)t->cols || (size_t)t->rows % e->matrices)
        return pare_fail(d, PARE_ERR_MISMATCH, path, e->name,
                         "%zu columns in the importance matrix, %lld in the model: it is another model's", e->columns,
                         (long long)t->cols);
    return PARE_OK;
}

/* Layers of the file that the model does not have: it was made from a larger one. */
static pare_status all_known(const pare_job *job, const pare_imatrix *m, size_t used, pare_diag *d) {
    size_t layers = 0;
    for (size_t i = 0; i < m->n; i++) layers += strncmp(m->v[i].name, "blk.", 4) == 0;
    if (!used)
        return pare_fail(d, PARE_ERR_MISMATCH, job->imatrix, NULL,
                         "none of its %zu layers is a matrix of this model: it is another model's", m->n);
    char buf[256];
    for (size_t i = 0; i < m->n; i++) {
        bool found = strncmp(m->v[i].name, "blk.", 4) != 0;
        for (size_t k = 0; !found && k < job->n; k++)
            found = strcmp(pare_job_gguf_name(job, &job->t[k], buf), m->v[i].name) == 0;
        if (!found)
            return pare_fail(d, PARE_ERR_MISMATCH, job->imatrix, m->v[i].name,
                             "the model has no such matrix: the importance matrix is another model's");
    }
    return PARE_OK;
}

pare_status pare_job_use_imatrix(pare_job *job, pare_diag *d) {
    pare_imatrix *m;
    PARE_TRY(pare_imatrix_read(job->imatrix, &m, d));
    pare_status s = PARE_OK;
    size_t used = 0, without = 0;
    for (size_t i = 0; s == PARE_OK && i < job->n; i++) {
        pare_job_tensor *t = &job->t[i];
        char buf[256];
        const pare_imatrix_entry *e = t->map->ndim >= 2 ? pare_imatrix_find(m, pare_job_gguf_name(job, t, buf)) : NULL;
        if (e) s = fits(job->imatrix, t, e, d);
        used += e != NULL;
        if (s != PARE_OK || !t->to->grid || t->from == t->to) continue;
        if (!e) {
            without++;
            continue;
        }
        size_t bytes = e->matrices * e->columns * sizeof *e->mean;
        float *copy = pare_arena_alloc(job->arena, bytes);
        if (!copy) s = pare_fail(d, PARE_ERR_NOMEM, NULL, NULL, "no memory for the importance matrix");
        else t->importance = memcpy(copy, e->mean, bytes), t->importance_rows = (size_t)t->rows / e->matrices;
    }
    if (s == PARE_OK) s = all_known(job, m, used, d);
    if (s == PARE_OK && without)
        pare_log(PARE_LOG_INFO, "%s says nothing about %zu of the quantized matrices; they are rounded as without one",
                 job->imatrix, without);
    pare_imatrix_free(&m);
    return s;
}

/* ---- saving ---- */
pare_status pare_job_imatrix_check(const pare_job *job, pare_diag *d) {
    if (!job->save_imatrix || job->force || access(job->save_imatrix, F_OK) != 0) return PARE_OK;
    return pare_fail(d, PARE_ERR_EXISTS, job->save_imatrix, NULL, "exists already; --force replaces it");
}

pare_status pare_job_imatrix_note(pare_job *job, const pare_linear *l, size_t n, const pare_stats *s, pare_diag *d) {
    float *mean = pare_arena_alloc(job->arena, s->n * sizeof *mean);
    bool ok = mean && pare_grow((void **)&job->seen, &job->cap_seen, job->n_seen + n, sizeof *job->seen) == PARE_OK;
    for (size_t j = 0; ok && j < s->n; j++) mean[j] = (float)(s->f2[j] / (double)s->tokens);
    for (size_t i = 0; ok && i < n; i++) {
        char *name = pare_arena_strndup(job->arena, l[i].name, strlen(l[i].name));
        ok = name != NULL;
        job->seen[job->n_seen++] = (pare_imatrix_entry){name, 1, s->n, mean, (double)s->tokens};
    }
    return ok ? PARE_OK : pare_fail(d, PARE_ERR_NOMEM, NULL, NULL, "no memory for the importance matrix");
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const pare_imatrix_entry *)a)->name, ((const pare_imatrix_entry *)b)->name);
}

pare_status pare_job_imatrix_save(pare_job *job, const pare_calib_data *data, pare_diag *d) {
    const char *path = job->save_imatrix, *from = job->calib ? job->calib : "pare's calibration text";
    size_t n = strlen(path);
    qsort(job->seen, job->n_seen, sizeof *job->seen, by_name);
    const pare_imatrix m = {job->n_seen, job->seen, NULL};
    if (n < 4 || strcasecmp(path + n - 4, ".dat") != 0)
        return pare_imatrix_write_gguf(path, &m, (uint32_t)data->ctx, from, job->force, d);
    pare_bytes b = {0};
    pare_imatrix_legacy(&b, &m, (uint32_t)data->ctx, from);
    pare_status s = b.failed ? pare_fail(d, PARE_ERR_NOMEM, path, NULL, "no memory for the importance matrix")
                             : pare_write_file_atomic(path, b.p, b.n, d);
    pare_bytes_free(&b);
    return s;
}
