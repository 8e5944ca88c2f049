/* SPDX-License-Identifier: Apache-2.0
 *
 * Block coordinate descent over the groups of quantized rows (calib/refine.h). Chunks of rows run in parallel; G = E H
 * is kept up to date, E the error, so that a group costs one product with its rows of H. */
#include "calib/refine.h"

#include "calib/linalg.h"
#include "calib/order.h"
#include "core/alloc.h"
#include "core/status.h"
#include "core/threads.h"
#include "cpu/matmul.h"

#include <stdatomic.h>
#include <string.h>

#define ROWS 64 /* of a chunk */

typedef struct work {
    const pare_refine *r;
    size_t g;        /* columns of a group */
    float *h;        /* [n, n], both triangles, damped */
    float *hg, *u;   /* [n / g][g, g]: each group's part of h, and its factor in the order below */
    uint32_t *order; /* [n / g][g] */
    _Atomic bool failed;
} work;

typedef struct choice {
    uint8_t *params;
    int8_t *codes; /* [rows, g] */
    float *q;      /* [rows, g], decoded */
    double *cost;  /* [rows]: (x - q) H_gg (x - q)^T */
} choice;

typedef struct chunk {
    const work *k;
    size_t row0, rows;
    float *e, *grad;                  /* [rows, n]: w - q, and that times h */
    float *b, *x, *t, *column, *snap; /* [rows, g] but for the last two [rows] */
    choice now, kept, fresh;
} chunk;

/* ---- once for all rows ---- */

static pare_status prepare(work *k, pare_diag *d) {
    const pare_refine *r = k->r;
    size_t n = r->n, g = k->g;
    double mean = 0, used;
    for (size_t i = 0; i < n; i++) mean += (double)r->h[i * n + i] / (double)n;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++) {
            float v = r->h[i * n + j];
            if (i == j) v = v > 0 ? (float)(v + r->damping * mean) : 1.0f; /* as in pare_inverse_factor */
            k->h[i * n + j] = k->h[j * n + i] = v;
        }
    for (size_t at = 0; at < n; at += g) {
        float *hg = k->hg + at * g;
        for (size_t i = 0; i < g; i++) memcpy(hg + i * g, k->h + (at + i) * n + at, g * sizeof *hg);
        if (!pare_order_by_energy(g, hg, g, g, k->order + at))
            return pare_fail(d, PARE_ERR_NOMEM, NULL, "calibration", "no memory for an order of columns");
        PARE_TRY(pare_inverse_factor_ordered(g, hg, k->order + at, 0, k->u + at * g, &used, d));
    }
    return PARE_OK;
}

/* ---- one group of a chunk ---- */

/* x = e_g + B inverse(H_gg) (the weights' part is added by the caller), B = G_g - e_g H_gg. */
static void best_values(const chunk *c, size_t at) {
    size_t n = c->k->r->n, g = c->k->g, rows = c->rows;
    const uint32_t *order = c->k->order + at;
    const float *u = c->k->u + at * g;
    for (size_t r = 0; r < rows; r++) memcpy(c->t + r * g, c->grad + r * n + at, g * sizeof *c->t);
    pare_sgemm(false, false, (int64_t)rows, (int64_t)g, (int64_t)g, -1.0f, c->e + at, (int64_t)n, c->k->hg + at * g,
               (int64_t)g, 1.0f, c->t, (int64_t)g);
    for (size_t r = 0; r < rows; r++)
        for (size_t j = 0; j < g; j++) c->b[r * g + j] = c->t[r * g + order[j]];
    pare_sgemm(false, true, (int64_t)rows, (int64_t)g, (int64_t)g, 1.0f, c->b, (int64_t)g, u, (int64_t)g, 0.0f, c->t,
               (int64_t)g);
    pare_sgemm(false, false, (int64_t)rows, (int64_t)g, (int64_t)g, 1.0f, c->t, (int64_t)g, u, (int64_t)g, 0.0f, c->b,
               (int64_t)g);
    const float *w = c->k->r->w + c->row0 * n + at;
    for (size_t r = 0; r < rows; r++)
        for (size_t j = 0; j < g; j++) c->x[r * g + order[j]] = w[r * n + order[j]] + c->b[r * g + j];
}

