/* SPDX-License-Identifier: Apache-2.0
 *
 * One graph of a text model with its executor and everything bound to it: rotary tables, KV cache, small inputs. */
#ifndef PARE_MODELS_LM_RUN_H
#define PARE_MODELS_LM_RUN_H

#include "graph/exec.h"
#include "models/build.h"

typedef struct pare_lm_run {
    pare_lm_graph m;
    pare_exec *e;
    int64_t table_rows;                 /* rows of the rotary tables: the capacity with a cache */
    void *cos, *sin, **kv;              /* backend memory */
    size_t kv_bytes;                    /* all of the cache */
    int64_t *positions, *length, *past; /* inputs, room for cap_tokens and cap_batch */
    size_t cap_tokens, cap_batch;
    pare_binding *bind;
} pare_lm_run;

/* The graph alone, to which more may be added before it is started (losses, gradients). owns: as pare_lm_run_open. */
pare_status pare_lm_run_build(pare_weights *w, int64_t capacity, pare_lm_run *r, pare_diag *d);
pare_status pare_lm_run_start(pare_weights *w, int64_t capacity, const pare_exec_opts *opts, pare_lm_run *r,
                              pare_diag *d);
/* Both. capacity > 0: with a cache of that many tokens for one sequence. owns: pare_lm_run_close, also after a failure.
 */
pare_status pare_lm_run_open(pare_weights *w, int64_t capacity, const pare_exec_opts *opts, pare_lm_run *r,
                             pare_diag *d);
void pare_lm_run_close(pare_lm_run *r);
/* Sizes for the next runs; lengths (NULL = all seq) are those of an encoder's sequences. */
pare_status pare_lm_run_shape(pare_lm_run *r, pare_weights *w, int64_t batch, int64_t seq, const int64_t *lengths,
                              int64_t past, pare_diag *d);
/* The bindings of inputs and states for the sizes at hand; returns how many there are (at most n_kv + 6). */
int pare_lm_run_bindings(pare_lm_run *r, const int64_t *ids, pare_binding *b);
/* Runs every stage, or all but the last when head is false. */
pare_status pare_lm_run_go(pare_lm_run *r, const int64_t *ids, bool head, pare_diag *d);

#endif
