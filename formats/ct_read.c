/* SPDX-License-Identifier: Apache-2.0
 *
 * compressed-tensors folders: pack-quantized (4 or 8 bits, groups or whole rows, symmetric or not) and int-quantized
 * (8 bits, one scale per row or per tensor). Bits are told by the shapes, since groups of layers may differ. */
#include <string.h>

#include "formats/int_pack.h"
#include "formats/quantized.h"

#define PACKED ".weight_packed"

static bool ends(const char *s, const char *tail) {
    size_t n = strlen(s), k = strlen(tail);
    return n > k && strcmp(s + n - k, tail) == 0;
}

static pare_status bad(const pare_quant *q, const pare_stored *t, pare_diag *d, const char *what) {
    return pare_fail(d, PARE_ERR_INPUT, pare_quant_path(q, t), t->name, "%s", what);
}

/* A format word of the configuration; words of formats that are not read are refused by name. */
static pare_status check_format(const pare_quant *q, const json_t *holder, pare_diag *d) {
    static const char *const fine[] = {"pack-quantized", "int-quantized", "mixed-precision", "dense", NULL};
    const char *word = json_string_value(json_object_get(holder, "format"));
    if (!word) return PARE_OK;
    for (int i = 0; fine[i]; i++)
        if (strcmp(word, fine[i]) == 0) return PARE_OK;
    return pare_fail(d, PARE_ERR_UNSUPPORTED, q->im->s.path, "config.json: quantization_config",
                     "compressed-tensors format \"%.40s\" is not read by this version (pack-quantized and "
                     "int-quantized are)",
                     word);
}

static bool wants_groups(const pare_quant *q) { /* some config group asks for groups of columns */
    const char *key;
    json_t *g;
    json_object_foreach(json_object_get(q->config, "config_groups"), key, g) {
        const char *s = json_string_value(json_object_get(json_object_get(g, "weights"), "strategy"));
        if (s && strcmp(s, "group") == 0) return true;
    }
    return false;
}

static pare_status packed_layer(pare_quant *q, const pare_stored *codes, bool grouped, pare_diag *d) {
    pare_stored *scale = pare_quant_part(q, codes, PACKED, ".weight_scale"),
                *zero = pare_quant_part(q, codes, PACKED, ".weight_zero_point");
    pare_stored *shape = pare_quant_part(q, codes, PACKED, ".weight_shape"),
                *g_idx = pare_quant_part(q, codes, PACKED, ".weight_g_idx");
    int64_t nk[2];
    if (codes->type != &pare_qtype_i32 || codes->ndim != 2) return bad(q, codes, d, "expected I32 of two dimensions");
    if (!scale || !shape) return bad(q, codes, d, "weight_scale or weight_shape is missing beside it");
    if (!pare_quant_is(shape, &pare_qtype_i64, 1, 2) && !pare_quant_is(shape, &pare_qtype_i32, 1, 2))
        return bad(q, shape, d, "expected two I64 numbers: rows and columns");
    if (shape->type == &pare_qtype_i64) memcpy(nk, shape->data, 16);
    else {
        int32_t v[2];
        memcpy(v, shape->data, 8);
        nk[0] = v[0], nk[1] = v[1];
    }
    if (nk[0] != codes->shape[0] || nk[1] <= 0 || nk[1] > INT32_MAX)
        return bad(q, shape, d, "the numbers do not fit weight_packed");
    int64_t words = codes->shape[1];
    int bits = words == (nk[1] * 4 + 31) / 32 ? 4 : words == (nk[1] * 8 + 31) / 32 ? 8 : 0;
    if (!bits)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, pare_quant_path(q, codes), codes->name,
                         "%lld words for %lld columns: only 4-bit and 8-bit codes are read", (long long)words,
                         (long long)nk[1]);
    int64_t groups = scale->ndim == 2 ? scale->shape[1] : 0;
    if (!pare_quant_scale_type(scale->type) || scale->ndim != 2 || scale->shape[0] != nk[0] || groups < 1)
        return bad(q, scale, d, "expected F16, BF16 or F32 scales of shape [rows, groups]");
    if (zero && !pare_quant_is(zero, &pare_qtype_i32, (nk[0] * bits + 31) / 32, groups))
        return bad(q, zero, d, "expected I32 zero points packed along the rows");
    if (g_idx) {
        pare_quant_use(q, g_idx);
        for (int64_t i = 0, k = nk[1]; i < k; i++) {
            int32_t g;
            if (!pare_quant_is(g_idx, &pare_qtype_i32, 1, k) || k % groups)
                return bad(q, g_idx, d, "expected one I32 per column");
            memcpy(&g, (const char *)g_idx->data + 4 * i, 4);
            if (g != -1 && g != i / (k / groups))
                return pare_fail(d, PARE_ERR_UNSUPPORTED, pare_quant_path(q, g_idx), g_idx->name,
                                 "columns reordered between groups are not read");
        }
    }
    pare_stored t = {.layout = PARE_LAYOUT_CT_PACKED,
                     .shape = {nk[0], nk[1]},
                     .part = {codes, scale, zero},
                     .bits = (uint8_t)bits};
    PARE_TRY(pare_quant_type(q, codes, &t, bits, nk[1], groups, zero != NULL, grouped, scale->type, d));
    pare_quant_use(q, codes), pare_quant_use(q, scale), pare_quant_use(q, zero), pare_quant_use(q, shape);
    return pare_quant_emit(q, codes, PACKED, &t, d);
}

