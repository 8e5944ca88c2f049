/* SPDX-License-Identifier: Apache-2.0
 *
 * The compact layout: which tensors are smaller without their zeros, in which sparse format (core/sparse.h). Rows are
 * made once to count them; what is written later is packed row by row from the same dense rows, so the values are those
 * that a dense file would have. */
#include "api/job.h"

#include "core/alloc.h"
#include "core/status.h"
#include "core/threads.h"

#include <stdio.h>
#include <string.h>

enum { CHUNK = 64, WAYS = 4 }; /* rows at a time; two of four, runs of 1, 4, 16 */
static const unsigned run_of[WAYS] = {0, 1, 4, 16};

typedef struct count {
    const pare_qtype *dense;
    size_t n, row_bytes;
    const uint8_t *rows;
    uint8_t *masks; /* [CHUNK][(n + 7) / 8] */
    uint32_t *runs; /* [WAYS][rows of the tensor]: stored runs; two of four: 1 where a row breaks the rule */
    size_t all, row0;
} count;

/* All ways from one mask of single columns. */
static void count_row(void *ctx, size_t r) {
    count *c = ctx;
    size_t bytes = (c->n + 7) / 8;
    uint8_t *m = c->masks + r * bytes;
    uint32_t n4 = 0, n16 = 0, broken = c->n % 4 != 0;
    uint32_t n1 = (uint32_t)pare_sparse_places(c->dense, 1, c->rows + r * c->row_bytes, c->n, m);
    for (size_t b = 0; b < bytes; b++) {
        n4 += ((m[b] & 15) != 0) + (m[b] >> 4 != 0);
        broken |= __builtin_popcount(m[b] & 15) > 2 || __builtin_popcount(m[b] >> 4) > 2;
        if (b % 2 == 0) n16 += m[b] || (b + 1 < bytes && m[b + 1]);
    }
    const uint32_t found[WAYS] = {broken, n1, n4, n16};
    for (size_t w = 0; w < WAYS; w++) c->runs[w * c->all + c->row0 + r] = found[w];
}

static size_t value_bits(const pare_qtype *dense) {
    return dense->int_format ? dense->int_format->bits : 8 * dense->block_bytes;
}

static int64_t values_bytes(size_t runs, unsigned run, size_t bits) { return (int64_t)((runs * run * bits + 7) / 8); }

/* Bytes of places, values and offsets, or INT64_MAX when the tensor cannot be stored so. */
static int64_t size_of(const count *c, size_t way) {
    size_t bits = value_bits(c->dense), run = run_of[way] ? run_of[way] : 1;
    const pare_qtype *q = pare_qtype_sparse(c->dense, (unsigned)run, way ? 1 : 0);
    if (!q || !pare_sparse_fits(q, c->n)) return INT64_MAX;
    int64_t bytes = (int64_t)(c->all * ((c->n / run + 7) / 8));
    if (way) bytes += 8 * (int64_t)(c->all + 1);
    for (size_t r = 0; r < c->all; r++) {
        if (!way && c->runs[r]) return INT64_MAX;
        bytes += way ? values_bytes(c->runs[way * c->all + r], run_of[way], bits) : values_bytes(c->n / 2, 1, bits);
    }
    return bytes;
}

/* Two of four wins unless another way is smaller by a twentieth: its kernels are the best. */
static size_t best_way(const count *c, int64_t *bytes) {
    size_t best = 0;
    int64_t most = size_of(c, 0);
    *bytes = most;
    for (size_t w = 1; w < WAYS; w++) {
        int64_t b = size_of(c, w);
        if (b < (best ? *bytes : most == INT64_MAX ? most : most - most / 20)) best = w, *bytes = b;
    }
    return best;
}

