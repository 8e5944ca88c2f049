/* SPDX-License-Identifier: Apache-2.0
 *
 * GPTQ (v1 and v2 zero points, 4 and 8 bits) and AWQ gemm folders. Zero points that are all 2^(bits-1) make a symmetric
 * format. Where act-order scattered the columns of a group, the layer is decoded to its scales' type (f16), exactly. */
#include <string.h>

#include "core/log.h"
#include "formats/int_pack.h"
#include "formats/quantized.h"

#define CODES ".qweight"

static bool ends(const char *s, const char *tail) {
    size_t n = strlen(s), k = strlen(tail);
    return n > k && strcmp(s + n - k, tail) == 0;
}

static pare_status bad(const pare_quant *q, const pare_stored *t, pare_diag *d, const char *what) {
    return pare_fail(d, PARE_ERR_INPUT, pare_quant_path(q, t), t->name, "%s", what);
}

typedef struct parts {
    pare_stored *scales, *zeros, *g_idx;
    int64_t n, k, groups;
} parts;

static pare_status find_parts(pare_quant *q, const pare_stored *codes, parts *p, pare_diag *d) {
    p->scales = pare_quant_part(q, codes, CODES, ".scales");
    p->zeros = pare_quant_part(q, codes, CODES, ".qzeros");
    p->g_idx = pare_quant_part(q, codes, CODES, ".g_idx");
    if (codes->type != &pare_qtype_i32 || codes->ndim != 2) return bad(q, codes, d, "expected I32 of two dimensions");
    if (!p->scales || !p->zeros) return bad(q, codes, d, "scales or qzeros are missing beside it");
    if (!pare_quant_scale_type(p->scales->type) || p->scales->ndim != 2)
        return bad(q, p->scales, d, "expected F16, BF16 or F32 scales of shape [groups, columns]");
    p->groups = p->scales->shape[0];
    p->n = p->scales->shape[1];
    if (p->groups < 1 || p->n < 1 || p->n > INT32_MAX) return bad(q, p->scales, d, "empty or absurd");
    pare_quant_use(q, codes), pare_quant_use(q, p->scales), pare_quant_use(q, p->zeros), pare_quant_use(q, p->g_idx);
    return PARE_OK;
}

/* Whether g_idx is k / group; its values are checked. */
static pare_status check_g_idx(pare_quant *q, const parts *p, bool *trivial, pare_diag *d) {
    *trivial = true;
    if (!p->g_idx) return PARE_OK;
    if (!pare_quant_is(p->g_idx, &pare_qtype_i32, 1, p->k))
        return bad(q, p->g_idx, d, "expected one I32 per input column");
    for (int64_t i = 0; i < p->k; i++) {
        int32_t g;
        memcpy(&g, (const char *)p->g_idx->data + 4 * i, 4);
        if (g < 0 || g >= p->groups) return bad(q, p->g_idx, d, "a group number beyond the scales");
        if (p->k % p->groups || g != i / (p->k / p->groups)) *trivial = false;
    }
    return PARE_OK;
}

/* Symmetric when every zero point is 2^(bits-1). v1 cannot say 0, and its 2^bits does not fit a code. */
static pare_status check_zeros(pare_quant *q, const parts *p, int bits, bool awq, bool v1, bool *symmetric,
                               pare_diag *d) {
    unsigned half = 1u << (bits - 1);
    *symmetric = true;
    for (int64_t g = 0; g < p->groups; g++)
        for (int64_t n = 0; n < p->n; n++) {
            unsigned z =
                awq ? pare_int_awq_zero(p->zeros->data, (size_t)p->n, (size_t)g, (size_t)n)
                    : pare_int_gptq_zero(p->zeros->data, (unsigned)bits, (size_t)p->n, (size_t)g, (size_t)n, v1);
            if (z != half) *symmetric = false;
            if (z >> bits)
                return pare_fail(d, PARE_ERR_UNSUPPORTED, pare_quant_path(q, p->zeros), p->zeros->name,
                                 "a zero point that version 1 of the layout stores ambiguously (0 or %u): save it as "
                                 "gptq_v2",
                                 1u << bits);
        }
    return PARE_OK;
}

