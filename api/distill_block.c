/* SPDX-License-Identifier: Apache-2.0
 *
 * One layer of the student learns (api/distill_blocks.h): its tensors become masters, its graph alone gets a loss and
 * gradients, the trainer runs, and the result goes to the journal. A layer that is there already is taken from it: all
 * else happens in the same way, so that what follows has the same bytes. */
#include "api/distill.h"

#include "core/status.h"
#include "core/team.h"
#include "formats/checksum.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

const char *pare_blocks_name(const pare_distill_run *x) { return x->blocks->name; }

bool pare_blocks_trains(const pare_distill_run *x, size_t i) { return x->student.layer[i] == x->blocks->layer; }

static pare_status no_memory(pare_diag *d) {
    return pare_fail(d, PARE_ERR_NOMEM, NULL, "--blockwise", "not enough memory for one layer");
}

/* ---- the graph ---- */

static pare_status add_loss(pare_distill_run *x, pare_diag *d) {
    pare_blocks *b = x->blocks;
    pare_graph *g = x->student.run.m.g;
    int64_t dim = x->teacher_arch.dim;
    const int64_t rows[] = {PARE_SYM_BATCH, PARE_SYM_SEQ, dim}, tokens[] = {PARE_SYM_BATCH, PARE_SYM_SEQ, 1};
    pare_value term[2];
    float weight[2];
    int n = 0;
    b->aim = pare_graph_input(g, "target", &pare_qtype_f32, 3, rows);
    b->each = pare_graph_input(g, "target.weight", &pare_qtype_f32, 3, tokens);
    x->scale = pare_graph_input(g, "loss.scale", &pare_qtype_f32, 0, NULL);
    for (int t = 0; t < PARE_TERMS; t++) {
        x->term[t] = PARE_NO_VALUE;
        if (!(x->weight[t] > 0)) continue;
        x->term[t] = t == PARE_TERM_HIDDEN ? pare_loss_mse_rows(g, b->to, b->aim, dim, b->each)
                                           : pare_loss_cosine(g, b->to, b->aim);
        pare_graph_mark_output(g, x->term[t]);
        term[n] = x->term[t], weight[n++] = x->weight[t];
    }
    x->loss = pare_loss_total(g, n, term, weight, x->scale);
    pare_graph_mark_output(g, x->loss);
    return pare_graph_status(g, d);
}

static pare_status open_block(pare_distill_run *x, pare_diag *d) {
    pare_blocks *b = x->blocks;
    for (size_t i = 0; i < x->student.n; i++)
        if (pare_blocks_trains(x, i)) PARE_TRY(pare_student_hold(x, i, d));
    PARE_TRY(pare_stage_open(x->student.w, b->layer + 1, &x->student.run, &b->from, &b->to, d));
    PARE_TRY(add_loss(x, d));
    PARE_TRY(pare_distill_gradients(x, d));
    PARE_TRY(pare_stage_start(x, x->student.w, &x->student.run, d));
    pare_stage_release(x->student.job->src, &x->student.arch, b->layer);
    b->rows = pare_calloc(x->n_params + 1, sizeof *b->rows);
    return b->rows ? PARE_OK : no_memory(d);
}

static void close_block(pare_distill_run *x) {
    pare_blocks *b = x->blocks;
    pare_resident_close(x);
    pare_lm_run_close(&x->student.run);
    pare_trainer_close(&x->trainer);
    for (size_t i = 0; b->rows && i < x->n_params; i++)
        if (b->rows[i]) {
            pare_student_release(&x->student, x->tensor[i], b->rows[i]);
            pare_journal_release(b->journal, b->rows[i], x->student.tensors[x->tensor[i]].bytes);
        }
    pare_free(b->rows);
    b->rows = NULL;
    pare_distill_forget(x);
}

/* ---- a pass ---- */

/* One over the mean square of each row. */
static void weights(const float *t, size_t rows, size_t dim, float *out) {
    for (size_t i = 0; i < rows; i++) {
        double sum = 0;
        for (size_t k = 0; k < dim; k++) sum += (double)t[i * dim + k] * (double)t[i * dim + k];
        out[i] = sum > 0 ? (float)((double)dim / sum) : 1.0F;
    }
}

pare_status pare_blocks_inputs(pare_distill_run *x, const int64_t *window, int *n_bindings, pare_diag *d) {
    pare_blocks *b = x->blocks;
    size_t each = b->in.each, micro = (size_t)x->o.micro, rows = micro * (size_t)x->o.ctx;
    for (size_t i = 0; i < micro; i++) {
        int64_t at = b->slot[window[i]];
        if (at < 0) return pare_fail(d, PARE_ERR_INTERNAL, NULL, b->name, "a window has no activations");
        memcpy(b->x + i * each, pare_kept_at(&b->in, (size_t)at), each * sizeof(float));
        memcpy(b->y + i * each, pare_kept_at(&b->target, (size_t)at), each * sizeof(float));
        pare_kept_release(&b->in, (size_t)at);
        pare_kept_release(&b->target, (size_t)at);
    }
    weights(b->y, rows, micro * each / rows, b->weight);
    int n = pare_lm_run_bindings(&x->student.run, x->ids, x->bind);
    x->bind[n++] = (pare_binding){b->from, b->x};
    x->bind[n++] = (pare_binding){b->aim, b->y};
    x->bind[n++] = (pare_binding){b->each, b->weight};
    x->bind[n++] = (pare_binding){x->scale, &x->scale_at};
    *n_bindings = n;
    return PARE_OK;
}

/* ---- what is kept of it ---- */

/* The record behind a layer's tensors: its curve. */
static void record_name(int layer, char name[32]) { snprintf(name, 32, "layer %d", layer); }

