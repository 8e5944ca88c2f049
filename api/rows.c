/* SPDX-License-Identifier: Apache-2.0
 *
 * The work on one run of rows: fetch, reorder within heads, then either move bytes (same format), move codes (same
 * grid), or decode, check and encode, a cache-sized piece at a time. */
#include "api/finite.h"
#include "api/job.h"

#include "core/status.h"
#include "formats/validate.h"
#include "quant/rtn.h"

#include <float.h>
#include <math.h>
#include <string.h>

static size_t piece_rows(const pare_job_tensor *t) {
    size_t cols = t->cols ? (size_t)t->cols : 1, n = PARE_WORK_ELEMS / cols;
    return n ? n : 1;
}

size_t pare_row_work_values(const pare_job_tensor *t) { return piece_rows(t) * (size_t)(t->cols ? t->cols : 1); }

size_t pare_row_work_rtn_bytes(const pare_job_tensor *t) {
    return t->to->grid && t->to != t->from ? pare_rtn_scratch_bytes(t->to, piece_rows(t), (size_t)t->cols) : 0;
}

static bool assembled(const pare_job_tensor *t) { return t->map->src && t->map->src->layout != PARE_LAYOUT_PLAIN; }

size_t pare_row_work_raw_bytes(const pare_job_tensor *t, size_t chunk_rows) {
    size_t row = pare_row_bytes(t->from, (size_t)t->cols);
    bool permuted = t->map->order != PARE_ROWS_SAME;
    bool copied = permuted || t->pick_rows || t->pick_cols;
    return (assembled(t) ? chunk_rows * row : 0) + (copied ? chunk_rows * row : 0);
}

/* Source row of output row r (both within the tensor); heads of D rows. */
static size_t source_row(const pare_mapped *m, size_t r) {
    if (m->order == PARE_ROWS_SAME) return r;
    size_t d = (size_t)m->head_dim, h = r / d * d, k = r % d;
    if (m->order == PARE_ROWS_TO_PAIRS) return h + k / 2 + (k % 2) * (d / 2);
    return h + 2 * (k % (d / 2)) + k / (d / 2);
}

/* The same from a source with more rows or columns than the output: plain elements, in the mapping or in memory. */
static const uint8_t *fetch_picked(pare_row_work *w, size_t row0, size_t n) {
    const pare_job_tensor *t = w->t;
    const pare_mapped *m = t->map;
    bool vector = m->ndim == 1 && m->order != PARE_ROWS_SAME;
    size_t cols = (size_t)t->cols, row = pare_row_bytes(t->from, cols), elem = t->from->block_bytes;
    size_t wide = vector ? 1 : (size_t)m->src->shape[m->ndim - 1], stride = pare_row_bytes(t->from, wide);
    const uint8_t *base = pare_source_rows(w->job->src, m->src, 0, 1, NULL);
    uint8_t *out = w->raw;
    for (size_t r = 0; r < n; r++, out += row) {
        size_t s = source_row(m, row0 + r);
        const uint8_t *p = base + (t->pick_rows ? t->pick_rows[s] : s) * stride;
        if (!t->pick_cols) memcpy(out, p, row);
        else
            for (size_t c = 0; c < cols; c++) memcpy(out + c * elem, p + t->pick_cols[c] * elem, elem);
    }
    return w->raw;
}

/* Rows [row0, row0 + n) in the source's format and the output's order; n and row0 are whole heads when permuted. */
static const uint8_t *fetch(pare_row_work *w, size_t row0, size_t n) {
    const pare_mapped *m = w->t->map;
    size_t row = pare_row_bytes(w->t->from, (size_t)w->t->cols);
    if (!m->src) return (const uint8_t *)m->data + row0 * row;
    if (w->t->pick_rows || w->t->pick_cols) return fetch_picked(w, row0, n);
    bool vector = m->ndim == 1 && m->order != PARE_ROWS_SAME; /* a permuted bias: elements are the rows */
    const uint8_t *p = vector ? (const uint8_t *)pare_source_rows(w->job->src, m->src, 0, 1, w->raw) + row0 * row
                              : pare_source_rows(w->job->src, m->src, row0, n, w->raw);
    if (m->order == PARE_ROWS_SAME) return p;
    uint8_t *out = (uint8_t *)w->raw + (assembled(w->t) ? n * row : 0);
    for (size_t r = 0; r < n; r++) memcpy(out + r * row, p + (source_row(m, row0 + r) - row0) * row, row);
    return out;
}

static pare_status bad_value(const pare_row_work *w, size_t row, size_t at, float v, pare_diag *d) {
    const pare_job_tensor *t = w->t;
    unsigned long long r = row + at / (size_t)t->cols, c = at % (size_t)t->cols;
    const char *name = t->map->src ? t->map->src->name : t->map->name;
    if (!isfinite(v))
        return pare_fail(d, PARE_ERR_INPUT, w->job->src->path, name,
                         "%s at row %llu, column %llu: weights must be finite", isnan(v) ? "NaN" : "Inf", r, c);
    return pare_fail(d, PARE_ERR_INPUT, w->job->src->path, name,
                     "%g at row %llu, column %llu is too large for %s; --to bf16 or f32 holds it", (double)v, r, c,
                     t->to->name);
}

