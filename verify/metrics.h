/* SPDX-License-Identifier: Apache-2.0
 *
 * The list of metrics (verify/metrics.def) as a table. */
#ifndef PARE_VERIFY_METRICS_H
#define PARE_VERIFY_METRICS_H

#include "verify/report.h"

enum { /* PARE_M_LM_kl_mean, ... */
#define PARE_METRIC(kind, key, label, better, share) PARE_M_##kind##_##key,
#include "verify/metrics.def"
#undef PARE_METRIC
       PARE_M_COUNT
};

typedef struct pare_metric_info {
    pare_verify_kind kind;
    const char *key, *label;
    int better;
    bool share;
} pare_metric_info;
const pare_metric_info *pare_metric_at(int id); /* 0 .. PARE_M_COUNT - 1 */
/* What some metrics need. */
enum { PARE_HAVE_PAIRS = 1, PARE_HAVE_TWO_DEVICES = 2 };
/* NULL when this kind has no such metric, or not without what `have` lacks. */
const pare_metric_info *pare_metric_find(pare_verify_kind kind, unsigned have, const char *key);
/* Whether gates look at this column: at reduced models; parity is judged for both models. */
bool pare_metric_judged(const pare_metric *m, int column);

/* Adds the metric `id` of `column` to r. lo, hi NULL: no interval. */
void pare_metric_put(pare_verify_report *r, int id, int column, double value, const double *lo, const double *hi);

#endif
