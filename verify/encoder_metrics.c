/* SPDX-License-Identifier: Apache-2.0
 *
 * Metrics of sentence encoders. */
#include "verify/encoder_metrics.h"

#include "core/alloc.h"
#include "core/status.h"
#include "core/threads.h"
#include "verify/dot_rows.h"
#include "verify/metrics.h"
#include "verify/stats.h"

#include <math.h>
#include <string.h>

typedef struct work {
    const pare_encoder_data *e;
    size_t k;
    pare_dot_rows_fn *dot;
    double *cosine, *pp, *diff2, *overlap; /* per sentence */
    size_t dim[2];
    float *unit_p, *unit_q;              /* [n, dim], length 1 */
    pare_tagged *sorted;                 /* cosines of sentences */
    pare_tagged *by_p, *by_q, *by_score; /* pairs, sorted by cosine and by score */
    double *ranks;                       /* per thread: 2 * n_pairs */
    uint32_t *best;                      /* per thread: 2 * k */
    float *best_value;
} work;

static bool same_width(const work *w) { return w->dim[0] == w->dim[1]; }

/* x scaled to length 1; returns the square of its length. */
static double scaled(const float *x, size_t dim, float *out) {
    double square = 0;
    for (size_t j = 0; j < dim; j++) square += (double)x[j] * x[j];
    double inverse = square > 0 ? 1 / sqrt(square) : 0;
    for (size_t j = 0; j < dim; j++) out[j] = (float)(x[j] * inverse);
    return square;
}

static void one_sentence(void *ctx, size_t i) {
    work *w = ctx;
    const float *p = w->e->p + i * w->dim[0], *q = w->e->q + i * w->dim[1];
    double pp = scaled(p, w->dim[0], w->unit_p + i * w->dim[0]), qq = scaled(q, w->dim[1], w->unit_q + i * w->dim[1]),
           pq = 0, diff2 = 0;
    for (size_t j = 0; same_width(w) && j < w->dim[0]; j++) {
        double a = p[j], b = q[j];
        pq += a * b, diff2 += (a - b) * (a - b);
    }
    double cosine = pp > 0 && qq > 0 ? pq / sqrt(pp * qq) : pp == qq; /* two zero vectors agree */
    w->cosine[i] = diff2 == 0 ? 1 : cosine > 1 ? 1 : cosine;
    w->pp[i] = pp, w->diff2[i] = diff2;
}

#define BLOCK 128 /* cosines at a time */

/* The k sentences nearest to sentence i, nearest first. */
static void nearest(const work *w, const float *unit, size_t dim, size_t i, uint32_t *best, float *value) {
    size_t n = w->e->n, k = w->k, have = 0;
    float cosine[BLOCK];
    for (size_t first = 0; first < n; first += BLOCK) {
        size_t m = n - first < BLOCK ? n - first : BLOCK;
        w->dot(unit + i * dim, unit + first * dim, m, dim, cosine);
        for (size_t j = first; j < first + m; j++) {
            float c = cosine[j - first];
            if (j == i || (have == k && !(c > value[k - 1]))) continue;
            size_t at = have < k ? have++ : k - 1;
            for (; at > 0 && c > value[at - 1]; at--) value[at] = value[at - 1], best[at] = best[at - 1];
            value[at] = c, best[at] = (uint32_t)j;
        }
    }
}

static void one_query(void *ctx, size_t i) {
    work *w = ctx;
    size_t k = w->k, t = (size_t)pare_thread_index();
    uint32_t *a = w->best + 2 * k * t, *b = a + k, same = 0;
    nearest(w, w->unit_p, w->dim[0], i, a, w->best_value + k * t);
    nearest(w, w->unit_q, w->dim[1], i, b, w->best_value + k * t);
    for (size_t x = 0; x < k; x++)
        for (size_t y = 0; y < k; y++) same += a[x] == b[y];
    w->overlap[i] = (double)same / (double)k;
}