static bool half_range(const pare_qtype *q) { /* values or scales are f16 */
    if (q->kind == PARE_QK_GROUP) return q->int_format->scale_type == &pare_qtype_f16;
    return q == &pare_qtype_f16 || q->kind == PARE_QK_BLOCK;
}

/* Rows that begin with number row0; those of one expert share their importance. */
static void encode_grid(const pare_job_tensor *t, const float *v, size_t row0, size_t rows, uint8_t *dst,
                        void *scratch) {
    size_t cols = (size_t)t->cols, stride = pare_row_bytes(t->to, cols), per = t->importance_rows;
    for (size_t r = 0, n; r < rows; r += n) {
        n = rows - r;
        if (t->importance && n > per - (row0 + r) % per) n = per - (row0 + r) % per;
        const float *importance = t->importance ? t->importance + (row0 + r) / per * cols : NULL;
        pare_rtn_encode(t->to, v + r * cols, cols, importance, n, cols, dst + r * stride, stride, scratch);
    }
}

static void encode(const pare_job_tensor *t, const float *v, size_t row0, size_t rows, uint8_t *dst, void *scratch) {
    size_t n = rows * (size_t)t->cols;
    if (t->to == &pare_qtype_f32) memcpy(dst, v, n * 4);
    else if (t->to == &pare_qtype_f16) pare_f32_to_f16_n(v, (uint16_t *)(void *)dst, n);
    else if (t->to == &pare_qtype_bf16) pare_f32_to_bf16_n(v, (uint16_t *)(void *)dst, n);
    else encode_grid(t, v, row0, rows, dst, scratch);
}

static pare_status recode(pare_row_work *w, const uint8_t *src, size_t row0, size_t n, uint8_t *dst, pare_diag *d) {
    const pare_job_tensor *t = w->t;
    size_t cols = (size_t)t->cols, in = pare_row_bytes(t->from, cols), out = pare_row_bytes(t->to, cols),
           step = piece_rows(t);
    bool whole = t->from->block_elems == 0; /* row formats decode one row at a time */
    bool half = t->from == &pare_qtype_f16; /* cannot be too large for anything: checked as stored, at half the bytes */
    float limit = half_range(t->to) ? 65504.0f : t->to == &pare_qtype_bf16 ? 3.3895e38f : FLT_MAX;
    for (size_t r = 0; r < n; r += step) {
        size_t k = n - r < step ? n - r : step;
        for (size_t i = 0; whole && i < k; i++)
            t->from->decode(t->from, src + (r + i) * in, w->values + i * cols, cols);
        if (!whole) t->from->decode(t->from, src + r * in, w->values, k * cols);
        size_t at =
            half ? pare_find_nonfinite(t->from, src + r * in, k * cols) : pare_find_beyond(w->values, k * cols, limit);
        if (at < k * cols) return bad_value(w, row0 + r, at, w->values[at], d);
        encode(t, w->values, row0 + r, k, dst + r * out, w->rtn);
    }
    return PARE_OK;
}

pare_status pare_row_work_run(pare_row_work *w, size_t row0, size_t n, void *dst, pare_diag *d) {
    const pare_job_tensor *t = w->t;
    size_t cols = (size_t)t->cols;
    const uint8_t *src = fetch(w, row0, n);
    if (t->from == t->to) {
        size_t at = pare_find_nonfinite(t->from, src, n * cols);
        if (at != SIZE_MAX) {
            size_t row = at / cols;
            float v = NAN;
            if (t->from->kind == PARE_QK_FLOAT && t->from->block_elems == 1)
                t->from->decode(t->from, src + at * t->from->block_bytes, &v, 1);
            return bad_value(w, row0 + row, at % cols, v, d);
        }
        memcpy(dst, src, n * pare_row_bytes(t->to, cols));
        return PARE_OK;
    }
    if (t->from->sparse && t->from->sparse->dense == t->to) {
        size_t in = pare_row_bytes(t->from, cols), out = pare_row_bytes(t->to, cols);
        for (size_t r = 0; r < n; r++) pare_sparse_to_dense(t->from, src + r * in, cols, (uint8_t *)dst + r * out);
        size_t at = pare_find_nonfinite(t->to, dst, n * cols);
        return at == SIZE_MAX ? PARE_OK : bad_value(w, row0 + at / cols, at % cols, NAN, d);
    }
    if (pare_regroup_possible(t->from, t->to, t->cols)) {
        if (pare_regroup_rows(t->from, t->to, src, dst, n, cols)) return PARE_OK;
        return pare_fail(d, PARE_ERR_UNSUPPORTED, w->job->src->path, t->map->src->name,
                         "a scale of %s is not exact as one of %s; decode with --to f16, then quantize", t->from->name,
                         t->to->name);
    }
    return recode(w, src, row0, n, dst, d);
}
