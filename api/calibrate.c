/* SPDX-License-Identifier: Apache-2.0
 *
 * Calibrated quantization (api/calibrate.h). The reduced model begins as the original with everything that no walk
 * decides about (embedding, output matrix) rounded already; each group's weights follow as the walk reaches it. */
#include "api/calibrate.h"

#include "api/rounding.h"
#include "calib/linalg.h"
#include "calib/order.h"
#include "core/log.h"
#include "core/status.h"
#include "core/team.h"
#include "core/threads.h"
#include "formats/checksum.h"
#include "quant/rtn.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define BUDGET  ((size_t)512 << 20) /* of activations in memory */
#define PASSES  2                   /* after the sweep; a third one gains less than a hundredth of the error */
#define DAMPING 0.01                /* of the second moments, in units of their mean diagonal (GPTQ's own) */

typedef struct calibration {
    pare_job *job;
    pare_calib_data data;
    pare_weights *w;
    pare_lm_run run[2];
    int64_t sym[2][PARE_SYM_COUNT];
    int stage;          /* the walk is in */
    pare_status resume; /* of taking rows from the journal */
    pare_diag resume_diag;
    pare_meter meter;
    pare_rounded *decided; /* linears of the stage, in the order of the walk */
    size_t n_decided;
} calibration;

typedef struct bind_ctx {
    calibration *c;
    int side;
} bind_ctx;

static int bind(void *ctx, size_t batch, pare_binding *b) {
    bind_ctx *x = ctx;
    const pare_calib_data *data = &x->c->data;
    return pare_lm_run_bindings(&x->c->run[x->side], data->ids + (int64_t)batch * data->batch * data->ctx, b);
}

static pare_status no_memory(pare_diag *d) {
    return pare_fail(d, PARE_ERR_NOMEM, NULL, "calibration", "no memory for the weights of a layer");
}

/* The job's tensor whose rows the graph's value v shows, if it is to be quantized; else NULL. */
static pare_job_tensor *tensor_of(const calibration *c, const pare_graph *g, pare_value v) {
    const void *data = g->values[v].tensor.data;
    for (size_t i = 0; i < c->job->n; i++) {
        pare_job_tensor *t = &c->job->t[i];
        bool wanted = t->pruned || (t->to->grid && t->from != t->to);
        if (wanted && !t->encoded && t->map->src && pare_weights_rows(c->w, t->map->src) == data) return t;
    }
    return NULL;
}

typedef struct rows_work {
    const pare_job_tensor *t;
    const uint8_t *src;
    float *w;
    uint8_t *out;
    _Atomic bool failed;
} rows_work;
#define CHUNK 16

static void decode_rows(void *ctx, size_t i) {
    rows_work *k = ctx;
    size_t n = (size_t)k->t->cols, rows = (size_t)k->t->rows, r0 = i * CHUNK,
           r1 = r0 + CHUNK < rows ? r0 + CHUNK : rows;
    size_t stride = pare_row_bytes(k->t->from, n);
    for (size_t r = r0; r < r1; r++) k->t->from->decode(k->t->from, k->src + r * stride, k->w + r * n, n);
}

static void encode_rows(void *ctx, size_t i) {
    rows_work *k = ctx;
    size_t n = (size_t)k->t->cols, rows = (size_t)k->t->rows, r0 = i * CHUNK, m = r0 + CHUNK < rows ? CHUNK : rows - r0;
    size_t scratch = pare_rtn_scratch_bytes(k->t->to, m, n), stride = pare_row_bytes(k->t->to, n);
    float *w = pare_malloc(m * n * sizeof *w);
    void *tmp = pare_malloc_aligned(scratch + 64);
    if (w && tmp) {
        for (size_t r = 0; r < m; r++)
            k->t->from->decode(k->t->from, k->src + (r0 + r) * pare_row_bytes(k->t->from, n), w + r * n, n);
        pare_rtn_encode(k->t->to, w, n, NULL, m, n, k->out + r0 * stride, stride, tmp);
    } else k->failed = true;
    pare_free(w);
    pare_free(tmp);
}

