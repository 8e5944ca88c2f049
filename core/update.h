/* SPDX-License-Identifier: Apache-2.0
 *
 * What training does with a parameter and its gradient, as one call: the same numbers for the CPU (distill/optim.c) and
 * for a device that keeps the parameter (pare_backend.update).
 *
 * op:     ADD    sum = g, or sum + g where it is not the first part of a step
 *         NORM   square[i] = sum of g^2 over elements i * PARE_UPDATE_RUN and on, in double, in an order of n alone
 *         ADAMW  g is scaled; m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2;
 *                w -= rate unit (m fix1 / (sqrt(v fix2) + eps) + decay w)
 *         SGD    v = momentum v + scale g; w -= rate unit^2 (v + decay w)
 *         then, for both, ema = keep ema + (1 - keep) w
 *         What the mask hides has no gradient and stays 0.
 * equal:  elementwise in f32, in this order, each operation rounded: the same bytes on every backend; NORM to rounding
 *         of double */
#ifndef PARE_CORE_UPDATE_H
#define PARE_CORE_UPDATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PARE_UPDATE_RUN 16384 /* elements */

typedef enum pare_update_kind {
    PARE_UPDATE_ADD,
    PARE_UPDATE_NORM,
    PARE_UPDATE_ADAMW,
    PARE_UPDATE_SGD
} pare_update_kind;

typedef struct pare_update {
    pare_update_kind kind;
    size_t n; /* elements of each array */
    const float *g;
    float *sum;
    double *square; /* [(n + PARE_UPDATE_RUN - 1) / PARE_UPDATE_RUN] */
    bool first;
    float *w, *m, *v;
    float *ema;          /* NULL: none */
    const float *unit;   /* NULL: 1 */
    const uint8_t *mask; /* bit i % 8 of byte i / 8: hidden; NULL: none */
    float scale, rate, decay, beta1, beta2, fix1, fix2, eps, momentum, keep;
} pare_update;

#endif
