/* SPDX-License-Identifier: Apache-2.0
 *
 * Models that cannot be run, compared by their weights: tensors of the same role (through models/arch.h) or of the same
 * name, decoded row by row. GGUF's llama stores the rows of q and k in another order within each head: row
 * 2j + p there is row p * D/2 + j in Hugging Face's order. */
#include "api/verify_impl.h"

#include "core/alloc.h"
#include "core/log.h"
#include "core/status.h"
#include "core/threads.h"
#include "models/arch.h"
#include "verify/diff.h"
#include "verify/layer_metrics.h"
#include "verify/metrics.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define CHUNK_ELEMS (256u << 10)

typedef struct match {
    const pare_stored *p, *q;
    int order;
    size_t head_dim;
} match; /* order: +1 p in halves, q in pairs; -1 reverse */
typedef struct arches {
    bool known[2];
    pare_arch a[2];
} arches;
typedef struct slot {
    float *x[2];
    void *raw[2];
} slot; /* per thread */
typedef struct job {
    const pare_verify_run *v;
    match m;
    size_t rows, cols, chunk_rows;
    pare_diff *part;
    slot *slot;
} job;

static bool is_weight(const pare_stored *t) { return t->type->decode && t->type->kind != PARE_QK_INT && t->bytes > 0; }

static size_t rows_of(const pare_stored *t, size_t *cols) {
    size_t rows = 1;
    for (int i = 0; i + 1 < t->ndim; i++) rows *= (size_t)t->shape[i];
    *cols = t->ndim ? (size_t)t->shape[t->ndim - 1] : 1;
    return rows;
}

static bool same_shape(const pare_stored *p, const pare_stored *q) {
    size_t cp, cq, rp = rows_of(p, &cp), rq = rows_of(q, &cq);
    return rp == rq && cp == cq;
}

static match find(const pare_verify_run *v, const arches *k, const pare_stored *p) {
    const pare_source *a = v->side[0].src, *b = v->side[1].src;
    match m = {.p = p, .q = pare_source_find(b, p->name)};
    if (!k->known[0] || !k->known[1] || k->a[0].family != k->a[1].family) return m;
    pare_tensor_name name;
    if (!pare_name_parse(k->a[0].family, a->kind, p->name, &name)) return m;
    if (!m.q) m.q = pare_arch_tensor(b, &k->a[1], name.role, name.layer, name.bias);
    bool rotary = name.role == PARE_ROLE_ATTN_Q || name.role == PARE_ROLE_ATTN_K;
    if (rotary && k->a[0].rope_interleaved != k->a[1].rope_interleaved) {
        m.order = k->a[1].rope_interleaved ? 1 : -1;
        m.head_dim = (size_t)k->a[0].head_dim;
    }
    return m;
}

/* Row of q that holds what row r of p holds. */
static size_t row_in_q(const match *m, size_t r) {
    if (!m->order) return r;
    size_t d = m->head_dim, head = r / d, i = r % d;
    return head * d + (m->order > 0 ? 2 * (i % (d / 2)) + i / (d / 2) : (i % 2) * (d / 2) + i / 2);
}

static void decode(const job *j, int side, size_t row, size_t n_rows, slot *s) {
    const pare_stored *t = side ? j->m.q : j->m.p;
    const void *src = pare_source_rows(j->v->side[side].src, t, row, n_rows, s->raw[side]);
    if (n_rows == 1 || t->type->block_elems == 1) t->type->decode(t->type, src, s->x[side], n_rows * j->cols);
    else
        for (size_t i = 0; i < n_rows; i++)
            t->type->decode(t->type, (const char *)src + i * pare_row_bytes(t->type, j->cols), s->x[side] + i * j->cols,
                            j->cols);
}

static void one_chunk(void *ctx, size_t c) {
    job *j = ctx;
    slot *s = &j->slot[pare_thread_index()];
    size_t first = c * j->chunk_rows, n = j->rows - first < j->chunk_rows ? j->rows - first : j->chunk_rows;
    pare_diff_init(&j->part[c]);
    bool vector = j->rows == 1 && j->m.order; /* a bias: its elements are permuted, not its rows */
    decode(j, 0, first, n, s);
    if (!j->m.order) {
        decode(j, 1, first, n, s);
        pare_diff_add(&j->part[c], s->x[0], s->x[1], n * j->cols);
    } else if (vector) {
        decode(j, 1, 0, 1, s);
        for (size_t i = 0; i < j->cols; i++) pare_diff_add(&j->part[c], s->x[0] + i, s->x[1] + row_in_q(&j->m, i), 1);
    } else
        for (size_t i = 0; i < n; i++) {
            decode(j, 1, row_in_q(&j->m, first + i), 1, s);
            pare_diff_add(&j->part[c], s->x[0] + i * j->cols, s->x[1], j->cols);
        }
}

static void slots_free(slot *s, int n) {
    for (int i = 0; s && i < n; i++)
        for (int k = 0; k < 2; k++) pare_free(s[i].x[k]), pare_free(s[i].raw[k]);
    pare_free(s);
}

static slot *slots_new(const job *j, int n) {
    slot *s = pare_calloc((size_t)n, sizeof *s);
    for (int i = 0; s && i < n; i++)
        for (int k = 0; k < 2; k++) {
            const pare_stored *t = k ? j->m.q : j->m.p;
            s[i].x[k] = pare_malloc_aligned(j->chunk_rows * j->cols * sizeof(float));
            s[i].raw[k] = pare_malloc_aligned(
                t->layout == PARE_LAYOUT_PLAIN ? 64 : j->chunk_rows * pare_row_bytes(t->type, j->cols));
            if (!s[i].x[k] || !s[i].raw[k]) return slots_free(s, n), NULL;
        }
    return s;
}

