/* SPDX-License-Identifier: Apache-2.0
 *
 * The calibration walk (calib/walk.h). Activations are seen through the executor's hook. */
#include "calib/walk.h"

#include "calib/cuts.h"
#include "calib/linalg.h"
#include "core/status.h"

#include <math.h>
#include <string.h>

typedef struct seen { /* what the hook keeps of one run */
    pare_value x, r;
    float *x_data, *r_data; /* copies; NULL = not wanted */
    const pare_graph *g;
    const char *bad; /* a node with NaN or Inf */
} seen;

typedef struct walk {
    const pare_walk_opts *o;
    pare_linears lin;
    pare_cuts *cuts[2];
    pare_binding *bind;
    pare_stats stats, held;
    float *x[2], *r[2], *diff;
    size_t done, steps;
} walk;

static bool finite_all(const float *x, size_t n) {
    float s = 0; /* NaN and Inf stay: 0 * Inf is NaN */
    for (size_t i = 0; i < n; i++) s += 0.0f * x[i];
    return s == 0;
}

static bool hook(void *ctx, int node, const char *name, pare_op op, const pare_tensor *out) {
    seen *s = ctx;
    pare_value v = s->g->nodes[node].out[0];
    size_t n = (size_t)pare_tensor_elems(out);
    if (v != s->x && v != s->r) return false;
    if (!finite_all(out->data, n)) s->bad = name;
    if (v == s->x && s->x_data) memcpy(s->x_data, out->data, n * sizeof(float));
    if (v == s->r && s->r_data) memcpy(s->r_data, out->data, n * sizeof(float));
    return false;
}

static pare_status no_memory(pare_diag *d) {
    return pare_fail(d, PARE_ERR_NOMEM, NULL, "calibration", "no memory for statistics");
}

/* One batch of one stage on one side; x and r (may be absent) are kept in w->x[side], w->r[side]. */
static pare_status run(walk *w, int side, int stage, size_t batch, const pare_linear *l, pare_diag *d) {
    const pare_walk_side *s = &w->o->side[side];
    seen k = {PARE_NO_VALUE, PARE_NO_VALUE, NULL, NULL, s->g, NULL};
    if (l) k.x = l->input, k.x_data = w->x[side];
    if (l && w->stats.r) k.r = l->residual, k.r_data = w->r[side];
    int n = s->bind(s->ctx, batch, w->bind);
    n = pare_cuts_bind(w->cuts[side], stage, batch, w->bind, n);
    pare_exec_set_hook(s->e, l ? hook : NULL, &k);
    pare_status st = pare_exec_run(s->e, stage, w->bind, n, d);
    pare_exec_set_hook(s->e, NULL, NULL);
    PARE_TRY(st);
    if (k.bad)
        return pare_fail(d, PARE_ERR_INPUT, NULL, k.bad,
                         "NaN or infinite activations in the %s model on the calibration data",
                         side ? "reduced" : "original");
    if (!l) return PARE_OK;
    /* what an earlier stage made is a cut value, not seen by the hook */
    const float *x = pare_cuts_at(w->cuts[side], l->input, batch),
                *r = k.r >= 0 ? pare_cuts_at(w->cuts[side], l->residual, batch) : NULL;
    if (x && s->g->nodes[s->g->values[l->input].node].stage < stage)
        memcpy(w->x[side], x, w->o->tokens_per_batch * w->stats.n * sizeof *x);
    if (r && s->g->nodes[s->g->values[l->residual].node].stage < stage)
        memcpy(w->r[side], r, w->o->tokens_per_batch * w->stats.r_rows * sizeof *r);
    return PARE_OK;
}

static void subtract(const float *a, const float *b, size_t n, float *out) {
    for (size_t i = 0; i < n; i++) out[i] = a[i] - b[i];
}

static void add_tokens(walk *w, pare_stats *s, size_t first, size_t t) {
    const float *x = w->x[1] + first * s->n;
    pare_gram_add(s->n, t, x, s->h);
    if (s->c) {
        subtract(w->x[0] + first * s->n, x, t * s->n, w->diff);
        pare_cross_add(s->n, s->n, t, w->diff, x, s->c);
    }
    if (s->r) {
        subtract(w->r[0] + first * s->r_rows, w->r[1] + first * s->r_rows, t * s->r_rows, w->diff);
        pare_cross_add(s->r_rows, s->n, t, w->diff, x, s->r);
    }
    s->tokens += t;
}

static void add_batch(walk *w) {
    size_t all = w->o->tokens_per_batch, held = w->stats.held ? all / 4 : 0;
    add_tokens(w, &w->stats, 0, all - held);
    if (held) add_tokens(w, w->stats.held, all - held, held);
}

static void free_sums(pare_stats *s) {
    void *all[] = {s->h, s->c, s->r};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) pare_free(all[i]);
    *s = (pare_stats){0};
}

static void free_stats(walk *w) {
    void *all[] = {w->x[0], w->x[1], w->r[0], w->r[1], w->diff};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) pare_free(all[i]);
    free_sums(&w->stats);
    free_sums(&w->held);
    w->x[0] = w->x[1] = w->r[0] = w->r[1] = w->diff = NULL;
}

