/* SPDX-License-Identifier: Apache-2.0
 *
 * config.json of a written folder: the source's, with the dtype of what was written and quantization_config in the
 * words of compressed-tensors or GPTQ. Linear layers that stay dense are named, since loaders would else look for
 * codes. */
#include "api/job.h"

#include "core/status.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_GROUPS = 16 };

static json_t *module_of(const pare_job_tensor *t) { /* the name without ".weight" */
    return json_stringn(t->map->name, strlen(t->map->name) - strlen(".weight"));
}

/* In a layout that loaders know. */
static bool is_quantized(const pare_job_tensor *t) { return t->emit != PARE_EMIT_ROWS && t->emit != PARE_EMIT_SPARSE; }

/* Linear layers left dense, and the output matrix, which is one in every model that has it. */
static json_t *ignored(const pare_job *job) {
    json_t *list = json_array();
    bool head = false;
    for (size_t i = 0; i < job->n; i++) {
        const pare_job_tensor *t = &job->t[i];
        bool is_head = strcmp(t->map->name, "lm_head.weight") == 0;
        if ((t->map->linear || is_head) && !is_quantized(t)) json_array_append_new(list, module_of(t));
        head |= is_head;
    }
    if (!head) json_array_append_new(list, json_string("lm_head")); /* tied models have it without a tensor */
    return list;
}

static json_t *ct_weights(const pare_int_format *f) {
    return json_pack("{s:i, s:s, s:b, s:s, s:o, s:n, s:b, s:n, s:s, s:{}}", "num_bits", (int)f->bits, "type", "int",
                     "symmetric", !f->asym, "strategy", f->group ? "group" : "channel", "group_size",
                     f->group ? json_integer((json_int_t)f->group) : json_null(), "block_structure", "dynamic", 0,
                     "actorder", "observer", "minmax", "observer_kwargs");
}

/* One config group: layers of one grid. Targets are exact names unless all quantized layers share the grid. */
static json_t *ct_group(const pare_job *job, const pare_job_tensor *like, bool alone) {
    json_t *targets = json_array(), *inputs = json_null();
    if (alone) json_array_append_new(targets, json_string("Linear"));
    for (size_t i = 0; !alone && i < job->n; i++)
        if (is_quantized(&job->t[i]) && job->t[i].to == like->to) json_array_append_new(targets, module_of(&job->t[i]));
    bool w8a8 = like->emit == PARE_EMIT_CT_INT8;
    if (w8a8)
        inputs = json_pack("{s:i, s:s, s:b, s:s, s:n, s:n, s:b, s:n, s:s, s:{}}", "num_bits", 8, "type", "int",
                           "symmetric", 1, "strategy", "token", "group_size", "block_structure", "dynamic", 1,
                           "actorder", "observer", "minmax", "observer_kwargs");
    return json_pack("{s:o, s:s, s:o, s:n, s:o}", "targets", targets, "format",
                     w8a8 ? "int-quantized" : "pack-quantized", "input_activations", inputs, "output_activations",
                     "weights", ct_weights(like->to->int_format));
}

static json_t *ct_config(const pare_job *job) {
    const pare_job_tensor *kinds[MAX_GROUPS];
    size_t n = 0;
    for (size_t i = 0; i < job->n; i++) {
        if (!is_quantized(&job->t[i])) continue;
        size_t k = 0;
        while (k < n && kinds[k]->to != job->t[i].to) k++;
        if (k == n && n < MAX_GROUPS) kinds[n++] = &job->t[i];
    }
    if (!n) return NULL;
    json_t *groups = json_object();
    const char *format = NULL;
    for (size_t k = 0; k < n; k++) {
        char name[32];
        snprintf(name, sizeof name, "group_%zu", k);
        json_object_set_new(groups, name, ct_group(job, kinds[k], n == 1));
        const char *f = kinds[k]->emit == PARE_EMIT_CT_INT8 ? "int-quantized" : "pack-quantized";
        format = !format || strcmp(format, f) == 0 ? f : "mixed-precision";
    }
    return json_pack("{s:s, s:s, s:s, s:s, s:n, s:o, s:n, s:{}, s:{}, s:o}", "quant_method", "compressed-tensors",
                     "version", "0.12.2", "format", format, "quantization_status", "compressed",
                     "global_compression_ratio", "ignore", ignored(job), "kv_cache_scheme", "sparsity_config",
                     "transform_config", "config_groups", groups);
}

/* "+:" gives a layer other parameters, "-:" skips it; names are matched as regular expressions. */
static json_t *gptq_dynamic(const pare_job *job, const pare_int_format *main) {
    json_t *dynamic = json_object();
    for (size_t i = 0; i < job->n; i++) {
        const pare_job_tensor *t = &job->t[i];
        char key[512], *k = key;
        if (!t->map->linear) continue;
        const pare_int_format *f = is_quantized(t) ? t->to->int_format : NULL;
        if (f && f->bits == main->bits && f->group == main->group) continue;
        k += snprintf(k, 8, "%s^", f ? "+:" : "-:");
        for (const char *s = t->map->name, *end = s + strlen(s) - strlen(".weight"); s < end && k < key + 500; s++) {
            if (*s == '.') *k++ = '\\';
            *k++ = *s;
        }
        *k++ = '$', *k = 0;
        json_object_set_new(dynamic, key,
                            f ? json_pack("{s:i, s:i}", "bits", (int)f->bits, "group_size",
                                          f->group ? (int)f->group : -1)
                              : json_object());
    }
    return dynamic;
}

