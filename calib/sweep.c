/* SPDX-License-Identifier: Apache-2.0
 *
 * The sweep over columns (calib/sweep.h): chunks of rows run in parallel; within a chunk, blocks of columns are swept
 * one column at a time, and what a block did wrong reaches the columns behind it in one product. */
#include "calib/sweep.h"

#include "core/alloc.h"
#include "core/status.h"
#include "core/threads.h"
#include "cpu/matmul.h"

#include <stdatomic.h>
#include <string.h>

#define ROWS  64  /* of a chunk: enough for the product, few enough for all threads; more in tall matrices */
#define BLOCK 128 /* columns swept before the rest is corrected */

typedef struct work {
    const pare_sweep *s;
    const float *inv_diag; /* 1 / u_jj^2 */
    size_t group, block, step, chunk_rows;
    _Atomic bool failed;
} work;

typedef struct chunk {
    const work *k;
    size_t row0, rows;
    float *w;                           /* of the whole */
    float *now, *err, *column, *fitted; /* the block's columns and errors [rows, block]; a column, and decoded */
    float *row, *gathered; /* with an order: a row; a group as the grid has it [rows, group], then its importance */
    int8_t *codes;         /* [rows, group] */
    uint8_t *params, *zero;
} chunk;

static void *take(char **p, size_t bytes) {
    void *r = *p;
    *p += (bytes + 63) & ~(size_t)63;
    return r;
}

/* Column j (of the block that starts at b): its value, its error, and the correction of the rest of the block. */
static void fix_column(const chunk *c, size_t b, size_t end, size_t j, size_t zero_at, size_t zero_ld) {
    const pare_sweep *s = c->k->s;
    size_t ld = c->k->block, at = j - b, count = end - b, g = c->k->group, in = (s->order ? s->order[j] : j) % g;
    const float *u = s->u + j * s->n + b; /* of the block's columns */
    float inv = 1.0f / u[at];
    for (size_t r = 0; r < c->rows; r++) {
        c->column[r] = c->now[r * ld + at];
        if (s->choose && c->zero[r * zero_ld + zero_at]) c->column[r] = 0;
    }
    if (s->type)
        s->type->grid->snap(s->type, c->params, g, c->column, 1, c->rows, in, 1, c->codes + in, g, c->fitted, 1);
    else memcpy(c->fitted, c->column, c->rows * sizeof *c->fitted);
    for (size_t r = 0; r < c->rows; r++) {
        float *w = c->now + r * ld, e = (w[at] - c->fitted[r]) * inv;
        w[at] = c->fitted[r];
        c->err[r * ld + at] = e;
        for (size_t k = at + 1; k < count; k++) w[k] -= e * u[k];
    }
}

static void fit_group(const chunk *c, size_t b, size_t j) {
    const pare_sweep *s = c->k->s;
    size_t g = c->k->group;
    bool inside = g <= c->k->block; /* else the grid has one group a row, which starts a block */
    const float *w = inside ? c->now + (j - b) : c->w + j, *importance = c->k->inv_diag + j;
    size_t ld = inside ? c->k->block : s->n;
    if (s->order) {
        float *to = c->gathered, *of = c->gathered + c->rows * g;
        for (size_t t = 0; t < g; t++) of[s->order[j + t] % g] = importance[t];
        for (size_t r = 0; r < c->rows; r++)
            for (size_t t = 0; t < g; t++) to[r * g + s->order[j + t] % g] = w[r * ld + t];
        w = to, ld = g, importance = of;
    }
    s->type->grid->fit(s->type, w, ld, importance, NULL, c->rows, g, c->params);
}

static void pack_group(const chunk *c, size_t g0) {
    const pare_sweep *s = c->k->s;
    size_t stride = pare_row_bytes(s->type, s->n);
    if (s->order) g0 = s->order[g0] / c->k->group * c->k->group;
    uint8_t *out = (uint8_t *)s->out + c->row0 * stride + (g0 ? pare_row_bytes(s->type, g0) : 0);
    s->type->grid->pack(s->type, c->params, c->codes, c->k->group, c->rows, c->k->group, out, stride);
}

/* Rows into the order of the sweep, or back. */
static void reorder(const chunk *c, bool back) {
    const pare_sweep *s = c->k->s;
    for (size_t r = 0; s->order && r < c->rows; r++) {
        float *w = c->w + r * s->n;
        memcpy(c->row, w, s->n * sizeof *w);
        for (size_t t = 0; t < s->n; t++) w[back ? s->order[t] : t] = c->row[back ? t : s->order[t]];
    }
}

