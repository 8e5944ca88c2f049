/* SPDX-License-Identifier: Apache-2.0
 *
 * Converting: every tensor keeps its values. Floats keep their type, codes move to the twin grid of the other format,
 * anything else is refused with the two ways out. */
#include "api/job.h"

#include "core/status.h"

#include <stdio.h>
#include <string.h>

static bool rounded(const pare_qtype *q) { return q->kind == PARE_QK_BLOCK || q->int_format; }

/* The type in which the output holds exactly what is stored, or NULL. */
static const pare_qtype *exact(const pare_job *job, const pare_job_tensor *t) {
    const pare_qtype *from = pare_with_zeros(t->from);
    bool gguf = job->kind == PARE_SOURCE_GGUF;
    if (gguf && t->map->f32) return rounded(from) ? NULL : &pare_qtype_f32;
    if (from->kind == PARE_QK_INT) return (gguf ? from->ggml_type >= 0 : from->safetensors != NULL) ? from : NULL;
    if (from->kind == PARE_QK_FLOAT) {
        if (gguf ? from->ggml_type >= 0 : from->safetensors != NULL) return from;
        return from->block_elems == 1 && from->block_bytes == 1 ? &pare_qtype_f16 : NULL; /* f8 is exact in f16 */
    }
    if (gguf && from->kind == PARE_QK_BLOCK) return from;
    if (!gguf && !t->map->linear) return NULL; /* loaders of integer layouts take linear layers only */
    const pare_qtype *twin = pare_regroup_twin(from, job->kind, t->cols);
    if (job->hold != PARE_HOLD_GPTQ || !twin) return twin;
    const pare_int_format *f = twin->int_format;
    return f->asym || t->cols % (32 / f->bits) ? NULL : pare_qtype_int(f->bits, f->group, false, &pare_qtype_f16);
}

static const pare_qtype *decoded(const pare_job *job, const pare_job_tensor *t, const pare_qtype *to) {
    if (t->from->kind == PARE_QK_INT) return t->from;
    if (job->kind != PARE_SOURCE_GGUF) return to;
    if (t->map->f32 || pare_mix_never(t->map->name, t->map->ndim, t->map->shape))
        return job->src->kind == PARE_SOURCE_GGUF && !rounded(t->from) ? t->from : &pare_qtype_f32;
    return to;
}

static pare_status choose(const pare_job *job, pare_job_tensor *t, const pare_qtype *to, pare_diag *d) {
    const char *name = t->map->src ? t->map->src->name : t->map->name;
    t->to = to ? decoded(job, t, to) : exact(job, t);
    if (!t->to)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, job->src->path, name,
                         "%s has no exact counterpart in this output; decode with --to f16, or use `pare quantize`",
                         t->from->name);
    if (t->from != t->to && !t->from->decode)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, job->src->path, name, "format %s cannot be decoded by this version",
                         t->from->name);
    if (t->from->sparse && pare_with_zeros(t->from) == t->to) snprintf(t->note, sizeof t->note, "zeros stored again");
    else if (rounded(t->from) && rounded(t->to) && t->from != t->to)
        snprintf(t->note, sizeof t->note, "same codes and scales");
    else if (rounded(t->from) && !rounded(t->to)) snprintf(t->note, sizeof t->note, "decoded");
    return PARE_OK;
}

/* general.file_type: of the most common matrix type. */
static int file_type(const pare_job *job) {
    int best = 1;
    uint64_t most = 0;
    for (size_t k = 0; pare_mix_name(k); k++) {
        const pare_mix *m = pare_mix_by_name(pare_mix_name(k));
        uint64_t n = 0;
        for (size_t i = 0; i < job->n; i++)
            if (job->t[i].to == pare_mix_base(m) && !job->t[i].map->f32)
                n += (uint64_t)job->t[i].rows * (uint64_t)job->t[i].cols;
        if (n > most) most = n, best = pare_mix_file_type(m);
    }
    return best;
}

pare_status pare_job_plan_convert(pare_job *job, const pare_job_opts *o, pare_diag *d) {
    const pare_qtype *to = NULL;
    if (o->to) {
        to = pare_qtype_by_name(o->to);
        if (to != &pare_qtype_f16 && to != &pare_qtype_bf16 && to != &pare_qtype_f32)
            return pare_fail(d, PARE_ERR_USAGE, NULL, "--to",
                             "`%s` is no float type; convert decodes to f16, bf16 or f32, `pare quantize` rounds",
                             o->to);
    }
    for (size_t i = 0; i < job->n; i++) PARE_TRY(choose(job, &job->t[i], to, d));
    uint64_t v;
    job->file_type = file_type(job);
    if (!to && job->src->kind == PARE_SOURCE_GGUF && pare_meta_get_u64(job->src, "general.file_type", &v) &&
        v < 1 << 16)
        job->file_type = (int)v;
    return pare_job_layout(job, d);
}

pare_status pare_convert_open(const char *model, const char *out, const pare_job_opts *o, pare_job **job,
                              pare_diag *d) {
    PARE_TRY(pare_job_begin(&(pare_job_from){.path = model}, out, o, job, d));
    pare_status s = pare_job_plan_convert(*job, o, d);
    if (s != PARE_OK) pare_job_close(job);
    return s;
}
