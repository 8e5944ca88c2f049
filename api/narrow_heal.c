/* SPDX-License-Identifier: Apache-2.0
 *
 * Healing inside a job: the walk goes through the original and a model in which the units that go are already silent
 * (their columns are zero in what reads them), and refits one reader after another on that model's own inputs. */
#include "api/narrow.h"

#include "core/log.h"
#include "core/status.h"
#include "prune/heal.h"

#include <string.h>

#define BUDGET  ((size_t)512 << 20) /* of activations in memory */
#define DAMPING 0.01                /* ridge, in units of the mean second moment */

typedef struct healing {
    pare_narrow *n;
    const pare_unit_watch *means; /* of the original's inputs of the readers */
    pare_lm_run run[2];
    int64_t sym[2][PARE_SYM_COUNT];
    pare_meter meter;
} healing;

typedef struct bind_ctx {
    healing *h;
    int side;
} bind_ctx;

static int bind(void *ctx, size_t batch, pare_binding *b) {
    bind_ctx *x = ctx;
    const pare_calib_data *data = &x->h->n->data;
    return pare_lm_run_bindings(&x->h->run[x->side], data->ids + (int64_t)batch * data->batch * data->ctx, b);
}

static pare_status no_memory(pare_diag *d) {
    return pare_fail(d, PARE_ERR_NOMEM, NULL, "healing", "no memory for the weights of a layer");
}

/* What is known of the reader of weight v, and the number of its dimension; NULL: it reads nothing that goes. */
static const pare_unit_stats *stats_of(const healing *h, pare_value v, size_t *dim) {
    for (size_t i = 0; i < h->means->n; i++)
        if (h->means->v[i].reads->weight == v) return *dim = (size_t)(h->means->v[i].dim - h->n->dims), &h->means->v[i];
    return NULL;
}

/* From now on the reduced model computes with fit [rows, nk] where the unit stays, and zeros elsewhere. */
static pare_status install(healing *h, const pare_linear *l, const float *fit, const uint32_t *keep, size_t nk,
                           pare_diag *d) {
    size_t rows = (size_t)l->rows, cols = (size_t)l->cols;
    float *w = pare_job_keep(h->n->job, rows * cols * sizeof *w);
    if (!w) return no_memory(d);
    memset(w, 0, rows * cols * sizeof *w);
    for (size_t r = 0; r < rows; r++)
        for (size_t k = 0; k < nk; k++) w[r * cols + keep[k]] = fit[r * nk + k];
    pare_tensor view = h->run[1].m.g->values[l->weight].tensor;
    view.type = &pare_qtype_f32, view.data = w;
    pare_exec_replace_weight(h->run[1].e, l->weight, &view);
    return pare_exec_shape(h->run[1].e, h->sym[1], d);
}

/* The bias that gives the outputs their mean back. The means are the original's: what earlier layers shifted is the
 * fit's business. */
static pare_status correct_bias(healing *h, const pare_unit_stats *s, pare_tensor_name name, const float *w,
                                const float *fit, const uint32_t *keep, size_t nk, size_t rows, pare_diag *d) {
    name.bias = true;
    if (!pare_weights_has(h->n->w, name.role, name.layer, true)) return PARE_OK;
    int64_t n_bias;
    const float *old = pare_weights_floats(h->n->w, name.role, name.layer, true, &n_bias);
    float *b = old ? pare_malloc(rows * sizeof *b) : NULL;
    if (!b) return no_memory(d);
    size_t cols = (size_t)s->slot->size;
    for (size_t r = 0; r < rows; r++) {
        double shift = 0;
        for (size_t c = 0; c < cols; c++) shift += (double)w[r * cols + c] * s->mean[c];
        for (size_t k = 0; k < nk; k++) shift -= (double)fit[r * nk + k] * s->mean[keep[k]];
        b[r] = old[r] + (float)(shift / s->tokens);
    }
    pare_status st = pare_narrow_refit(h->n, name, b, 1, (int64_t)rows, NULL, d);
    pare_free(b);
    return st;
}

