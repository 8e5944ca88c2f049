/* SPDX-License-Identifier: Apache-2.0
 *
 * Recordings. A run is remembered by its plan, its stage and the addresses it met; one that meets the same ones again
 * is recorded, and replayed from then on. The generation stands for the addresses that the executor chose (block,
 * workspace, weights, inputs), the bindings are compared one by one. */
#include "graph/exec_impl.h"

#include "core/status.h"

#include <string.h>

static void drop(pare_exec *e, pare_exec_record *r) {
    if (r->recording) e->be->recording_free(e->dev, r->recording);
    r->recording = NULL;
}

void pare_exec_forget(pare_exec *e, const pare_memplan *p) {
    for (pare_exec_record **at = &e->records; *at;) {
        pare_exec_record *r = *at;
        if (p && r->plan != p) {
            at = &r->next;
            continue;
        }
        *at = r->next;
        drop(e, r);
        pare_free(r->bound);
        pare_free(r);
    }
}

static pare_exec_record *find(pare_exec *e, int stage) {
    for (pare_exec_record *r = e->records; r; r = r->next)
        if (r->plan == e->plan && r->stage == stage) return r;
    pare_exec_record *r = pare_calloc(1, sizeof *r);
    if (!r) return NULL;
    *r = (pare_exec_record){.next = e->records, .plan = e->plan, .stage = stage};
    return e->records = r;
}

/* Whether this run meets what the last one left. Inputs are compared by where their copies lie. */
static bool same(const pare_exec *e, const pare_exec_record *r, const pare_binding *b, int n) {
    if (r->generation != e->generation || r->n_bound != n) return false;
    for (int i = 0; i < n; i++)
        if (r->bound[i].value != b[i].value || r->bound[i].data != e->bound[b[i].value]) return false;
    return true;
}

static pare_status remember(pare_exec *e, pare_exec_record *r, const pare_binding *b, int n) {
    if (n > r->n_bound) {
        pare_binding *p = pare_realloc(r->bound, (size_t)n * sizeof *p);
        if (!p) return PARE_ERR_NOMEM;
        r->bound = p;
    }
    for (int i = 0; i < n; i++) r->bound[i] = (pare_binding){b[i].value, e->bound[b[i].value]};
    r->n_bound = n;
    r->generation = e->generation;
    return PARE_OK;
}

/* Makes r->recording, or sets r->refused. */
static pare_status record(pare_exec *e, pare_exec_record *r, int first, int end, pare_diag *d) {
    void *made = NULL;
    if (e->be->record_begin(e->dev) != PARE_OK) {
        r->refused = true;
        return PARE_OK;
    }
    pare_status ran = pare_exec_run_nodes(e, first, end, NULL);
    pare_status ended = e->be->record_end(e->dev, &made);
    if (ran == PARE_OK && ended == PARE_OK) {
        r->recording = made;
        return PARE_OK;
    }
    if (ended == PARE_OK) e->be->recording_free(e->dev, made);
    if (pare_is_interrupted()) return pare_interrupted(d);
    r->refused = true;
    return PARE_OK;
}

pare_status pare_exec_run_recorded(pare_exec *e, int stage, int first, int end, const pare_binding *b, int n,
                                   pare_diag *d) {
    bool recordable = e->be->record_begin && !e->hook;
    for (int i = first; i < end && recordable && e->plan->n_fallbacks; i++) recordable = !e->plan->fallback[i];
    if (!recordable) return pare_exec_run_nodes(e, first, end, d);
    pare_exec_record *r = find(e, stage);
    if (!r) return pare_fail(d, PARE_ERR_NOMEM, NULL, NULL, "not enough memory for the executor");
    if (!same(e, r, b, n)) drop(e, r);
    else if (!r->recording && !r->refused && pare_exec_weights_resident(e, first, end))
        PARE_TRY(record(e, r, first, end, d));
    if (r->recording) {
        if (pare_is_interrupted()) return pare_interrupted(d);
        pare_status s = e->be->replay(e->dev, r->recording);
        return s == PARE_OK ? s : pare_fail(d, s, NULL, e->be->name, "repeating the recorded run failed");
    }
    PARE_TRY(pare_exec_run_nodes(e, first, end, d));
    if (remember(e, r, b, n) == PARE_OK) return PARE_OK;
    return pare_fail(d, PARE_ERR_NOMEM, NULL, NULL, "not enough memory for the executor");
}
