/* SPDX-License-Identifier: Apache-2.0
 *
 * The calibration walk (calib/walk.h). Activations are seen through the executor's hook. */
#include "calib/walk.h"

#include "calib/cuts.h"
#include "calib/linalg.h"
#include "core/status.h"
#include "core/team.h"

#include <math.h>
#include <string.h>

struct pare_walk {
    const pare_walk_opts *o;
    pare_linears lin;
    pare_cuts *cuts[2];
    pare_binding *bind;
    pare_stats stats, held;
    float *x, *r, *diff; /* of the reduced model's run of one batch */
    bool both, *wants;   /* the original runs too; per linear that begins a group: statistics are needed */
    int last;            /* stages behind it need not run */
    size_t done, steps;
    size_t batches;    /* this process's */
    size_t rank, size; /* of those that walk together */
};
typedef pare_walk walk;

/* Its batch i among those of all. */
static size_t among_all(const walk *w, size_t i) { return i * w->size + w->rank; }

typedef struct seen { /* what the hook does in one run */
    walk *w;
    bool look, amend;
    int stage;
    size_t batch;
    const pare_linear *l; /* reduced model: the group whose input and stream go to w->x and w->r; NULL: original, all */
    const pare_graph *g;
    const char *bad; /* a node with NaN or Inf */
} seen;

static bool finite_all(const float *x, size_t n) {
    float s = 0; /* NaN and Inf stay: 0 * Inf is NaN */
    for (size_t i = 0; i < n; i++) s += 0.0f * x[i];
    return s == 0;
}

static void see(seen *s, int node, const char *name, const pare_tensor *out) {
    walk *w = s->w;
    pare_value v = s->g->nodes[node].out[0];
    size_t bytes = (size_t)pare_tensor_elems(out) * sizeof(float);
    bool wanted = s->l && (v == s->l->input || (w->stats.r && v == s->l->residual));
    for (size_t i = 0; !s->l && !wanted && i < w->lin.n; i++)
        wanted = w->lin.v[i].stage == s->stage && (w->lin.v[i].input == v || w->lin.v[i].residual == v);
    if (!wanted) return;
    if (!finite_all(out->data, bytes / sizeof(float))) s->bad = name;
    if (s->l && v == s->l->input) memcpy(w->x, out->data, bytes);
    if (s->l && v == s->l->residual && w->r) memcpy(w->r, out->data, bytes);
    float *kept = s->l ? NULL : (float *)pare_cuts_at(w->cuts[0], v, s->batch);
    if (kept && kept != out->data) memcpy(kept, out->data, bytes);
}

static bool hook(void *ctx, int node, const char *name, pare_op op, const pare_tensor *out) {
    seen *s = ctx;
    bool changed = s->amend && s->w->o->amend(s->w->o->amend_ctx, node, name, op, out);
    if (s->look) see(s, node, name, out);
    return changed;
}

static pare_status no_memory(pare_diag *d) {
    return pare_fail(d, PARE_ERR_NOMEM, NULL, "calibration", "no memory for statistics");
}

/* One batch of one stage on one side, nodes up to `last` (-1: all), seen by k. */
static pare_status run(walk *w, int side, int last, seen *k, pare_diag *d) {
    const pare_walk_side *s = &w->o->side[side];
    int n = s->bind(s->ctx, among_all(w, k->batch), w->bind);
    n = pare_cuts_bind(w->cuts[side], k->stage, k->batch, w->bind, n);
    k->look = k->l || side == 0, k->amend = side == 1 && w->o->amend;
    pare_exec_set_hook(s->e, k->look || k->amend ? hook : NULL, k);
    pare_status st = pare_exec_run_to(s->e, k->stage, last, w->bind, n, d);
    pare_exec_set_hook(s->e, NULL, NULL);
    PARE_TRY(st);
    return k->bad ? pare_fail(d, PARE_ERR_INPUT, NULL, k->bad,
                              "NaN or infinite activations in the %s model on the calibration data",
                              side ? "reduced" : "original")
                  : PARE_OK;
}

/* The node that makes v in this stage, -1 when an earlier one (or nothing) does. */
static int made_in(const pare_graph *g, pare_value v, int stage) {
    if (v < 0 || g->values[v].kind != PARE_VALUE_NODE) return -1;
    int node = g->values[v].node;
    return g->nodes[node].stage == stage ? node : -1;
}

