/* SPDX-License-Identifier: Apache-2.0
 *
 * Quantizing: what the plan needs to know about every tensor, and what it decided. */
#include "api/job.h"

#include "core/status.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

static bool is_float16(const pare_qtype *q) { return q == &pare_qtype_f16 || q == &pare_qtype_bf16; }

/* Folders of bf16 weights stay bf16 where they are not quantized, all others become f16; scales likewise. */
static const pare_qtype *model_float16(const pare_job *job) {
    uint64_t f16 = 0, bf16 = 0;
    for (size_t i = 0; i < job->n; i++) {
        const pare_qtype *q = pare_with_zeros(job->t[i].from);
        if (q->kind == PARE_QK_GROUP) q = q->int_format->scale_type;
        *(q == &pare_qtype_bf16 ? &bf16 : &f16) += (uint64_t)job->t[i].rows * (uint64_t)job->t[i].cols;
    }
    return bf16 > f16 ? &pare_qtype_bf16 : &pare_qtype_f16;
}

/* A float type that the output has, as close to what is stored as possible. */
static const pare_qtype *plain(const pare_job *job, const pare_qtype *from) {
    if (is_float16(from) || from == &pare_qtype_f32) return from;
    if (from->kind == PARE_QK_FLOAT) return from->block_bytes > 4 ? &pare_qtype_f32 : &pare_qtype_f16; /* f64; f8 */
    if (from->kind != PARE_QK_INT) return &pare_qtype_f16;
    return (job->kind == PARE_SOURCE_GGUF ? from->ggml_type >= 0 : from->safetensors != NULL) ? from : NULL;
}

static bool holds(const pare_job *job, const pare_qtype *q) { /* as it is */
    if (job->kind == PARE_SOURCE_GGUF) return q->ggml_type >= 0;
    return q->safetensors != NULL || (q->kind == PARE_QK_GROUP && job->hold == PARE_HOLD_CT);
}

static void describe_gguf(const pare_job *job, const pare_job_tensor *t, pare_plan_tensor *p) {
    const pare_mapped *m = t->map;
    const pare_qtype *from = pare_with_zeros(t->from);
    p->fixed = pare_mix_never(m->name, m->ndim, m->shape);
    p->rest = m->f32 || (p->fixed && job->src->kind != PARE_SOURCE_GGUF) ? &pare_qtype_f32 : from;
    p->keep = m->f32 ? &pare_qtype_f32 : holds(job, from) ? from : plain(job, from);
}

static const char *why_not_linear(const pare_mapped *m) {
    if (m->ndim < 2) return "not a matrix";
    if (strstr(m->name, "embed") || strstr(m->name, "wte") || strstr(m->name, "wpe")) return "embedding";
    return strstr(m->name, "lm_head") ? "output matrix" : "not a linear layer";
}

static void describe_folder(const pare_job *job, const pare_job_tensor *t, const pare_qtype *target,
                            const pare_qtype *half, pare_plan_tensor *p) {
    const pare_qtype *from = pare_with_zeros(t->from);
    bool number = from->kind == PARE_QK_INT;
    p->keep = holds(job, from) ? from : plain(job, from);
    if (number) p->fixed = "not weights", p->rest = plain(job, from);
    else if (target) p->rest = target; /* --to f16: every tensor */
    else {
        p->fixed = t->map->linear ? NULL : why_not_linear(t->map);
        p->rest = is_float16(from) ? from : half;
    }
}

/* GGUF: what unknown architectures say about themselves, for the rules of mixes. */
static void unknown_model(const pare_source *s, pare_mix_model *m, char arch[64]) {
    pare_str name;
    uint64_t v;
    char key[128];
    if (s->kind != PARE_SOURCE_GGUF || !pare_meta_get_str(s, "general.architecture", &name) || name.n >= 64) return;
    memcpy(arch, name.p, name.n);
    arch[name.n] = 0;
    const struct {
        const char *key;
        int64_t *to;
    } wanted[] = {{"block_count", &m->layers},
                  {"attention.head_count", &m->heads},
                  {"attention.head_count_kv", &m->kv_heads},
                  {"expert_count", &m->experts}};
    for (size_t i = 0; i < 4; i++) {
        snprintf(key, sizeof key, "%s.%s", arch, wanted[i].key);
        if (pare_meta_get_u64(s, key, &v) && v < 1 << 20) *wanted[i].to = (int64_t)v;
    }
    m->arch = arch;
}

