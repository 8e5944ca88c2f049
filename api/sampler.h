/* SPDX-License-Identifier: Apache-2.0
 *
 * Choosing the next token from logits. */
#ifndef PARE_API_SAMPLER_H
#define PARE_API_SAMPLER_H

#include "core/rng.h"
#include "pare/pare.h"

typedef struct pare_candidate {
    float logit;
    int32_t id;
} pare_candidate;

typedef struct pare_sampler {
    double temp, top_p;
    size_t top_k, vocab;
    pare_rng rng;
    pare_candidate *heap; /* the top_k best */
    double *weight;
} pare_sampler;

pare_status pare_sampler_open(pare_sampler *s, size_t vocab, double temp, int64_t top_k, double top_p, uint64_t seed);
void pare_sampler_close(pare_sampler *s);
/* The k likeliest tokens (the lower id first among equals), softmax at the temperature, the smallest set of the
 * likeliest that holds top_p of it, one draw. temp 0: the likeliest. Takes no memory. -1 when a logit is not a number.
 */
int64_t pare_sampler_next(pare_sampler *s, const float *logits);

#endif