/* The reduced model's input and stream of a group, for one batch, into w->x and w->r. */
static pare_status run_group(walk *w, int stage, size_t batch, const pare_linear *l, pare_diag *d) {
    const pare_graph *g = w->o->side[1].g;
    int x = made_in(g, l->input, stage), r = w->stats.r ? made_in(g, l->residual, stage) : -1;
    seen k = {.w = w, .stage = stage, .batch = batch, .l = l, .g = g};
    if (x >= 0 || r >= 0) PARE_TRY(run(w, 1, x > r ? x : r, &k, d));
    size_t t = w->o->tokens_per_batch; /* what an earlier stage made is a cut value, not seen by the hook */
    if (x < 0) memcpy(w->x, pare_cuts_at(w->cuts[1], l->input, batch), t * w->stats.n * sizeof(float));
    if (w->stats.r && r < 0)
        memcpy(w->r, pare_cuts_at(w->cuts[1], l->residual, batch), t * w->stats.r_rows * sizeof(float));
    return PARE_OK;
}

static void subtract(const float *a, const float *b, size_t n, float *out) {
    for (size_t i = 0; i < n; i++) out[i] = a[i] - b[i];
}

/* Adds tokens first .. first+t of a batch: x, r of the reduced model, xf, rf of the original (those of what is summed).
 */
static void add_tokens(walk *w, pare_stats *s, const float *xf, const float *rf, size_t first, size_t t) {
    const float *x = w->x + first * s->n;
    if (s->h) pare_gram_add(s->n, t, x, s->h);
    if (s->c) {
        subtract(xf + first * s->n, x, t * s->n, w->diff);
        pare_cross_add(s->n, s->n, t, w->diff, x, s->c);
    }
    if (s->r) {
        subtract(rf + first * s->r_rows, w->r + first * s->r_rows, t * s->r_rows, w->diff);
        pare_cross_add(s->r_rows, s->n, t, w->diff, x, s->r);
    }
    for (size_t i = 0; s->f2 && i < t; i++)
        for (size_t j = 0; j < s->n; j++) s->f2[j] += (double)xf[(first + i) * s->n + j] * xf[(first + i) * s->n + j];
    s->tokens += t;
}

static void add_batch(walk *w, size_t batch, const pare_linear *l) {
    bool split = w->o->want & PARE_STATS_SPLIT;
    size_t all = w->o->tokens_per_batch, held = w->stats.held && !split ? all / 4 : 0;
    const float *xf = w->both ? pare_cuts_at(w->cuts[0], l->input, batch) : NULL;
    const float *rf = w->stats.r ? pare_cuts_at(w->cuts[0], l->residual, batch) : NULL;
    if (split && w->stats.held && among_all(w, batch) % 2) {
        add_tokens(w, w->stats.held, xf, rf, 0, all);
        return;
    }
    add_tokens(w, &w->stats, xf, rf, 0, all - held);
    if (held) add_tokens(w, w->stats.held, xf, rf, all - held, held);
}

/* SPLIT: h of all batches. */
static void join_moments(pare_stats *s) {
    for (size_t i = 0; i < s->n; i++)
        for (size_t j = 0; j <= i; j++) s->h[i * s->n + j] += s->held->h[i * s->n + j];
    s->tokens += s->held->tokens;
}

static void free_buffers(walk *w) {
    pare_free(w->x);
    pare_free(w->r);
    pare_free(w->diff);
    w->x = w->r = w->diff = NULL;
}

static void free_sums(pare_stats *s) {
    pare_free(s->h);
    pare_free(s->c);
    pare_free(s->r);
    pare_free(s->f2);
    *s = (pare_stats){0};
}

static void free_stats(walk *w) {
    free_sums(&w->stats);
    free_sums(&w->held);
}

static bool make_sums(pare_stats *s, size_t n, unsigned want, size_t r_rows) {
    *s = (pare_stats){.n = n, .r_rows = r_rows};
    s->h = pare_calloc(n * n, sizeof(float));
    if (want & PARE_STATS_CROSS) s->c = pare_calloc(n * n, sizeof(float));
    if (r_rows) s->r = pare_calloc(r_rows * n, sizeof(float));
    if (want & PARE_STATS_ORIGINAL) s->f2 = pare_calloc(n, sizeof(double));
    return s->h && (!(want & PARE_STATS_CROSS) || s->c) && (!r_rows || s->r) &&
           (!(want & PARE_STATS_ORIGINAL) || s->f2);
}

