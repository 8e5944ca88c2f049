/* SPDX-License-Identifier: Apache-2.0
 *
 * Training on a device: masters and the optimizer's step stay in host memory, the passes run there. After a step the
 * device's copies of what was trained become the masters' new values, at the same addresses, so that a recorded pass
 * replays. */
#include "api/distill.h"

#include "core/log.h"
#include "core/status.h"
#include "graph/graph_impl.h"

pare_status pare_distill_device(const pare_distill_run *x, pare_exec_opts *out, pare_diag *d) {
    *out = (pare_exec_opts){.bf16 = x->bf16};
    return x->o.device ? pare_backend_find(x->o.device, &out->backend, d) : PARE_OK;
}

static bool trained(const pare_distill_run *x, const void *data) {
    for (size_t i = 0; i < x->n_params; i++)
        if (x->student.master[x->tensor[i]] == data) return true;
    return false;
}

pare_status pare_distill_upload(pare_distill_run *x, pare_diag *d) {
    const pare_graph *g = x->student.run.m.g;
    if (!x->o.device) return PARE_OK;
    for (size_t v = 0; v < g->n_values; v++)
        if (g->values[v].kind == PARE_VALUE_WEIGHT && trained(x, g->values[v].tensor.data))
            PARE_TRY(pare_exec_refresh_weight(x->student.run.e, (pare_value)v, d));
    return PARE_OK;
}

void pare_distill_tell_device(pare_distill_run *x) {
    const char *const *names;
    size_t n = x->o.device ? pare_exec_fallbacks(x->student.run.e, &names) : 0;
    if (n)
        pare_log(PARE_LOG_WARN, "%zu nodes of a pass cannot run on %s and run on the CPU (%s, ...): it will be slow", n,
                 x->o.device, names[0]);
}