/* x quantized column by column under the parameters of `to`. */
static void sweep(const chunk *c, size_t at, const choice *to) {
    const pare_refine *f = c->k->r;
    const pare_qtype *type = f->type;
    size_t g = c->k->g;
    const uint32_t *order = c->k->order + at;
    for (size_t r = 0; r < c->rows; r++)
        for (size_t j = 0; j < g; j++) c->t[r * g + j] = c->x[r * g + order[j]];
    for (size_t j = 0; j < g; j++) {
        const float *u = c->k->u + at * g + j * g;
        float inv = 1.0f / u[j];
        size_t col = order[j];
        for (size_t r = 0; r < c->rows; r++) {
            bool zero = f->zeros && f->zeros[(c->row0 + r) * f->n + at + col] == 0;
            c->column[r] = zero ? 0 : c->t[r * g + j];
        }
        type->grid->snap(type, to->params, g, c->column, 1, c->rows, col, 1, to->codes + col, g, c->snap, 1);
        for (size_t r = 0; r < c->rows; r++) {
            float *t = c->t + r * g, err = (t[j] - c->snap[r]) * inv;
            to->q[r * g + col] = c->snap[r];
            for (size_t i = j + 1; i < g; i++) t[i] -= err * u[i];
        }
    }
}

static void cost(const chunk *c, size_t at, choice *of) {
    size_t g = c->k->g;
    for (size_t i = 0; i < c->rows * g; i++) c->b[i] = c->x[i] - of->q[i];
    pare_sgemm(false, false, (int64_t)c->rows, (int64_t)g, (int64_t)g, 1.0f, c->b, (int64_t)g, c->k->hg + at * g,
               (int64_t)g, 0.0f, c->t, (int64_t)g);
    for (size_t r = 0; r < c->rows; r++) {
        double sum = 0;
        for (size_t j = 0; j < g; j++) sum += (double)c->b[r * g + j] * c->t[r * g + j];
        of->cost[r] = sum;
    }
}

static void take_row(const chunk *c, const choice *from, size_t r, uint8_t *out) {
    const pare_qtype *type = c->k->r->type;
    size_t g = c->k->g;
    memcpy(c->now.q + r * g, from->q + r * g, g * sizeof *from->q);
    type->grid->pack(type, from->params + r * type->grid->param_bytes, from->codes + r * g, g, 1, g, out, 0);
}

static void again(const chunk *c, size_t at) {
    const pare_refine *k = c->k->r;
    const pare_qtype *type = k->type;
    size_t n = k->n, g = c->k->g, stride = pare_row_bytes(type, n);
    uint8_t *out = (uint8_t *)k->out + c->row0 * stride + (at ? pare_row_bytes(type, at) : 0);
    choice now = c->now, kept = c->kept, fresh = c->fresh;
    best_values(c, at);
    for (size_t r = 0; r < c->rows; r++)
        for (size_t j = 0; j < g; j++) now.q[r * g + j] = k->w[(c->row0 + r) * n + at + j] - c->e[r * n + at + j];
    cost(c, at, &now);
    type->grid->unpack(type, out, stride, c->rows, g, kept.params, kept.codes, g);
    sweep(c, at, &kept);
    cost(c, at, &kept);
    float *importance = c->column; /* of the group; the chunk has at least g of them */
    for (size_t j = 0; j < g; j++) {
        const float *u = c->k->u + at * g;
        importance[c->k->order[at + j]] = 1.0f / (u[j * g + j] * u[j * g + j]);
    }
    type->grid->fit(type, c->x, g, importance, NULL, c->rows, g, fresh.params);
    sweep(c, at, &fresh);
    cost(c, at, &fresh);
    for (size_t r = 0; r < c->rows; r++) {
        const choice *best = fresh.cost[r] < kept.cost[r] ? &fresh : &kept;
        if (best->cost[r] < now.cost[r]) take_row(c, best, r, out + r * stride);
    }
    for (size_t r = 0; r < c->rows; r++)
        for (size_t j = 0; j < g; j++) {
            float e = k->w[(c->row0 + r) * n + at + j] - now.q[r * g + j];
            c->t[r * g + j] = e - c->e[r * n + at + j];
            c->e[r * n + at + j] = e;
        }
    pare_sgemm(false, false, (int64_t)c->rows, (int64_t)n, (int64_t)g, 1.0f, c->t, (int64_t)g, c->k->h + at * n,
               (int64_t)n, 1.0f, c->grad, (int64_t)n);
}

