/* SPDX-License-Identifier: Apache-2.0
 *
 * Healing inside a job: the walk goes through the original and a model in which the units that go are already silent
 * (their columns are zero in what reads them), and refits one reader after another on that model's own inputs. */
#include "api/narrow.h"

#include "core/log.h"
#include "core/status.h"
#include "prune/heal.h"

#include <math.h>
#include <string.h>

#define BUDGET ((size_t)512 << 20) /* of activations in memory */

typedef struct healing {
    pare_narrow *n;
    const pare_unit_watch *means; /* of the original's inputs of the readers */
    pare_lm_run run[2];
    pare_layer_norms *norms; /* NULL: this architecture has none */
    int64_t sym[2][PARE_SYM_COUNT];
    float **weights; /* of the reduced model */
    size_t n_weights, cap_weights;
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

/* What is known of the reader of weight v; NULL: it reads nothing that goes. */
static const pare_unit_stats *stats_of(const healing *h, pare_value v) {
    for (size_t i = 0; i < h->means->n; i++)
        if (h->means->v[i].reads->weight == v) return &h->means->v[i];
    return NULL;
}

/* Linears to be fitted anew: the readers of a narrowed dimension; all that read or write the residual stream. */
static bool goes(const healing *h, pare_value v) {
    if (!pare_narrow_channels(h->n)) return stats_of(h, v) != NULL;
    return pare_dimension_slot(&h->n->dims[0], v, 0) || pare_dimension_slot(&h->n->dims[0], v, 1);
}

/* What stays of a linear; all of it where nothing goes. */
typedef struct stay {
    uint32_t *rows, *cols;
    size_t n_rows, n_cols;
} stay;

static size_t indices(const healing *h, pare_value v, int axis, int64_t size, uint32_t *index) {
    for (size_t k = 0; k < h->n->n_dims; k++) { /* a dimension of a value belongs to one of them */
        const pare_slot *s = pare_dimension_slot(&h->n->dims[k], v, axis);
        if (s) return pare_slot_kept(s, h->n->stays[k], index);
    }
    for (int64_t i = 0; i < size; i++) index[i] = (uint32_t)i;
    return (size_t)size;
}

/* From now on the reduced model computes with fit [n_rows, n_cols] where the units stay, and zeros elsewhere. */
static pare_status install(healing *h, pare_value v, const float *fit, const stay *k, pare_diag *d) {
    pare_tensor view = h->run[1].m.g->values[v].tensor;
    size_t rows = (size_t)view.shape[0], cols = (size_t)view.shape[1];
    if (pare_grow((void **)&h->weights, &h->cap_weights, h->n_weights + 1, sizeof *h->weights) != PARE_OK)
        return no_memory(d);
    float *w = pare_calloc(rows * cols, sizeof *w);
    if (!w) return no_memory(d);
    h->weights[h->n_weights++] = w;
    for (size_t r = 0; r < k->n_rows; r++)
        for (size_t c = 0; c < k->n_cols; c++) w[k->rows[r] * cols + k->cols[c]] = fit[r * k->n_cols + c];
    view.type = &pare_qtype_f32, view.data = w;
    pare_exec_replace_weight(h->run[1].e, v, &view);
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

/* The linear's rows that stay, fitted on its columns that stay. */
static pare_status fit_one(healing *h, const pare_linear *l, const pare_stats *s, pare_tensor_name name, const stay *k,
                           float *w, float *r, float *fit, pare_diag *d) {
    const pare_tensor *stored = &h->run[0].m.g->values[l->weight].tensor;
    size_t cols = (size_t)l->cols;
    float *judge = r + k->n_rows * cols;
    for (size_t i = 0; i < k->n_rows; i++) {
        pare_weight_row(stored, k->rows[i], w + i * cols);
        if (!s->r) continue;
        memcpy(r + i * cols, s->r + k->rows[i] * cols, cols * sizeof *r);
        memcpy(judge + i * cols, s->held->r + k->rows[i] * cols, cols * sizeof *r);
    }
    pare_heal fitting = {.rows = k->n_rows,
                         .n = cols,
                         .nk = k->n_cols,
                         .w = w,
                         .keep = k->cols,
                         .fit = {s->h, s->c, s->r ? r : NULL},
                         .judge = {s->held->h, s->held->c, s->r ? judge : NULL}};
    double damping, step;
    PARE_TRY(pare_heal_fit(&fitting, fit, &damping, &step, d));
    pare_log(PARE_LOG_DEBUG, "%s: ridge %g, step %.2f", l->name, damping, step);
    PARE_TRY(install(h, l->weight, fit, k, d));
    PARE_TRY(pare_narrow_refit(h->n, name, fit, (int64_t)k->n_rows, (int64_t)k->n_cols, NULL, d));
    const pare_unit_stats *u = stats_of(h, l->weight);
    bool bias = u && !pare_narrow_channels(h->n);
    return bias ? correct_bias(h, u, name, w, fit, k->cols, k->n_cols, k->n_rows, d) : PARE_OK;
}

static pare_status refit_one(healing *h, const pare_linear *l, const pare_stats *s, pare_diag *d) {
    size_t rows = (size_t)l->rows, cols = (size_t)l->cols;
    pare_tensor_name name;
    if (!goes(h, l->weight) || !pare_name_parse(h->n->arch.family, PARE_SOURCE_GGUF, l->name, &name)) return PARE_OK;
    stay k = {pare_malloc(rows * sizeof *k.rows), pare_malloc(cols * sizeof *k.cols), 0, 0};
    float *w = pare_malloc(rows * cols * sizeof *w), *r = pare_malloc(2 * rows * cols * sizeof *r),
          *fit = pare_malloc(rows * cols * sizeof *fit);
    pare_status st = k.rows && k.cols && w && r && fit ? PARE_OK : no_memory(d);
    if (st == PARE_OK) {
        k.n_rows = indices(h, l->weight, 0, l->rows, k.rows);
        k.n_cols = indices(h, l->weight, 1, l->cols, k.cols);
        st = fit_one(h, l, s, name, &k, w, r, fit, d);
    }
    void *all[] = {k.rows, k.cols, w, r, fit};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) pare_free(all[i]);
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
    for (size_t i = 0; i < n; i++)
        if (goes(ctx, l[i].weight)) return true;
    return false;
}

static void progress(void *ctx, const char *what, double share) {
    pare_meter_step(&((healing *)ctx)->meter, what, (uint64_t)(share * 1000));
}

/* Tables of rows (and a matrix that is one too) have no input to be fitted on: their columns only fall silent. */
static pare_status silence_tables(healing *h, pare_diag *d) {
    const pare_graph *g = h->run[1].m.g;
    pare_linears lin;
    PARE_TRY(pare_linears_find(g, &lin, d));
    pare_status s = PARE_OK;
    for (size_t i = 0; s == PARE_OK && i < h->n->dims[0].n; i++) {
        pare_value v = h->n->dims[0].slots[i].value;
        bool linear = g->values[v].kind != PARE_VALUE_WEIGHT || g->values[v].tensor.ndim != 2;
        for (size_t k = 0; k < lin.n; k++) linear |= lin.v[k].weight == v;
        if (linear) continue;
        const pare_tensor *t = &g->values[v].tensor;
        int64_t rows = t->shape[0], cols = t->shape[1];
        stay k = {pare_malloc((size_t)rows * sizeof *k.rows), pare_malloc((size_t)cols * sizeof *k.cols), 0, 0};
        float *w = pare_malloc((size_t)cols * sizeof *w), *kept = pare_malloc((size_t)(rows * cols) * sizeof *kept);
        if (k.rows && k.cols && w && kept) {
            k.n_rows = indices(h, v, 0, rows, k.rows), k.n_cols = indices(h, v, 1, cols, k.cols);
            for (int64_t r = 0; r < rows; r++) {
                pare_weight_row(t, r, w);
                for (size_t c = 0; c < k.n_cols; c++) kept[(size_t)r * k.n_cols + c] = w[k.cols[c]];
            }
            s = install(h, v, kept, &k, d);
        } else s = no_memory(d);
        void *all[] = {k.rows, k.cols, w, kept};
        for (size_t a = 0; a < sizeof all / sizeof *all; a++) pare_free(all[a]);
    }
    pare_linears_free(&lin);
    return s;
}

/* An RMS norm's mean square runs over fewer channels in the smaller model than in the walk's, where they are zeros. */
static pare_status scale_norms(healing *h, pare_diag *d) {
    pare_narrow *n = h->n;
    pare_reader *norms;
    size_t count;
    PARE_TRY(pare_dimension_norms(n->run.m.g, &n->dims[0], &norms, &count, d));
    pare_status s = PARE_OK;
    for (size_t i = 0; s == PARE_OK && i < count; i++) {
        pare_tensor_name name;
        int64_t size;
        if (!pare_name_parse(n->arch.family, PARE_SOURCE_GGUF, n->run.m.g->values[norms[i].weight].name, &name))
            continue;
        const float *old = pare_weights_floats(n->w, name.role, name.layer, false, &size);
        uint32_t *keep = old ? pare_malloc((size_t)size * sizeof *keep) : NULL;
        float *scaled = old ? pare_malloc((size_t)size * sizeof *scaled) : NULL;
        if (keep && scaled) {
            size_t nk = indices(h, norms[i].weight, 0, size, keep);
            float f = sqrtf((float)size / (float)nk);
            for (size_t k = 0; k < nk; k++) scaled[k] = old[keep[k]] * f;
            s = pare_narrow_refit(n, name, scaled, 1, (int64_t)nk, NULL, d);
        } else s = no_memory(d);
        pare_free(keep);
        pare_free(scaled);
    }
    pare_free(norms);
    return s;
}

/* The residual stream loses channels: what is no linear of the reduced model. */
static pare_status begin_channels(healing *h, pare_walk_opts *o, pare_diag *d) {
    PARE_TRY(silence_tables(h, d));
    if (h->n->arch.family != PARE_FAMILY_BERT) return PARE_OK;
    PARE_TRY(pare_layer_norms_fit(h->n, &h->norms, d));
    pare_layer_norms_use(h->norms, h->run[1].e);
    o->amend = pare_layer_norms_amend, o->amend_ctx = h->norms;
    return pare_exec_shape(h->run[1].e, h->sym[1], d);
}

static pare_status end_channels(healing *h, pare_diag *d) {
    return h->norms ? pare_layer_norms_refit(h->n, h->norms, d) : scale_norms(h, d);
}

pare_status pare_narrow_heal(pare_narrow *n, const pare_unit_watch *means, pare_diag *d) {
    healing h = {.n = n, .means = means};
    bool channels = pare_narrow_channels(n);
    bind_ctx ctx[2] = {{&h, 0}, {&h, 1}};
    pare_walk_opts o = {.batches = n->data.batches,
                        .tokens_per_batch = (size_t)(n->data.batch * n->data.ctx),
                        .want = PARE_STATS_CROSS | PARE_STATS_RESIDUAL | PARE_STATS_HELD,
                        .budget_bytes = BUDGET,
                        .alone = true, /* the bytes of one process, and a cut on the way is process 0's */
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
    if (s == PARE_OK && channels) s = begin_channels(&h, &o, d);
    pare_meter_start(&h.meter, "heal", "", 1000);
    if (s == PARE_OK) s = pare_walk_run(&o, d);
    if (s == PARE_OK && channels) s = end_channels(&h, d);
    pare_layer_norms_free(&h.norms);
    for (int k = 0; k < 2; k++) pare_lm_run_close(&h.run[k]);
    for (size_t i = 0; i < h.n_weights; i++) pare_free(h.weights[i]);
    pare_free(h.weights);
    return s;
}
