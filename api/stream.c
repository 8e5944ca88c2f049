/* SPDX-License-Identifier: Apache-2.0
 *
 * The streaming engine: every tensor is cut into runs of rows of a few megabytes, runs are handed to threads as they
 * become free, and each is fetched, worked on, written and its input pages released. So reading, computing and writing
 * overlap, memory is a few buffers per thread, and since a run's bytes depend on nothing else, the output is the same
 * at every thread count.
 *
 * GPTQ's layout is transposed: its tensors are collected whole and written when their last run is done. */
#include "api/job.h"

#include "core/log.h"
#include "core/status.h"
#include "core/threads.h"
#include "formats/int_pack.h"

#include <stdatomic.h>
#include <string.h>

enum { CHUNK_BYTES = 2 << 20 }; /* of input or output, whichever is larger */

typedef struct {
    size_t tensor, row0, n;
} chunk;

typedef struct {
    float *values;
    void *rtn, *raw, *rows, *parts;
} buffers; /* one set per thread */

typedef struct {
    uint8_t *whole;
    _Atomic size_t left;
} gather; /* GPTQ: a tensor being collected */

typedef struct {
    pare_job *job;
    pare_writer *w;
    chunk *chunks;
    size_t n_chunks;
    buffers *buf;
    int n_buf;
    gather *gather; /* per tensor; NULL unless the layout is GPTQ */
    pare_meter meter;
    _Atomic uint64_t done;
    _Atomic bool failed;
    size_t failed_item; /* the diagnosis kept is the one of the first chunk, under the critical section below */
    pare_diag diag;
} stream;

static size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

static size_t chunk_rows(const pare_job_tensor *t) {
    size_t in = pare_row_bytes(t->from, (size_t)t->cols), out = pare_row_bytes(t->to, (size_t)t->cols);
    size_t row = in > out ? in : out, n = row ? CHUNK_BYTES / row : (size_t)t->rows;
    if (n < 1) n = 1;
    if (t->emit != PARE_EMIT_ROWS) n = round_up(n, 8); /* words of zero points hold 4 or 8 rows */
    if (t->map->order != PARE_ROWS_SAME) {
        size_t d = (size_t)t->map->head_dim;
        n = round_up(n, t->emit != PARE_EMIT_ROWS && d % 8 ? d * 8 : d);
    }
    return n < (size_t)t->rows ? n : (size_t)t->rows;
}

static pare_status no_memory(pare_diag *d) {
    return pare_fail(d, PARE_ERR_NOMEM, NULL, NULL, "no memory for the work buffers");
}

static pare_status cut(stream *s, pare_diag *d) {
    const pare_job *job = s->job;
    size_t n = 0;
    for (size_t i = 0; i < job->n; i++) {
        size_t rows = chunk_rows(&job->t[i]);
        n += rows ? ((size_t)job->t[i].rows + rows - 1) / rows : 0;
    }
    s->chunks = pare_calloc(n ? n : 1, sizeof *s->chunks);
    if (!s->chunks) return no_memory(d);
    for (size_t i = 0; i < job->n; i++) {
        size_t rows = chunk_rows(&job->t[i]);
        for (size_t r = 0; rows && r < (size_t)job->t[i].rows; r += rows) {
            size_t left = (size_t)job->t[i].rows - r;
            s->chunks[s->n_chunks++] = (chunk){i, r, left < rows ? left : rows};
        }
    }
    return PARE_OK;
}

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

