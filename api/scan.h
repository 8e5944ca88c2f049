/* SPDX-License-Identifier: Apache-2.0
 *
 * Sensitivity: what it costs when one layer alone is pruned, for every layer and several amounts (api/probe.h
 * measures).
 *
 *   scan.c        opening, points, the table
 *   scan_zeros.c  zeros by a criterion; those that need data look at the original's own inputs
 *   scan_parts.c  parts that go are silenced: their columns become zero in what reads them
 *   scan_svg.c    the picture */
#ifndef PARE_API_SCAN_H
#define PARE_API_SCAN_H

#include "api/narrow.h"
#include "api/probe.h"
#include "core/log.h"

typedef struct pare_scan {
    pare_job *job; /* of zeros: the plan that says which tensors are pruned how */
    const pare_prune_opts *o;
    pare_arena *arena; /* of the result */
    pare_sensitivity *out;
    double *amounts, *loss; /* the result's, while they are filled */
    uint64_t *weights;
    pare_weights *w;
    pare_calib_data few, data; /* windows of the probe; of criteria that want statistics */
    pare_probe probe;
    pare_linears lin;
    void ***rows; /* [lin.n][n_amounts]: of the stage at hand */
    const pare_qtype **types;
    size_t done; /* points */
    pare_meter meter;
} pare_scan;

/* Linears of the stage get the rows of each amount in turn and the model runs; then the rows are dropped. */
pare_status pare_scan_measure(pare_scan *s, int stage, pare_diag *d);
/* Linear i has these rows at amount k (pare_malloc; the scan's from now on); in format type. */
void pare_scan_put(pare_scan *s, size_t i, size_t k, const pare_qtype *type, void *rows);

pare_status pare_scan_zeros(pare_scan *s, pare_diag *d);
pare_status pare_scan_parts(pare_scan *s, pare_diag *d);

#endif
