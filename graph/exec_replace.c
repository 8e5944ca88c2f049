/* SPDX-License-Identifier: Apache-2.0
 *
 * Changing a weight under an executor, for passes that reduce a model while it runs. */
#include "graph/exec_impl.h"

#include <assert.h>

void pare_exec_replace_weight(pare_exec *e, pare_value v, const pare_tensor *t) {
    assert(v >= 0 && e->g->values[v].kind == PARE_VALUE_WEIGHT);
    pare_exec_forget(e, NULL);
    for (size_t i = 0; i < e->n_plans; i++) pare_memplan_free(&e->plans[i]);
    e->n_plans = 0;
    e->plan = NULL;
    if (e->mirror && e->mirror[v]) {
        e->be->release(e->dev, e->mirror[v]);
        e->weights -= e->mirror_bytes[v];
        e->mirror[v] = NULL;
        e->mirror_bytes[v] = 0;
    }
    if (e->home) e->home[v] = v;
    e->generation++;
    e->g->values[v].tensor = *t;
}