static pare_status take(pare_job *job, pare_job_tensor *t, const count *c, size_t way, pare_diag *d) {
    size_t runs = c->n / (run_of[way] ? run_of[way] : 1), most = 1, bits = value_bits(c->dense);
    int64_t *at = way ? pare_arena_alloc(job->arena, (c->all + 1) * sizeof *at) : NULL;
    if (way && !at) return pare_fail(d, PARE_ERR_NOMEM, NULL, NULL, "no memory for the plan");
    for (size_t r = 0; way && r < c->all; r++) {
        uint32_t n = c->runs[way * c->all + r];
        at[r + 1] = at[r] + values_bytes(n, run_of[way], bits);
        most = n > most ? n : most;
    }
    size_t keep = way ? (most * 16 + runs - 1) / runs : 0;
    t->sparse = pare_qtype_sparse(c->dense, run_of[way] ? run_of[way] : 1, (unsigned)(keep > 15 ? 15 : keep));
    t->sparse_run = run_of[way];
    t->sparse_at = at;
    return PARE_OK;
}

/* Counts a tensor's rows as they will be written. */
static pare_status count_rows(pare_job *job, pare_job_tensor *t, count *c, pare_diag *d) {
    size_t heads = t->map->order != PARE_ROWS_SAME ? (size_t)t->map->head_dim : 1,
           step = (CHUNK + heads - 1) / heads * heads;
    void *values = pare_malloc_aligned(pare_row_work_values(t) * sizeof(float) + 64);
    void *rtn = pare_malloc_aligned(pare_row_work_rtn_bytes(t) + 64);
    void *raw = pare_malloc_aligned(pare_row_work_raw_bytes(t, step) + 64);
    uint8_t *rows = pare_malloc_aligned(step * c->row_bytes + 64);
    c->masks = pare_malloc(step * ((c->n + 7) / 8));
    pare_status s = PARE_OK;
    if (!values || !rtn || !raw || !rows || !c->masks)
        s = pare_fail(d, PARE_ERR_NOMEM, NULL, NULL, "no memory to count zeros");
    pare_row_work work = {job, t, values, rtn, raw};
    for (size_t r = 0; s == PARE_OK && r < c->all; r += step) {
        size_t n = c->all - r < step ? c->all - r : step;
        s = pare_row_work_run(&work, r, n, rows, d);
        c->rows = rows, c->row0 = r;
        if (s == PARE_OK) pare_parallel(n, 8, count_row, c);
        if (s == PARE_OK && pare_is_interrupted()) s = pare_interrupted(d);
    }
    void *all[] = {values, rtn, raw, rows, c->masks};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) pare_free(all[i]);
    return s;
}

static pare_status one(pare_job *job, pare_job_tensor *t, pare_diag *d) {
    size_t n = (size_t)t->cols, rows = (size_t)t->rows, len = strlen(t->map->name);
    bool named = len > 7 && strcmp(t->map->name + len - 7, ".weight") == 0;
    if (!t->map->linear || t->map->ndim != 2 || !named || !rows || !pare_qtype_sparse(t->to, 1, 1)) return PARE_OK;
    count c = {.dense = t->to, .n = n, .row_bytes = pare_row_bytes(t->to, n), .all = rows};
    if (!(c.runs = pare_malloc(WAYS * rows * sizeof *c.runs)))
        return pare_fail(d, PARE_ERR_NOMEM, NULL, NULL, "no memory to count zeros");
    pare_status s = count_rows(job, t, &c, d);
    int64_t bytes, dense = (int64_t)rows * values_bytes(n, 1, value_bits(t->to));
    size_t way = s == PARE_OK ? best_way(&c, &bytes) : 0;
    if (s == PARE_OK && bytes + 24 < dense) s = take(job, t, &c, way, d);
    pare_free(c.runs);
    return s;
}

pare_status pare_job_compact(pare_job *job, pare_diag *d) {
    for (size_t i = 0; i < job->n; i++) {
        pare_job_tensor *t = &job->t[i];
        t->sparse = NULL;
        PARE_TRY(one(job, t, d));
        size_t n = strlen(t->note);
        double dense = (double)t->rows * (double)pare_row_bytes(t->to, (size_t)t->cols);
        if (t->map->linear) t->dense_bytes = (uint64_t)dense;
        if (t->sparse) snprintf(t->note + n, sizeof t->note - n, "%szeros left out", n ? "; " : "");
    }
    return pare_job_layout(job, d);
}

