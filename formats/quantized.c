/* SPDX-License-Identifier: Apache-2.0
 *
 * Quantized folders: config.json's quantization_config names the method; names, shapes and types of the stored tensors
 * must agree with one another before a layer is presented as one tensor "<module>.weight" on its grid. A method that is
 * not read is refused by name, because its raw tensors would be mistaken for weights. */
#include "formats/quantized.h"

#include <stdio.h>
#include <string.h>

#include "core/log.h"

static bool ends(const char *s, const char *tail) {
    size_t n = strlen(s), k = strlen(tail);
    return n > k && strcmp(s + n - k, tail) == 0;
}

const char *pare_quant_path(const pare_quant *q, const pare_stored *t) { return q->im->s.shards[t->shard]; }

pare_stored *pare_quant_part(const pare_quant *q, const pare_stored *main, const char *main_tail, const char *tail) {
    char name[1024];
    int n = (int)(strlen(main->name) - strlen(main_tail));
    if (n > 900) return NULL;
    snprintf(name, sizeof name, "%.*s%s", n, main->name, tail);
    size_t i = pare_name_index_find(&q->im->by_name, name);
    return i == SIZE_MAX ? NULL : &q->im->raw[i];
}

void pare_quant_use(pare_quant *q, const pare_stored *part) {
    if (part) q->used[part - q->im->raw] = true;
}

bool pare_quant_is(const pare_stored *t, const pare_qtype *type, int64_t rows, int64_t cols) {
    if (!t || t->type != type) return false;
    int64_t r = t->ndim == 2 ? t->shape[0] : 1, c = t->ndim ? t->shape[t->ndim - 1] : 1;
    return t->ndim <= 2 && r == rows && c == cols;
}

bool pare_quant_scale_type(const pare_qtype *t) {
    return t == &pare_qtype_f16 || t == &pare_qtype_bf16 || t == &pare_qtype_f32;
}

pare_status pare_quant_type(pare_quant *q, const pare_stored *main, pare_stored *out, int bits, int64_t k,
                            int64_t groups, bool asym, bool grouped, const pare_qtype *scale, pare_diag *d) {
    int64_t width = groups > 0 && k % groups == 0 ? k / groups : 0;
    unsigned group = groups == 1 && !grouped ? 0 : (unsigned)width;
    out->type = width ? pare_qtype_int(bits, group, asym, scale) : NULL;
    if (!out->type && groups == 1) out->type = pare_qtype_int(bits, 0, asym, scale);
    if (out->type) return PARE_OK;
    return pare_fail(d, PARE_ERR_UNSUPPORTED, pare_quant_path(q, main), main->name,
                     "%d-bit codes of %lld columns in %lld groups with %s scales: groups of 32, 64, 128 or the whole "
                     "row are read",
                     bits, (long long)k, (long long)groups, scale->name);
}

pare_status pare_quant_emit(pare_quant *q, const pare_stored *main, const char *main_tail, pare_stored *t,
                            pare_diag *d) {
    int n = (int)(strlen(main->name) - strlen(main_tail));
    char *name = pare_arena_alloc(q->im->arena, (size_t)n + 8);
    if (!name) return pare_source_nomem(q->im, d);
    snprintf(name, (size_t)n + 8, "%.*s.weight", n, main->name);
    t->name = name;
    t->ndim = 2;
    t->shard = main->shard;
    if (!pare_stored_measure(t))
        return pare_fail(d, PARE_ERR_INPUT, pare_quant_path(q, main), main->name,
                         "a shape that does not fit its storage format");
    size_t i = pare_name_index_find(&q->im->by_name, name);
    if (i != SIZE_MAX && !q->used[i])
        return pare_fail(d, PARE_ERR_INPUT, pare_quant_path(q, main), name,
                         "the layer is stored twice, quantized and as it was");
    q->made[q->n_made++] = *t;
    q->made_for[main - q->im->raw] = (uint32_t)q->n_made;
    return PARE_OK;
}