enum { S_MEAN, S_P1, S_MIN, S_SQNR, S_OVERLAP, N_SENTENCE };
static void sentence_statistics(const void *ctx, const uint32_t *count, double *out) {
    static const double at[] = {0, 0.01};
    const work *w = ctx;
    double n = 0, cosine = 0, pp = 0, diff2 = 0, overlap = 0, low[2];
    for (size_t i = 0; i < w->e->n; i++) {
        double c = count ? count[i] : 1;
        n += c, cosine += c * w->cosine[i], pp += c * w->pp[i], diff2 += c * w->diff2[i], overlap += c * w->overlap[i];
    }
    pare_tagged_percentiles(w->sorted, w->e->n, count, at, 2, low);
    out[S_MEAN] = cosine / n, out[S_P1] = low[1], out[S_MIN] = low[0];
    out[S_SQNR] = diff2 > 0 ? 10 * log10(pp / diff2) : INFINITY;
    out[S_OVERLAP] = overlap / n;
}

enum { S_GOLD_P, S_GOLD_Q, S_MODELS, N_PAIR };
static void pair_statistics(const void *ctx, const uint32_t *count, double *out) {
    const work *w = ctx;
    size_t n = w->e->n_pairs;
    double *a = w->ranks + 2 * n * (size_t)pare_thread_index(), *b = a + n;
    out[S_GOLD_P] = pare_spearman(w->by_p, w->by_score, n, count, a, b);
    out[S_GOLD_Q] = pare_spearman(w->by_q, w->by_score, n, count, a, b);
    out[S_MODELS] = pare_spearman(w->by_q, w->by_p, n, count, a, b);
}

static bool finite_rows(const float *x, size_t n, size_t dim, size_t *row) {
    for (size_t i = 0; i < n * dim; i++)
        if (!isfinite(x[i])) return *row = i / dim, false;
    return true;
}

static void work_free(work *w) {
    void *all[] = {w->cosine, w->pp,   w->diff2,    w->overlap, w->unit_p, w->unit_q,    w->sorted,
                   w->by_p,   w->by_q, w->by_score, w->ranks,   w->best,   w->best_value};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) pare_free(all[i]);
}

static pare_status work_new(work *w, pare_diag *d) {
    size_t n = w->e->n, pairs = w->e->n_pairs, threads = (size_t)pare_threads();
    bool ok =
        (w->cosine = pare_calloc(n, sizeof(double))) && (w->pp = pare_calloc(n, sizeof(double))) &&
        (w->diff2 = pare_calloc(n, sizeof(double))) && (w->overlap = pare_calloc(n, sizeof(double))) &&
        (w->unit_p = pare_calloc(n * w->dim[0], sizeof(float))) &&
        (w->unit_q = pare_calloc(n * w->dim[1], sizeof(float))) && (w->sorted = pare_calloc(n, sizeof(pare_tagged))) &&
        (w->by_p = pare_calloc(pairs, sizeof(pare_tagged))) && (w->by_q = pare_calloc(pairs, sizeof(pare_tagged))) &&
        (w->by_score = pare_calloc(pairs, sizeof(pare_tagged))) &&
        (w->ranks = pare_calloc(2 * pairs * threads, sizeof(double))) &&
        (w->best = pare_calloc(2 * w->k * threads, sizeof(uint32_t))) &&
        (w->best_value = pare_calloc(w->k * threads, sizeof(float)));
    return ok ? PARE_OK : pare_fail(d, PARE_ERR_NOMEM, NULL, "metrics", "no memory for %zu sentences", n);
}

static void sort_pairs(work *w) {
    const pare_encoder_data *e = w->e;
    for (size_t i = 0; i < e->n_pairs; i++) {
        size_t a = e->pairs[i].a, b = e->pairs[i].b;
        float p, q;
        w->dot(w->unit_p + a * w->dim[0], w->unit_p + b * w->dim[0], 1, w->dim[0], &p);
        w->dot(w->unit_q + a * w->dim[1], w->unit_q + b * w->dim[1], 1, w->dim[1], &q);
        w->by_p[i] = (pare_tagged){p, (uint32_t)i};
        w->by_q[i] = (pare_tagged){q, (uint32_t)i};
        w->by_score[i] = (pare_tagged){e->pairs[i].score, (uint32_t)i};
    }
    pare_tagged_sort(w->by_p, e->n_pairs);
    pare_tagged_sort(w->by_q, e->n_pairs);
    pare_tagged_sort(w->by_score, e->n_pairs);
}

