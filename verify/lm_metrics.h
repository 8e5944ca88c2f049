/* SPDX-License-Identifier: Apache-2.0
 *
 * Language models side by side: what each scored position loses, accumulated window by window; logits are looked at
 * once and never kept (a position costs 16 bytes). p is the original's distribution, q the reduced one's.
 * Per position: nll of the next token under both; KL(p || q) = sum p (log p - log q) in nats, never below 0; q - p of
 * the next token; whether both have the same most likely token (the first maximum). Rounding: logits are f32, all
 * sums double; the same result for every number of threads. */
#ifndef PARE_VERIFY_LM_METRICS_H
#define PARE_VERIFY_LM_METRICS_H

#include "verify/report.h"

typedef struct pare_lm_metrics pare_lm_metrics;

pare_lm_metrics *pare_lm_metrics_new(size_t vocab); /* NULL: out of memory */
void pare_lm_metrics_free(pare_lm_metrics **m);

/* Adds one window: p, q [n, vocab] logits (rows one after another), next [n] the token that followed. *bad: which
 * model (0 original, 1 reduced) and position had a NaN or Inf, in which case the status is PARE_ERR_INPUT. */
typedef struct pare_lm_bad {
    int model;
    size_t position;
} pare_lm_bad;
pare_status pare_lm_metrics_window(pare_lm_metrics *m, const float *p, const float *q, const int64_t *next, size_t n,
                                   pare_lm_bad *bad, pare_diag *d);
size_t pare_lm_metrics_windows(const pare_lm_metrics *m);
size_t pare_lm_metrics_positions(const pare_lm_metrics *m);

/* Puts every metric, with its interval over windows (two or more), and column 1's histogram into r; p is column 0, q is
 * `column`. */
pare_status pare_lm_metrics_finish(pare_lm_metrics *m, uint64_t seed, int column, pare_verify_report *r, pare_diag *d);

#endif
