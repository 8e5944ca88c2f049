/* SPDX-License-Identifier: Apache-2.0
 *
 * Streaming metrics of language models. A statistic is a function of how often each window counts, so that the
 * estimate (every window once) and each bootstrap resample are the same code. */
#include "verify/lm_metrics.h"

#include "core/alloc.h"
#include "core/status.h"
#include "core/threads.h"
#include "verify/logit_row.h"
#include "verify/metrics.h"
#include "verify/stats.h"

#include <assert.h>
#include <math.h>
#include <string.h>

typedef struct position {
    double nll_p, nll_q, kl, dp, cosine, pp, diff2;
    bool same_top, hit_p, hit_q;
    int bad;
} position;
typedef struct window {
    double n, nll_p, nll_q, kl, dp2, dp, cosine, pp, diff2, same_top, hit_p, hit_q;
} window;

struct pare_lm_metrics {
    size_t vocab, n_windows, cap_windows, n, cap_kl, cap_dp, cap_row;
    window *windows;
    pare_tagged *kl, *dp; /* n positions, tagged with their window */
    position *row;        /* the window in hand */
    pare_logit_row_fn *sums;
};

pare_lm_metrics *pare_lm_metrics_new(size_t vocab) {
    pare_lm_metrics *m = pare_calloc(1, sizeof *m);
    if (m) m->vocab = vocab, m->sums = pare_logit_row_pick();
    return m;
}

void pare_lm_metrics_free(pare_lm_metrics **mp) {
    pare_lm_metrics *m = mp ? *mp : NULL;
    if (!m) return;
    pare_free(m->windows);
    pare_free(m->kl);
    pare_free(m->dp);
    pare_free(m->row);
    pare_free(m);
    *mp = NULL;
}

size_t pare_lm_metrics_windows(const pare_lm_metrics *m) { return m->n_windows; }
size_t pare_lm_metrics_positions(const pare_lm_metrics *m) { return m->n; }

static size_t first_max(const float *x, float max) {
    size_t i = 0;
    while (x[i] != max) i++;
    return i;
}

static bool all_finite(const float *x, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return false;
    return true;
}

typedef struct job {
    pare_lm_metrics *m;
    const float *p, *q;
    const int64_t *next;
} job;

static void one_position(void *ctx, size_t i) {
    const job *j = ctx;
    const float *p = j->p + i * j->m->vocab, *q = j->q + i * j->m->vocab;
    position *out = &j->m->row[i];
    pare_logit_sums s;
    j->m->sums(p, q, j->m->vocab, &s);
    *out = (position){.bad = -1};
    if (!isfinite(s.pp) || !isfinite(s.pq) || !isfinite(s.diff2)) {
        out->bad = all_finite(p, j->m->vocab) ? 1 : 0;
        return;
    }
    size_t t = (size_t)j->next[i], top_p = first_max(p, s.max_p), top_q = first_max(q, s.max_q);
    double log_zp = log(s.z_p), log_zq = log(s.z_q), qq = s.diff2 - s.pp + 2 * s.pq;
    out->nll_p = log_zp - ((double)p[t] - s.max_p);
    out->nll_q = log_zq - ((double)q[t] - s.max_q);
    out->kl = s.cross / s.z_p - log_zp + log_zq;
    if (out->kl < 0) out->kl = 0; /* rounding */
    out->dp = exp(-out->nll_q) - exp(-out->nll_p);
    out->same_top = top_p == top_q, out->hit_p = top_p == t, out->hit_q = top_q == t;
    out->pp = s.pp, out->diff2 = s.diff2;
    out->cosine = s.diff2 == 0 ? 1 : s.pp > 0 && qq > 0 ? s.pq / sqrt(s.pp * qq) : 0;
}

pare_status pare_lm_metrics_window(pare_lm_metrics *m, const float *p, const float *q, const int64_t *next, size_t n,
                                   pare_lm_bad *bad, pare_diag *d) {
    if (pare_grow((void **)&m->windows, &m->cap_windows, m->n_windows + 1, sizeof *m->windows) != PARE_OK ||
        pare_grow((void **)&m->kl, &m->cap_kl, m->n + n, sizeof *m->kl) != PARE_OK ||
        pare_grow((void **)&m->dp, &m->cap_dp, m->n + n, sizeof *m->dp) != PARE_OK ||
        pare_grow((void **)&m->row, &m->cap_row, n, sizeof *m->row) != PARE_OK)
        return pare_fail(d, PARE_ERR_NOMEM, NULL, "metrics", "no memory for %zu positions", m->n + n);
    for (size_t i = 0; i < n; i++) assert(next[i] >= 0 && (size_t)next[i] < m->vocab);
    job j = {m, p, q, next};
    pare_parallel(n, 4, one_position, &j);
    window w = {.n = (double)n};
    for (size_t i = 0; i < n; i++) {
        const position *x = &m->row[i];
        if (x->bad >= 0) {
            *bad = (pare_lm_bad){x->bad, i};
            return pare_fail(d, PARE_ERR_INPUT, NULL, NULL, "NaN or infinite logits at window %zu, position %zu",
                             m->n_windows, i);
        }
        w.nll_p += x->nll_p, w.nll_q += x->nll_q, w.kl += x->kl, w.dp += x->dp, w.dp2 += x->dp * x->dp;
        w.cosine += x->cosine, w.pp += x->pp, w.diff2 += x->diff2;
        w.same_top += x->same_top, w.hit_p += x->hit_p, w.hit_q += x->hit_q;
        m->kl[m->n + i] = (pare_tagged){x->kl, (uint32_t)m->n_windows};
        m->dp[m->n + i] = (pare_tagged){x->dp, (uint32_t)m->n_windows};
    }
    m->windows[m->n_windows++] = w;
    m->n += n;
    return PARE_OK;
}

