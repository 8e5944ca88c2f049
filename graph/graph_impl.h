/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside view of a graph, for the planner and the executor. */
#ifndef PARE_GRAPH_GRAPH_IMPL_H
#define PARE_GRAPH_GRAPH_IMPL_H

#include "core/alloc.h"
#include "graph/graph.h"

typedef enum pare_value_kind {
    PARE_VALUE_INPUT,  /* bound at run time, host memory */
    PARE_VALUE_STATE,  /* bound at run time, device memory; may be updated in place */
    PARE_VALUE_WEIGHT, /* constant: tensor.data is host memory that outlives the graph */
    PARE_VALUE_NODE    /* produced by a node */
} pare_value_kind;

typedef struct pare_graph_value {
    const char *name;
    pare_value_kind kind;
    pare_tensor tensor; /* type; shape with symbols for inputs and states; complete for weights; empty for nodes */
    int node;           /* producer, or -1 */
    bool output;
} pare_graph_value;

typedef struct pare_graph_node_t {
    const char *name;
    pare_op op;
    const void *attr;
    int n_in, n_out, stage;
    pare_value in[PARE_OP_MAX_IN], out[PARE_OP_MAX_OUT];
} pare_graph_node_t;

struct pare_graph {
    pare_arena *arena; /* names, attributes, constants, owned memory descriptors */
    pare_graph_value *values;
    pare_graph_node_t *nodes;
    const char **stages;
    void **owned;
    size_t n_values, cap_values, n_nodes, cap_nodes, n_stages, cap_stages, n_owned, cap_owned;
    pare_status status; /* first failure while building */
    const char *failed; /* what it was about */
};

/* First and one past the last node of a stage (nodes of a stage are contiguous). */
static inline void pare_graph_stage_range(const pare_graph *g, int stage, int *first, int *end) {
    int i = 0, n = (int)g->n_nodes;
    while (i < n && g->nodes[i].stage < stage) i++;
    *first = i;
    while (i < n && g->nodes[i].stage == stage) i++;
    *end = i;
}

#endif
