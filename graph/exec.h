/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs a graph on a backend, stage by stage. A plan (shapes, one memory block with reuse by lifetime, workspace) is
 * made for each set of symbol values and cached; running with a cached plan allocates nothing.
 *
 * On a backend with memory of its own:
 * - a stage's weights are uploaded before its first run and stay, unless memory() says that they do not all fit: then
 *   those needed last make room, and a walk over the stages streams them from the host;
 * - what only the CPU can run is run there, its operands and results copied;
 * - a run of the same stage, plan and addresses is recorded the second time and replayed from then on, where the
 *   backend can do that, no hook is set and nothing falls back. Its first run may allocate, replays do not. */
#ifndef PARE_GRAPH_EXEC_H
#define PARE_GRAPH_EXEC_H

#include "graph/graph.h"

typedef struct pare_exec pare_exec;

/* Memory of a value for one run: host memory for inputs, the backend's for states. A cut value (one that crosses
 * stages) may be bound too, to backend memory that then takes the place of the plan's. */
typedef struct pare_binding {
    pare_value value;
    void *data;
} pare_binding;

/* Called after each node with its first output (host memory); for layer views. true: the hook has changed out's
 * numbers, and the nodes that follow are to read the changed ones. */
typedef bool pare_node_hook(void *ctx, int node, const char *name, pare_op op, const pare_tensor *out);

typedef struct pare_exec_opts {
    const pare_backend *backend; /* NULL = cpu */
    pare_act_round act;
    bool bf16; /* products of f32 operands in bf16 (core/op.h) */
    pare_node_hook *hook;
    void *hook_ctx;
    size_t leave_bytes; /* of device memory, for other models: weights and activations take that much less, unless one
                         * stage needs it */
} pare_exec_opts;

pare_status pare_exec_open(pare_graph *g, const pare_exec_opts *opts, pare_exec **out, pare_diag *d);
void pare_exec_close(pare_exec **e);
void pare_exec_set_hook(pare_exec *e, pare_node_hook *hook, void *ctx);

/* Symbol values for the following runs (index: -PARE_SYM_x - 1). Makes or finds the plan. */
pare_status pare_exec_shape(pare_exec *e, const int64_t sym[PARE_SYM_COUNT], pare_diag *d);
int pare_exec_stages(const pare_exec *e);
/* Runs one stage, or all with stage -1. Inputs and states used there must be bound. */
pare_status pare_exec_run(pare_exec *e, int stage, const pare_binding *b, int n_bindings, pare_diag *d);
/* The nodes of a stage up to and including `last`: what a hook wants to see of them, when nothing behind it matters. */
pare_status pare_exec_run_to(pare_exec *e, int stage, int last, const pare_binding *b, int n_bindings, pare_diag *d);
/* A graph output (or cut value of the last stage run) as a tensor in host memory; data valid until the next run or
 * shape. NULL when v is neither. */
const pare_tensor *pare_exec_value(pare_exec *e, pare_value v);
size_t pare_exec_memory_bytes(const pare_exec *e); /* activations + workspace of the current plan */

/* Backend memory for states and bound cut values; NULL on failure. */
void *pare_exec_alloc(pare_exec *e, size_t bytes);
void pare_exec_release(pare_exec *e, void *p);
pare_status pare_exec_upload(pare_exec *e, void *dst, const void *src, size_t bytes, pare_diag *d);
/* Another matrix in the place of weight v, of the same shape, in any storage format; t->data must outlive the executor.
 * Plans are made anew: pare_exec_shape comes before the next run. */
void pare_exec_replace_weight(pare_exec *e, pare_value v, const pare_tensor *t);
/* Weight v has other numbers at the same address, in the same format: the backend's copy, if it has one, becomes them.
 */
pare_status pare_exec_refresh_weight(pare_exec *e, pare_value v, pare_diag *d);

/* Training on the backend (graph/exec_train.c). */
/* Whether parameters can stay there: it has memory of its own and takes updates. */
bool pare_exec_trains(const pare_exec *e);
/* Input v is bound to the backend's memory from now on: what another executor of that backend has computed. */
void pare_exec_input_there(pare_exec *e, pare_value v);
/* Where the backend has weight v, which is uploaded if it must be and makes room for no other from then on; what is
 * written there is what the next run reads. fails: PARE_ERR_NOMEM */
pare_status pare_exec_hold_weight(pare_exec *e, pare_value v, void **where, pare_diag *d);
/* Where the backend has a graph output; valid as pare_exec_value's data. */
void *pare_exec_value_at(pare_exec *e, pare_value v);
pare_status pare_exec_download(pare_exec *e, void *dst, const void *src, size_t bytes, pare_diag *d);
pare_status pare_exec_update(pare_exec *e, const pare_update *u, pare_diag *d);
/* The backend's team calls (core/op.h). fails, for ready: PARE_ERR_DEVICE where it has none */
pare_status pare_exec_team_ready(pare_exec *e, pare_diag *d);
pare_status pare_exec_team_id(pare_exec *e, void *id, pare_diag *d);
pare_status pare_exec_team_join(pare_exec *e, const void *id, int rank, int size, pare_diag *d);
pare_status pare_exec_team_gather(pare_exec *e, const void *own, void *all, size_t bytes, pare_diag *d);

/* Drops the backend's copy of a stage's weights; its next run uploads them again. */
void pare_exec_drop_weights(pare_exec *e, int stage);

/* For reports. How many nodes the plans so far leave to the CPU, and their names (valid until close; names may be
 * NULL); whether weights had to make room for others. */
size_t pare_exec_fallbacks(const pare_exec *e, const char *const **names);
bool pare_exec_streamed(const pare_exec *e);
/* Bytes taken in a backend's own memory for weights, inputs, activations and workspace; 0 where that is the host's. */
size_t pare_exec_device_bytes(const pare_exec *e);

#endif
