/* SPDX-License-Identifier: Apache-2.0
 *
 * Gradients from device to device. Each process gathers what all have and adds it up itself, in the order of the parts
 * of a step: twice the bytes of a ring's sum where there are more than two, but the bits of one process, and every
 * process can then take the optimizer's step without hearing of the others. */
#include "api/distill_resident.h"

#include "core/log.h"
#include "core/status.h"
#include "core/team.h"

#include <string.h>

#define AT_ONCE ((size_t)1 << 22) /* floats that a process gives at once; a multiple of 8, as masks are cut there */

pare_status pare_gather_any(bool own, bool *any, pare_diag *d) {
    double mine = own, sum = 0;
    PARE_TRY(pare_team_agree(PARE_OK, d));
    pare_team_sum_f64(&mine, 1, pare_team_size(), &sum);
    *any = sum > 0;
    return PARE_OK;
}

/* All processes must have what they need before one of them waits for the others. */
pare_status pare_gather_join(pare_distill_run *x, bool *joined, pare_diag *d) {
    pare_exec *e = x->student.run.e;
    pare_diag why = {0};
    char id[PARE_TEAM_ID] = "";
    bool missing, failed;
    *joined = false;
    bool ready = pare_exec_team_ready(e, &why) == PARE_OK;
    if (ready && pare_team_rank() == 0) ready = pare_exec_team_id(e, id, &why) == PARE_OK;
    PARE_TRY(pare_gather_any(!ready, &missing, d));
    if (!missing) {
        pare_team_broadcast(id, sizeof id);
        pare_status s = pare_exec_team_join(e, id, pare_team_rank(), pare_team_size(), &why);
        PARE_TRY(pare_gather_any(s != PARE_OK, &failed, d));
        *joined = !failed;
    }
    if (pare_team_rank() == 0 && !*joined)
        pare_log(PARE_LOG_INFO, "gradients go through the host's memory: %s",
                 why.text[0] ? why.text : "another process cannot exchange them on its device");
    else if (pare_team_rank() == 0)
        pare_log(PARE_LOG_INFO, "gradients go from device to device (%d processes)", pare_team_size());
    return PARE_OK;
}

pare_status pare_gather_room(pare_resident *r, bool *full, pare_diag *d) {
    size_t total = 0, size = (size_t)pare_team_size();
    (void)d;
    if (size == 1 || *full) return PARE_OK;
    for (size_t i = 0; i < r->n; i++) total += (r->at[i].n + 7) / 8 * 8;
    r->room = total < AT_ONCE ? total : AT_ONCE;
    r->own = pare_exec_alloc(r->e, r->room * sizeof *r->own);
    r->all = pare_exec_alloc(r->e, r->room * size * sizeof *r->all);
    *full = !r->own || !r->all;
    r->bytes += r->room * (size + 1) * sizeof *r->own;
    return PARE_OK;
}

/* A stretch of one parameter in what is exchanged at once. */
typedef struct piece {
    size_t param, from, n, at; /* elements; at: in own */
} piece;

static pare_status copy(pare_resident *r, const piece *p, const float *g, const float *to, bool first, pare_diag *d) {
    const uint8_t *mask = r->at[p->param].mask;
    pare_update u = {.kind = PARE_UPDATE_ADD, .n = p->n, .g = g, .first = first};
    u.sum = (float *)(uintptr_t)to;
    u.mask = mask ? mask + p->from / 8 : NULL;
    return pare_exec_update(r->e, &u, d);
}

/* Pieces that fill own are gathered and added to the sums. */
static pare_status exchange(pare_resident *r, const piece *p, size_t n, size_t used, int present, bool first,
                            pare_diag *d) {
    PARE_TRY(pare_exec_team_gather(r->e, r->own, r->all, used * sizeof *r->own, d));
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < (size_t)present; k++)
            PARE_TRY(copy(r, &p[i], r->all + k * used + p[i].at, r->sum[p[i].param] + p[i].from, first && k == 0, d));
    return PARE_OK;
}

pare_status pare_gather_add(pare_distill_run *x, int64_t number, int64_t parts, pare_diag *d) {
    enum { PIECES = 256 };
    pare_resident *r = x->resident;
    int64_t first = number - pare_team_rank(), left = parts - first;
    int present = (int)(left < pare_team_size() ? left : pare_team_size());
    piece list[PIECES];
    size_t n = 0, used = 0;
    PARE_TRY(pare_team_agree(PARE_OK, d));
    for (size_t i = 0; i < r->n; i++) {
        const float *g = number < parts ? pare_exec_value_at(r->e, x->grad[i]) : NULL;
        r->at[i].g = r->sum[i];
        for (size_t from = 0, m; from < r->at[i].n; from += m) {
            if (used == r->room || n == PIECES) {
                PARE_TRY(exchange(r, list, n, used, present, first == 0, d));
                n = used = 0;
            }
            m = r->at[i].n - from < r->room - used ? r->at[i].n - from : r->room - used;
            list[n] = (piece){i, from, m, used};
            if (g) PARE_TRY(copy(r, &list[n], g + from, r->own + used, true, d));
            n++, used += (m + 7) / 8 * 8;
        }
    }
    return n ? exchange(r, list, n, used, present, first == 0, d) : PARE_OK;
}
