/* SPDX-License-Identifier: Apache-2.0
 *
 * Parameters that stay on the backend: held weights, gradients where they were computed, updates of both there. */
#include "graph/exec_impl.h"

#include "core/status.h"

#include <assert.h>

bool pare_exec_trains(const pare_exec *e) { return !e->be->host_memory && e->be->update; }

void pare_exec_input_there(pare_exec *e, pare_value v) {
    assert(v >= 0 && e->g->values[v].kind == PARE_VALUE_INPUT);
    if (!e->be->host_memory) e->there[v] = true;
}

pare_status pare_exec_hold_weight(pare_exec *e, pare_value v, void **where, pare_diag *d) {
    assert(v >= 0 && e->g->values[v].kind == PARE_VALUE_WEIGHT && !e->be->host_memory);
    pare_value home = e->home[v];
    if (!e->mirror[home]) {
        e->in_use = 0; /* an error names the stage */
        pare_status s = pare_exec_upload_weight(e, home, d);
        e->in_use = -1;
        PARE_TRY(s);
    }
    e->held[home] = true;
    *where = e->mirror[home];
    return PARE_OK;
}

void *pare_exec_value_at(pare_exec *e, pare_value v) {
    assert(e->plan && v >= 0 && e->g->values[v].kind == PARE_VALUE_NODE);
    return pare_exec_address(e, v);
}

pare_status pare_exec_download(pare_exec *e, void *dst, const void *src, size_t bytes, pare_diag *d) {
    pare_status s = e->be->download(e->dev, dst, src, bytes);
    return s == PARE_OK ? s : pare_fail(d, s, NULL, e->be->name, "copying from the device failed");
}

pare_status pare_exec_update(pare_exec *e, const pare_update *u, pare_diag *d) {
    pare_status s = e->be->update(e->dev, u);
    return s == PARE_OK ? s : pare_fail(d, s, NULL, e->be->name, "a step of the optimizer failed on the device");
}

pare_status pare_exec_team_ready(pare_exec *e, pare_diag *d) {
    if (!e->be->team_gather)
        return pare_fail(d, PARE_ERR_DEVICE, NULL, e->be->name, "it does not exchange gradients by itself");
    return e->be->team_ready(e->dev, d);
}

pare_status pare_exec_team_id(pare_exec *e, void *id, pare_diag *d) { return e->be->team_id(e->dev, id, d); }

pare_status pare_exec_team_join(pare_exec *e, const void *id, int rank, int size, pare_diag *d) {
    return e->be->team_join(e->dev, id, rank, size, d);
}

pare_status pare_exec_team_gather(pare_exec *e, const void *own, void *all, size_t bytes, pare_diag *d) {
    pare_status s = e->be->team_gather(e->dev, own, all, bytes);
    return s == PARE_OK ? s : pare_fail(d, s, NULL, e->be->name, "gradients cannot be exchanged");
}
