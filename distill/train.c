/* SPDX-License-Identifier: Apache-2.0
 *
 * State and steps. */
#include "distill/train.h"

#include "core/alloc.h"
#include "core/status.h"
#include "core/threads.h"

#include <math.h>
#include <string.h>

static pare_status check(const pare_optim *o, pare_diag *d) {
    const char *where = NULL;
    if (o->steps < 1) where = "--steps";
    else if (!(o->rate > 0 && isfinite(o->rate))) where = "--lr";
    else if (o->warmup < 0 || o->warmup >= o->steps) where = "--warmup";
    else if (!(o->min_rate >= 0 && o->min_rate <= 1)) where = "--min-lr";
    else if (!(o->decay >= 0 && isfinite(o->decay))) where = "--weight-decay";
    else if (!(o->clip >= 0)) where = "--clip";
    else if (!(o->ema >= 0 && o->ema < 1)) where = "--ema";
    else if (!(o->beta1 >= 0 && o->beta1 < 1 && o->beta2 >= 0 && o->beta2 < 1)) where = "--betas";
    else if (!(o->momentum >= 0 && o->momentum < 1)) where = "--momentum";
    return where ? pare_fail(d, PARE_ERR_USAGE, NULL, where, "this value is outside of what training can use")
                 : PARE_OK;
}

pare_status pare_trainer_open(const pare_optim *o, pare_param *p, size_t n, pare_trainer *t, pare_diag *d) {
    *t = (pare_trainer){.optim = *o, .p = p, .n = n};
    PARE_TRY(check(o, d));
    size_t all = 0, copies = 2 + (size_t)(o->kind == PARE_ADAMW) + (o->ema > 0);
    for (size_t i = 0; i < n; i++) all += p[i].n;
    t->memory = pare_calloc(all ? all : 1, copies * sizeof *t->memory);
    t->sum = pare_calloc(n + 1, sizeof *t->sum);
    t->curve = pare_calloc((size_t)o->steps * PARE_CURVE, sizeof *t->curve);
    if (!t->memory || !t->sum || !t->curve) {
        pare_trainer_close(t);
        return pare_fail(d, PARE_ERR_NOMEM, NULL, "training",
                         "%zu bytes for gradients and the optimizer's state do not fit into memory",
                         all * copies * sizeof *t->memory);
    }
    float *at = t->memory;
    for (size_t i = 0; i < n; i++) {
        t->sum[i] = at, at += p[i].n;
        p[i].v = at, at += p[i].n;
        p[i].m = o->kind == PARE_ADAMW ? at : NULL, at += o->kind == PARE_ADAMW ? p[i].n : 0;
        p[i].ema = o->ema > 0 ? at : NULL, at += o->ema > 0 ? p[i].n : 0;
        if (p[i].ema) memcpy(p[i].ema, p[i].w, p[i].n * sizeof *at);
        p[i].g = t->sum[i];
    }
    return PARE_OK;
}

void pare_trainer_close(pare_trainer *t) {
    pare_free(t->memory);
    pare_free(t->sum);
    pare_free(t->curve);
    memset(t, 0, sizeof *t);
}

#define RUN 65536

typedef struct add_job {
    const float *g;
    float *sum;
    const uint8_t *mask;
    size_t n;
    bool first;
} add_job;

static void add_item(void *ctx, size_t item) {
    const add_job *j = ctx;
    size_t at = item * RUN, end = j->n - at < RUN ? j->n : at + RUN;
    if (j->first) memcpy(j->sum + at, j->g + at, (end - at) * sizeof *j->g);
    else
        for (size_t i = at; i < end; i++) j->sum[i] += j->g[i];
    if (j->mask)
        for (size_t i = at; i < end; i++)
            if (j->mask[i / 8] >> (i % 8) & 1) j->sum[i] = 0;
}

void pare_trainer_add(pare_trainer *t, bool first, const float *const *grad) {
    for (size_t i = 0; i < t->n; i++) {
        add_job j = {grad[i], t->sum[i], t->p[i].mask, t->p[i].n, first};
        pare_parallel((j.n + RUN - 1) / RUN, 1, add_item, &j);
    }
}

static void hide_item(void *ctx, size_t item) {
    const pare_param *p = ctx;
    float *sum = (float *)(uintptr_t)p->g;
    for (size_t i = item * RUN; i < p->n && i < (item + 1) * RUN; i++)
        if (p->mask[i / 8] >> (i % 8) & 1) sum[i] = 0;
}

void pare_trainer_hide(pare_trainer *t) {
    for (size_t i = 0; i < t->n; i++)
        if (t->p[i].mask) pare_parallel((t->p[i].n + RUN - 1) / RUN, 1, hide_item, &t->p[i]);
}

pare_status pare_trainer_check(const pare_trainer *t, double loss, const pare_param *bad, pare_diag *d) {
    if (isfinite(loss) && !bad) return PARE_OK;
    return pare_fail(d, PARE_ERR_INPUT, NULL, bad ? bad->name : "loss",
                     "at step %lld the %s is not finite; train with a lower --lr, or look at the data",
                     (long long)t->done + 1, bad ? "gradient" : "loss");
}

void pare_trainer_note(pare_trainer *t, double norm, double loss, const double *terms, int n_terms) {
    double *row = t->curve + t->done * PARE_CURVE;
    row[0] = pare_optim_rate(&t->optim, t->done), row[1] = norm, row[2] = loss;
    for (int i = 0; i < n_terms && i < PARE_CURVE - 3; i++) row[3 + i] = terms[i];
    t->done++;
}

pare_status pare_trainer_step(pare_trainer *t, double loss, const double *terms, int n_terms, pare_diag *d) {
    const pare_param *bad;
    double norm = pare_optim_norm(t->p, t->n, &bad);
    PARE_TRY(pare_trainer_check(t, loss, bad, d));
    pare_optim_step(&t->optim, t->done, norm, t->p, t->n);
    pare_trainer_note(t, norm, loss, terms, n_terms);
    return PARE_OK;
}
