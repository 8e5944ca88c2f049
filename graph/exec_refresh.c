/* SPDX-License-Identifier: Apache-2.0
 *
 * Weights that have changed where they lie: training. Plans and recordings stay, since no address changes. */
#include "graph/exec_impl.h"

#include "core/status.h"

#include <assert.h>

pare_status pare_exec_refresh_weight(pare_exec *e, pare_value v, pare_diag *d) {
    assert(v >= 0 && e->g->values[v].kind == PARE_VALUE_WEIGHT);
    if (e->be->host_memory) return PARE_OK;
    const pare_tensor *w = &e->g->values[v].tensor;
    void *there = e->mirror[e->home[v]];
    if (!there) return PARE_OK; /* its next run uploads it */
    pare_status s = e->be->upload_weight ? e->be->upload_weight(e->dev, there, w, d)
                                         : e->be->upload(e->dev, there, w->data, pare_tensor_bytes(w));
    return s == PARE_OK ? s : pare_fail(d, s, NULL, e->g->values[v].name, "copying to the device failed");
}
