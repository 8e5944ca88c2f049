/* SPDX-License-Identifier: Apache-2.0
 *
 * Folders in pare's sparse layout (docs/formats.md): per layer `weight_values`, `weight_shape`, `weight_scale` for
 * integers, and either `weight_index` (two of four) or `weight_mask` with `weight_row_offsets`. Every index, mask bit
 * and offset is checked here, once; what reads rows later relies on it. */
#include <string.h>

#include "core/sparse.h"
#include "formats/quantized.h"

#define VALUES ".weight_values"

typedef struct layer {
    pare_quant *q;
    const pare_stored *values;
    pare_stored *scale, *places, *offsets, *shape;
    int64_t rows, cols, run; /* run 0: two of four */
    int bits;                /* of a value */
    const pare_qtype *dense;
    size_t most; /* runs of the fullest row */
} layer;

static pare_status bad(const layer *l, const pare_stored *t, pare_diag *d, const char *what) {
    return pare_fail(d, PARE_ERR_INPUT, pare_quant_path(l->q, t), t->name, "%s", what);
}

static pare_status read_shape(layer *l, pare_diag *d) {
    int64_t v[3];
    if (!pare_quant_is(l->shape, &pare_qtype_i64, 1, 3))
        return bad(l, l->shape ? l->shape : l->values, d,
                   "weight_shape must be three I64 numbers: rows, columns, columns to a mask bit (0: two of four)");
    memcpy(v, l->shape->data, sizeof v);
    l->rows = v[0], l->cols = v[1], l->run = v[2];
    if (l->rows < 1 || l->rows > INT32_MAX || l->cols < 1 || l->cols > INT32_MAX)
        return bad(l, l->shape, d, "rows and columns must be between 1 and 2^31 - 1");
    if (l->run != 0 && l->run != 1 && l->run != 4 && l->run != 16)
        return bad(l, l->shape, d, "the third number must be 0 (two of four), 1, 4 or 16");
    if (l->cols % (l->run ? l->run : 4)) return bad(l, l->shape, d, "the columns are no whole number of runs");
    return PARE_OK;
}

/* The dense format from the type of the values and the scales. */
static pare_status read_type(layer *l, pare_diag *d) {
    const pare_qtype *t = l->values->type;
    pare_stored made = {0};
    if (t == &pare_qtype_f32 || t == &pare_qtype_f16 || t == &pare_qtype_bf16) {
        l->dense = t, l->bits = (int)t->block_bytes * 8;
        return l->scale ? bad(l, l->scale, d, "scales beside values that are floats") : PARE_OK;
    }
    if (t != &pare_qtype_i8 && t != &pare_qtype_u8)
        return bad(l, l->values, d, "values must be F32, F16, BF16, I8, or U8 for pairs of 4-bit codes");
    if (!l->scale) return bad(l, l->values, d, "weight_scale is missing beside it");
    l->bits = t == &pare_qtype_i8 ? 8 : 4;
    int64_t groups = l->scale->ndim == 2 ? l->scale->shape[1] : 0;
    if (!pare_quant_scale_type(l->scale->type) || groups < 1 || l->scale->shape[0] != l->rows)
        return bad(l, l->scale, d, "expected F16, BF16 or F32 scales of shape [rows, groups]");
    PARE_TRY(pare_quant_type(l->q, l->values, &made, l->bits, l->cols, groups, false, false, l->scale->type, d));
    l->dense = made.type;
    return PARE_OK;
}

static pare_status check_indexes(layer *l, pare_diag *d) {
    int64_t per = l->bits == 4 ? (l->cols / 2 + 1) / 2 : l->cols / 2;
    size_t bytes = (size_t)(l->cols + 7) / 8;
    if (!pare_quant_is(l->places, &pare_qtype_u8, l->rows, (int64_t)bytes) || l->places->ndim != 2)
        return bad(l, l->places, d, "expected U8 [rows, columns / 8, rounded up]");
    if (!pare_quant_is(l->values, l->values->type, l->rows, per) || l->values->ndim != 2)
        return bad(l, l->values, d, "expected as many values as two of every four columns have");
    for (int64_t r = 0; r < l->rows; r++)
        if (!pare_sparse_indexes_ok((const uint8_t *)l->places->data + (size_t)r * bytes, (size_t)l->cols))
            return pare_fail(d, PARE_ERR_INPUT, pare_quant_path(l->q, l->places), l->places->name,
                             "row %lld: the two indexes of four columns must ascend", (long long)r);
    return PARE_OK;
}

