/* SPDX-License-Identifier: Apache-2.0
 *
 * Gates: limits on metrics, given one by one or taken from an older report. */
#ifndef PARE_VERIFY_GATES_H
#define PARE_VERIFY_GATES_H

#include "verify/report.h"

/* Before any work: every gate names a metric that this kind has, with a finite limit; a share is within 0..1.
 * have: PARE_HAVE_PAIRS and the like (verify/metrics.h). */
pare_status pare_gates_check(const pare_gate *gates, size_t n, pare_verify_kind kind, unsigned have, pare_diag *d);

/* Judges every gate on every reduced column and appends the results to r. strict: the bad end of the 95 % interval is
 * compared; a metric without an interval is then PARE_ERR_USAGE. */
pare_status pare_gates_judge(pare_verify_report *r, const pare_gate *gates, size_t n, bool strict, pare_diag *d);

/* An older JSON report as gates named "baseline KEY": value, made worse by tolerance * |value|, of each metric with a
 * direction, column by column. Kind, data, window and counts must be the same (PARE_ERR_MISMATCH names what is not).
 * path is for messages. */
pare_status pare_gates_baseline(pare_verify_report *r, const char *json, size_t n_bytes, const char *path,
                                double tolerance, bool strict, pare_diag *d);

/* One gate in the metric's own direction. */
pare_status pare_gate_one(pare_verify_report *r, const char *name, const pare_metric *m, int column, double limit,
                          bool strict, pare_diag *d);

#endif