/* The reduced model computes with these rows of t from now on. */
static pare_status show(calibration *c, const pare_job_tensor *t, pare_value v, void *rows, pare_diag *d) {
    pare_graph *g = c->run[1].m.g;
    pare_tensor view = g->values[v].tensor;
    view.type = t->to, view.data = rows;
    for (size_t i = 0; i < g->n_values; i++) /* also where the same matrix is seen again (a tied embedding) */
        if ((pare_value)i != v && g->values[i].kind == PARE_VALUE_WEIGHT &&
            g->values[i].tensor.data == g->values[v].tensor.data) {
            pare_tensor twin = g->values[i].tensor;
            twin.type = t->to, twin.data = rows;
            pare_exec_replace_weight(c->run[1].e, (pare_value)i, &twin);
        }
    pare_exec_replace_weight(c->run[1].e, v, &view);
    return pare_exec_shape(c->run[1].e, c->sym[1], d);
}

/* The tensor's rows are these from now on, in the job and in the reduced model. */
static pare_status settle(calibration *c, pare_job_tensor *t, pare_value v, void *rows, pare_diag *d) {
    PARE_TRY(show(c, t, v, rows, d));
    if (pare_round_can(t)) c->decided[c->n_decided++] = (pare_rounded){.value = v, .t = t};
    return pare_job_adopt(c->job, t, rows, d);
}

static size_t stored_bytes(const pare_job_tensor *t) {
    return (size_t)t->rows * pare_row_bytes(t->to, (size_t)t->cols);
}

/* Room in the journal for the rows of t; pare_journal_seal when they are there. */
static pare_status room(calibration *c, const pare_job_tensor *t, void **rows, pare_diag *d) {
    return pare_journal_room(c->job->journal, t->map->name, sizeof(pare_job_quality), stored_bytes(t), rows, d);
}

static bool recorded(const calibration *c, size_t ahead, const pare_job_tensor *t) {
    return pare_journal_has(c->job->journal, ahead, t->map->name, sizeof(pare_job_quality), stored_bytes(t));
}

static pare_status take(calibration *c, pare_job_tensor *t, pare_value v, pare_diag *d) {
    void *rows = pare_journal_take(c->job->journal, &t->quality, sizeof t->quality);
    t->measured = t->quality.damping >= 0;
    return settle(c, t, v, rows, d);
}

/* What process 0 made, in all (they solve alike; machines of several kinds may differ in a last bit). made: how making
 * it went here. */
static pare_status spread(void *p, size_t bytes, pare_status made, pare_diag *d) {
    PARE_TRY(pare_team_agree(made, d));
    pare_team_broadcast(p, bytes);
    return PARE_OK;
}

/* Matrices that the walk does not decide about: rounded to nearest now. */
static pare_status round_rest(calibration *c, const pare_linears *lin, pare_diag *d) {
    pare_graph *g = c->run[1].m.g;
    for (size_t v = 0; v < g->n_values; v++) {
        if (g->values[v].kind != PARE_VALUE_WEIGHT) continue;
        bool linear = false;
        for (size_t i = 0; i < lin->n; i++) linear |= lin->v[i].weight == (pare_value)v;
        pare_job_tensor *t = linear ? NULL : tensor_of(c, g, (pare_value)v);
        if (!t || t->pruned) continue; /* pruned and no linear: dropped from the plan below */
        if (recorded(c, 0, t)) {
            PARE_TRY(take(c, t, (pare_value)v, d));
            continue;
        }
        const pare_job_quality none = {.damping = -1}; /* not measured */
        void *out;
        PARE_TRY(room(c, t, &out, d));
        rows_work k = {.t = t, .src = pare_weights_rows(c->w, t->map->src), .out = out};
        pare_parallel(((size_t)t->rows + CHUNK - 1) / CHUNK, 1, encode_rows, &k);
        PARE_TRY(spread(out, stored_bytes(t), k.failed ? no_memory(d) : PARE_OK, d));
        pare_journal_seal(c->job->journal, &none);
        PARE_TRY(settle(c, t, (pare_value)v, out, d));
    }
    return PARE_OK;
}

/* A group's factor: inverse(H + damping) = u^T u, its columns in this order (NULL: as they are). */
typedef struct factor {
    float *u;
    uint32_t *order;
    double damping;
} factor;