static pare_status make_buffers(stream *s, pare_diag *d) {
    size_t values = 0, rtn = 0, raw = 0, rows = 0, parts = 0;
    for (size_t i = 0; i < s->job->n; i++) {
        const pare_job_tensor *t = &s->job->t[i];
        size_t n = chunk_rows(t);
        values = larger(values, pare_row_work_values(t) * sizeof(float));
        rtn = larger(rtn, pare_row_work_rtn_bytes(t));
        raw = larger(raw, pare_row_work_raw_bytes(t, n));
        rows = larger(rows, n * pare_row_bytes(t->to, (size_t)t->cols));
        parts = larger(rows, t->sparse ? larger(parts, pare_job_compact_scratch(t, n)) : parts);
    }
    s->n_buf = pare_threads();
    s->buf = pare_calloc((size_t)s->n_buf, sizeof *s->buf);
    if (!s->buf) return no_memory(d);
    for (int i = 0; i < s->n_buf; i++) {
        buffers *b = &s->buf[i];
        b->values = pare_malloc_aligned(values + 64);
        b->rtn = pare_malloc_aligned(rtn + 64);
        b->raw = pare_malloc_aligned(raw + 64);
        b->rows = pare_malloc_aligned(rows + 64);
        b->parts =
            pare_malloc_aligned(parts + 4096); /* parts of a layout are never larger than the rows, but for padding */
        if (!b->values || !b->rtn || !b->raw || !b->rows || !b->parts) return no_memory(d);
    }
    if (s->job->hold != PARE_HOLD_GPTQ) return PARE_OK;
    s->gather = pare_calloc(s->job->n, sizeof *s->gather);
    if (!s->gather) return no_memory(d);
    for (size_t i = 0; i < s->n_chunks; i++) s->gather[s->chunks[i].tensor].left++;
    return PARE_OK;
}

static void free_all(stream *s) {
    for (int i = 0; s->buf && i < s->n_buf; i++) {
        buffers *b = &s->buf[i];
        void *all[] = {b->values, b->rtn, b->raw, b->rows, b->parts};
        for (size_t k = 0; k < sizeof all / sizeof *all; k++) pare_free(all[k]);
    }
    for (size_t i = 0; s->gather && i < s->job->n; i++) pare_free(s->gather[i].whole);
    pare_free(s->buf);
    pare_free(s->gather);
    pare_free(s->chunks);
}

/* Rows of a compressed-tensors layout to its parts, in the order of pare_job_layout: codes, scale, shape, zero point.
 */
static pare_status put_ct(stream *s, const pare_job_tensor *t, const chunk *c, const void *rows, void *parts,
                          pare_diag *d) {
    size_t k = (size_t)t->cols, groups = pare_int_groups(t->to, k), words = pare_int_words(t->to, k);
    size_t scale_bytes = groups * t->to->int_format->scale_type->block_bytes;
    bool packed = t->emit == PARE_EMIT_CT_PACKED;
    size_t row = packed ? words * 4 : k;
    if (packed) pare_int_to_ct_packed(t->to, rows, c->n, k, parts);
    else pare_int_to_i8(t->to, rows, c->n, k, parts);
    PARE_TRY(pare_writer_put(s->w, t->out0, c->row0 * row, parts, c->n * row, d));
    pare_int_to_ct_scale(t->to, rows, c->n, k, parts);
    PARE_TRY(pare_writer_put(s->w, t->out0 + 1, c->row0 * scale_bytes, parts, c->n * scale_bytes, d));
    if (!packed) return PARE_OK;
    if (c->row0 == 0) {
        int64_t shape[2] = {t->rows, t->cols};
        PARE_TRY(pare_writer_put(s->w, t->out0 + 2, 0, shape, sizeof shape, d));
    }
    if (!t->to->int_format->asym) return PARE_OK;
    pare_int_to_ct_zero(t->to, rows, c->n, k, parts);
    size_t per = 32 / t->to->int_format->bits, z0 = c->row0 / per, z = (c->n + per - 1) / per;
    return pare_writer_put(s->w, t->out0 + 3, z0 * groups * 4, parts, z * groups * 4, d);
}

