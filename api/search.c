/* SPDX-License-Identifier: Apache-2.0
 *
 * Bisection on measured costs, and shares (api/search.h). */
#include "api/search.h"

#include "core/status.h"

#include <math.h>

#define SHARE_MIN 0.5
#define SHARE_MAX 1.6
#define POWER_MIN 1.2 /* of the amount in the cost; at 1 everything would go from one part */

typedef struct known {
    int64_t x;
    double cost;
    bool measured;
} known;

/* Between the two, never one of them. pre: bad.x - good.x >= 2 */
static int64_t between(known good, known bad, double limit) {
    int64_t middle = good.x + (bad.x - good.x) / 2;
    if (!good.measured || !bad.measured || !(good.cost > 0) || !(bad.cost > good.cost) || !(limit > 0)) return middle;
    double part = (log(limit) - log(good.cost)) / (log(bad.cost) - log(good.cost));
    double x = (double)good.x + part * (double)(bad.x - good.x);
    int64_t at = (int64_t)floor(x);
    if (at <= good.x) at = good.x + 1; /* near an end: one step aside, so that both ends move */
    return at >= bad.x ? bad.x - 1 : at;
}

pare_status pare_search_run(const pare_search *s, pare_search_result *out, pare_diag *d) {
    known good = {.x = s->least - 1}, bad = {.x = s->most + 1}, small = {0};
    *out = (pare_search_result){0};
    while (bad.x - good.x > 1 && out->evaluations < s->evaluations) {
        known now = {between(good, bad, s->limit), 0, true};
        bool last = out->evaluations + 1 == s->evaluations && !good.measured;
        if (last) now.x = s->least; /* better a small amount than none */
        PARE_TRY(s->measure(s->ctx, now.x, &now.cost, d));
        out->evaluations++;
        if (!small.measured || now.x < small.x) small = now;
        if (now.cost <= s->limit) good = now; /* NaN is beyond every limit */
        else bad = now;
    }
    out->found = good.measured;
    out->x = out->found ? good.x : small.x;
    out->cost = out->found ? good.cost : small.cost;
    return PARE_OK;
}

/* One power for all parts: the slope of log cost over log amount, each part about its own mean. */
static double power_of(size_t n, size_t m, const double *a, const double *cost) {
    double top = 0, bottom = 0;
    for (size_t i = 0; i < n; i++) {
        double sx = 0, sy = 0, sxx = 0, sxy = 0, k = 0;
        for (size_t j = 0; j < m; j++) {
            if (!(cost[i * m + j] > 0)) continue;
            double x = log(a[j]), y = log(cost[i * m + j]);
            sx += x, sy += y, sxx += x * x, sxy += x * y, k++;
        }
        if (k < 2) continue;
        top += sxy - sx * sy / k, bottom += sxx - sx * sx / k;
    }
    double p = bottom > 0 ? top / bottom : 2;
    return p > POWER_MIN ? p : POWER_MIN;
}

static double clamp(double x) { return x < SHARE_MIN ? SHARE_MIN : x > SHARE_MAX ? SHARE_MAX : x; }

void pare_search_shares(size_t n, size_t m, const double *a, const double *cost, const double *weight, double *share) {
    double p = power_of(n, m, a, cost), all = 0, lo = 1e-30, hi = 1e30;
    for (size_t i = 0; i < n; i++) {
        double log_c = 0, k = 0;
        for (size_t j = 0; j < m; j++)
            if (cost[i * m + j] > 0) log_c += log(cost[i * m + j]) - p * log(a[j]), k++;
        share[i] = k && weight[i] > 0 ? exp((log(weight[i]) - log_c / k) / (p - 1)) : INFINITY;
        all += weight[i];
    }
    for (int turn = 0; turn < 200; turn++) { /* the factor that makes the mean 1 with the ends cut off */
        double f = sqrt(lo * hi), mean = 0;
        for (size_t i = 0; i < n; i++) mean += weight[i] * clamp(share[i] * f);
        *(mean > all ? &hi : &lo) = f;
    }
    for (size_t i = 0; i < n; i++) share[i] = clamp(share[i] * lo);
}
