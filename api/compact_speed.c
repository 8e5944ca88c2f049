/* SPDX-License-Identifier: Apache-2.0
 *
 * What leaving zeros out buys in time, measured where the file was written: one token through the largest pruned
 * matrix, as written and with its zeros. */
#include "api/job.h"

#include "core/alloc.h"
#include "core/log.h"
#include "core/status.h"
#include "core/threads.h"
#include "cpu/matmul.h"

#define SECONDS 0.1 /* per side */

static const pare_stored *largest(const pare_job *job, const pare_source *src, const pare_job_tensor **which) {
    const pare_stored *best = NULL;
    for (size_t i = 0; i < job->n; i++) {
        const pare_stored *x = job->t[i].sparse ? pare_source_find(src, job->t[i].map->name) : NULL;
        if (x && x->type->sparse && (!best || x->bytes > best->bytes)) best = x, *which = &job->t[i];
    }
    return best;
}

static double best_time(const pare_tensor *w, const float *x, float *y, pare_act_round act, void *workspace) {
    double best = 1e30;
    for (double start = pare_now_s(), from = start, now; from < start + SECONDS; from = now) {
        pare_matmul_stored(w, x, y, 1, act, workspace);
        now = pare_now_s();
        best = now - from < best ? now - from : best;
    }
    return best;
}

pare_status pare_job_compact_time(pare_job *job, const pare_source *src, pare_diag *d) {
    const pare_job_tensor *t = NULL;
    const pare_stored *s = largest(job, src, &t);
    if (!s) return PARE_OK;
    pare_tensor sparse = pare_tensor_make(s->type, 2, s->shape, NULL), dense = sparse;
    size_t rows = (size_t)s->shape[0], k = (size_t)s->shape[1], row = pare_row_bytes(s->type, k);
    pare_act_round act = s->type->int_format ? PARE_ACT_INT8_BLOCK : PARE_ACT_NONE;
    dense.type = pare_with_zeros(s->type);
    sparse.transposed = dense.transposed = true;
    size_t ws = pare_matmul_stored_workspace(&sparse, 1, act), other = pare_matmul_stored_workspace(&dense, 1, act);
    sparse.data = pare_malloc_aligned(rows * row + 64),
    dense.data = pare_malloc_aligned(pare_tensor_bytes(&dense) + 64);
    float *x = pare_malloc_aligned(k * sizeof *x), *y = pare_malloc_aligned(rows * sizeof *y);
    void *workspace = pare_malloc_aligned((ws > other ? ws : other) + 64);
    pare_status st = PARE_OK;
    if (!sparse.data || !dense.data || !x || !y || !workspace)
        st = pare_fail(d, PARE_ERR_NOMEM, NULL, s->name, "no memory to time a product");
    else {
        pare_source_rows(src, s, 0, rows, sparse.data);
        for (size_t r = 0; r < rows; r++)
            pare_sparse_to_dense(s->type, (char *)sparse.data + r * row, k,
                                 (char *)dense.data + r * pare_row_bytes(dense.type, k));
        for (size_t i = 0; i < k; i++) x[i] = (float)(i * 37 % 101) / 50.0f - 1;
        job->dense_s = best_time(&dense, x, y, act, workspace);
        job->sparse_s = best_time(&sparse, x, y, act, workspace);
        job->timed = t->map->name;
    }
    void *all[] = {sparse.data, dense.data, x, y, workspace};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) pare_free(all[i]);
    return st;
}