/* Activation scales and the like: not weights, and not used by weight-only runs. */
static bool is_aside(const char *name) {
    static const char *const tails[] = {".input_scale",  ".input_zero_point",
                                        ".output_scale", ".output_zero_point",
                                        ".k_scale",      ".v_scale",
                                        ".k_zero_point", ".v_zero_point",
                                        ".input_g_idx",  NULL};
    for (int i = 0; tails[i]; i++)
        if (ends(name, tails[i])) return true;
    return false;
}

static bool is_left_over(const char *name) {
    static const char *const tails[] = {".weight_packed",
                                        ".weight_scale",
                                        ".weight_zero_point",
                                        ".weight_shape",
                                        ".weight_g_idx",
                                        ".weight_global_scale",
                                        ".weight_values",
                                        ".weight_index",
                                        ".weight_mask",
                                        ".weight_row_offsets",
                                        ".qweight",
                                        ".qzeros",
                                        ".scales",
                                        ".g_idx",
                                        NULL};
    for (int i = 0; tails[i]; i++)
        if (ends(name, tails[i])) return true;
    return false;
}

/* The new list: assembled tensors where their codes were, everything else as it was. */
static pare_status merge(pare_quant *q, pare_diag *d) {
    pare_source_impl *im = q->im;
    size_t n = 0, aside = 0;
    pare_stored *all = pare_calloc(im->n_raw + 1, sizeof *all);
    if (!all) return pare_source_nomem(im, d);
    for (size_t i = 0; i < im->n_raw; i++) {
        const pare_stored *t = &im->raw[i];
        if (q->made_for[i]) all[n++] = q->made[q->made_for[i] - 1];
        else if (q->used[i]) continue;
        else if (is_aside(t->name)) aside++;
        else if (is_left_over(t->name)) {
            pare_free(all);
            return pare_fail(d, PARE_ERR_INPUT, pare_quant_path(q, t), t->name,
                             "part of a quantized layer whose other parts are missing");
        } else all[n++] = *t;
    }
    if (aside)
        pare_log(PARE_LOG_WARN, "%s: %zu stored activation scales are left out, only weights are read", im->s.path,
                 aside);
    im->s.tensors = all;
    im->s.n_tensors = n;
    return PARE_OK;
}

pare_status pare_quantized_assemble(pare_source_impl *im, pare_diag *d) {
    const json_t *cfg = json_object_get(im->s.config, "quantization_config");
    const char *method = json_string_value(json_object_get(cfg, "quant_method"));
    pare_quant q = {.im = im, .config = cfg};
    pare_status s;
    if (!json_is_object(cfg))
        return json_is_null(cfg)
                   ? PARE_OK
                   : pare_fail(d, PARE_ERR_INPUT, im->s.path, "config.json: quantization_config", "expected an object");
    if (!method)
        return pare_fail(d, PARE_ERR_INPUT, im->s.path, "config.json: quantization_config", "no quant_method in it");
    q.used = pare_calloc(im->n_raw + 1, sizeof *q.used);
    q.made_for = pare_calloc(im->n_raw + 1, sizeof *q.made_for);
    q.made = pare_calloc(im->n_raw + 1, sizeof *q.made);
    if (!q.used || !q.made || !q.made_for) s = pare_source_nomem(im, d);
    else if (strcmp(method, "compressed-tensors") == 0) s = pare_ct_read(&q, d);
    else if (strcmp(method, "pare-sparse") == 0) {
        s = pare_sparse_read(&q, d);
        if (s == PARE_OK) s = pare_ct_read(&q, d); /* layers without zeros */
    } else if (strcmp(method, "gptq") == 0) s = pare_gptq_read(&q, d);
    else if (strcmp(method, "awq") == 0) s = pare_awq_read(&q, d);
    else
        s = pare_fail(d, PARE_ERR_UNSUPPORTED, im->s.path, "config.json: quantization_config",
                      "weights quantized by \"%.60s\" are not read by this version (compressed-tensors, gptq, awq and "
                      "pare-sparse are); the "
                      ".safetensors file itself can be inspected",
                      method);
    if (s == PARE_OK) s = merge(&q, d);
    pare_free(q.used);
    pare_free(q.made_for);
    pare_free(q.made);
    return s;
}
