/* SPDX-License-Identifier: Apache-2.0
 *
 * Optimizers over f32 parameters, each a run of numbers with its gradient.
 *
 * op:     SGD     v = momentum v + g; w -= rate (v + decay w)
 *         AdamW   m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2;
 *                 w -= rate (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + decay w)     (Loshchilov and Hutter 2019)
 *         then    ema = e ema + (1 - e) w, where an average is kept; e rises: min(ema, (1 + t) / (10 + t))
 *         Gradients are first scaled by min(1, clip / norm), norm over all of them together; elements that a mask hides
 *         stay exactly 0.
 * equal:  elementwise in f32, in this order; the norm summed in double in runs that depend on sizes alone: the same
 *         bytes at every thread count
 * owns:   nothing: state is memory of the caller */
#ifndef PARE_DISTILL_OPTIM_H
#define PARE_DISTILL_OPTIM_H

#include "core/update.h"
#include "pare/pare.h"

typedef struct pare_param {
    const char *name;
    float *w;
    const float *g;      /* of the step at hand */
    float *m, *v;        /* state of w's size; SGD uses v alone */
    float *ema;          /* NULL: no average */
    const float *unit;   /* rates are in units of these, one for each element; NULL: of 1 */
    const uint8_t *mask; /* bit i % 8 of byte i / 8: element i stays 0; NULL: none */
    size_t n;
    bool decay; /* matrices; norms and biases are not pulled to 0 */
} pare_param;

typedef enum pare_optimizer { PARE_ADAMW, PARE_SGD } pare_optimizer;
typedef enum pare_schedule { PARE_COSINE, PARE_LINEAR, PARE_CONSTANT } pare_schedule;

typedef struct pare_optim {
    pare_optimizer kind;
    pare_schedule schedule;
    int64_t steps, warmup;
    double rate, min_rate;                                /* the top of the schedule, and its end as a share of that */
    double beta1, beta2, eps, momentum, decay, clip, ema; /* clip, ema: 0 = none */
} pare_optim;

/* The rate of step t (from 0): rises linearly over `warmup` steps, then falls to min_rate at the last step. */
double pare_optim_rate(const pare_optim *o, int64_t t);
/* Euclidean norm of all gradients; *bad: the first parameter whose gradient is not finite, or NULL. */
double pare_optim_norm(const pare_param *p, size_t n, const pare_param **bad);
/* What step t does with p, as a call; norm: of all gradients. The arrays are p's. */
pare_update pare_optim_update(const pare_optim *o, int64_t t, double norm, const pare_param *p);
/* One step, t from 0. norm: pare_optim_norm's. */
void pare_optim_step(const pare_optim *o, int64_t t, double norm, pare_param *p, size_t n);

#endif