static json_t *gptq_config(const pare_job *job) {
    const pare_int_format *f = NULL;
    for (size_t i = 0; i < job->n && !f; i++)
        if (is_quantized(&job->t[i])) f = job->t[i].to->int_format;
    if (!f) return NULL;
    json_t *c =
        json_pack("{s:s, s:i, s:i, s:b, s:b, s:b, s:s, s:s, s:s, s:f, s:b, s:b, s:{s:[s]}}", "quant_method", "gptq",
                  "bits", (int)f->bits, "group_size", f->group ? (int)f->group : -1, "desc_act", 0, "sym", 1, "lm_head",
                  0, "checkpoint_format", "gptq", "format", "gptq", "pack_dtype", "int32", "damp_percent", 0.05,
                  "true_sequential", 1, "static_groups", 0, "meta", "quantizer", "pare:" PARE_VERSION);
    json_t *dynamic = gptq_dynamic(job, f);
    if (json_object_size(dynamic)) json_object_set(c, "dynamic", dynamic);
    json_decref(dynamic);
    return c;
}

/* The dtype loaders should compute in: of most values that are stored as floats. */
static const char *dtype_word(const pare_job *job) {
    uint64_t n[3] = {0};
    for (size_t i = 0; i < job->n; i++) {
        const pare_qtype *q = job->t[i].to;
        if (q->kind == PARE_QK_GROUP) q = q->int_format->scale_type;
        n[q == &pare_qtype_f16    ? 0
          : q == &pare_qtype_bf16 ? 1
                                  : 2] += job->t[i].to->kind == PARE_QK_INT ? 0 : job->t[i].bytes_out;
    }
    return n[0] >= n[1] && n[0] >= n[2] ? "float16" : n[1] >= n[2] ? "bfloat16" : "float32";
}

/* The shortest text that reads back as the same numbers: 15 digits do for nearly every config, 17 for all. */
static char *dump(const pare_job *job, const json_t *j, size_t indent) {
    char *text = json_dumps(j, JSON_INDENT(indent) | JSON_REAL_PRECISION(15));
    json_t *back = text ? json_loads(text, 0, NULL) : NULL;
    if (text && !json_equal(back, j)) {
        free(text);
        text = json_dumps(j, JSON_INDENT(indent));
    }
    json_decref(back);
    char *copy = text ? pare_arena_strndup(job->arena, text, strlen(text)) : NULL;
    free(text); /* jansson's */
    return copy;
}

static pare_status write_config(pare_job *job, json_t *q, pare_diag *d) {
    json_t *config = job->map->config;
    if (!config && q && job->kind == PARE_SOURCE_FOLDER) config = job->map->config = json_object();
    if (config) {
        const char *key = json_object_get(config, "dtype") ? "dtype" : "torch_dtype";
        json_object_set_new(config, key, json_string(dtype_word(job)));
        json_object_del(config, "quantization_config");
        if (q) json_object_set(config, "quantization_config", q);
        job->config_text = dump(job, config, 2);
        if (!job->config_text) return pare_fail(d, PARE_ERR_NOMEM, NULL, "config.json", "no memory");
    }
    if (!q) return PARE_OK;
    char *text = dump(job, q, job->kind == PARE_SOURCE_FOLDER ? 2 : 0);
    if (!text) return pare_fail(d, PARE_ERR_NOMEM, NULL, "quantization_config", "no memory");
    if (job->kind == PARE_SOURCE_SAFETENSORS) pare_meta_text(&job->meta, "quantization_config", text, strlen(text));
    else if (job->hold == PARE_HOLD_GPTQ) job->quant_text = text;
    return job->meta.nomem ? pare_fail(d, PARE_ERR_NOMEM, NULL, "quantization_config", "no memory") : PARE_OK;
}

/* Layers without their zeros: other loaders do not know them, so the method has a name of its own, which they refuse.
 * What else is quantized is as ct_config says. */
static json_t *compact_config(const pare_job *job) {
    bool any = false;
    for (size_t i = 0; i < job->n; i++) any |= job->t[i].sparse != NULL;
    json_t *q = ct_config(job);
    if (!any) return q;
    if (!q) q = json_object();
    json_object_set_new(q, "quant_method", json_string("pare-sparse"));
    json_object_set_new(q, "version", json_integer(1));
    return q;
}

pare_status pare_job_config(pare_job *job, pare_diag *d) {
    json_t *q = job->hold == PARE_HOLD_GPTQ ? gptq_config(job) : compact_config(job);
    pare_status s = write_config(job, q, d);
    json_decref(q);
    return s;
}