/* Collects qweight, qzeros, scales, g_idx (in this order) in one block; the run that comes last writes it. */
static pare_status put_gptq(stream *s, const pare_job_tensor *t, const chunk *c, const void *rows, pare_diag *d) {
    gather *g = &s->gather[c->tensor];
    size_t n = (size_t)t->rows, k = (size_t)t->cols, groups = pare_int_groups(t->to, k),
           per = 32 / t->to->int_format->bits;
    size_t bytes[4] = {pare_int_words(t->to, k) * n * 4, groups * pare_int_words(t->to, n) * 4, groups * n * 2, k * 4},
           at[4], all = 0;
    for (int i = 0; i < 4; i++) at[i] = all, all += round_up(bytes[i], 64);
#pragma omp critical(pare_gather)
    if (!g->whole) g->whole = pare_calloc(all, 1);
    uint8_t *w = g->whole;
    if (!w) return no_memory(d);
    pare_int_to_gptq_qweight(t->to, rows, c->n, k, (uint32_t *)(void *)w + c->row0, n);
    pare_int_to_gptq_qzeros(t->to, rows, c->n, k, (uint32_t *)(void *)(w + at[1]) + c->row0 / per,
                            pare_int_words(t->to, n), true);
    pare_int_to_gptq_scales(t->to, rows, c->n, k, w + at[2] + c->row0 * 2, n);
    if (atomic_fetch_sub(&g->left, 1) != 1) return PARE_OK;
    pare_int_gptq_g_idx(t->to, k, (int32_t *)(void *)(w + at[3]));
    pare_status st = PARE_OK;
    for (size_t i = 0; i < 4 && st == PARE_OK; i++) st = pare_writer_put(s->w, t->out0 + i, 0, w + at[i], bytes[i], d);
    g->whole = NULL;
    pare_free(w);
    return st;
}

static pare_status one(stream *s, const chunk *c, buffers *b, pare_diag *d) {
    const pare_job_tensor *t = &s->job->t[c->tensor];
    pare_row_work work = {s->job, t, b->values, b->rtn, b->raw};
    if (pare_is_interrupted()) return pare_interrupted(d);
    PARE_TRY(pare_row_work_run(&work, c->row0, c->n, b->rows, d));
    size_t row = pare_row_bytes(t->to, (size_t)t->cols);
    if (t->emit == PARE_EMIT_ROWS) PARE_TRY(pare_writer_put(s->w, t->out0, c->row0 * row, b->rows, c->n * row, d));
    else if (t->emit == PARE_EMIT_SPARSE) PARE_TRY(pare_job_compact_put(t, s->w, c->row0, c->n, b->rows, b->parts, d));
    else if (t->emit == PARE_EMIT_GPTQ) PARE_TRY(put_gptq(s, t, c, b->rows, d));
    else PARE_TRY(put_ct(s, t, c, b->rows, b->parts, d));
    if (t->map->src && (!t->encoded || t->paged)) pare_source_release(s->job->src, t->map->src, c->row0, c->n);
    if (t->encoded && s->job->journal)
        pare_journal_release(s->job->journal, (const uint8_t *)t->map->src->data + c->row0 * row, c->n * row);
    return PARE_OK;
}

static void item(void *ctx, size_t i) {
    stream *s = ctx;
    const chunk *c = &s->chunks[i];
    if (atomic_load_explicit(&s->failed, memory_order_relaxed)) return;
    pare_diag d = {0};
    pare_status st = one(s, c, &s->buf[pare_thread_index()], &d);
    if (st != PARE_OK) {
#pragma omp critical(pare_stream_failed)
        {
            if (s->diag.code == PARE_OK || i < s->failed_item) s->diag = d, s->diag.code = st, s->failed_item = i;
            atomic_store(&s->failed, true);
        }
        return;
    }
    const pare_job_tensor *t = &s->job->t[c->tensor];
    uint64_t done = atomic_fetch_add(&s->done, c->n * pare_row_bytes(t->from, (size_t)t->cols)) + 1;
    if (pare_thread_index() == 0)
        pare_meter_step(&s->meter, t->map->name, done < s->meter.total ? done : s->meter.total - 1);
}

pare_status pare_job_stream(pare_job *job, pare_writer *w, pare_diag *d) {
    stream s = {.job = job, .w = w};
    uint64_t total = 0;
    for (size_t i = 0; i < job->n; i++)
        total += (uint64_t)job->t[i].rows * pare_row_bytes(job->t[i].from, (size_t)job->t[i].cols);
    pare_status st = cut(&s, d);
    if (st == PARE_OK) st = make_buffers(&s, d);
    if (st == PARE_OK) {
        pare_meter_start(&s.meter, "write", "bytes", total ? total : 1);
        pare_parallel(s.n_chunks, 1, item, &s);
        st = s.diag.code;
        if (st != PARE_OK && d) *d = s.diag;
        if (st == PARE_OK) pare_meter_step(&s.meter, NULL, s.meter.total);
    }
    free_all(&s);
    return st;
}