static pare_status make_plan(pare_job *job, const pare_job_opts *o, pare_plan_tensor *p, pare_diag *d) {
    const pare_arch *a = &job->map->arch;
    const pare_qtype *half = model_float16(job), *target = pare_qtype_by_name(o->to);
    if (target && target->kind != PARE_QK_FLOAT) target = NULL;
    bool gguf = job->kind == PARE_SOURCE_GGUF;
    for (size_t i = 0; i < job->n; i++) {
        const pare_job_tensor *t = &job->t[i];
        p[i] = (pare_plan_tensor){.name = t->map->name,
                                  .alias = t->map->src ? t->map->src->name : NULL,
                                  .cols = t->cols,
                                  .from = t->from};
        if (gguf) describe_gguf(job, t, &p[i]);
        else describe_folder(job, t, target, half, &p[i]);
    }
    pare_plan_opts po = {.hold = job->hold,
                         .to = o->to,
                         .pure = o->pure,
                         .float16 = half,
                         .scale = job->hold == PARE_HOLD_GPTQ ? &pare_qtype_f16 : half,
                         .model = {.arch = "", .layers = 0, .heads = 1, .kv_heads = 1}};
    char arch[64];
    if (job->map->known) po.model = (pare_mix_model){a->name, a->layers, a->heads, a->kv_heads, 0};
    else unknown_model(job->src, &po.model, arch);
    pare_plan_rule *rules = pare_arena_alloc(job->arena, (o->n_tensor + o->n_keep + 1) * sizeof *rules);
    if (!rules) return pare_fail(d, PARE_ERR_NOMEM, NULL, NULL, "no memory for the plan");
    for (size_t i = 0; i < o->n_tensor; i++) {
        const char *eq = strrchr(o->tensor[i], '='); /* the last: patterns may hold one, grids do not */
        if (!eq || eq == o->tensor[i] || !eq[1])
            return pare_fail(d, PARE_ERR_USAGE, NULL, "--tensor", "`%s` should read REGEX=GRID", o->tensor[i]);
        rules[i].regex = pare_arena_strndup(job->arena, o->tensor[i], (size_t)(eq - o->tensor[i]));
        rules[i].to = eq + 1;
        if (!rules[i].regex) return pare_fail(d, PARE_ERR_NOMEM, NULL, NULL, "no memory for the plan");
    }
    for (size_t i = 0; i < o->n_keep; i++) rules[o->n_tensor + i] = (pare_plan_rule){o->keep[i], NULL};
    po.rules = rules, po.n_rules = o->n_tensor;
    po.keep = rules + o->n_tensor, po.n_keep = o->n_keep;
    return pare_plan_make(&po, job->n, p, d);
}

static pare_status allowed(const pare_job *job, const pare_job_opts *o, const pare_job_tensor *t, pare_diag *d) {
    bool rounded = t->from->kind == PARE_QK_BLOCK || t->from->int_format, rounds = t->to->kind != PARE_QK_FLOAT;
    const char *name = t->map->src ? t->map->src->name : t->map->name;
    if (pare_with_zeros(t->from) == t->to || pare_regroup_possible(t->from, t->to, t->cols)) return PARE_OK;
    if (!t->from->decode)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, job->src->path, name, "format %s cannot be decoded by this version",
                         t->from->name);
    if (!rounded || !rounds || o->allow_requantize) return PARE_OK;
    return pare_fail(d, PARE_ERR_UNSUPPORTED, job->src->path, name,
                     "it is already rounded to %s; quantize the original, or round again with --allow-requantize",
                     t->from->name);
}

/* general.file_type: the mix's number; for int8 and int4 the block type that GGUF has for them. */
static int file_type_of(const char *to) {
    const pare_mix *m = pare_mix_by_name(strncasecmp(to, "int8", 4) == 0   ? "q8_0"
                                         : strncasecmp(to, "int4", 4) == 0 ? "q4_0"
                                                                           : to);
    return m ? pare_mix_file_type(m) : 1;
}

static pare_status unknown_method(const char *name, pare_diag *d) {
    char list[256] = "";
    for (size_t i = 0; pare_method_at(i); i++)
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i ? ", " : "", pare_method_at(i)->name);
    return pare_fail(d, PARE_ERR_USAGE, NULL, "--method", "`%s` is no method; there are %s", name, list);
}

static pare_status check_imatrix(const pare_job *job, pare_diag *d) {
    if (job->imatrix && job->method != &pare_method_search)
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--imatrix",
                         "it serves --method search; %s needs more of the inputs than their mean square",
                         job->method->name);
    if (job->imatrix && job->calib)
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--imatrix", "it takes the place of --calib; give one of them");
    if (job->save_imatrix && !pare_job_walks(job))
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--save-imatrix",
                         "only methods that run the model have one to save: --method search or gptq, no --imatrix");
    return pare_job_imatrix_check(job, d);
}

pare_status pare_job_plan_quantize(pare_job *job, const pare_job_opts *o, pare_diag *d) {
    if (!o->to)
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--to",
                         "name a mix (q4_k_m), a grid (int8, int4:g32) or a float type (f16)");
    job->method = pare_method_by_name(o->method ? o->method : o->imatrix ? "search" : "rtn");
    if (!job->method) return unknown_method(o->method, d);
    PARE_TRY(check_imatrix(job, d));
    pare_plan_tensor *p = pare_calloc(job->n + 1, sizeof *p);
    if (!p) return pare_fail(d, PARE_ERR_NOMEM, NULL, NULL, "no memory for the plan");
    pare_status s = make_plan(job, o, p, d);
    for (size_t i = 0; s == PARE_OK && i < job->n; i++) {
        pare_job_tensor *t = &job->t[i];
        t->to = p[i].to;
        t->fallback = p[i].fallback;
        if (p[i].note[0]) memcpy(t->note, p[i].note, sizeof t->note); /* else what pruning said stays */
        s = allowed(job, o, t, d);
    }
    pare_free(p);
    if (s == PARE_OK && job->imatrix) s = pare_job_use_imatrix(job, d);
    if (s == PARE_OK && job->keep_zeros) s = pare_job_zeros_plan(job, d);
    job->file_type = file_type_of(o->to);
    return s == PARE_OK ? pare_job_layout(job, d) : s;
}

pare_status pare_job_quantize(const pare_job_from *from, const char *out, const pare_job_opts *o, pare_job **job,
                              pare_diag *d) {
    PARE_TRY(pare_job_begin(from, out, o, job, d));
    pare_status s = pare_job_plan_quantize(*job, o, d);
    if (s != PARE_OK) pare_job_close(job);
    return s;
}

pare_status pare_quantize_open(const char *model, const char *out, const pare_job_opts *o, pare_job **job,
                               pare_diag *d) {
    return pare_job_quantize(&(pare_job_from){.path = model}, out, o, job, d);
}
