/* SPDX-License-Identifier: Apache-2.0
 *
 * Training that stays on a device with memory of its own: parameters, gradients and the optimizer's state. The host's
 * copies are those of the last fetch, which comes before a checkpoint and at the end. What is made of other arrays than
 * the graph's own (scales, codes, adapters), and several processes whose devices cannot exchange gradients, take the
 * host's way. */
#include "api/distill_resident.h"

#include "core/log.h"
#include "core/status.h"
#include "core/team.h"

#include <math.h>
#include <string.h>

static size_t runs_of(const pare_param *p) { return (p->n + PARE_UPDATE_RUN - 1) / PARE_UPDATE_RUN; }
static size_t mask_bytes(const pare_param *p) { return (p->n + 7) / 8; }

static bool can(const pare_distill_run *x) {
    if (!x->o.device || !pare_exec_trains(x->student.run.e)) return false;
    for (size_t i = 0; i < x->n_params; i++)
        if (x->student.scales[x->tensor[i]] || x->student.adapters[x->tensor[i]]) return false;
    return true;
}

/* A copy on the device; nothing where the host has none. *full: what is there did not fit. */
static pare_status place(pare_resident *r, const void *from, size_t bytes, void **to, bool *full, pare_diag *d) {
    if (!from || *full) return PARE_OK;
    *to = pare_exec_alloc(r->e, bytes);
    if (!*to) return *full = true, PARE_OK;
    r->bytes += bytes;
    return pare_exec_upload(r->e, *to, from, bytes, d);
}

static pare_status one(pare_distill_run *x, size_t i, bool *full, pare_diag *d) {
    pare_resident *r = x->resident;
    const pare_param *p = &x->param[i];
    pare_param *at = &r->at[i];
    size_t bytes = p->n * sizeof(float);
    pare_value v = pare_graph_weight_at(x->student.run.m.g, p->w);
    void *w = NULL;
    *at = (pare_param){.name = p->name, .n = p->n, .decay = p->decay};
    if (v < 0) return pare_fail(d, PARE_ERR_INTERNAL, NULL, p->name, "the graph does not read this parameter");
    if (*full) return PARE_OK;
    pare_diag why = {0};
    pare_status s = pare_exec_hold_weight(x->student.run.e, v, &w, &why);
    if (s == PARE_ERR_NOMEM) return *full = true, PARE_OK;
    if (s != PARE_OK) return pare_fail(d, s, why.file, why.where, "%s", why.text);
    at->w = w;
    PARE_TRY(place(r, p->m, bytes, (void **)&at->m, full, d));
    PARE_TRY(place(r, p->v, bytes, (void **)&at->v, full, d));
    PARE_TRY(place(r, p->ema, bytes, (void **)&at->ema, full, d));
    PARE_TRY(place(r, p->unit, bytes, (void **)&at->unit, full, d));
    PARE_TRY(place(r, p->mask, mask_bytes(p), (void **)&at->mask, full, d));
    return x->o.batch > x->o.micro ? place(r, p->w, bytes, (void **)&r->sum[i], full, d) : PARE_OK;
}

pare_status pare_resident_open(pare_distill_run *x, pare_diag *d) {
    bool full = false, joined = true;
    x->r->device_bytes = pare_exec_device_bytes(x->student.run.e);
    if (x->teacher.e) x->r->device_bytes += pare_exec_device_bytes(x->teacher.e);
    if (!can(x)) return PARE_OK;
    if (pare_team_size() > 1) PARE_TRY(pare_gather_join(x, &joined, d));
    if (!joined) return PARE_OK;
    pare_resident *r = x->resident = pare_calloc(1, sizeof *r);
    if (!r) return pare_fail(d, PARE_ERR_NOMEM, NULL, "training", "no memory for the list of parameters");
    r->e = x->student.run.e, r->n = x->n_params;
    r->at = pare_calloc(r->n + 1, sizeof *r->at);
    r->sum = pare_calloc(r->n + 1, sizeof *r->sum);
    for (size_t i = 0; i < r->n; i++) r->runs += runs_of(&x->param[i]);
    r->square_host = pare_calloc(r->runs + 1, sizeof *r->square_host);
    if (!r->at || !r->sum || !r->square_host)
        return pare_fail(d, PARE_ERR_NOMEM, NULL, "training", "no memory for the list of parameters");
    PARE_TRY(place(r, r->square_host, (r->runs + 1) * sizeof *r->square, (void **)&r->square, &full, d));
    for (size_t i = 0; i < r->n; i++) PARE_TRY(one(x, i, &full, d));
    PARE_TRY(pare_gather_room(r, &full, d));
    if (pare_team_size() > 1) PARE_TRY(pare_gather_any(full, &full, d));
    x->r->resident = !full;
    x->r->device_bytes += full ? 0 : r->bytes;
    if (!full) return PARE_OK;
    pare_log(PARE_LOG_INFO, "the optimizer's state does not fit beside the model on %s; it stays in the host's memory",
             x->o.device);
    pare_resident_close(x);
    return PARE_OK;
}