static pare_status solve(calibration *c, const pare_linear *l, const pare_stats *s, const factor *f, const float *scale,
                         pare_diag *d) {
    pare_job_tensor *t = tensor_of(c, c->run[1].m.g, l->weight);
    if (!t) return PARE_OK;
    size_t rows = (size_t)t->rows, n = (size_t)t->cols;
    float *w = pare_malloc(rows * n * sizeof *w), *target = pare_malloc(rows * n * sizeof *target);
    void *out;
    pare_status st = w && target ? room(c, t, &out, d) : no_memory(d);
    if (st == PARE_OK) {
        rows_work k = {.t = t, .src = pare_weights_rows(c->w, t->map->src), .w = w};
        pare_parallel((rows + CHUNK - 1) / CHUNK, 1, decode_rows, &k);
        if (t->pruned) st = pare_job_prune_layer(c->job, t, l->name, w, s, f->u, out, d);
    }
    if (st == PARE_OK && !t->pruned) {
        memcpy(target, w, rows * n * sizeof *w);
        pare_method_layer layer = {.type = t->to,
                                   .rows = rows,
                                   .n = n,
                                   .w = w,
                                   .s = s,
                                   .scale = scale,
                                   .u = f->u,
                                   .order = f->order,
                                   .damping = f->damping,
                                   .passes = c->job->no_refine ? 0 : PASSES,
                                   .out = out,
                                   .target = target,
                                   .keep_zeros = c->job->keep_zeros};
        st = c->job->method->encode(&layer, d);
        if (st == PARE_OK) st = pare_calib_measure(&layer, &t->quality, d);
    }
    pare_free(w);
    pare_free(target);
    PARE_TRY(spread(&t->quality, sizeof t->quality, st, d));
    pare_team_broadcast(out, stored_bytes(t));
    t->quality.damping = t->pruned ? -1 : f->damping;
    t->measured = !t->pruned;
    pare_journal_seal(c->job->journal, &t->quality);
    return settle(c, t, l->weight, out, d);
}

static bool wants_factor(const pare_job *job) {
    return job->method ? job->method->factor : job->prune->criterion->needs & PARE_NEEDS_SWEEP;
}

/* ---- scales folded into the normalization before a group ---- */
static size_t fold_bytes(const pare_fold *f) { return (size_t)f->parts * f->n * sizeof(float); }

/* The method may scale this group's columns: all of its matrices are made here. */
static bool folds(const calibration *c, const pare_linear *l, size_t n, pare_fold *f) {
    if (!c->job->method || !c->job->method->scale) return false;
    for (size_t i = 0; i < n; i++)
        if (!tensor_of(c, c->run[1].m.g, l[i].weight)) return false;
    return pare_fold_find(c->job, c->run[1].m.g, l, n, f);
}

/* Weights of the group's layers, decoded; what the method makes of them into s. */
static pare_status choose_scales(calibration *c, const pare_linear *l, size_t n, const pare_stats *st, float *s,
                                 pare_diag *d) {
    pare_method_layer *layer = pare_calloc(n, sizeof *layer);
    pare_status status = layer ? PARE_OK : no_memory(d);
    for (size_t i = 0; status == PARE_OK && i < n; i++) {
        const pare_job_tensor *t = tensor_of(c, c->run[1].m.g, l[i].weight);
        size_t rows = (size_t)t->rows, cols = (size_t)t->cols;
        rows_work k = {.t = t,
                       .src = pare_weights_rows(c->w, t->map->src),
                       .w = pare_malloc(rows * cols * sizeof(float))};
        layer[i] = (pare_method_layer){.type = t->to, .rows = rows, .n = cols, .w = k.w, .s = st};
        if (k.w) pare_parallel((rows + CHUNK - 1) / CHUNK, 1, decode_rows, &k);
        else status = no_memory(d);
    }
    for (size_t j = 0; j < st->n; j++) s[j] = 1;
    if (status == PARE_OK) status = c->job->method->scale(layer, n, s, d);
    for (size_t i = 0; layer && i < n; i++) pare_free((float *)layer[i].w);
    pare_free(layer);
    return status;
}

