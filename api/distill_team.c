/* SPDX-License-Identifier: Apache-2.0
 *
 * Data-parallel training. The parts of a step (passes of --micro windows) go round the processes: part i is process
 * i mod n's. Gradients are added element by element in the order of parts, which is the order of one process, so that
 * the number of processes does not show in the bytes. All then take the same step. */
#include "api/distill.h"

#include "core/status.h"
#include "core/team.h"

pare_status pare_distill_passes(pare_distill_run *x, int64_t most, pare_diag *d) {
    int64_t size = pare_team_size(), batch = x->o.batch, micro = most, kept = 0;
    if (batch < size)
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--batch", "%lld windows of a step do not go round %lld processes",
                         (long long)batch, (long long)size);
    while (micro > 1 && (batch % micro || batch / micro % size)) micro--; /* equal shares */
    if (batch / micro % size)                                             /* there are none; at least one part each */
        for (micro = most; batch % micro || batch / micro < size;) micro--;
    x->o.micro = micro;
    PARE_TRY(pare_team_agree(PARE_OK, d));
    if (pare_team_rank() == 0 && x->kept && !x->o.force) kept = pare_trainer_micro(x->kept);
    pare_team_broadcast(&kept, sizeof kept);
    if (kept < 1 || kept > batch || batch % kept) return PARE_OK;
    if (batch / kept < size)
        return pare_fail(d, PARE_ERR_USAGE, x->kept, "mpirun",
                         "this run has steps of %lld passes (%lld windows each); at most %lld processes can go on with "
                         "it",
                         (long long)(batch / kept), (long long)kept, (long long)(batch / kept));
    x->o.micro = kept;
    return PARE_OK;
}

pare_status pare_distill_add(pare_distill_run *x, int64_t number, int64_t parts, const float *const *grad,
                             pare_diag *d) {
    pare_trainer *t = &x->trainer;
    int64_t size = pare_team_size(), first = number - pare_team_rank();
    if (size == 1) return pare_trainer_add(t, number == 0, grad), PARE_OK;
    size_t *n = pare_malloc((t->n + 1) * sizeof *n);
    pare_status s = n ? PARE_OK : pare_fail(d, PARE_ERR_NOMEM, NULL, "training", "no memory for a list");
    s = pare_team_agree(s, d);
    for (size_t i = 0; s == PARE_OK && i < t->n; i++) n[i] = t->p[i].n;
    if (s == PARE_OK)
        pare_team_add(t->sum, grad, n, t->n, (int)(parts - first < size ? parts - first : size), first == 0);
    if (s == PARE_OK && first + size >= parts) {
        pare_team_share(t->sum, n, t->n);
        pare_trainer_hide(t);
    }
    pare_free(n);
    return s;
}

pare_status pare_distill_spread(pare_distill_run *x, pare_status loaded, bool *found, pare_diag *d) {
    pare_trainer *t = &x->trainer;
    int64_t done = *found ? t->done : -1;
    PARE_TRY(pare_team_agree(loaded, d));
    pare_team_broadcast(&done, sizeof done);
    if (done < 0) return PARE_OK;
    *found = true;
    t->done = done;
    pare_team_broadcast(t->curve, (size_t)done * PARE_CURVE * sizeof *t->curve);
    for (size_t i = 0; i < t->n; i++) {
        float *const all[] = {t->p[i].w, t->p[i].m, t->p[i].v, t->p[i].ema};
        for (size_t k = 0; k < sizeof all / sizeof *all; k++)
            if (all[k]) pare_team_broadcast(all[k], t->p[i].n * sizeof *all[k]);
    }
    return PARE_OK;
}
