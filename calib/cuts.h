/* SPDX-License-Identifier: Apache-2.0
 *
 * The activations between two stages of one model, for every batch of the calibration data: what the walk keeps so that
 * only one stage's weights are needed at a time. Beyond a budget they lie in an unlinked file ($TMPDIR), mapped, so
 * that the kernel may write them out. */
#ifndef PARE_CALIB_CUTS_H
#define PARE_CALIB_CUTS_H

#include "graph/exec.h"

typedef struct pare_cuts pare_cuts;

/* Values of g that cross stages get a slot of their size for each batch, allocated when their stage has begun and freed
 * when the last stage that reads them is done. sym: sizes of one batch. */
pare_status pare_cuts_open(const pare_graph *g, const int64_t sym[PARE_SYM_COUNT], size_t batches, size_t budget_bytes,
                           pare_cuts **out, pare_diag *d);
void pare_cuts_close(pare_cuts **c);
/* Before the runs of a stage: room for what it hands on. */
pare_status pare_cuts_begin(pare_cuts *c, int stage, pare_diag *d);
/* Appends the bindings of what the stage reads and what it hands on, for one batch; returns the new count. */
int pare_cuts_bind(const pare_cuts *c, int stage, size_t batch, pare_binding *b, int n);
int pare_cuts_most(const pare_cuts *c);      /* bindings that pare_cuts_bind may append */
void pare_cuts_end(pare_cuts *c, int stage); /* frees what no later stage reads */
/* Where value v of a batch lies, NULL when it is no cut value or not there. */
const float *pare_cuts_at(const pare_cuts *c, pare_value v, size_t batch);
/* Values that do not cross stages may be kept too, until the end of the stage that makes them: room for value v of
 * every batch, filled by the caller at pare_cuts_at. Nothing happens when it is there already. */
pare_status pare_cuts_keep(pare_cuts *c, pare_value v, pare_diag *d);
void pare_cuts_release(const pare_cuts *c, size_t batch); /* not used again soon: what lies in files leaves memory */
size_t pare_cuts_elems(const pare_cuts *c, pare_value v); /* of one batch */

#endif