/* ---- a chunk ---- */

static void *take(char **p, size_t bytes) {
    void *r = *p;
    *p += (bytes + 63) & ~(size_t)63;
    return r;
}

static choice a_choice(char **p, size_t rows, size_t g, size_t param_bytes) {
    choice c;
    c.params = take(p, rows * param_bytes);
    c.codes = take(p, rows * g);
    c.q = take(p, rows * g * sizeof(float));
    c.cost = take(p, rows * sizeof(double));
    return c;
}

static void refine_rows(const chunk *c) {
    const pare_refine *k = c->k->r;
    size_t n = k->n, stride = pare_row_bytes(k->type, n);
    for (size_t r = 0; r < c->rows; r++) {
        float *e = c->e + r * n;
        k->type->decode(k->type, (const uint8_t *)k->out + (c->row0 + r) * stride, e, n);
        for (size_t j = 0; j < n; j++) e[j] = k->w[(c->row0 + r) * n + j] - e[j];
    }
    pare_sgemm(false, false, (int64_t)c->rows, (int64_t)n, (int64_t)n, 1.0f, c->e, (int64_t)n, c->k->h, (int64_t)n,
               0.0f, c->grad, (int64_t)n);
    for (int pass = 0; pass < k->passes && !pare_is_interrupted(); pass++)
        for (size_t at = 0; at < n; at += c->k->g) again(c, at);
}

static void chunk_item(void *ctx, size_t i) {
    work *k = ctx;
    const pare_refine *f = k->r;
    if (atomic_load(&k->failed) || pare_is_interrupted()) return;
    size_t row0 = i * ROWS, rows = f->rows - row0 < ROWS ? f->rows - row0 : ROWS, g = k->g, n = f->n;
    size_t pb = f->type->grid->param_bytes, row = rows > g ? rows : g;
    size_t one = rows * (pb + g + g * sizeof(float) + sizeof(double)) + 4 * 64;
    char *mem = pare_malloc_aligned((2 * rows * n + 3 * rows * g + 2 * row) * sizeof(float) + 3 * one + 7 * 64),
         *p = mem;
    if (!mem) {
        atomic_store(&k->failed, true);
        return;
    }
    chunk c = {.k = k, .row0 = row0, .rows = rows};
    c.e = take(&p, rows * n * sizeof(float)), c.grad = take(&p, rows * n * sizeof(float));
    c.b = take(&p, rows * g * sizeof(float)), c.x = take(&p, rows * g * sizeof(float));
    c.t = take(&p, rows * g * sizeof(float));
    c.column = take(&p, row * sizeof(float)), c.snap = take(&p, row * sizeof(float));
    c.now = a_choice(&p, rows, g, pb), c.kept = a_choice(&p, rows, g, pb), c.fresh = a_choice(&p, rows, g, pb);
    refine_rows(&c);
    pare_free(mem);
}

pare_status pare_refine_run(const pare_refine *r, pare_diag *d) {
    size_t n = r->n, g = r->type->grid->group;
    if (!g || g >= n || n % g || r->passes < 1) return PARE_OK;
    work k = {.r = r, .g = g};
    k.h = pare_malloc(n * n * sizeof *k.h);
    k.hg = pare_malloc(n * g * sizeof *k.hg), k.u = pare_malloc(n * g * sizeof *k.u);
    k.order = pare_malloc(n * sizeof *k.order);
    pare_status s = PARE_OK;
    if (!k.h || !k.hg || !k.u || !k.order)
        s = pare_fail(d, PARE_ERR_NOMEM, NULL, "calibration", "no memory for passes over %zu columns", n);
    if (s == PARE_OK) s = prepare(&k, d);
    if (s == PARE_OK) pare_parallel((r->rows + ROWS - 1) / ROWS, 1, chunk_item, &k);
    pare_free(k.h), pare_free(k.hg), pare_free(k.u), pare_free(k.order);
    PARE_TRY(s);
    if (atomic_load(&k.failed))
        return pare_fail(d, PARE_ERR_NOMEM, NULL, "calibration", "no memory for passes over %zu columns", n);
    return pare_is_interrupted() ? pare_interrupted(d) : PARE_OK;
}
