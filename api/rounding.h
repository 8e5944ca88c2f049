/* SPDX-License-Identifier: Apache-2.0
 *
 * Codes and block scales of one stage learn to give the original stage's output on the inputs that the reduced model
 * will give it.
 *
 * op:     minimize mean((out_q(x_q) - out_f(x_f))^2) over the codes and scales of the stage's matrices, from those they
 *         have; gradients of the stage alone, straight through the rounding (api/distill_codes.h), AdamW, and of the
 *         last steps the average
 * pre:    called from the walk (pare_walk_opts.stage); t->map->src->data are the stage's rows as decided so far
 * equal:  the same bytes at every thread count
 * memory: the stage's matrices in f32, their gradients and the optimizer's state; the activations of one batch
 * fails:  PARE_ERR_NOMEM; what a gradient rule refuses; PARE_ERR_INTERRUPTED
 * papers: AutoRound, arXiv 2309.05516, whose signed steps over an offset are AdamW over the latent here */
#ifndef PARE_API_ROUNDING_H
#define PARE_API_ROUNDING_H

#include "api/calibrate.h"

typedef struct pare_rounded {
    pare_value value; /* the matrix in the models' graphs */
    pare_job_tensor *t;
    void *rows; /* learned: the caller frees them; NULL: what there was is as good */
} pare_rounded;

typedef struct pare_round_stage {
    pare_weights *w; /* of the original */
    const pare_calib_data *data;
    const pare_walk *walk;
    int stage;
    bool keep_zeros; /* what is stored as 0 stays 0 */
    size_t n;
    pare_rounded *v;
} pare_round_stage;

/* Its grid's scales can be learned. */
bool pare_round_can(const pare_job_tensor *t);
/* How many of the last batches judge: neither trained on nor, before that, calibrated with. */
size_t pare_round_held(size_t batches);
/* The error on windows that are not trained on decides whether the learned rows are taken: all of them, or none. */
pare_status pare_round_learn(pare_round_stage *r, pare_diag *d);

#endif