static pare_status check_masks(layer *l, pare_diag *d) {
    int64_t runs = l->cols / l->run, before = 0;
    size_t bytes = (size_t)(runs + 7) / 8;
    if (!pare_quant_is(l->places, &pare_qtype_u8, l->rows, (int64_t)bytes) || l->places->ndim != 2)
        return bad(l, l->places, d, "expected U8 [rows, runs / 8, rounded up]");
    if (!pare_quant_is(l->offsets, &pare_qtype_i64, 1, l->rows + 1))
        return bad(l, l->offsets, d, "expected I64 [rows + 1]: where each row's values begin, in bytes");
    for (int64_t r = 0; r <= l->rows; r++) {
        const uint8_t *mask = (const uint8_t *)l->places->data + (size_t)r * bytes;
        int64_t at;
        memcpy(&at, (const char *)l->offsets->data + 8 * r, 8);
        if (at != before)
            return pare_fail(d, PARE_ERR_INPUT, pare_quant_path(l->q, l->offsets), l->offsets->name,
                             "number %lld is %lld, the masks before it make it %lld", (long long)r, (long long)at,
                             (long long)before);
        if (r == l->rows) break;
        if (runs % 8 && mask[bytes - 1] >> (runs % 8)) return bad(l, l->places, d, "bits past the last run are not 0");
        size_t n = pare_sparse_count(mask, bytes);
        l->most = n > l->most ? n : l->most;
        before += ((int64_t)n * l->run * l->bits + 7) / 8;
    }
    if (l->values->ndim != 1 || l->values->bytes != (size_t)before)
        return bad(l, l->values, d, "there are not as many values as the masks say");
    return PARE_OK;
}

/* Sparse rows where they are smaller than dense ones, which they are not when one row is nearly full. */
static const pare_qtype *row_type(const layer *l) {
    size_t n = (size_t)l->cols, runs = l->run ? n / (size_t)l->run : 1, keep = (l->most * 16 + runs - 1) / runs;
    const pare_qtype *q = pare_qtype_sparse(l->dense, l->run ? (unsigned)l->run : 1,
                                            !l->run ? 0
                                            : keep  ? (unsigned)keep
                                                    : 1);
    bool smaller = q && pare_sparse_fits(q, n) && pare_row_bytes(q, n) < pare_row_bytes(l->dense, n);
    return smaller ? q : l->dense;
}

static pare_status read_layer(pare_quant *q, const pare_stored *values, pare_diag *d) {
    layer l = {.q = q,
               .values = values,
               .scale = pare_quant_part(q, values, VALUES, ".weight_scale"),
               .shape = pare_quant_part(q, values, VALUES, ".weight_shape"),
               .offsets = pare_quant_part(q, values, VALUES, ".weight_row_offsets")};
    PARE_TRY(read_shape(&l, d));
    PARE_TRY(read_type(&l, d));
    l.places = pare_quant_part(q, values, VALUES, l.run ? ".weight_mask" : ".weight_index");
    if (!l.places || (l.run && !l.offsets))
        return bad(&l, values, d,
                   l.run ? "weight_mask or weight_row_offsets is missing beside it"
                         : "weight_index is missing beside it");
    if (!pare_qtype_fits(l.dense, (size_t)l.cols)) return bad(&l, l.shape, d, "the columns are no whole groups");
    PARE_TRY(l.run ? check_masks(&l, d) : check_indexes(&l, d));
    pare_stored t = {.layout = PARE_LAYOUT_SPARSE,
                     .type = row_type(&l),
                     .shape = {l.rows, l.cols},
                     .part = {values, l.scale, l.places, l.run ? l.offsets : NULL},
                     .bits = (uint8_t)l.bits,
                     .run = (uint8_t)l.run};
    pare_quant_use(q, values), pare_quant_use(q, l.scale), pare_quant_use(q, l.places), pare_quant_use(q, l.shape);
    if (l.run) pare_quant_use(q, l.offsets);
    return pare_quant_emit(q, values, VALUES, &t, d);
}

pare_status pare_sparse_read(pare_quant *q, pare_diag *d) {
    size_t tail = strlen(VALUES);
    for (size_t i = 0; i < q->im->n_raw; i++) {
        const pare_stored *t = &q->im->raw[i];
        size_t n = strlen(t->name);
        if (n > tail && strcmp(t->name + n - tail, VALUES) == 0) PARE_TRY(read_layer(q, t, d));
    }
    return PARE_OK;
}