/* ---- writing: parts in the order of pare_job_compact_parts ---- */
pare_status pare_job_compact_parts(pare_job *job, pare_job_tensor *t, pare_job_part_fn *part, pare_diag *d) {
    const pare_qtype *dense = t->sparse->sparse->dense, *type = dense;
    const pare_int_format *f = dense->int_format;
    int64_t n = t->rows, k = t->cols, bits = (int64_t)value_bits(dense), run = t->sparse_run;
    if (f) type = bits == 8 ? &pare_qtype_i8 : &pare_qtype_u8;
    int64_t per = values_bytes((size_t)(k / 2), 1, (size_t)bits), size = type->block_bytes;
    PARE_TRY(run ? part(job, t, ".weight_values", type, t->sparse_at[n] / size, 0, d)
                 : part(job, t, ".weight_values", type, n, per / size, d));
    PARE_TRY(part(job, t, run ? ".weight_mask" : ".weight_index", &pare_qtype_u8, n, (k / (run ? run : 1) + 7) / 8, d));
    PARE_TRY(part(job, t, ".weight_shape", &pare_qtype_i64, 3, 0, d));
    if (run) PARE_TRY(part(job, t, ".weight_row_offsets", &pare_qtype_i64, n + 1, 0, d));
    return f ? part(job, t, ".weight_scale", f->scale_type, n, f->group ? k / f->group : 1, d) : PARE_OK;
}

pare_status pare_job_compact_put(const pare_job_tensor *t, pare_writer *w, size_t row0, size_t n, const void *rows,
                                 void *scratch, pare_diag *d) {
    const pare_qtype *dense = t->sparse->sparse->dense;
    const int64_t *at = t->sparse_at;
    size_t k = (size_t)t->cols, row = pare_row_bytes(dense, k), bits = value_bits(dense), run = t->sparse_run;
    size_t places = (k / (run ? run : 1) + 7) / 8, out = t->out0, per = (size_t)values_bytes(k / 2, 1, bits);
    size_t from = run ? (size_t)at[row0] : row0 * per, to = run ? (size_t)at[row0 + n] : (row0 + n) * per, o = 0;
    uint8_t *p = scratch, *v = p + n * places; /* places, then values */
    for (size_t r = 0; r < n; r++) {
        const uint8_t *in = (const uint8_t *)rows + r * row;
        pare_sparse_places(dense, (unsigned)run, in, k, p + r * places);
        o += pare_sparse_values(dense, (unsigned)run, in, k, p + r * places, v + o);
    }
    if (o != to - from)
        return pare_fail(d, PARE_ERR_INTERNAL, NULL, t->map->name, "rows changed between counting and writing");
    PARE_TRY(pare_writer_put(w, out++, from, v, o, d));
    PARE_TRY(pare_writer_put(w, out++, row0 * places, p, n * places, d));
    if (row0 == 0) {
        int64_t shape[3] = {t->rows, t->cols, (int64_t)run};
        PARE_TRY(pare_writer_put(w, out, 0, shape, sizeof shape, d));
        if (run) PARE_TRY(pare_writer_put(w, out + 1, 0, at, ((size_t)t->rows + 1) * 8, d));
    }
    out += run ? 2 : 1;
    if (!dense->int_format) return PARE_OK;
    size_t scales = 0, each = 0;
    for (size_t r = 0; r < n; r++, scales += each)
        each = pare_sparse_scales(dense, (const uint8_t *)rows + r * row, k, (uint8_t *)scratch + scales);
    return pare_writer_put(w, out, row0 * each, scratch, scales, d);
}

size_t pare_job_compact_scratch(const pare_job_tensor *t, size_t rows) {
    size_t k = (size_t)t->cols;
    return rows * ((k + 7) / 8 + k * value_bits(t->to) / 8 + 1 + pare_row_bytes(t->to, k));
}
