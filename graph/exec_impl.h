/* SPDX-License-Identifier: Apache-2.0
 *
 * The executor's state. */
#ifndef PARE_GRAPH_EXEC_IMPL_H
#define PARE_GRAPH_EXEC_IMPL_H

#include "graph/exec.h"
#include "graph/memplan.h"

struct pare_exec {
    pare_graph *g;
    const pare_backend *be;
    void *dev;
    bool opened;
    pare_act_round act;
    pare_node_hook *hook;
    void *hook_ctx;
    pare_memplan **plans, *plan; /* all, and the current one */
    size_t n_plans;
    uint64_t clock;
    void *block, *workspace; /* backend memory */
    size_t block_bytes, workspace_bytes;
    void **bound;  /* per value: memory bound for this run */
    void **mirror; /* per value: the backend's copy of a weight or input; unused when it has host memory */
    size_t *mirror_bytes;
    void **host;        /* per value: downloaded copy */
    pare_tensor result; /* what pare_exec_value hands out */
};

#endif