static bool recorded(const pare_distill_run *x) {
    const pare_blocks *b = x->blocks;
    char name[32];
    size_t ahead = 0;
    for (size_t i = 0; i < x->n_params; i++) {
        const void *rows;
        if (x->second[i]) continue;
        size_t bytes = pare_student_rows(&x->student, x->tensor[i], &rows);
        if (!pare_journal_has(b->journal, ahead++, x->student.tensors[x->tensor[i]].name, 0, bytes)) return false;
    }
    record_name(b->layer, name);
    return pare_journal_has(b->journal, ahead, name, 0, (size_t)x->o.steps * PARE_CURVE * sizeof(double));
}

static void take(pare_distill_run *x, double *curve) {
    pare_blocks *b = x->blocks;
    for (size_t i = 0; i < x->n_params; i++) {
        if (x->second[i]) continue;
        b->rows[i] = pare_journal_take(b->journal, NULL, 0);
        pare_student_take(&x->student, x->tensor[i], b->rows[i]);
    }
    memcpy(curve, pare_journal_take(b->journal, NULL, 0), (size_t)x->o.steps * PARE_CURVE * sizeof *curve);
    x->r->resumed_from += x->o.steps;
}

/* The checkpoint of its training goes before the last record makes it superfluous: a run that ends in between trains
 * the layer again. */
static pare_status put(pare_distill_run *x, const double *curve, pare_diag *d) {
    pare_blocks *b = x->blocks;
    char name[32];
    size_t bytes = (size_t)x->o.steps * PARE_CURVE * sizeof *curve;
    void *room;
    for (size_t i = 0; i < x->n_params; i++) {
        const void *rows;
        if (x->second[i]) continue;
        size_t n = pare_student_rows(&x->student, x->tensor[i], &rows);
        PARE_TRY(pare_journal_room(b->journal, x->student.tensors[x->tensor[i]].name, 0, n, &room, d));
        memcpy(room, rows, n);
        pare_journal_seal(b->journal, NULL);
        b->rows[i] = room;
    }
    record_name(b->layer, name);
    PARE_TRY(pare_journal_room(b->journal, name, 0, bytes, &room, d));
    memcpy(room, curve, bytes);
    if (pare_team_rank() == 0) unlink(x->kept);
    pare_journal_seal(b->journal, NULL);
    return PARE_OK;
}

/* ---- learning ---- */

static pare_status train(pare_distill_run *x, double *curve, pare_diag *d) {
    pare_blocks *b = x->blocks;
    bool found = false;
    PARE_TRY(pare_distill_open_trainer(x, d));
    uint64_t key = pare_distill_key(x);
    key = pare_checksum(key, &b->layer, sizeof b->layer);
    PARE_TRY(pare_distill_go_on(x, key, &found, d));
    if (found) PARE_TRY(pare_distill_refresh(x, d));
    if (found)
        pare_log(PARE_LOG_INFO, "%s: going on after step %lld (%s)", b->name, (long long)x->trainer.done, x->kept);
    x->r->resumed_from += x->trainer.done;
    PARE_TRY(pare_resident_open(x, d));
    pare_status s = pare_distill_train(x, key, &b->meter, b->done + x->trainer.done, d);
    if (s == PARE_ERR_INPUT && d) {
        const pare_diag why = *d;
        *d = (pare_diag){0};
        return pare_fail(d, s, NULL, why.where, "%s: %s", b->name, why.text);
    }
    PARE_TRY(s);
    PARE_TRY(pare_resident_fetch(x, d));
    pare_resident_close(x);
    b->done += x->o.steps;
    memcpy(curve, x->trainer.curve, (size_t)x->o.steps * PARE_CURVE * sizeof *curve);
    PARE_TRY(pare_distill_average(x, d));
    return PARE_OK;
}

static pare_status learn(pare_distill_run *x, double *curve, pare_distill_block *out, pare_diag *d) {
    pare_blocks *b = x->blocks;
    pare_lm_run *r = &x->student.run;
    bool last = b->layer + 1 == x->student.arch.layers;
    PARE_TRY(open_block(x, d));
    PARE_TRY(pare_stage_walk(x, r, b->from, b->to, &b->untaught, 0, b->held, &b->untaught, 0, NULL, 0, d));
    PARE_TRY(pare_stage_walk(x, r, b->from, b->to, &b->in, b->n, b->held, NULL, 0, &out->before, b->n, d));
    bool there = recorded(x);
    if (there) {
        take(x, curve);
        PARE_TRY(pare_distill_upload(x, d));
    } else PARE_TRY(train(x, curve, d));
    const pare_kept *held = b->teachers ? NULL : &b->in;
    PARE_TRY(pare_stage_walk(x, r, b->from, b->to, &b->in, b->n, b->held, held, b->n, &out->after, b->n, d));
    if (b->teachers)
        PARE_TRY(pare_stage_walk(x, r, b->from, b->to, &b->held_in, 0, b->held, &b->held_in, 0, NULL, 0, d));
    else if (!last) PARE_TRY(pare_stage_walk(x, r, b->from, b->to, &b->in, 0, b->n, &b->in, 0, NULL, 0, d));
    return there ? PARE_OK : put(x, curve, d);
}

pare_status pare_block_learn(pare_distill_run *x, pare_distill_text *t, int layer, pare_diag *d) {
    pare_blocks *b = x->blocks;
    b->layer = layer;
    snprintf(b->name, sizeof b->name, "layer %d of %lld", layer + 1, (long long)x->student.arch.layers);
    pare_status s = learn(x, t->curve + (int64_t)layer * x->o.steps * PARE_CURVE, &t->block[layer], d);
    close_block(x);
    return s;
}