/* The statistics of one (re)sample, in the order of `stat_of`: two columns' worth where the original has one too. */
enum {
    S_PPL_P,
    S_PPL,
    S_RATIO,
    S_KL,
    S_KL_MEDIAN,
    S_KL_90,
    S_KL_95,
    S_KL_99,
    S_KL_999,
    S_KL_MAX,
    S_TOP1,
    S_HIT_P,
    S_HIT,
    S_DP,
    S_DP_RMS,
    S_DP_1,
    S_DP_5,
    S_DP_MEDIAN,
    S_DP_95,
    S_DP_99,
    S_SQNR,
    S_COSINE,
    N_STATS
};
static const struct {
    int metric;
    bool original;
} stat_of[N_STATS] = {
    [S_PPL_P] = {PARE_M_LM_ppl, true},     [S_PPL] = {PARE_M_LM_ppl},
    [S_RATIO] = {PARE_M_LM_ppl_ratio},     [S_KL] = {PARE_M_LM_kl_mean},
    [S_KL_MEDIAN] = {PARE_M_LM_kl_median}, [S_KL_90] = {PARE_M_LM_kl_p90},
    [S_KL_95] = {PARE_M_LM_kl_p95},        [S_KL_99] = {PARE_M_LM_kl_p99},
    [S_KL_999] = {PARE_M_LM_kl_p999},      [S_KL_MAX] = {PARE_M_LM_kl_max},
    [S_TOP1] = {PARE_M_LM_top1},           [S_HIT_P] = {PARE_M_LM_accuracy, true},
    [S_HIT] = {PARE_M_LM_accuracy},        [S_DP] = {PARE_M_LM_dp_mean},
    [S_DP_RMS] = {PARE_M_LM_dp_rms},       [S_DP_1] = {PARE_M_LM_dp_p1},
    [S_DP_5] = {PARE_M_LM_dp_p5},          [S_DP_MEDIAN] = {PARE_M_LM_dp_median},
    [S_DP_95] = {PARE_M_LM_dp_p95},        [S_DP_99] = {PARE_M_LM_dp_p99},
    [S_SQNR] = {PARE_M_LM_sqnr},           [S_COSINE] = {PARE_M_LM_cosine_mean},
};

static void statistics(const void *ctx, const uint32_t *count, double *out) {
    static const double kl_at[] = {0.5, 0.9, 0.95, 0.99, 0.999, 1}, dp_at[] = {0.01, 0.05, 0.5, 0.95, 0.99};
    const pare_lm_metrics *m = ctx;
    window t = {0};
    for (size_t i = 0; i < m->n_windows; i++) {
        const double *x = (const double *)&m->windows[i], c = count ? count[i] : 1;
        for (size_t k = 0; k < sizeof t / sizeof(double); k++) ((double *)&t)[k] += c * x[k];
    }
    out[S_PPL_P] = exp(t.nll_p / t.n);
    out[S_PPL] = exp(t.nll_q / t.n);
    out[S_RATIO] = exp((t.nll_q - t.nll_p) / t.n);
    out[S_KL] = t.kl / t.n;
    pare_tagged_percentiles(m->kl, m->n, count, kl_at, 6, out + S_KL_MEDIAN);
    out[S_TOP1] = t.same_top / t.n;
    out[S_HIT_P] = t.hit_p / t.n;
    out[S_HIT] = t.hit_q / t.n;
    out[S_DP] = t.dp / t.n;
    out[S_DP_RMS] = sqrt(t.dp2 / t.n);
    pare_tagged_percentiles(m->dp, m->n, count, dp_at, 5, out + S_DP_1);
    out[S_SQNR] = t.diff2 > 0 ? 10 * log10(t.pp / t.diff2) : INFINITY;
    out[S_COSINE] = t.cosine / t.n;
}

static void histogram(const pare_lm_metrics *m, pare_verify_report *r) {
    r->has_histogram = true;
    for (size_t i = 0; i < m->n; i++) {
        double at = m->kl[i].value > 0 ? floor((log10(m->kl[i].value) + 8) * 4) : 0;
        r->kl_histogram[at < 0 ? 0 : at >= PARE_VERIFY_BINS ? PARE_VERIFY_BINS - 1 : (int)at]++;
    }
}

pare_status pare_lm_metrics_finish(pare_lm_metrics *m, uint64_t seed, int column, pare_verify_report *r, pare_diag *d) {
    assert(m->n > 0);
    double got[N_STATS], lo[N_STATS], hi[N_STATS];
    bool range = m->n_windows >= 2;
    pare_tagged_sort(m->kl, m->n);
    pare_tagged_sort(m->dp, m->n);
    statistics(m, NULL, got);
    if (range) PARE_TRY(pare_bootstrap(m->n_windows, N_STATS, statistics, m, seed, lo, hi, d));
    for (int i = 0; i < N_STATS; i++) {
        if (isnan(got[i]))
            return pare_fail(d, PARE_ERR_INPUT, NULL, pare_metric_at(stat_of[i].metric)->key,
                             "the metric is not a number");
        pare_metric_put(r, stat_of[i].metric, stat_of[i].original ? 0 : column, got[i], range ? &lo[i] : NULL,
                        range ? &hi[i] : NULL);
    }
    if (column == 1) histogram(m, r);
    return pare_report_status(r, d);
}