/* *s: scales of the group's columns (pare_free), NULL where there are none. */
static pare_status fold(calibration *c, const pare_linear *l, size_t n, const pare_stats *st, float **s, pare_diag *d) {
    pare_fold f;
    void *values;
    if (!folds(c, l, n, &f)) return PARE_OK;
    if (!(*s = pare_malloc(f.n * sizeof **s))) return no_memory(d);
    PARE_TRY(choose_scales(c, l, n, st, *s, d));
    PARE_TRY(pare_journal_room(c->job->journal, f.tensor[0]->map->name, 0, fold_bytes(&f), &values, d));
    pare_fold_values(&f, c->run[1].m.g, *s, values);
    PARE_TRY(spread(values, fold_bytes(&f), PARE_OK, d));
    pare_team_broadcast(*s, f.n * sizeof **s);
    pare_journal_seal(c->job->journal, NULL);
    return pare_fold_settle(c->job, &f, c->run[1].e, c->run[1].m.g, values, d);
}

/* All matrices of a group that are to be made are in the journal (n of them). */
static bool recorded_all(const calibration *c, const pare_linear *l, size_t n, size_t *made) {
    size_t found = 0;
    pare_fold f;
    *made = 0;
    if (folds(c, l, n, &f))
        found += pare_journal_has(c->job->journal, (*made)++, f.tensor[0]->map->name, 0, fold_bytes(&f));
    for (size_t i = 0; i < n; i++) {
        const pare_job_tensor *t = tensor_of(c, c->run[1].m.g, l[i].weight);
        if (t) found += recorded(c, (*made)++, t);
    }
    return found == *made;
}

static pare_status take_all(calibration *c, const pare_linear *l, size_t n, pare_diag *d) {
    pare_fold f;
    if (folds(c, l, n, &f)) {
        float *values = pare_journal_take(c->job->journal, NULL, 0);
        PARE_TRY(pare_fold_settle(c->job, &f, c->run[1].e, c->run[1].m.g, values, d));
    }
    for (size_t i = 0; i < n; i++) {
        pare_job_tensor *t = tensor_of(c, c->run[1].m.g, l[i].weight);
        if (t) PARE_TRY(take(c, t, l[i].weight, d));
    }
    return PARE_OK;
}

/* Columns by energy when the method can take them so and the group's grids divide each other; false: out of memory. */
static bool order_for(const calibration *c, const pare_linear *l, size_t n, const pare_stats *s, uint32_t **order) {
    size_t least = s->n, most = 1;
    if (!c->job->method || !c->job->method->ordered) return true;
    for (size_t i = 0; i < n; i++) {
        const pare_job_tensor *t = tensor_of(c, c->run[1].m.g, l[i].weight);
        if (!t) continue;
        if (t->pruned || !t->to->grid) return true; /* patterns of zeros lie in the order of the file */
        size_t g = t->to->grid->group;
        if (!g) g = s->n;
        if (g < least) least = g;
        if (g > most) most = g;
    }
    if (most % least || s->n % most) return true;
    *order = pare_malloc(s->n * sizeof **order);
    return *order && pare_order_by_energy(s->n, s->h, least, most, *order);
}

static pare_status factor_of(const calibration *c, const pare_linear *l, size_t n, const pare_stats *s, factor *f,
                             pare_diag *d) {
    f->u = pare_malloc(s->n * s->n * sizeof *f->u);
    if (!f->u || !order_for(c, l, n, s, &f->order)) return no_memory(d);
    PARE_TRY(pare_inverse_factor_ordered(s->n, s->h, f->order, DAMPING, f->u, &f->damping, d));
    if (f->damping > DAMPING)
        pare_log(PARE_LOG_WARN, "%s: the second moments are nearly singular; damped by %g of their mean", l->name,
                 f->damping);
    return PARE_OK;
}

static pare_status group(void *ctx, const pare_linear *l, size_t n, const pare_stats *s, pare_diag *d) {
    calibration *c = ctx;
    factor f = {0};
    float *scale = NULL;
    pare_status st = PARE_OK;
    size_t made;
    if (s->f2) PARE_TRY(pare_job_imatrix_note(c->job, l, n, s, d));
    if (recorded_all(c, l, n, &made)) return take_all(c, l, n, d);
    if (wants_factor(c->job)) st = factor_of(c, l, n, s, &f, d);
    if (st == PARE_OK) st = fold(c, l, n, s, &scale, d);
    for (size_t i = 0; st == PARE_OK && i < n; i++) st = solve(c, &l[i], s, &f, scale, d);
    pare_free(f.u);
    pare_free(f.order);
    pare_free(scale);
    if (st != PARE_OK && d && !d->where[0]) snprintf(d->where, sizeof d->where, "%s", l->name);
    return st;
}

