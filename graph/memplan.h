/* SPDX-License-Identifier: Apache-2.0
 *
 * A plan: concrete shapes of every value for one set of symbol values, and where each value lives. Values share memory
 * in two ways. An alias is the same memory under another name: Reshape, an elementwise result over an operand that
 * dies there, TensorScatter over its cache. And values whose lifetimes do not meet may overlap in the block.
 *
 * A value lives from the node that makes it to its last use; one that crosses stages lives to the end of the last stage
 * that reads it, so that a stage can be run again on the same cut activations; graph outputs live to the end. */
#ifndef PARE_GRAPH_MEMPLAN_H
#define PARE_GRAPH_MEMPLAN_H

#include "graph/graph_impl.h"

#define PARE_NO_OFFSET SIZE_MAX

typedef struct pare_memplan {
    int64_t sym[PARE_SYM_COUNT];
    bool *fallback;      /* per node: the CPU runs it; NULL when the backend has host memory */
    pare_tensor *values; /* shapes of all values; data only of weights (host) */
    pare_value *alias;   /* the value whose memory this one is, or PARE_NO_VALUE */
    size_t *offset;      /* into the block, or PARE_NO_OFFSET */
    int *first, *last;   /* lifetime in nodes, of values with an offset */
    int64_t **known,
        *dims; /* per value: what a Shape node yields, in host memory, else NULL; NULL when there is none */
    size_t block_bytes, workspace_bytes;
    size_t n_fallbacks, staging_bytes, cpu_workspace_bytes; /* host memory that the largest of them needs */
    int threads;                                            /* workspaces are sized for this many */
    uint64_t used;                                          /* clock of the last use */
} pare_memplan;

/* Who runs a plan's nodes: the backend, else the CPU (NULL: nobody else). */
typedef struct pare_memplan_on {
    const pare_backend *be, *cpu;
    void *dev, *cpu_dev;
    pare_act_round act;
    bool bf16;
} pare_memplan_on;

#define PARE_MEMPLAN_ALIGN 64
static inline size_t pare_memplan_round(size_t bytes) {
    return (bytes + PARE_MEMPLAN_ALIGN - 1) / PARE_MEMPLAN_ALIGN * PARE_MEMPLAN_ALIGN;
}

/* owns: the caller; pare_memplan_free. fails: PARE_ERR_INPUT naming the node whose operands do not fit,
 * PARE_ERR_UNSUPPORTED naming the node that nobody can run, PARE_ERR_NOMEM. */
pare_status pare_memplan_make(const pare_graph *g, const int64_t sym[PARE_SYM_COUNT], const pare_memplan_on *on,
                              pare_memplan **out, pare_diag *d);
void pare_memplan_free(pare_memplan **p);
/* The call of node i over the plan's tensors (their data as it is now; host memory of constants, for a device; no
 * workspace). */
void pare_memplan_call(const pare_graph *g, pare_memplan *p, int i, pare_act_round act, bool bf16, pare_op_call *call);

#endif