static bool make_sums(pare_stats *s, size_t n, bool cross, size_t r_rows) {
    *s = (pare_stats){.n = n, .r_rows = r_rows};
    s->h = pare_calloc(n * n, sizeof(float));
    if (cross) s->c = pare_calloc(n * n, sizeof(float));
    if (r_rows) s->r = pare_calloc(r_rows * n, sizeof(float));
    return s->h && (!cross || s->c) && (!r_rows || s->r);
}

static pare_status make_stats(walk *w, const pare_linear *l, pare_diag *d) {
    size_t n = (size_t)l->cols, t = w->o->tokens_per_batch, rows = (size_t)l->rows;
    bool cross = w->o->want & PARE_STATS_CROSS, residual = (w->o->want & PARE_STATS_RESIDUAL) && l->residual >= 0;
    bool ok = make_sums(&w->stats, n, cross, residual ? rows : 0);
    if (w->o->want & PARE_STATS_HELD) {
        ok &= make_sums(&w->held, n, cross, residual ? rows : 0);
        w->stats.held = &w->held;
    }
    for (int k = 0; k < 2; k++) {
        w->x[k] = pare_malloc(t * n * sizeof(float));
        if (residual) w->r[k] = pare_malloc(t * rows * sizeof(float));
        ok &= w->x[k] && (!residual || w->r[k]);
    }
    w->diff = pare_malloc(t * (n > rows ? n : rows) * sizeof(float));
    return ok && w->diff ? PARE_OK : no_memory(d);
}

static void report(walk *w, const char *what) {
    w->done++;
    if (w->o->progress) w->o->progress(w->o->ctx, what, (double)w->done / (double)w->steps);
}

static pare_status one_group(walk *w, int stage, const pare_linear *l, size_t n, pare_diag *d) {
    pare_status s = make_stats(w, l, d);
    bool both = w->stats.c || w->stats.r;
    for (size_t b = 0; s == PARE_OK && b < w->o->batches; b++) {
        if (both) s = run(w, 0, stage, b, l, d);
        if (s == PARE_OK) s = run(w, 1, stage, b, l, d);
        if (s == PARE_OK) add_batch(w);
        report(w, l->name);
    }
    for (int k = 0; k < 2; k++) { /* not needed while the caller solves */
        pare_free(w->x[k]);
        pare_free(w->r[k]);
        w->x[k] = w->r[k] = NULL;
    }
    pare_free(w->diff);
    w->diff = NULL;
    if (s == PARE_OK) s = w->o->group(w->o->ctx, l, n, &w->stats, d);
    free_stats(w);
    return s;
}

static pare_status one_stage(walk *w, int stage, pare_diag *d) {
    for (int k = 0; k < 2; k++) PARE_TRY(pare_cuts_begin(w->cuts[k], stage, d));
    for (size_t i = 0; i < w->lin.n;) {
        const pare_linear *l = &w->lin.v[i];
        size_t n = 1;
        while (i + n < w->lin.n && w->lin.v[i + n].stage == l->stage && w->lin.v[i + n].group == l->group) n++;
        i += n;
        if (l->stage != stage) continue;
        if (!w->o->wants || w->o->wants(w->o->ctx, l, n)) PARE_TRY(one_group(w, stage, l, n, d));
        else w->done += w->o->batches;
    }
    for (size_t b = 0; b < w->o->batches; b++) { /* and on to the next stage */
        for (int k = 0; k < 2; k++) PARE_TRY(run(w, k, stage, b, NULL, d));
        report(w, pare_graph_stage_name(w->o->side[1].g, stage));
    }
    for (int k = 0; k < 2; k++) pare_cuts_end(w->cuts[k], stage);
    return PARE_OK;
}

pare_status pare_walk_run(const pare_walk_opts *o, pare_diag *d) {
    walk w = {.o = o};
    pare_status s = pare_linears_find(o->side[1].g, &w.lin, d);
    for (int k = 0; s == PARE_OK && k < 2; k++)
        s = pare_cuts_open(o->side[k].g, o->sym[k], o->batches, o->budget_bytes / 2, &w.cuts[k], d);
    int last = -1; /* stages after the last linear need not run */
    for (size_t i = 0; i < w.lin.n; i++)
        if (w.lin.v[i].stage > last) last = w.lin.v[i].stage;
    for (size_t i = 0; i < w.lin.n; i++)
        w.steps += i == 0 || w.lin.v[i].stage != w.lin.v[i - 1].stage || w.lin.v[i].group != w.lin.v[i - 1].group;
    w.steps = (w.steps + (size_t)(last + 1)) * o->batches;
    if (s == PARE_OK) {
        int most = o->side[0].most > o->side[1].most ? o->side[0].most : o->side[1].most;
        w.bind = pare_calloc((size_t)(most + pare_cuts_most(w.cuts[0]) + 1), sizeof *w.bind);
        if (!w.bind) s = no_memory(d);
    }
    for (int stage = 0; s == PARE_OK && stage <= last; stage++) s = one_stage(&w, stage, d);
    for (int k = 0; k < 2; k++) pare_cuts_close(&w.cuts[k]);
    pare_linears_free(&w.lin);
    pare_free(w.bind);
    return s;
}
