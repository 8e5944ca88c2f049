/* SPDX-License-Identifier: Apache-2.0
 *
 * Gradients of the text's loss by a model's matrices, for pruning: the sum of -log p of a window's tokens, window by
 * window over the calibration data, by the graph that training uses (graph/grad.h), with one stage's activations kept.
 *
 * memory: the activations of one window, one matrix's gradient at a time
 * equal:  the same bits at every thread count
 * fails:  PARE_ERR_UNSUPPORTED for a model without a next token, and naming the node whose operator has no gradient */
#ifndef PARE_API_GRADIENTS_H
#define PARE_API_GRADIENTS_H

#include "api/calibrate.h"
#include "prune/importance.h"

/* g: of matrix i, in its stored shape; valid until it returns. Called for each matrix once a window, in any order. */
typedef void pare_gradient_fn(void *ctx, size_t i, const float *g);
/* weight[n]: values of the model's graph, as pare_lm_run_build makes it. */
pare_status pare_gradients_pass(pare_weights *w, const pare_calib_data *data, size_t n, const pare_value *weight,
                                pare_gradient_fn *take, void *ctx, pare_diag *d);

/* Fills the gradient (prune/solve.h) of every tensor that the job prunes; one that the model never multiplies by is
 * left alone. Four bytes a weight, until the job is closed. */
pare_status pare_job_gradients(pare_job *job, pare_weights *w, const pare_calib_data *data, pare_diag *d);
/* The same for units: `taylor` (prune/importance.h) of all that is watched, in a graph of this model. */
pare_status pare_gradients_units(pare_weights *w, const pare_calib_data *data, pare_unit_watch *watch, pare_diag *d);

#endif
