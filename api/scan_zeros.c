/* SPDX-License-Identifier: Apache-2.0
 *
 * Sensitivity of zeros (api/scan.h): every matrix of a layer pruned by each amount, by the job's criterion. Criteria
 * that need data get the second moments of the original's own inputs, from a walk over the calibration text, or its
 * gradients. */
#include "api/gradients.h"
#include "api/scan.h"

#include "calib/linalg.h"
#include "core/status.h"
#include "core/threads.h"

#include <string.h>

#define BUDGET  ((size_t)512 << 20) /* of activations in memory */
#define DAMPING 0.01                /* as when the model is pruned */

static pare_status no_memory(pare_diag *d) {
    return pare_fail(d, PARE_ERR_NOMEM, NULL, "sensitivity", "no memory for the weights of a layer");
}

/* The job's tensor behind linear i, if it is one to be pruned. */
static const pare_job_tensor *tensor_of(const pare_scan *s, const pare_linear *l) {
    const void *data = s->probe.views[l->weight].data;
    for (size_t i = 0; i < s->job->n; i++) {
        const pare_job_tensor *t = &s->job->t[i];
        if (t->pruned && t->map->src && pare_weights_rows(s->w, t->map->src) == data) return t;
    }
    return NULL;
}

typedef struct decode_work {
    const pare_tensor *t;
    float *w;
} decode_work;

static void decode_row(void *ctx, size_t r) {
    decode_work *k = ctx;
    pare_weight_row(k->t, (int64_t)r, k->w + r * (size_t)pare_tensor_cols(k->t));
}

/* Linear i at every amount. */
static pare_status prune(pare_scan *s, size_t i, const pare_stats *stats, const float *u, pare_diag *d) {
    const pare_linear *l = &s->lin.v[i];
    const pare_job_tensor *t = tensor_of(s, l);
    if (!t) return PARE_OK;
    size_t rows = (size_t)t->rows, n = (size_t)t->cols;
    float *w = pare_malloc(rows * n * sizeof *w);
    pare_status st = w ? PARE_OK : no_memory(d);
    for (size_t k = 0; st == PARE_OK && k < s->out->n_amounts; k++) {
        pare_job_tensor one = *t;
        decode_work work = {&s->probe.views[l->weight], w};
        one.sparsity = s->out->amounts[k];
        pare_parallel(rows, 64, decode_row, &work);
        void *out = pare_malloc_aligned(rows * pare_row_bytes(t->to, n));
        st = out ? pare_job_prune_layer(s->job, &one, l->name, w, stats, u, out, d) : no_memory(d);
        pare_scan_put(s, i, k, t->to, out);
    }
    pare_free(w);
    return st;
}

/* ---- without data ---- */
static pare_status plain(pare_scan *s, pare_diag *d) {
    for (int stage = 1; stage <= (int)s->out->n_layers; stage++) {
        for (size_t i = 0; i < s->lin.n; i++)
            if (s->lin.v[i].stage == stage) PARE_TRY(prune(s, i, NULL, NULL, d));
        PARE_TRY(pare_scan_measure(s, stage, d));
    }
    return PARE_OK;
}

/* ---- with data ---- */
typedef struct walked {
    pare_scan *s;
    pare_lm_run run[2]; /* both the original */
    int stage;          /* whose matrices are being made */
} walked;

typedef struct bind_ctx {
    walked *k;
    int side;
} bind_ctx;

static int bind(void *ctx, size_t batch, pare_binding *b) {
    bind_ctx *x = ctx;
    const pare_calib_data *data = &x->k->s->data;
    return pare_lm_run_bindings(&x->k->run[x->side], data->ids + (int64_t)batch * data->batch * data->ctx, b);
}

static pare_status group(void *ctx, const pare_linear *l, size_t n, const pare_stats *stats, pare_diag *d) {
    walked *k = ctx;
    pare_scan *s = k->s;
    float *u = NULL;
    double used;
    pare_status st = PARE_OK;
    if (k->stage != l->stage) PARE_TRY(pare_scan_measure(s, k->stage, d)); /* that layer is complete */
    k->stage = l->stage;
    if (s->job->prune->criterion->needs & PARE_NEEDS_SWEEP) {
        u = pare_malloc(stats->n * stats->n * sizeof *u);
        st = u ? pare_inverse_factor(stats->n, stats->h, DAMPING, u, &used, d) : no_memory(d);
    }
    for (size_t g = 0; st == PARE_OK && g < n; g++)
        for (size_t i = 0; st == PARE_OK && i < s->lin.n; i++)
            if (s->lin.v[i].weight == l[g].weight) st = prune(s, i, stats, u, d);
    pare_free(u);
    return st;
}

static bool wants(void *ctx, const pare_linear *l, size_t n) {
    walked *k = ctx;
    for (size_t i = 0; i < n; i++)
        if (tensor_of(k->s, &l[i])) return true;
    return false;
}

static pare_status walk(pare_scan *s, walked *k, pare_diag *d) {
    bind_ctx ctx[2] = {{k, 0}, {k, 1}};
    pare_walk_opts o = {.batches = s->data.batches,
                        .tokens_per_batch = (size_t)(s->data.batch * s->data.ctx),
                        .want = s->job->prune->criterion->want,
                        .budget_bytes = BUDGET,
                        .group = group,
                        .wants = wants,
                        .ctx = k};
    for (int i = 0; i < 2; i++) {
        pare_lm_run *r = &k->run[i];
        PARE_TRY(pare_lm_run_open(s->w, 0, &(pare_exec_opts){0}, r, d));
        PARE_TRY(pare_lm_run_shape(r, s->w, s->data.batch, s->data.ctx, NULL, 0, d));
        o.side[i] = (pare_walk_side){r->m.g, r->e, bind, (int)r->m.n_kv + 6, &ctx[i]};
        const int64_t sym[PARE_SYM_COUNT] = {s->data.batch, s->data.ctx, r->table_rows};
        memcpy(o.sym[i], sym, sizeof sym);
    }
    PARE_TRY(pare_walk_run(&o, d));
    return pare_scan_measure(s, k->stage, d);
}

pare_status pare_scan_zeros(pare_scan *s, pare_diag *d) {
    if (s->job->prune->scope == PARE_SCOPE_GLOBAL)
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--scope",
                         "a scan prunes one layer at a time; row and layer are left");
    unsigned needs = s->job->prune->criterion->needs;
    if (!needs) return plain(s, d);
    walked k = {.s = s};
    PARE_TRY(pare_calib_data_open(s->job->src, pare_weights_arch(s->w), s->o->calib, s->o->calib_ctx,
                                  s->o->calib_windows, &s->data, d));
    if (needs & PARE_NEEDS_GRADIENTS) PARE_TRY(pare_job_gradients(s->job, s->w, &s->data, d));
    if (!(needs & PARE_NEEDS_WALK)) return plain(s, d);
    pare_status st = walk(s, &k, d);
    for (int i = 0; i < 2; i++) pare_lm_run_close(&k.run[i]);
    return st;
}
