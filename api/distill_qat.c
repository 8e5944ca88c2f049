/* SPDX-License-Identifier: Apache-2.0
 *
 * Quantization-aware training: the student's matrices are codes from the first step on. One that is stored in the
 * output's grid already begins at its own codes, however they were chosen (GPTQ's are a good start); any other is
 * rounded to nearest. Scales learn beside the codes (api/distill_scales.c), as in LSQ (Esser et al. 2020), arXiv
 * 1902.08153; the K formats' 6-bit scales inside a block stay. */
#include "api/distill.h"

#include "core/status.h"
#include "quant/method.h"

#include <string.h>

#define SPARSE       0.01 /* a matrix of floats with this share of zeros was pruned, ... */
#define SPARSE_CODES 0.4  /* ... one of codes with this: there, 0 is a value like others */

static pare_status no_memory(pare_diag *d) {
    return pare_fail(d, PARE_ERR_NOMEM, NULL, "student", "no memory for the codes of a matrix");
}

bool pare_qat_trains(const pare_job_tensor *t) {
    return t->map->ndim > 1 && t->to->grid && !t->to->sparse && pare_scales_known(t->to);
}

pare_status pare_qat_plan(pare_distill_run *x, const pare_job_opts *jo, pare_diag *d) {
    pare_job *job = x->student.job;
    pare_job_opts o = *jo;
    bool some = false;
    o.allow_requantize = true;
    PARE_TRY(o.to ? pare_job_plan_quantize(job, &o, d) : pare_job_plan_convert(job, &o, d));
    for (size_t i = 0; i < job->n; i++) some |= pare_qat_trains(&job->t[i]);
    if (some) return PARE_OK;
    if (o.to)
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--to",
                         "with --train qat it names a grid or a mix of them; `%s` has no codes to train", o.to);
    return pare_fail(d, PARE_ERR_USAGE, job->src->path, "--train",
                     "the student is not quantized; --to names the grid whose codes are trained");
}

static bool quantized(const pare_qtype *q) { return q->kind == PARE_QK_BLOCK || q->kind == PARE_QK_GROUP; }

static pare_status mask_of(pare_codes *c, const pare_job *job, const pare_job_tensor *t, const float *w, pare_diag *d) {
    size_t n = c->scales->rows * c->scales->cols, zeros = 0;
    for (size_t i = 0; i < n; i++) zeros += w[i] == 0;
    if ((double)zeros < (quantized(t->from) ? SPARSE_CODES : SPARSE) * (double)n) return PARE_OK;
    if (!pare_keeps_zeros(t->to))
        return pare_fail(d, PARE_ERR_USAGE, job->src->path, t->map->src->name,
                         "it was pruned, and %s cannot store a zero as zero; a grid without an offset can (q4_0, q8_0, "
                         "q3_k, q6_k, int4:g32)",
                         t->to->name);
    if (!(c->zeros = pare_calloc((n + 7) / 8, 1))) return no_memory(d);
    for (size_t i = 0; i < n; i++)
        if (w[i] == 0) c->zeros[i / 8] |= (uint8_t)(1u << i % 8), c->at[i] = 0;
    return PARE_OK;
}

/* The codes that the student has, where the output's grid can say the same. */
static pare_status taken(const pare_job *job, const pare_job_tensor *t, pare_scales *s, bool *yes, pare_diag *d) {
    const pare_stored *from = t->map->src;
    bool ok = !t->pick_rows && !t->pick_cols && quantized(t->from) && pare_regroup_possible(t->from, s->type, t->cols);
    void *raw = ok ? pare_malloc(pare_row_bytes(t->from, s->cols)) : NULL;
    *yes = ok;
    if (ok && !raw) return no_memory(d);
    for (size_t r = 0; *yes && r < s->rows; r++)
        *yes = pare_regroup_rows(t->from, s->type, pare_source_rows(job->src, from, r, 1, raw),
                                 s->data + r * s->row_bytes, 1, s->cols);
    pare_free(raw);
    return PARE_OK;
}

pare_status pare_qat_add(pare_student *s, size_t i, const pare_job_tensor *t, float *w, pare_diag *d) {
    size_t rows = (size_t)t->rows, cols = (size_t)t->cols;
    pare_scales *k = s->scales[i] = pare_calloc(1, sizeof *k);
    pare_codes *c = s->codes[i] = pare_calloc(1, sizeof *c);
    bool there;
    if (!k || !c) return no_memory(d);
    PARE_TRY(pare_scales_room(t->to, rows, cols, k, d));
    PARE_TRY(taken(s->job, t, k, &there, d));
    if (!there) PARE_TRY(pare_method_weighted(t->to, rows, cols, w, NULL, k->data, d));
    PARE_TRY(pare_codes_open(k, c, d));
    PARE_TRY(mask_of(c, s->job, t, w, d));
    return pare_scales_values(k, w, d);
}
