/* SPDX-License-Identifier: Apache-2.0
 *
 * Differences of two runs of numbers. */
#include "verify/diff.h"

#include "core/threads.h"

#include <math.h>

void pare_diff_init(pare_diff *x) { *x = (pare_diff){.bad = -1}; }

static double add8(const double v[8]) { return ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7])); }

void pare_diff_add(pare_diff *x, const float *p, const float *q, size_t n) {
    double pp[8] = {0}, qq[8] = {0}, pq[8] = {0}, dd[8] = {0}, most[8] = {0};
    for (size_t i = 0; i < n; i += 8) {
        double a[8] = {0}, b[8] = {0};
        size_t m = n - i < 8 ? n - i : 8;
        for (size_t j = 0; j < m; j++) a[j] = p[i + j], b[j] = q[i + j];
        for (int j = 0; j < 8; j++) {
            double diff = a[j] - b[j];
            pp[j] += a[j] * a[j], qq[j] += b[j] * b[j], pq[j] += a[j] * b[j], dd[j] += diff * diff;
            diff = fabs(diff);
            most[j] = diff > most[j] ? diff : most[j];
        }
    }
    double sum_p = add8(pp), sum_q = add8(qq);
    if (x->bad < 0 && !(isfinite(sum_p) && isfinite(sum_q))) x->bad = isfinite(sum_p);
    x->pp += sum_p, x->qq += sum_q, x->pq += add8(pq), x->diff2 += add8(dd), x->n += n;
    for (int j = 0; j < 8; j++)
        if (most[j] > x->max_error) x->max_error = most[j];
}

void pare_diff_merge(pare_diff *x, const pare_diff *y) {
    x->pp += y->pp, x->qq += y->qq, x->pq += y->pq, x->diff2 += y->diff2, x->n += y->n;
    if (y->max_error > x->max_error) x->max_error = y->max_error;
    if (x->bad < 0) x->bad = y->bad;
}

typedef struct rows_job {
    const float *p, *q;
    size_t cols;
    pare_diff *out;
} rows_job;

static void one_row(void *ctx, size_t i) {
    const rows_job *j = ctx;
    pare_diff_init(&j->out[i]);
    pare_diff_add(&j->out[i], j->p + i * j->cols, j->q + i * j->cols, j->cols);
}

void pare_diff_add_rows(pare_diff *x, const float *p, const float *q, size_t rows, size_t cols, pare_diff *per_row) {
    rows_job j = {p, q, cols, per_row};
    pare_parallel(rows, 4, one_row, &j);
    for (size_t i = 0; i < rows; i++) pare_diff_merge(x, &per_row[i]);
}

double pare_diff_sqnr_db(const pare_diff *x) {
    if (x->diff2 == 0) return INFINITY;
    return x->pp > 0 ? 10 * log10(x->pp / x->diff2) : -INFINITY;
}

double pare_diff_cosine(const pare_diff *x) {
    if (x->diff2 == 0) return 1;
    double c = x->pp > 0 && x->qq > 0 ? x->pq / sqrt(x->pp * x->qq) : 0;
    return c > 1 ? 1 : c;
}