static bool per_row_or_one(const pare_stored *t, const pare_qtype *type, int64_t n) {
    return pare_quant_is(t, type, n, 1) || pare_quant_is(t, type, 1, n) || pare_quant_is(t, type, 1, 1);
}

static pare_status int8_layer(pare_quant *q, const pare_stored *w, pare_diag *d) {
    pare_stored *scale = pare_quant_part(q, w, ".weight", ".weight_scale"),
                *zero = pare_quant_part(q, w, ".weight", ".weight_zero_point");
    if (!scale) return PARE_OK;
    if (w->ndim != 2) return bad(q, w, d, "expected two dimensions");
    int64_t n = w->shape[0], k = w->shape[1];
    if (!pare_quant_scale_type(scale->type) || !per_row_or_one(scale, scale->type, n))
        return bad(q, scale, d, "expected F16, BF16 or F32 scales, one per row or one");
    if (zero && (!per_row_or_one(zero, &pare_qtype_i8, n) || zero->bytes != scale->bytes / scale->type->block_bytes))
        return bad(q, zero, d, "expected as many I8 zero points as scales");
    pare_stored t = {.layout = PARE_LAYOUT_CT_INT8, .shape = {n, k}, .part = {w, scale, zero}, .bits = 8};
    PARE_TRY(pare_quant_type(q, w, &t, 8, k, 1, zero != NULL, false, scale->type, d));
    pare_quant_use(q, w), pare_quant_use(q, scale), pare_quant_use(q, zero);
    return pare_quant_emit(q, w, ".weight", &t, d);
}

pare_status pare_ct_read(pare_quant *q, pare_diag *d) {
    const char *key;
    json_t *g;
    PARE_TRY(check_format(q, q->config, d));
    json_object_foreach(json_object_get(q->config, "config_groups"), key, g) PARE_TRY(check_format(q, g, d));
    bool grouped = wants_groups(q);
    for (size_t i = 0; i < q->im->n_raw; i++) {
        const pare_stored *t = &q->im->raw[i];
        if (ends(t->name, PACKED)) PARE_TRY(packed_layer(q, t, grouped, d));
        else if (t->type == &pare_qtype_i8 && ends(t->name, ".weight")) PARE_TRY(int8_layer(q, t, d));
    }
    return PARE_OK;
}
