/* SPDX-License-Identifier: Apache-2.0
 *
 * The state of a training run: parameters, their optimizer's memory, sums of gradients over the parts of a step, the
 * curve so far; and its checkpoint, from which a run goes on with the same bytes.
 *
 * layout: of the file, little endian: "pare-train 2\n" and 0 bytes up to 16; key, steps done, numbers per step of the
 *         curve, parameters, windows of a pass; the curve (f64); of each parameter its length, then w, m, v and ema
 * (those that there are); a sum over all of it. Written beside its name, synced, renamed: it is whole or it is the one
 * before. */
#ifndef PARE_DISTILL_TRAIN_H
#define PARE_DISTILL_TRAIN_H

#include "distill/optim.h"

#define PARE_CURVE 6 /* numbers a step leaves: rate, norm of the gradient, loss, and up to three terms of it */

typedef struct pare_trainer {
    pare_optim optim;
    pare_param *p;
    size_t n;
    float **sum;   /* per parameter: gradients of the parts so far */
    float *memory; /* of all state */
    int64_t done;  /* steps */
    int64_t micro; /* windows of a pass: the caller's, kept in checkpoints */
    double *curve; /* [steps][PARE_CURVE] */
} pare_trainer;

/* p[n]: name, w, n, decay and mask are the caller's and stay; all else is filled. average: keep one. fails:
 * PARE_ERR_NOMEM, PARE_ERR_USAGE for options that make no sense. owns: pare_trainer_close */
pare_status pare_trainer_open(const pare_optim *o, pare_param *p, size_t n, pare_trainer *out, pare_diag *d);
void pare_trainer_close(pare_trainer *t);
/* Gradients of one part of a step, in the order of the parameters; the first part of a step starts the sums. */
void pare_trainer_add(pare_trainer *t, bool first, const float *const *grad);
/* Sums that were made elsewhere (t->sum): what masks hide is 0. */
void pare_trainer_hide(pare_trainer *t);
/* The step. terms[n_terms]: numbers for the curve. fails: PARE_ERR_INPUT, naming the parameter, when loss or gradient
 * is not finite; nothing is changed then. */
pare_status pare_trainer_step(pare_trainer *t, double loss, const double *terms, int n_terms, pare_diag *d);

/* Its two halves, for a step that is taken elsewhere: fails as it does (bad: the parameter whose gradient is not
 * finite, or NULL); the step's row of the curve, after which it counts as done. */
pare_status pare_trainer_check(const pare_trainer *t, double loss, const pare_param *bad, pare_diag *d);
void pare_trainer_note(pare_trainer *t, double norm, double loss, const double *terms, int n_terms);

/* key: a sum over all that the run depends on. found: whether there was a checkpoint of this key. fails:
 * PARE_ERR_EXISTS when there is one of another run, PARE_ERR_INPUT when it is damaged; load leaves the trainer as it
 * was then. */
pare_status pare_trainer_save(const pare_trainer *t, uint64_t key, const char *path, pare_diag *d);
/* The windows of a pass in the run whose checkpoint this is; 0 = there is none. */
int64_t pare_trainer_micro(const char *path);
pare_status pare_trainer_load(pare_trainer *t, uint64_t key, const char *path, bool *found, pare_diag *d);

#endif