static pare_status refit_one(healing *h, const pare_linear *l, const pare_stats *s, pare_diag *d) {
    size_t dim, rows = (size_t)l->rows, cols = (size_t)l->cols;
    const pare_unit_stats *u = stats_of(h, l->weight, &dim);
    pare_tensor_name name;
    if (!u || !pare_name_parse(h->n->arch.family, PARE_SOURCE_GGUF, l->name, &name)) return PARE_OK;
    const pare_slot *slot = pare_dimension_slot(&h->n->dims[dim], l->weight, 1);
    uint32_t *keep = pare_malloc(cols * sizeof *keep);
    float *w = pare_malloc(rows * cols * sizeof *w), *fit = pare_malloc(rows * cols * sizeof *fit);
    pare_status st = keep && w && fit ? PARE_OK : no_memory(d);
    if (st == PARE_OK) {
        size_t nk = pare_slot_kept(slot, h->n->stays[dim], keep);
        const pare_tensor *stored = &h->run[0].m.g->values[l->weight].tensor;
        for (size_t r = 0; r < rows; r++) pare_weight_row(stored, (int64_t)r, w + r * cols);
        pare_heal k = {rows, cols, nk, w, s->h, s->c, s->r, keep, DAMPING};
        st = pare_heal_fit(&k, fit, d);
        if (st == PARE_OK) st = install(h, l, fit, keep, nk, d);
        if (st == PARE_OK) st = pare_narrow_refit(h->n, name, fit, l->rows, (int64_t)nk, NULL, d);
        if (st == PARE_OK) st = correct_bias(h, u, name, w, fit, keep, nk, rows, d);
    }
    pare_free(keep);
    pare_free(w);
    pare_free(fit);
    return st;
}

static pare_status group(void *ctx, const pare_linear *l, size_t n, const pare_stats *s, pare_diag *d) {
    for (size_t i = 0; i < n; i++) {
        pare_status st = refit_one(ctx, &l[i], s, d);
        if (st != PARE_OK) return st;
    }
    return PARE_OK;
}

static bool wants(void *ctx, const pare_linear *l, size_t n) {
    size_t dim;
    for (size_t i = 0; i < n; i++)
        if (stats_of(ctx, l[i].weight, &dim)) return true;
    return false;
}

static void progress(void *ctx, const char *what, double share) {
    pare_meter_step(&((healing *)ctx)->meter, what, (uint64_t)(share * 1000));
}

pare_status pare_narrow_heal(pare_narrow *n, const pare_unit_watch *means, pare_diag *d) {
    healing h = {.n = n, .means = means};
    bind_ctx ctx[2] = {{&h, 0}, {&h, 1}};
    pare_walk_opts o = {.batches = n->data.batches,
                        .tokens_per_batch = (size_t)(n->data.batch * n->data.ctx),
                        .want = PARE_STATS_CROSS | PARE_STATS_RESIDUAL,
                        .budget_bytes = BUDGET,
                        .group = group,
                        .wants = wants,
                        .progress = progress,
                        .ctx = &h};
    pare_status s = PARE_OK;
    for (int k = 0; k < 2 && s == PARE_OK; k++) {
        s = pare_lm_run_open(n->w, 0, &(pare_exec_opts){0}, &h.run[k], d);
        if (s == PARE_OK) s = pare_lm_run_shape(&h.run[k], n->w, n->data.batch, n->data.ctx, NULL, 0, d);
        const int64_t sym[PARE_SYM_COUNT] = {n->data.batch, n->data.ctx, h.run[k].table_rows};
        memcpy(h.sym[k], sym, sizeof sym);
        memcpy(o.sym[k], sym, sizeof sym);
        if (s == PARE_OK)
            o.side[k] = (pare_walk_side){h.run[k].m.g, h.run[k].e, bind, (int)h.run[k].m.n_kv + 6, &ctx[k]};
    }
    pare_meter_start(&h.meter, "heal", "", 1000);
    if (s == PARE_OK) s = pare_walk_run(&o, d);
    for (int k = 0; k < 2; k++) pare_lm_run_close(&h.run[k]);
    return s;
}

pare_status pare_narrow_heal_norms(pare_narrow *n, const pare_unit_watch *norms, pare_diag *d) {
    pare_status s = PARE_OK;
    for (size_t i = 0; s == PARE_OK && i < norms->n; i++) {
        const pare_unit_stats *u = &norms->v[i];
        pare_tensor_name name;
        int64_t size;
        const char *what = n->run.m.g->values[u->reads->weight].name;
        if (!pare_name_parse(n->arch.family, PARE_SOURCE_GGUF, what, &name)) continue;
        const float *old = pare_weights_floats(n->w, name.role, name.layer, false, &size);
        uint32_t *keep = pare_malloc((size_t)u->slot->size * sizeof *keep);
        float *scale = pare_malloc((size_t)u->slot->size * sizeof *scale);
        if (!old || !keep || !scale) s = no_memory(d);
        else {
            size_t nk = pare_slot_kept(u->slot, n->stays[0], keep);
            float f = (float)pare_heal_norm(u->square, (size_t)u->slot->size, keep, nk);
            for (size_t k = 0; k < nk; k++) scale[k] = old[keep[k]] * f;
            s = pare_narrow_refit(n, name, scale, 1, (int64_t)nk, NULL, d);
        }
        pare_free(keep);
        pare_free(scale);
    }
    return s;
}