static pare_status gptq_layer(pare_quant *q, const pare_stored *codes, int config_bits, bool v1, pare_diag *d) {
    parts p;
    bool trivial, symmetric;
    PARE_TRY(find_parts(q, codes, &p, d));
    int64_t words = codes->shape[0];
    int bits = config_bits;
    p.k = p.g_idx ? p.g_idx->shape[0] : words * (32 / (bits == 8 ? 8 : 4));
    if (p.g_idx && p.g_idx->ndim == 1 && p.k > 0 && p.k <= INT32_MAX && words != (p.k * bits + 31) / 32)
        bits = words == (p.k * 4 + 31) / 32 ? 4 : 8;
    if (bits != 4 && bits != 8)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, pare_quant_path(q, codes), codes->name,
                         "%d-bit GPTQ codes: 4 and 8 bits are read", bits);
    if (p.k < 1 || p.k > INT32_MAX || words != (p.k * bits + 31) / 32 || codes->shape[1] != p.n)
        return bad(q, codes, d, "its shape does not fit scales, g_idx and bits");
    if (!pare_quant_is(p.zeros, &pare_qtype_i32, p.groups, (p.n * bits + 31) / 32))
        return bad(q, p.zeros, d, "expected I32 zero points packed along the outputs");
    PARE_TRY(check_g_idx(q, &p, &trivial, d));
    PARE_TRY(check_zeros(q, &p, bits, false, v1, &symmetric, d));
    pare_stored t = {.layout = PARE_LAYOUT_GPTQ,
                     .shape = {p.n, p.k},
                     .part = {codes, p.scales, symmetric ? NULL : p.zeros},
                     .bits = (uint8_t)bits,
                     .zeros_less_one = v1};
    if (trivial) PARE_TRY(pare_quant_type(q, codes, &t, bits, p.k, p.groups, !symmetric, true, p.scales->type, d));
    else {
        pare_log(PARE_LOG_DEBUG, "%s: act-order scattered its groups, read as %s", codes->name, p.scales->type->name);
        t.part[3] = p.g_idx;
        t.type = p.scales->type;
    }
    return pare_quant_emit(q, codes, CODES, &t, d);
}

static pare_status awq_layer(pare_quant *q, const pare_stored *codes, pare_diag *d) {
    parts p;
    bool symmetric;
    PARE_TRY(find_parts(q, codes, &p, d));
    p.k = codes->shape[0];
    if (p.n % 8 || codes->shape[1] != p.n / 8 || p.k < 1 || p.k > INT32_MAX)
        return bad(q, codes, d, "its shape does not fit the scales");
    if (!pare_quant_is(p.zeros, &pare_qtype_i32, p.groups, p.n / 8))
        return bad(q, p.zeros, d, "expected I32 zero points packed along the outputs");
    PARE_TRY(check_zeros(q, &p, 4, true, false, &symmetric, d));
    pare_stored t = {.layout = PARE_LAYOUT_AWQ,
                     .shape = {p.n, p.k},
                     .part = {codes, p.scales, symmetric ? NULL : p.zeros},
                     .bits = 4};
    PARE_TRY(pare_quant_type(q, codes, &t, 4, p.k, p.groups, !symmetric, true, p.scales->type, d));
    return pare_quant_emit(q, codes, CODES, &t, d);
}

static pare_status refuse(const pare_quant *q, const char *key, const char *word, const char *fine, pare_diag *d) {
    return pare_fail(d, PARE_ERR_UNSUPPORTED, q->im->s.path, "config.json: quantization_config",
                     "%s \"%.40s\" is not read by this version (%s is)", key, word, fine);
}

pare_status pare_gptq_read(pare_quant *q, pare_diag *d) {
    const char *format = json_string_value(json_object_get(q->config, "checkpoint_format"));
    int bits = (int)json_integer_value(json_object_get(q->config, "bits"));
    bool v2 = format && strcmp(format, "gptq_v2") == 0;
    if (format && !v2 && strcmp(format, "gptq") != 0)
        return refuse(q, "checkpoint_format", format, "gptq or gptq_v2", d);
    for (size_t i = 0; i < q->im->n_raw; i++)
        if (ends(q->im->raw[i].name, CODES)) PARE_TRY(gptq_layer(q, &q->im->raw[i], bits, !v2, d));
    return PARE_OK;
}

pare_status pare_awq_read(pare_quant *q, pare_diag *d) {
    const char *version = json_string_value(json_object_get(q->config, "version"));
    const json_t *bits = json_object_get(q->config, "bits");
    if (version && strcmp(version, "gemm") != 0 && strcmp(version, "GEMM") != 0)
        return refuse(q, "AWQ version", version, "gemm", d);
    if (bits && json_integer_value(bits) != 4) return refuse(q, "AWQ bits", "other than 4", "4", d);
    for (size_t i = 0; i < q->im->n_raw; i++)
        if (ends(q->im->raw[i].name, CODES)) PARE_TRY(awq_layer(q, &q->im->raw[i], d));
    return PARE_OK;
}
