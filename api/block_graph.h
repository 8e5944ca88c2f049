/* SPDX-License-Identifier: Apache-2.0
 *
 * One stage of a model's graph by itself, for what learns a stage at a time.
 *
 * equal:  the stage's nodes, in their order, on the same values
 * fails:  PARE_ERR_UNSUPPORTED naming the stage, where it reads or hands on more than one value; PARE_ERR_NOMEM */
#ifndef PARE_API_BLOCK_GRAPH_H
#define PARE_API_BLOCK_GRAPH_H

#include "graph/graph.h"

typedef struct pare_borders {
    pare_value *in; /* what the stage reads of earlier ones */
    int n_in;
    pare_value out; /* the one value of it that later ones read; PARE_NO_VALUE: none */
} pare_borders;

/* owns: pare_borders_close, also after a failure */
pare_status pare_borders_find(const pare_graph *g, int stage, pare_borders *b, pare_diag *d);
void pare_borders_close(pare_borders *b);

/* All other stages go: the graph has this one alone, as stage 0. *in becomes an input [batch, seq, dim], or is
 * PARE_NO_VALUE where nothing earlier is read; *out, the graph's only output, is what later stages read, or the output
 * that the graph had. Values keep their numbers. */
pare_status pare_graph_alone(pare_graph *g, int stage, int64_t dim, pare_value *in, pare_value *out, pare_diag *d);

#endif