/* Nothing of the stages before is needed again soon: their pages leave the process. */
static void release(calibration *c) {
    pare_source *src = c->job->src;
    for (size_t i = 0; i < src->n_tensors; i++) {
        const pare_stored *t = &src->tensors[i];
        size_t rows = 1;
        for (int k = 0; k + 1 < t->ndim; k++) rows *= (size_t)t->shape[k];
        pare_source_release(src, t, 0, rows);
    }
    for (size_t i = 0; i < c->job->n; i++)
        if (c->job->t[i].encoded)
            pare_journal_release(c->job->journal, c->job->t[i].map->src->data, stored_bytes(&c->job->t[i]));
}

/* A group whose matrices are all in the journal is taken from there; else all are made (again). */
static bool wants(void *ctx, const pare_linear *l, size_t n) {
    calibration *c = ctx;
    size_t made;
    if (l->stage != c->stage) release(c), c->stage = l->stage, c->n_decided = 0;
    bool all = recorded_all(c, l, n, &made);
    if (c->job->save_imatrix) return true;
    if (all && made && c->resume == PARE_OK) c->resume = take_all(c, l, n, &c->resume_diag);
    return !all;
}

/* Rows learned by the whole stage, in the place of those that its groups were given. */
static pare_status learned(calibration *c, pare_rounded *r, void *rows, pare_diag *d) {
    uint64_t was = r->t->was_bytes;
    PARE_TRY(pare_job_adopt(c->job, r->t, rows, d));
    r->t->was_bytes = was, r->t->measured = false; /* what was measured were the first rows */
    return show(c, r->t, r->value, rows, d);
}

static pare_status stage(void *ctx, const pare_walk *w, int number, pare_diag *d) {
    calibration *c = ctx;
    const pare_job_quality none = {.damping = -1};
    size_t found = 0;
    if (number != c->stage || !c->n_decided) return PARE_OK;
    while (found < c->n_decided && recorded(c, found, c->decided[found].t)) found++;
    bool there = found == c->n_decided;
    pare_round_stage round = {.w = c->w,
                              .data = &c->data,
                              .walk = w,
                              .stage = number,
                              .keep_zeros = c->job->keep_zeros};
    round.n = c->n_decided, round.v = c->decided;
    pare_status s = there ? PARE_OK : pare_round_learn(&round, d);
    for (size_t i = 0; s == PARE_OK && i < c->n_decided; i++) {
        pare_rounded *r = &c->decided[i];
        pare_job_quality q;
        void *rows;
        if (there) rows = pare_journal_take(c->job->journal, &q, sizeof q);
        else if ((s = room(c, r->t, &rows, d)) == PARE_OK) {
            memcpy(rows, r->rows ? r->rows : r->t->map->src->data, stored_bytes(r->t));
            pare_journal_seal(c->job->journal, &none);
        }
        if (s == PARE_OK) s = learned(c, r, rows, d);
    }
    for (size_t i = 0; i < c->n_decided; i++) pare_free(c->decided[i].rows), c->decided[i].rows = NULL;
    return s;
}

static void progress(void *ctx, const char *what, double share) {
    calibration *c = ctx;
    pare_meter_step(&c->meter, what, (uint64_t)(share * 1000));
}

static pare_status open_models(calibration *c, const pare_arch *a, pare_diag *d) {
    PARE_TRY(pare_weights_open(c->job->src, a, &c->w, d));
    for (int k = 0; k < 2; k++) {
        PARE_TRY(pare_lm_run_open(c->w, 0, &(pare_exec_opts){0}, &c->run[k], d));
        PARE_TRY(pare_lm_run_shape(&c->run[k], c->w, c->data.batch, c->data.ctx, NULL, 0, d));
        const int64_t sym[PARE_SYM_COUNT] = {c->data.batch, c->data.ctx, c->run[k].table_rows};
        memcpy(c->sym[k], sym, sizeof sym);
    }
    return PARE_OK;
}

