/* SPDX-License-Identifier: Apache-2.0
 *
 * Layer view: outputs of the same node in the original and in the reduced model, compared on one short input. Memory is
 * bounded: per node an evenly spaced sample of its elements is kept, of a size that follows from the number of nodes.
 * Use: one object, three runs of the hook: count (original), record (original, same input), compare (reduced). */
#ifndef PARE_VERIFY_LAYER_METRICS_H
#define PARE_VERIFY_LAYER_METRICS_H

#include "graph/exec.h"
#include "verify/report.h"

typedef struct pare_layers pare_layers;
typedef enum pare_layers_phase { PARE_LAYERS_COUNT, PARE_LAYERS_RECORD, PARE_LAYERS_COMPARE } pare_layers_phase;

pare_layers *pare_layers_new(size_t budget_bytes); /* NULL: out of memory */
void pare_layers_free(pare_layers **l);
/* Nodes for which `applies` hold heads of head_dim features in another order in the reduced model: feature order[i]
 * there is feature i here. order stays the caller's and must outlive l. */
typedef bool pare_layers_applies_fn(const char *name);
void pare_layers_reorder(pare_layers *l, pare_layers_applies_fn *applies, const uint32_t *order, size_t head_dim);
/* Before each run. PARE_ERR_NOMEM when an earlier run could not keep its samples. */
pare_status pare_layers_start(pare_layers *l, pare_layers_phase phase, pare_diag *d);
bool pare_layers_hook(void *layers, int node, const char *name, pare_op op,
                      const pare_tensor *out); /* a pare_node_hook */
/* Appends the nodes found in both, in order, to r->layers, flags those that stand out, names the first that differs. */
pare_status pare_layers_finish(pare_layers *l, pare_verify_report *r, pare_diag *d);

/* Flags parts whose SQNR is 6 dB or more below the median of their kind (name with numbers left out), and the worst. */
pare_status pare_parts_flag(pare_part *parts, size_t n, pare_diag *d);

#endif