static pare_status compare(const pare_verify_run *v, match m, pare_diff *out, pare_diag *d) {
    job j = {.v = v, .m = m};
    j.rows = rows_of(m.p, &j.cols);
    j.chunk_rows = j.cols < CHUNK_ELEMS ? CHUNK_ELEMS / (j.cols ? j.cols : 1) : 1;
    if (j.chunk_rows > j.rows) j.chunk_rows = j.rows ? j.rows : 1;
    size_t chunks = (j.rows + j.chunk_rows - 1) / j.chunk_rows;
    int threads = pare_threads();
    j.part = pare_calloc(chunks, sizeof *j.part);
    j.slot = slots_new(&j, threads);
    pare_status s = PARE_OK;
    pare_diff_init(out);
    if (!j.part || !j.slot)
        s = pare_fail(d, PARE_ERR_NOMEM, NULL, m.p->name, "no memory for rows of %zu numbers", j.cols);
    else {
        pare_parallel(chunks, 1, one_chunk, &j);
        for (size_t c = 0; c < chunks; c++) pare_diff_merge(out, &j.part[c]);
    }
    pare_source_release(v->side[0].src, m.p, 0, j.rows);
    pare_source_release(v->side[1].src, m.q, 0, j.rows);
    pare_free(j.part);
    slots_free(j.slot, threads);
    if (s == PARE_OK && out->bad >= 0)
        s = pare_fail(d, PARE_ERR_INPUT, v->side[out->bad].path, (out->bad ? m.q : m.p)->name,
                      "the tensor holds NaN or infinite numbers");
    return s;
}

typedef struct totals {
    pare_diff all;
    double cosine, cosine_min, sqnr_min;
    size_t n, alone, other_shape;
} totals;

static pare_status one_tensor(pare_verify_run *v, const arches *k, const pare_stored *p, totals *t, pare_diag *d) {
    match m = find(v, k, p);
    if (!m.q || !is_weight(m.q)) return t->alone++, PARE_OK;
    if (!same_shape(p, m.q)) return t->other_shape++, PARE_OK;
    pare_diff x;
    PARE_TRY(compare(v, m, &x, d));
    char what[96];
    snprintf(what, sizeof what, "%s -> %s", p->type->name, m.q->type->name);
    pare_part part = {p->name, what, pare_diff_sqnr_db(&x), pare_diff_cosine(&x), x.max_error, false};
    pare_report_tensor(v->r, &part);
    if (x.diff2 > 0 && !v->r->first_differing) v->r->first_differing = pare_report_str(v->r, p->name);
    pare_diff_merge(&t->all, &x);
    t->cosine += part.cosine;
    if (part.cosine < t->cosine_min) t->cosine_min = part.cosine;
    if (part.sqnr_db < t->sqnr_min) t->sqnr_min = part.sqnr_db;
    t->n++;
    return PARE_OK;
}

static void put(pare_verify_run *v, const totals *t) {
    const struct {
        int metric;
        double value;
    } m[] = {{PARE_M_WEIGHTS_sqnr, pare_diff_sqnr_db(&t->all)},
             {PARE_M_WEIGHTS_sqnr_min, t->sqnr_min},
             {PARE_M_WEIGHTS_cosine_mean, t->cosine / (double)t->n},
             {PARE_M_WEIGHTS_cosine_min, t->cosine_min},
             {PARE_M_WEIGHTS_max_error, t->all.max_error}};
    for (size_t i = 0; i < sizeof m / sizeof *m; i++) /* every weight was looked at: the interval is a point */
        pare_metric_put(v->r, m[i].metric, 1, m[i].value, &m[i].value, &m[i].value);
    pare_report_number(v->r, "tensors", (double)t->n);
    if (t->alone) pare_report_number(v->r, "tensors_without_counterpart", (double)t->alone);
    if (t->other_shape) pare_report_number(v->r, "tensors_of_other_shape", (double)t->other_shape);
    pare_report_note(v->r, "intervals", "none needed: every weight is compared");
}

pare_status pare_verify_weights(pare_verify_run *v, pare_diag *d) {
    arches k = {0};
    for (int i = 0; i < 2; i++) k.known[i] = pare_arch_read(v->side[i].src, &k.a[i], NULL) == PARE_OK;
    totals t = {.cosine_min = 1, .sqnr_min = INFINITY};
    pare_diff_init(&t.all);
    const pare_source *src = v->side[0].src;
    pare_meter meter;
    pare_meter_start(&meter, "verify", "tensors", src->n_tensors);
    for (size_t i = 0; i < src->n_tensors; i++) {
        if (pare_is_interrupted()) return pare_interrupted(d);
        if (is_weight(&src->tensors[i])) PARE_TRY(one_tensor(v, &k, &src->tensors[i], &t, d));
        pare_meter_step(&meter, src->tensors[i].name, i + 1);
    }
    if (!t.n)
        return pare_fail(d, PARE_ERR_MISMATCH, v->side[1].path, "tensors",
                         "no tensor has a counterpart of the same name or role and shape in the original (%zu have "
                         "none, %zu another shape)",
                         t.alone, t.other_shape);
    put(v, &t);
    PARE_TRY(pare_report_status(v->r, d));
    return pare_parts_flag(v->r->tensors, v->r->n_tensors, d);
}