static pare_status make_stats(walk *w, const pare_linear *l, pare_diag *d) {
    size_t n = (size_t)l->cols, t = w->o->tokens_per_batch, rows = (size_t)l->rows;
    unsigned want = w->o->want;
    bool residual = (want & PARE_STATS_RESIDUAL) && l->residual >= 0;
    bool ok = make_sums(&w->stats, n, want, residual ? rows : 0);
    bool split = want & PARE_STATS_SPLIT && w->o->batches > 1;
    if (want & PARE_STATS_HELD || split) {
        ok &= make_sums(&w->held, n, want, residual ? rows : 0);
        w->stats.held = &w->held;
    }
    w->x = pare_malloc(t * n * sizeof(float));
    if (residual) w->r = pare_malloc(t * rows * sizeof(float));
    w->diff = pare_malloc(t * (n > rows ? n : rows) * sizeof(float));
    return ok && w->x && w->diff && (!residual || w->r) ? PARE_OK : no_memory(d);
}

/* Sums of all processes. */
static void join_sums(pare_stats *s) {
    float *const list[] = {s->h, s->c, s->r};
    const size_t n[] = {s->n * s->n, s->c ? s->n * s->n : 0, s->r ? s->r_rows * s->n : 0};
    double own[] = {(double)s->tokens}, tokens[] = {0};
    pare_team_add(list, (const float *const *)list, n, 3, pare_team_size(), true);
    pare_team_share(list, n, 3);
    pare_team_sum_f64(own, 1, pare_team_size(), tokens);
    s->tokens = (size_t)tokens[0];
}

/* f2 in double. */
static pare_status join_squares(pare_stats *s, pare_diag *d) {
    if (!s->f2) return PARE_OK;
    double *all = pare_calloc(s->n, sizeof *all);
    pare_status st = pare_team_agree(all ? PARE_OK : no_memory(d), d);
    if (st == PARE_OK) {
        pare_team_sum_f64(s->f2, s->n, pare_team_size(), all);
        memcpy(s->f2, all, s->n * sizeof *all);
    }
    pare_free(all);
    return st;
}

static pare_status join_processes(walk *w, pare_status s, pare_diag *d) {
    if (w->size == 1) return s;
    PARE_TRY(pare_team_agree(s, d));
    join_sums(&w->stats);
    PARE_TRY(join_squares(&w->stats, d));
    if (!w->stats.held) return PARE_OK;
    join_sums(w->stats.held);
    return join_squares(w->stats.held, d);
}

static void report(walk *w, const char *what) {
    w->done++;
    if (w->o->progress) w->o->progress(w->o->ctx, what, (double)w->done / (double)w->steps);
}

static pare_status one_group(walk *w, int stage, const pare_linear *l, size_t n, pare_diag *d) {
    pare_status s = make_stats(w, l, d);
    for (size_t b = 0; s == PARE_OK && b < w->batches; b++) {
        bool counts = among_all(w, b) < w->o->batches - w->o->aside;
        if (counts) s = run_group(w, stage, b, l, d);
        if (s == PARE_OK && counts) add_batch(w, b, l);
        for (int k = 0; k < 2; k++)
            if (w->cuts[k]) pare_cuts_release(w->cuts[k], b);
        report(w, l->name);
    }
    free_buffers(w); /* not needed while the caller solves */
    s = join_processes(w, s, d);
    if (s == PARE_OK && w->o->want & PARE_STATS_SPLIT && w->stats.held) join_moments(&w->stats);
    if (s == PARE_OK) s = w->o->group(w->o->ctx, l, n, &w->stats, d);
    free_stats(w);
    return s;
}

static size_t group_size(const walk *w, size_t i) {
    size_t n = 1;
    const pare_linear *l = &w->lin.v[i];
    while (i + n < w->lin.n && l[n].stage == l->stage && l[n].group == l->group) n++;
    return n;
}

/* Room for what the groups of a stage want of the original; the last node that makes any of it. */
static pare_status keep(walk *w, int stage, int *last, pare_diag *d) {
    for (size_t i = 0; i < w->lin.n; i++) {
        const pare_linear *l = &w->lin.v[i];
        if (l->stage != stage) continue;
        const pare_value v[2] = {l->input, w->o->want & PARE_STATS_RESIDUAL ? l->residual : PARE_NO_VALUE};
        for (int k = 0; k < 2; k++) {
            if (v[k] < 0) continue;
            int node = made_in(w->o->side[0].g, v[k], stage);
            if (node > *last) *last = node;
            PARE_TRY(pare_cuts_keep(w->cuts[0], v[k], d));
        }
    }
    return PARE_OK;
}

