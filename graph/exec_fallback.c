/* SPDX-License-Identifier: Apache-2.0
 *
 * Nodes that the backend cannot run and the CPU can. Operands are copied to host memory and results back, whole: a
 * state written in place is read and written like any other value. */
#include "graph/exec_impl.h"

#include "core/status.h"

static pare_status reserve(void **p, size_t *have, size_t want, pare_diag *d) {
    if (want <= *have) return PARE_OK;
    pare_free(*p);
    *have = 0;
    *p = pare_malloc_aligned(want);
    if (!*p) return pare_fail(d, PARE_ERR_NOMEM, NULL, NULL, "not enough memory for operators that run on the CPU");
    *have = want;
    return PARE_OK;
}

static void list(pare_exec *e, const char *name) {
    for (size_t i = 0; i < e->n_fallbacks; i++)
        if (e->fallbacks[i] == name) return; /* names are the graph's own: one pointer a node */
    e->fallbacks[e->n_fallbacks++] = name;
}

pare_status pare_exec_reserve_fallback(pare_exec *e, const pare_memplan *p, pare_diag *d) {
    if (!p->n_fallbacks) return PARE_OK;
    if (!e->fallbacks) e->fallbacks = pare_calloc(e->g->n_nodes, sizeof *e->fallbacks);
    if (!e->fallbacks) return pare_fail(d, PARE_ERR_NOMEM, NULL, NULL, "not enough memory for the executor");
    for (size_t i = 0; i < e->g->n_nodes; i++)
        if (p->fallback[i]) list(e, e->g->nodes[i].name);
    PARE_TRY(reserve(&e->staging, &e->staging_bytes, p->staging_bytes, d));
    return reserve(&e->cpu_workspace, &e->cpu_workspace_bytes, p->cpu_workspace_bytes, d);
}

void pare_exec_close_fallback(pare_exec *e) {
    pare_free(e->staging);
    pare_free(e->cpu_workspace);
    pare_free(e->fallbacks);
    if (e->cpu) e->cpu->close(e->cpu_dev);
}

static pare_status copied(const pare_exec *e, pare_status s, pare_diag *d) {
    return s == PARE_OK ? s : pare_fail(d, s, NULL, e->be->name, "copying for an operator that runs on the CPU failed");
}

pare_status pare_exec_run_fallback(pare_exec *e, const pare_op_call *call, pare_diag *d) {
    pare_tensor in[PARE_OP_MAX_IN], out[PARE_OP_MAX_OUT];
    pare_op_call c = *call;
    char *at = e->staging;
    PARE_TRY(copied(e, e->be->sync(e->dev), d));
    for (int k = 0; k < c.n_in; k++) {
        if (!c.in[k]) continue;
        in[k] = *call->in[k];
        c.in[k] = &in[k];
        if (c.host[k]) {
            in[k].data = (void *)(uintptr_t)c.host[k];
            continue;
        }
        size_t bytes = pare_tensor_bytes(&in[k]);
        in[k].data = at;
        at += pare_memplan_round(bytes);
        PARE_TRY(copied(e, e->be->download(e->dev, in[k].data, call->in[k]->data, bytes), d));
    }
    for (int k = 0; k < c.n_out; k++) {
        out[k] = *call->out[k];
        c.out[k] = &out[k];
        out[k].data = at;
        at += pare_memplan_round(pare_tensor_bytes(&out[k]));
    }
    c.workspace = e->cpu_workspace;
    c.workspace_bytes = e->cpu_workspace_bytes;
    PARE_TRY(e->cpu->run(e->cpu_dev, &c, d));
    for (int k = 0; k < c.n_out; k++)
        PARE_TRY(copied(e, e->be->upload(e->dev, call->out[k]->data, out[k].data, pare_tensor_bytes(&out[k])), d));
    return PARE_OK;
}

size_t pare_exec_fallbacks(const pare_exec *e, const char *const **names) {
    if (names) *names = e->fallbacks;
    return e->n_fallbacks;
}