static pare_status sentences(work *w, uint64_t seed, int column, pare_verify_report *r, pare_diag *d) {
    static const int metric[N_SENTENCE] = {PARE_M_ENCODER_cosine_mean, PARE_M_ENCODER_cosine_p1,
                                           PARE_M_ENCODER_cosine_min, PARE_M_ENCODER_sqnr, PARE_M_ENCODER_overlap};
    double got[N_SENTENCE], lo[N_SENTENCE], hi[N_SENTENCE];
    size_t n = w->e->n;
    pare_parallel(n, 64, one_sentence, w);
    if (w->k) pare_parallel(n, 16, one_query, w);
    for (size_t i = 0; i < n; i++) w->sorted[i] = (pare_tagged){w->cosine[i], (uint32_t)i};
    pare_tagged_sort(w->sorted, n);
    sentence_statistics(w, NULL, got);
    if (n >= 2) PARE_TRY(pare_bootstrap(n, N_SENTENCE, sentence_statistics, w, seed, lo, hi, d));
    for (int i = 0; i < N_SENTENCE; i++)
        if (i == S_OVERLAP ? w->k > 0 : same_width(w))
            pare_metric_put(r, metric[i], column, got[i], n >= 2 ? &lo[i] : NULL, n >= 2 ? &hi[i] : NULL);
    return PARE_OK;
}

static pare_status pairs(work *w, uint64_t seed, int column, pare_verify_report *r, pare_diag *d) {
    double got[N_PAIR], lo[N_PAIR], hi[N_PAIR];
    sort_pairs(w);
    pair_statistics(w, NULL, got);
    for (int i = 0; i < N_PAIR; i++)
        if (isnan(got[i]))
            return pare_fail(d, PARE_ERR_INPUT, NULL, "pairs",
                             "%s: a rank correlation needs scores and cosines that are not all the same",
                             i == S_GOLD_P ? "original" : "reduced");
    PARE_TRY(pare_bootstrap(w->e->n_pairs, N_PAIR, pair_statistics, w, seed, lo, hi, d));
    pare_metric_put(r, PARE_M_ENCODER_spearman, 0, got[S_GOLD_P], &lo[S_GOLD_P], &hi[S_GOLD_P]);
    pare_metric_put(r, PARE_M_ENCODER_spearman, column, got[S_GOLD_Q], &lo[S_GOLD_Q], &hi[S_GOLD_Q]);
    pare_metric_put(r, PARE_M_ENCODER_spearman_models, column, got[S_MODELS], &lo[S_MODELS], &hi[S_MODELS]);
    return PARE_OK;
}

pare_status pare_encoder_metrics(const pare_encoder_data *e, uint64_t seed, int column, pare_verify_report *r,
                                 pare_encoder_bad *bad, pare_diag *d) {
    const size_t dim[2] = {e->dim, e->dim_q ? e->dim_q : e->dim};
    for (int m = 0; m < 2; m++)
        if (!finite_rows(m ? e->q : e->p, e->n, dim[m], &bad->sentence)) {
            bad->model = m;
            return pare_fail(d, PARE_ERR_INPUT, NULL, NULL, "NaN or infinite numbers in the embedding of sentence %zu",
                             bad->sentence);
        }
    work w = {.e = e,
              .dim = {dim[0], dim[1]},
              .dot = pare_dot_rows_pick(),
              .k = e->n > 1 ? (e->top_k < e->n - 1 ? e->top_k : e->n - 1) : 0};
    pare_status s = work_new(&w, d);
    if (s == PARE_OK) s = sentences(&w, seed, column, r, d);
    if (s == PARE_OK && e->n_pairs) s = pairs(&w, seed, column, r, d);
    work_free(&w);
    return s == PARE_OK ? pare_report_status(r, d) : s;
}