void pare_resident_close(pare_distill_run *x) {
    pare_resident *r = x->resident;
    if (!r) return;
    for (size_t i = 0; r->at && i < r->n; i++) {
        void *const all[] = {r->at[i].m,
                             r->at[i].v,
                             r->at[i].ema,
                             (void *)(uintptr_t)r->at[i].unit,
                             (void *)(uintptr_t)r->at[i].mask,
                             r->sum ? r->sum[i] : NULL};
        for (size_t k = 0; k < sizeof all / sizeof *all; k++) pare_exec_release(r->e, all[k]);
    }
    pare_exec_release(r->e, r->square);
    pare_exec_release(r->e, r->own);
    pare_exec_release(r->e, r->all);
    pare_free(r->square_host);
    pare_free(r->at);
    pare_free(r->sum);
    pare_free(r);
    x->resident = NULL;
}

static pare_status back(pare_resident *r, float *to, const float *from, size_t n, pare_diag *d) {
    return to ? pare_exec_download(r->e, to, from, n * sizeof *to, d) : PARE_OK;
}

pare_status pare_resident_fetch(pare_distill_run *x, pare_diag *d) {
    pare_resident *r = x->resident;
    for (size_t i = 0; r && i < r->n; i++) {
        const pare_param *p = &x->param[i], *at = &r->at[i];
        PARE_TRY(back(r, p->w, at->w, p->n, d));
        PARE_TRY(back(r, p->m, at->m, p->n, d));
        PARE_TRY(back(r, p->v, at->v, p->n, d));
        PARE_TRY(back(r, p->ema, at->ema, p->n, d));
    }
    return PARE_OK;
}

/* Gradients of a pass: where they are when it is the only one, else added. */
pare_status pare_resident_add(pare_distill_run *x, int64_t number, int64_t parts, pare_diag *d) {
    pare_resident *r = x->resident;
    if (pare_team_size() > 1) return pare_gather_add(x, number, parts, d);
    for (size_t i = 0; i < r->n; i++) {
        pare_update u = {.kind = PARE_UPDATE_ADD, .n = r->at[i].n, .mask = r->at[i].mask, .first = number == 0};
        r->at[i].g = u.g = pare_exec_value_at(r->e, x->grad[i]);
        if (!r->sum[i]) continue;
        r->at[i].g = u.sum = r->sum[i];
        PARE_TRY(pare_exec_update(r->e, &u, d));
    }
    return PARE_OK;
}

/* As pare_optim_norm. */
static pare_status norm_of(pare_resident *r, double *out, const pare_param **bad, pare_diag *d) {
    double total = 0;
    size_t run = 0;
    for (size_t i = 0; i < r->n; run += runs_of(&r->at[i]), i++) {
        pare_update u = {.kind = PARE_UPDATE_NORM, .n = r->at[i].n, .g = r->at[i].g, .mask = r->at[i].mask};
        u.square = r->square + run;
        PARE_TRY(pare_exec_update(r->e, &u, d));
    }
    PARE_TRY(pare_exec_download(r->e, r->square_host, r->square, r->runs * sizeof *r->square, d));
    *bad = NULL;
    run = 0;
    for (size_t i = 0; i < r->n; i++) {
        double own = 0;
        for (size_t end = run + runs_of(&r->at[i]); run < end; run++) own += r->square_host[run];
        if (!isfinite(own) && !*bad) *bad = &r->at[i];
        total += own;
    }
    *out = sqrt(total);
    return PARE_OK;
}

pare_status pare_resident_step(pare_distill_run *x, double loss, const double *terms, int n_terms, pare_diag *d) {
    pare_resident *r = x->resident;
    pare_trainer *t = &x->trainer;
    const pare_param *bad;
    double norm;
    PARE_TRY(norm_of(r, &norm, &bad, d));
    PARE_TRY(pare_trainer_check(t, loss, bad, d));
    for (size_t i = 0; i < r->n; i++) {
        pare_update u = pare_optim_update(&t->optim, t->done, norm, &r->at[i]);
        PARE_TRY(pare_exec_update(r->e, &u, d));
    }
    pare_trainer_note(t, norm, loss, terms, n_terms);
    return PARE_OK;
}
