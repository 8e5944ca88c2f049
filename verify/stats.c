/* SPDX-License-Identifier: Apache-2.0
 *
 * Order statistics, Spearman's correlation, bootstrap. */
#include "verify/stats.h"

#include "core/alloc.h"
#include "core/rng.h"
#include "core/status.h"
#include "core/threads.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int by_value(const void *a, const void *b) {
    const pare_tagged *x = a, *y = b;
    if (x->value != y->value) return x->value < y->value ? -1 : 1;
    return x->unit < y->unit ? -1 : x->unit > y->unit;
}

void pare_tagged_sort(pare_tagged *v, size_t n) { qsort(v, n, sizeof *v, by_value); }

void pare_tagged_percentiles(const pare_tagged *v, size_t n, const uint32_t *count, const double *fractions,
                             size_t n_fractions, double *out) {
    size_t total = 0;
    if (!count) total = n;
    else
        for (size_t i = 0; i < n; i++) total += count[v[i].unit];
    size_t i = 0, seen = 0; /* seen: elements counted up to and including i - 1 */
    for (size_t f = 0; f < n_fractions; f++) {
        if (!total) {
            out[f] = NAN;
            continue;
        }
        double at = fractions[f] * (double)(total - 1);
        size_t low = (size_t)at;
        while (seen <= low) seen += count ? count[v[i].unit] : 1, i++;
        double a = v[i - 1].value, b = a;         /* a: the value of rank `low` */
        if (seen == low + 1 && low + 1 < total) { /* the next rank is another element */
            size_t k = i;
            while (count && !count[v[k].unit]) k++;
            b = v[k].value;
        }
        out[f] = a + (at - (double)low) * (b - a);
    }
}

/* Average ranks 1.. of the counted copies. */
static void rank(const pare_tagged *v, size_t n, const uint32_t *count, double *out) {
    double before = 0;
    for (size_t i = 0; i < n;) {
        size_t j = i;
        double weight = 0;
        for (; j < n && v[j].value == v[i].value; j++) weight += count ? count[v[j].unit] : 1;
        for (size_t k = i; k < j; k++) out[v[k].unit] = before + (weight + 1) / 2;
        before += weight;
        i = j;
    }
}

double pare_spearman(const pare_tagged *x, const pare_tagged *y, size_t n, const uint32_t *count, double *ranks_x,
                     double *ranks_y) {
    rank(x, n, count, ranks_x);
    rank(y, n, count, ranks_y);
    double total = 0, sxx = 0, syy = 0, sxy = 0;
    for (size_t i = 0; i < n; i++) total += count ? count[i] : 1;
    double mean = (total + 1) / 2; /* of ranks, also with ties */
    for (size_t i = 0; i < n; i++) {
        double w = count ? count[i] : 1, a = ranks_x[i] - mean, b = ranks_y[i] - mean;
        sxx += w * a * a, syy += w * b * b, sxy += w * a * b;
    }
    return sxx > 0 && syy > 0 ? sxy / sqrt(sxx * syy) : NAN;
}

typedef struct job {
    size_t n_units, n_stats;
    pare_resample_fn *fn;
    const void *ctx;
    uint64_t seed;
    uint32_t *counts; /* one row of n_units per thread */
    double *stats;    /* [PARE_RESAMPLES][n_stats] */
} job;

static void one_resample(void *ctx, size_t r) {
    job *j = ctx;
    uint32_t *count = j->counts + (size_t)pare_thread_index() * j->n_units;
    memset(count, 0, j->n_units * sizeof *count);
    pare_rng rng;
    pare_rng_seed(&rng, j->seed + r * UINT64_C(0x9E3779B97F4A7C15));
    for (size_t i = 0; i < j->n_units; i++) count[pare_rng_below(&rng, j->n_units)]++;
    j->fn(j->ctx, count, j->stats + r * j->n_stats);
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double percentile(const double *sorted, size_t n, double fraction) {
    double at = fraction * (double)(n - 1);
    size_t low = (size_t)at, next = low + 1 < n ? low + 1 : low;
    if (sorted[low] == sorted[next]) return sorted[low]; /* also infinities */
    return sorted[low] + (at - (double)low) * (sorted[next] - sorted[low]);
}

pare_status pare_bootstrap(size_t n_units, size_t n_stats, pare_resample_fn *fn, const void *ctx, uint64_t seed,
                           double *lo, double *hi, pare_diag *d) {
    pare_status s = PARE_OK;
    double column[PARE_RESAMPLES];
    job j = {n_units, n_stats, fn, ctx, seed, NULL, NULL};
    j.counts = pare_calloc((size_t)pare_threads() * n_units, sizeof *j.counts);
    j.stats = pare_calloc(PARE_RESAMPLES * n_stats, sizeof *j.stats);
    if (!j.counts || !j.stats) {
        s = pare_fail(d, PARE_ERR_NOMEM, NULL, "bootstrap", "no memory for %d resamples of %zu units", PARE_RESAMPLES,
                      n_units);
        goto done;
    }
    pare_parallel(PARE_RESAMPLES, 8, one_resample, &j);
    for (size_t k = 0; k < n_stats; k++) {
        size_t n = 0;
        for (size_t r = 0; r < PARE_RESAMPLES; r++)
            if (!isnan(j.stats[r * n_stats + k])) column[n++] = j.stats[r * n_stats + k];
        qsort(column, n, sizeof *column, ascending);
        lo[k] = n ? percentile(column, n, 0.025) : NAN;
        hi[k] = n ? percentile(column, n, 0.975) : NAN;
    }
done:
    pare_free(j.counts);
    pare_free(j.stats);
    return s;
}
