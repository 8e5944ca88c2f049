/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of metrics. */
#include "verify/metrics.h"

#include <string.h>

static const pare_metric_info infos[PARE_M_COUNT] = {
#define PARE_METRIC(kind, key, label, better, share) {PARE_VERIFY_##kind, #key, label, better, share},
#include "verify/metrics.def"
#undef PARE_METRIC
};

const pare_metric_info *pare_metric_at(int id) { return &infos[id]; }

static unsigned needs(const char *key) {
    if (strcmp(key, "parity") == 0) return PARE_HAVE_TWO_DEVICES;
    return strncmp(key, "spearman", 8) == 0 ? PARE_HAVE_PAIRS : 0;
}

const pare_metric_info *pare_metric_find(pare_verify_kind kind, unsigned have, const char *key) {
    for (int i = 0; i < PARE_M_COUNT; i++)
        if (infos[i].kind == kind && strcmp(infos[i].key, key) == 0) return needs(key) & ~have ? NULL : &infos[i];
    return NULL;
}

bool pare_metric_judged(const pare_metric *m, int column) {
    return column > 0 && m->at[column].has && (column % 2 == 1 || strcmp(m->key, "parity") == 0);
}

void pare_metric_put(pare_verify_report *r, int id, int column, double value, const double *lo, const double *hi) {
    const pare_metric_info *m = &infos[id];
    bool range = lo && hi && *lo == *lo && *hi == *hi;
    pare_report_metric(r, m->key, m->label, m->better, column,
                       (pare_estimate){true, range, value, range ? *lo : value, range ? *hi : value});
}