/* A stage of one side for all batches: what it hands on and, of the original, what groups will want. */
static pare_status pass(walk *w, int side, int stage, bool wanted, pare_diag *d) {
    pare_cuts *cuts = w->cuts[side];
    int last = -1;
    if (side == 0 && wanted) PARE_TRY(keep(w, stage, &last, d));
    if (stage < w->last || (side == 0 && w->o->stage)) last = -1; /* all of it */
    else if (last < 0) return PARE_OK;
    for (size_t b = 0; b < w->batches; b++) {
        seen k = {.w = w, .stage = stage, .batch = b, .g = w->o->side[side].g};
        PARE_TRY(run(w, side, last, &k, d));
        pare_cuts_release(cuts, b);
        report(w, pare_graph_stage_name(w->o->side[1].g, stage));
    }
    return PARE_OK;
}

static pare_status one_stage(walk *w, int stage, pare_diag *d) {
    const pare_walk_opts *o = w->o;
    bool wanted = false;
    for (int k = 0; k < 2; k++)
        if (w->cuts[k]) PARE_TRY(pare_cuts_begin(w->cuts[k], stage, d));
    for (size_t i = 0, n; i < w->lin.n; i += n) {
        n = group_size(w, i);
        if (w->lin.v[i].stage != stage) continue;
        w->wants[i] = !o->wants || o->wants(o->ctx, &w->lin.v[i], n);
        wanted |= w->wants[i];
    }
    if (w->both) PARE_TRY(pass(w, 0, stage, wanted, d));
    for (size_t i = 0, n; i < w->lin.n; i += n) {
        const pare_linear *l = &w->lin.v[i];
        n = group_size(w, i);
        if (l->stage != stage) continue;
        if (w->wants[i]) PARE_TRY(one_group(w, stage, l, n, d));
        else w->done += w->batches;
    }
    if (o->stage) PARE_TRY(o->stage(o->ctx, w, stage, d));
    PARE_TRY(pass(w, 1, stage, false, d)); /* and on to the next stage */
    for (int k = 0; k < 2; k++)
        if (w->cuts[k]) pare_cuts_end(w->cuts[k], stage);
    return PARE_OK;
}

static pare_status prepare(walk *w, pare_diag *d) {
    const pare_walk_opts *o = w->o;
    w->size = o->alone ? 1 : (size_t)pare_team_size(), w->rank = o->alone ? 0 : (size_t)pare_team_rank();
    if (o->batches < w->size)
        return pare_fail(d, PARE_ERR_USAGE, NULL, "mpirun",
                         "%zu runs of %zu tokens do not go round %zu processes; calibrate on more windows", o->batches,
                         o->tokens_per_batch, w->size);
    w->batches = (o->batches - w->rank + w->size - 1) / w->size;
    PARE_TRY(pare_linears_find(o->side[1].g, &w->lin, d));
    w->both = o->want & (PARE_STATS_CROSS | PARE_STATS_RESIDUAL | PARE_STATS_ORIGINAL);
    w->last = -1;
    for (size_t i = 0; i < w->lin.n; i += group_size(w, i)) {
        if (w->lin.v[i].stage > w->last) w->last = w->lin.v[i].stage;
        w->steps++;
    }
    w->steps = (w->steps + (size_t)(w->last + 1) * (w->both ? 2 : 1)) * w->batches;
    for (int k = w->both ? 0 : 1; k < 2; k++)
        PARE_TRY(pare_cuts_open(o->side[k].g, o->sym[k], w->batches, w->both ? o->budget_bytes / 2 : o->budget_bytes,
                                &w->cuts[k], d));
    int most = o->side[0].most > o->side[1].most ? o->side[0].most : o->side[1].most;
    w->bind = pare_calloc((size_t)most + (size_t)pare_cuts_most(w->cuts[1]) + 1, sizeof *w->bind);
    w->wants = pare_calloc(w->lin.n + 1, sizeof *w->wants);
    return w->bind && w->wants ? PARE_OK : no_memory(d);
}

const float *pare_walk_cut(const pare_walk *w, int side, pare_value v, size_t batch) {
    return pare_cuts_at(w->cuts[side], v, batch);
}

pare_status pare_walk_run(const pare_walk_opts *o, pare_diag *d) {
    walk w = {.o = o};
    pare_status s = prepare(&w, d);
    for (int stage = 0; s == PARE_OK && stage <= w.last; stage++) s = one_stage(&w, stage, d);
    for (int k = 0; k < 2; k++) pare_cuts_close(&w.cuts[k]);
    pare_linears_free(&w.lin);
    pare_free(w.bind);
    pare_free(w.wants);
    return s;
}