static void sweep_chunk(const chunk *c) {
    const work *k = c->k;
    const pare_sweep *s = k->s;
    size_t n = s->n;
    for (size_t b = 0; b < n; b += k->block) {
        size_t end = b + k->block < n ? b + k->block : n, count = 0;
        for (size_t r = 0; r < c->rows; r++)
            memcpy(c->now + r * k->block, c->w + r * n + b, (end - b) * sizeof *c->now);
        for (size_t j = b; j < end; j++) {
            if (s->type && j % k->group == 0) fit_group(c, b, j);
            if (s->choose && (j - b) % k->step == 0) {
                count = end - j < k->step ? end - j : k->step;
                memset(c->zero, 0, c->rows * k->step);
                s->choose(s->ctx, c->row0, c->rows, j, count, c->now + (j - b), k->block, k->inv_diag + j, c->zero);
            }
            fix_column(c, b, end, j, (j - b) % k->step, count);
            if (s->type && (j + 1) % k->group == 0) pack_group(c, j / k->group * k->group);
        }
        for (size_t r = 0; r < c->rows; r++)
            memcpy(c->w + r * n + b, c->now + r * k->block, (end - b) * sizeof *c->now);
        if (end < n)
            pare_sgemm(false, false, (int64_t)c->rows, (int64_t)(n - end), (int64_t)(end - b), -1.0f, c->err,
                       (int64_t)k->block, s->u + b * n + end, (int64_t)n, 1.0f, c->w + end, (int64_t)n);
    }
}

static void chunk_item(void *ctx, size_t i) {
    work *k = ctx;
    const pare_sweep *s = k->s;
    if (atomic_load(&k->failed) || pare_is_interrupted()) return;
    size_t row0 = i * k->chunk_rows, rows = s->rows - row0 < k->chunk_rows ? s->rows - row0 : k->chunk_rows;
    size_t pb = s->type ? s->type->grid->param_bytes : 0;
    size_t bytes = rows * (2 * k->block * sizeof(float) + 2 * sizeof(float) + k->group + pb + k->step);
    if (s->order) bytes += ((rows + 1) * k->group + s->n) * sizeof(float);
    char *mem = pare_malloc_aligned(bytes + 9 * 64), *p = mem;
    if (!mem) {
        atomic_store(&k->failed, true);
        return;
    }
    chunk c = {.k = k, .row0 = row0, .rows = rows, .w = s->w + row0 * s->n};
    c.now = take(&p, rows * k->block * sizeof(float));
    c.err = take(&p, rows * k->block * sizeof(float));
    c.column = take(&p, rows * sizeof(float));
    c.fitted = take(&p, rows * sizeof(float));
    c.codes = take(&p, rows * k->group);
    c.params = take(&p, rows * pb);
    c.zero = take(&p, rows * k->step);
    c.gathered = s->order ? take(&p, (rows + 1) * k->group * sizeof(float)) : NULL;
    c.row = s->order ? take(&p, s->n * sizeof(float)) : NULL;
    reorder(&c, false);
    sweep_chunk(&c);
    reorder(&c, true);
    pare_free(mem);
}

/* A product packs its right side once per chunk: the more rows share it the better, as long as 16 threads have work. */
static size_t rows_of_a_chunk(size_t rows) {
    size_t n = rows / 16 / ROWS * ROWS;
    return n < ROWS ? ROWS : n > 4 * ROWS ? 4 * ROWS : n;
}

pare_status pare_sweep_run(const pare_sweep *s, pare_diag *d) {
    work k = {.s = s,
              .step = s->step ? s->step : BLOCK,
              .chunk_rows = s->chunk_rows ? s->chunk_rows : rows_of_a_chunk(s->rows)};
    k.group = !s->type ? 1 : s->type->grid->group ? s->type->grid->group : s->n;
    k.block = k.group <= s->n && k.group > BLOCK && k.group <= 256 ? k.group : BLOCK;
    k.block = k.step > k.block ? k.step : k.block / k.step * k.step; /* what choose sees lies within a block */
    float *inv = pare_malloc(s->n * sizeof *inv);
    if (!inv) return pare_fail(d, PARE_ERR_NOMEM, NULL, "calibration", "no memory for %zu columns", s->n);
    for (size_t j = 0; j < s->n; j++) inv[j] = 1.0f / (s->u[j * s->n + j] * s->u[j * s->n + j]);
    k.inv_diag = inv;
    pare_parallel((s->rows + k.chunk_rows - 1) / k.chunk_rows, 1, chunk_item, &k);
    pare_free(inv);
    if (atomic_load(&k.failed))
        return pare_fail(d, PARE_ERR_NOMEM, NULL, "calibration", "no memory for the sweep over %zu columns", s->n);
    return pare_is_interrupted() ? pare_interrupted(d) : PARE_OK;
}
