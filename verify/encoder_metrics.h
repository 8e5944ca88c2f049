/* SPDX-License-Identifier: Apache-2.0
 *
 * Sentence encoders side by side. Units of the bootstrap: sentences for cosine, SQNR and overlap; pairs for rank
 * correlations.
 *   cosine    between the original's and the reduced model's embedding of the same sentence; like SQNR only where both
 *             have the same width
 *   overlap   of the k sentences nearest to each sentence (by cosine, ties to the lower index), as a share of k
 *   spearman  rank correlation of the cosine of each pair with its score, for both models; and with one another */
#ifndef PARE_VERIFY_ENCODER_METRICS_H
#define PARE_VERIFY_ENCODER_METRICS_H

#include "verify/report.h"

typedef struct pare_scored_pair {
    uint32_t a, b;
    double score;
} pare_scored_pair; /* indices of sentences */

/* p, q: [n, dim] and [n, dim_q] embeddings of the same n sentences; dim_q 0: dim. n_pairs may be 0. *bad as in
 * lm_metrics.h, position = sentence. */
typedef struct pare_encoder_data {
    const float *p, *q;
    size_t n, dim, n_pairs;
    const pare_scored_pair *pairs;
    size_t top_k, dim_q;
} pare_encoder_data;
typedef struct pare_encoder_bad {
    int model;
    size_t sentence;
} pare_encoder_bad;

pare_status pare_encoder_metrics(const pare_encoder_data *e, uint64_t seed, int column, pare_verify_report *r,
                                 pare_encoder_bad *bad, pare_diag *d);

#endif
