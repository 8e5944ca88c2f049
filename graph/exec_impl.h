/* SPDX-License-Identifier: Apache-2.0
 *
 * The executor's state, and what its parts offer one another. */
#ifndef PARE_GRAPH_EXEC_IMPL_H
#define PARE_GRAPH_EXEC_IMPL_H

#include "graph/exec.h"
#include "graph/memplan.h"

/* What is known of the last run of one stage (-1: all) with one plan, and the recording made of it. */
typedef struct pare_exec_record {
    struct pare_exec_record *next;
    const pare_memplan *plan;
    int stage;
    pare_binding *bound; /* backend addresses */
    int n_bound;
    uint64_t generation; /* the executor's after that run; 0 = none yet */
    void *recording;     /* the backend's, or NULL */
    bool refused;        /* recording failed once: not tried again */
} pare_exec_record;

struct pare_exec {
    pare_graph *g;
    const pare_backend *be;
    void *dev;
    bool opened;
    pare_act_round act;
    bool bf16;
    pare_node_hook *hook;
    void *hook_ctx;
    pare_memplan **plans, *plan; /* all, and the current one */
    size_t n_plans;
    uint64_t clock;
    void *block, *workspace; /* backend memory */
    size_t block_bytes, workspace_bytes;
    void **bound;        /* per value: memory bound for this run */
    void **host;         /* per value: downloaded copy */
    size_t *host_bytes;  /* its room */
    pare_tensor result;  /* what pare_exec_value hands out */
    uint64_t generation; /* counts changes of what lies where in backend memory */

    /* backends with memory of their own only */
    const pare_backend *cpu; /* runs what the backend does not; NULL when the backend has host memory */
    void *cpu_dev;
    void **mirror; /* per value: the backend's copy of a weight or input */
    size_t *mirror_bytes;
    pare_value *home;      /* per weight: the first one of the same bytes, whose mirror serves both */
    int *next_use, in_use; /* per weight: stages until its next use; the stage that is running, or -1 */
    bool *held, *there;    /* per weight: makes no room; per input: bound to the backend's memory */
    bool streamed;         /* weights had to make room */
    size_t weights, leave; /* bytes of weights there now; of memory that weights do not take */
    void *staging, *cpu_workspace;
    size_t staging_bytes, cpu_workspace_bytes;
    const char **fallbacks; /* names of nodes that plans left to the CPU */
    size_t n_fallbacks;
    pare_exec_record *records;
};

/* exec.c: where v lives in this run; NULL for an input or state that was not bound. */
void *pare_exec_address(const pare_exec *e, pare_value v);
/* nodes first .. end-1, not waited for. */
pare_status pare_exec_run_nodes(pare_exec *e, int first, int end, pare_diag *d);

/* exec_weights.c: backend memory of a value is e->mirror[e->home[v]] for weights, e->mirror[v] for inputs. */
pare_status pare_exec_open_weights(pare_exec *e);
void pare_exec_close_weights(pare_exec *e);
/* Backend memory, for which weights of other stages make room; NULL when it does not fit all the same. */
void *pare_exec_take(pare_exec *e, size_t bytes);
/* Weights of the stage of node i, for its nodes i .. end-1. fails: PARE_ERR_NOMEM when they alone do not fit. */
pare_status pare_exec_stage_weights(pare_exec *e, int i, int end, pare_diag *d);
/* The backend's copy of weight v, a home, is there from then on. */
pare_status pare_exec_upload_weight(pare_exec *e, pare_value v, pare_diag *d);
bool pare_exec_weights_resident(const pare_exec *e, int first, int end);

/* exec_fallback.c: host memory for the plan's fallback nodes; one such node, call holding backend addresses. */
pare_status pare_exec_reserve_fallback(pare_exec *e, const pare_memplan *p, pare_diag *d);
pare_status pare_exec_run_fallback(pare_exec *e, const pare_op_call *call, pare_diag *d);
void pare_exec_close_fallback(pare_exec *e);

/* exec_record.c: pare_exec_run_nodes, recorded or replayed where that can be. */
pare_status pare_exec_run_recorded(pare_exec *e, int stage, int first, int end, const pare_binding *b, int n,
                                   pare_diag *d);
void pare_exec_forget(pare_exec *e, const pare_memplan *p); /* records of a plan; NULL: all */

#endif