static pare_status walk(calibration *c, pare_diag *d) {
    pare_linears lin;
    bind_ctx ctx[2] = {{c, 0}, {c, 1}};
    PARE_TRY(pare_linears_find(c->run[1].m.g, &lin, d));
    pare_status s = round_rest(c, &lin, d);
    pare_linears_free(&lin);
    pare_walk_opts o = {.batches = c->data.batches,
                        .tokens_per_batch = (size_t)(c->data.batch * c->data.ctx),
                        .aside = c->job->method && c->job->method->rounds ? pare_round_held(c->data.batches) : 0,
                        .want = (c->job->method ? c->job->method->want : c->job->prune->criterion->want) |
                                (c->job->save_imatrix ? PARE_STATS_ORIGINAL : 0),
                        .budget_bytes = BUDGET,
                        .group = group,
                        .wants = wants,
                        .stage = c->job->method && c->job->method->rounds ? stage : NULL,
                        .progress = progress,
                        .ctx = c};
    for (int k = 0; k < 2; k++) {
        o.side[k] = (pare_walk_side){c->run[k].m.g, c->run[k].e, bind, (int)c->run[k].m.n_kv + 6, &ctx[k]};
        memcpy(o.sym[k], c->sym[k], sizeof o.sym[k]);
    }
    pare_meter_start(&c->meter, "calibrate", "", 1000);
    if (s == PARE_OK) s = pare_walk_run(&o, d);
    if (s == PARE_OK && c->resume != PARE_OK) {
        if (d) *d = c->resume_diag;
        s = c->resume;
    }
    return s;
}

void pare_job_unreached(pare_job_tensor *t) {
    t->pruned = false, t->sparsity = 0, t->fallback = true;
    snprintf(t->note, sizeof t->note, "not pruned: the model never multiplies by it");
    pare_log(PARE_LOG_WARN, "%s: not pruned: the model never multiplies by it", t->map->name);
}

static pare_status open_journal(calibration *c, pare_diag *d) {
    pare_job *job = c->job;
    pare_journal_key key;
    PARE_TRY(pare_calib_key(job, &c->data, &key, d));
    const char *at = job->journal_at ? job->journal_at : job->out_path;
    PARE_TRY(pare_team_same(pare_checksum(0, &key, sizeof key), "has another model, other options or data", d));
    pare_status s = PARE_OK;
    if (pare_team_rank() == 0) s = pare_journal_open(at, &key, job->force || job->journal_at, &job->journal, d);
    PARE_TRY(pare_team_agree(s, d));
    if (pare_team_size() > 1) PARE_TRY(pare_journal_share(&job->journal, d));
    size_t n = pare_journal_waiting(job->journal);
    if (n) pare_log(PARE_LOG_INFO, "going on after %zu matrices in %s", n, pare_journal_path(job->journal));
    return PARE_OK;
}

pare_status pare_job_calibrate(pare_job *job, pare_diag *d) {
    calibration c = {.job = job, .stage = -1};
    pare_arch a;
    if (job->method && job->method->rounds && pare_team_size() > 1)
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--method",
                         "%s learns in one process; leave mpirun out, or use gptq, whose windows can be shared",
                         job->method->name);
    PARE_TRY(pare_arch_read(job->src, &a, d));
    PARE_TRY(pare_arch_check(job->src, &a, d));
    pare_status s = pare_calib_data_open(job->src, &a, job->calib, job->calib_ctx, job->calib_windows, &c.data, d);
    if (s == PARE_OK) pare_log(PARE_LOG_INFO, "calibrating on %s", c.data.note);
    if (s == PARE_OK) s = open_journal(&c, d);
    if (s == PARE_OK && !(c.decided = pare_calloc(job->n + 1, sizeof *c.decided))) s = no_memory(d);
    if (s == PARE_OK) s = open_models(&c, &a, d);
    if (s == PARE_OK) s = walk(&c, d);
    if (s == PARE_OK && job->save_imatrix && pare_team_rank() == 0) s = pare_job_imatrix_save(job, &c.data, d);
    for (int k = 0; k < 2; k++) pare_lm_run_close(&c.run[k]);
    pare_free(c.decided);
    pare_weights_close(&c.w);
    pare_calib_data_free(&c.data);
    for (size_t i = 0; s == PARE_OK && i < job->n; i++) /* rows that are there already are only moved */
        if (job->t[i].encoded) job->t[i].from = job->t[i].to;
        else if (job->t[i].pruned) pare_job_unreached(&job->t[i]);
    return s;
}
