/* SPDX-License-Identifier: Apache-2.0
 *
 * A model as a graph: values, nodes with ONNX semantics, stages. Dimensions are numbers or symbols (batch, sequence,
 * cache capacity); plans are made per set of symbol values and cached.
 * owns: the graph owns names, nodes and values; weights are views into memory that outlives it (a pare_source, or a
 * buffer handed over with pare_graph_own). */
#ifndef PARE_GRAPH_GRAPH_H
#define PARE_GRAPH_GRAPH_H

#include "core/op.h"

typedef struct pare_graph pare_graph;
typedef int32_t pare_value; /* index of a value; PARE_NO_VALUE = absent */
#define PARE_NO_VALUE (-1)

/* A dimension: >= 0 a number, < 0 a symbol. */
enum { PARE_SYM_BATCH = -1, PARE_SYM_SEQ = -2, PARE_SYM_CACHE = -3, PARE_SYM_COUNT = 3 };

pare_graph *pare_graph_new(void); /* NULL: out of memory */
void pare_graph_free(pare_graph **g);

/* Inputs and state are bound by the caller at run time; weights are constant. All return PARE_NO_VALUE on failure, and
 * a node with a missing required input yields PARE_NO_VALUE too, so that a builder checks once (pare_graph_status). */
pare_value pare_graph_input(pare_graph *g, const char *name, const pare_qtype *type, int ndim, const int64_t *dims);
pare_value pare_graph_state(pare_graph *g, const char *name, const pare_qtype *type, int ndim, const int64_t *dims);
pare_value pare_graph_weight(pare_graph *g, const char *name, const pare_tensor *t);       /* view, not copied */
pare_value pare_graph_const_i64(pare_graph *g, const char *name, int n, const int64_t *v); /* copied, 1-D */
pare_value pare_graph_const_f32(pare_graph *g, const char *name, int ndim, const int64_t *shape, const float *v);

/* Adds a node to the current stage; attr is copied (attr_bytes). Returns its first output; others by
 * pare_graph_output(g, first, i). The node's name is also its first output's name. A negative input is absent. */
pare_value pare_graph_node(pare_graph *g, pare_op op, const char *name, const void *attr, size_t attr_bytes, int n_in,
                           const pare_value *in, int n_out);
/* A copy of node i with other operands (as many). */
pare_value pare_graph_node_like(pare_graph *g, int i, const char *name, const pare_value *in);
void pare_graph_mark_output(pare_graph *g, pare_value v);
/* Starts a new stage: nodes added from here on belong to it. Values that cross stages are the cut activations. */
void pare_graph_stage(pare_graph *g, const char *name);
pare_status pare_graph_status(const pare_graph *g, pare_diag *d);
void *pare_graph_own(pare_graph *g, size_t bytes); /* memory freed with the graph; NULL on failure */

/* Output i of the node that made v (its first output), or PARE_NO_VALUE. */
pare_value pare_graph_output(const pare_graph *g, pare_value v, int i);
pare_value pare_graph_find(const pare_graph *g, const char *name);      /* PARE_NO_VALUE when unknown; linear */
pare_value pare_graph_weight_at(const pare_graph *g, const void *data); /* the first weight that lies there; likewise */
int pare_graph_stages(const pare_graph *g);
const char *pare_graph_stage_name(const pare_graph *g, int stage);

#endif
