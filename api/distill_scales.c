/* SPDX-License-Identifier: Apache-2.0
 *
 * Learned scales: the codes of a quantized matrix stay, what multiplies them learns. A block's values are
 * f d c - g m b with d and m as stored (scale, and minimum where the format has one), c and b what its codes say, and
 * factors f and g from 1 on; training sees the matrix in f32, and d loss / df is the sum over the block of the matrix's
 * gradient times d c. In the end d f and m g are rounded to the fields they came from. */
#include "api/distill.h"

#include "core/status.h"
#include "core/threads.h"

#include <string.h>

/* Where a block's f16 numbers lie (quant/blocks.h). */
static const struct {
    const char *name;
    int d, m; /* -1: none */
} fields[] = {{"q4_0", 0, -1},   {"q5_0", 0, -1}, {"q8_0", 0, -1}, {"iq4_nl", 0, -1},
              {"iq4_xs", 0, -1}, {"q4_1", 0, 2},  {"q5_1", 0, 2},  {"q2_k", 80, 82},
              {"q3_k", 108, -1}, {"q4_k", 0, 2},  {"q5_k", 0, 2},  {"q6_k", 208, -1}};

bool pare_scales_known(const pare_qtype *q) {
    if (q->kind == PARE_QK_GROUP) return true;
    for (size_t i = 0; q->kind == PARE_QK_BLOCK && i < sizeof fields / sizeof *fields; i++)
        if (strcmp(fields[i].name, q->name) == 0) return true;
    return false;
}

static const pare_qtype *number_of(const pare_scales *s) {
    return s->type->int_format ? s->type->int_format->scale_type : &pare_qtype_f16;
}

static void store(const pare_qtype *t, float v, uint8_t *p) {
    uint16_t h;
    if (t == &pare_qtype_f32) memcpy(p, &v, sizeof v);
    else h = t == &pare_qtype_f16 ? pare_f32_to_f16(v) : pare_f32_to_bf16(v), memcpy(p, &h, sizeof h);
}

pare_status pare_scales_room(const pare_qtype *type, size_t rows, size_t cols, pare_scales *s, pare_diag *d) {
    *s = (pare_scales){.type = type, .rows = rows, .cols = cols, .at = {0, -1}};
    for (size_t i = 0; type->kind == PARE_QK_BLOCK && i < sizeof fields / sizeof *fields; i++)
        if (strcmp(fields[i].name, type->name) == 0) s->at[0] = fields[i].d, s->at[1] = fields[i].m;
    s->parts = s->at[1] >= 0 ? 2 : 1;
    s->block = type->block_elems ? type->block_elems : cols;
    s->row_bytes = pare_row_bytes(type, cols);
    s->block_bytes = type->block_elems ? type->block_bytes : s->row_bytes;
    s->blocks = cols / s->block;
    s->n = rows * s->blocks * (size_t)s->parts;
    s->data = pare_malloc_aligned(rows * s->row_bytes);
    s->factor = pare_malloc(s->n * sizeof *s->factor);
    s->grad = pare_calloc(s->n, sizeof *s->grad);
    if (!s->data || !s->factor || !s->grad)
        return pare_fail(d, PARE_ERR_NOMEM, NULL, "scales", "no memory for a matrix's scales");
    for (size_t i = 0; i < s->n; i++) s->factor[i] = 1;
    return PARE_OK;
}

pare_status pare_scales_open(const pare_source *src, const pare_stored *t, size_t rows, size_t cols, pare_scales *s,
                             pare_diag *d) {
    PARE_TRY(pare_scales_room(t->type, rows, cols, s, d));
    for (size_t r = 0; r < rows; r++) {
        const void *p = pare_source_rows(src, t, r, 1, s->data + r * s->row_bytes);
        if (p != s->data + r * s->row_bytes) memcpy(s->data + r * s->row_bytes, p, s->row_bytes);
    }
    return PARE_OK;
}

void pare_scales_close(pare_scales *s) {
    pare_free(s->data);
    pare_free(s->factor);
    pare_free(s->grad);
}

/* What part p of a block contributes: the block with its other number at 0, decoded. */
static void part_of(const pare_scales *s, const uint8_t *block, int p, float *out) {
    uint8_t copy[512]; /* formats with two numbers are at most 256 columns, their blocks smaller than this */
    if (s->parts == 1) {
        s->type->decode(s->type, block, out, s->block);
        return;
    }
    memcpy(copy, block, s->block_bytes);
    store(number_of(s), 0, copy + s->at[1 - p]);
    s->type->decode(s->type, copy, out, s->block);
}

typedef struct row_job {
    pare_scales *s;
    const float *dw;
    float *w;
    float *scratch; /* a row per thread */
} row_job;

static void gradient_item(void *ctx, size_t r) {
    const row_job *j = ctx;
    pare_scales *s = j->s;
    float *part = j->scratch + (size_t)pare_thread_index() * s->cols;
    for (size_t b = 0; b < s->blocks; b++)
        for (int p = 0; p < s->parts; p++) {
            const float *dw = j->dw + r * s->cols + b * s->block;
            double sum = 0;
            part_of(s, s->data + r * s->row_bytes + b * s->block_bytes, p, part);
            for (size_t i = 0; i < s->block; i++) sum += (double)dw[i] * (double)part[i];
            s->grad[(r * s->blocks + b) * (size_t)s->parts + (size_t)p] = (float)sum;
        }
}

static void values_item(void *ctx, size_t r) {
    const row_job *j = ctx;
    pare_scales *s = j->s;
    float *part = j->scratch + (size_t)pare_thread_index() * s->cols;
    for (size_t b = 0; b < s->blocks; b++)
        for (int p = 0; p < s->parts; p++) {
            float *w = j->w + r * s->cols + b * s->block;
            float f = s->factor[(r * s->blocks + b) * (size_t)s->parts + (size_t)p];
            part_of(s, s->data + r * s->row_bytes + b * s->block_bytes, p, part);
            for (size_t i = 0; i < s->block; i++) w[i] = p ? w[i] + f * part[i] : f * part[i];
        }
}

static pare_status each_row(pare_scales *s, const float *dw, float *w, pare_item_fn *fn, pare_diag *d) {
    row_job j = {s, dw, w, pare_malloc((size_t)pare_threads() * s->cols * sizeof *j.scratch)};
    if (!j.scratch) return pare_fail(d, PARE_ERR_NOMEM, NULL, "scales", "no memory for a row per thread");
    pare_parallel(s->rows, 1, fn, &j);
    pare_free(j.scratch);
    return PARE_OK;
}

pare_status pare_scales_gradient(pare_scales *s, const float *dw, pare_diag *d) {
    return each_row(s, dw, NULL, gradient_item, d);
}

pare_status pare_scales_values(pare_scales *s, float *w, pare_diag *d) { return each_row(s, NULL, w, values_item, d); }

void pare_scales_settle(pare_scales *s, float *w) {
    const pare_qtype *t = number_of(s);
    for (size_t r = 0; r < s->rows; r++) {
        uint8_t *row = s->data + r * s->row_bytes;
        for (size_t b = 0; b < s->blocks; b++)
            for (int p = 0; p < s->parts; p++) {
                uint8_t *at = row + b * s->block_bytes + s->at[p];
                float v;
                t->decode(t, at, &v, 1);
                float *f = &s->factor[(r * s->blocks + b) * (size_t)s->parts + (size_t)p];
                store(t, v * *f, at);
                *f = 1;
            }
        s->type->decode(s->type, row, w + r * s->cols, s->cols);
    }
}
