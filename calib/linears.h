/* SPDX-License-Identifier: Apache-2.0
 *
 * The linear layers of a graph: MatMul with a constant, stored matrix. Those that read the same value form a group (q,
 * k and v; gate and up): one set of input statistics serves them all. */
#ifndef PARE_CALIB_LINEARS_H
#define PARE_CALIB_LINEARS_H

#include "graph/graph_impl.h"

typedef struct pare_linear {
    const char *name; /* of the weight: "blk.3.attn_q.weight" */
    int node, stage;
    pare_value weight, input;
    pare_value residual; /* what its output is added to (the residual stream), or PARE_NO_VALUE */
    int group;           /* number of its group within the stage, in the order of the forward pass */
    int64_t rows, cols;
} pare_linear;

typedef struct pare_linears {
    pare_linear *v; /* by stage, group, node */
    size_t n;
} pare_linears;

/* Linears whose matrix is used by one node only (a tied embedding is left out). owns: pare_linears_free. */
pare_status pare_linears_find(const pare_graph *g, pare_linears *out, pare_diag *d);
void pare_linears_free(pare_linears *l);

#endif
