/* SPDX-License-Identifier: Apache-2.0
 *
 * AdamW and SGD, a run of elements at a time. */
#include "distill/optim.h"

#include "core/threads.h"

#include <math.h>

#define RUN 16384 /* elements of one item */

double pare_optim_rate(const pare_optim *o, int64_t t) {
    if (t < o->warmup) return o->rate * (double)(t + 1) / (double)(o->warmup + 1);
    double span = (double)(o->steps - 1 - o->warmup), at = span > 0 ? (double)(t - o->warmup) / span : 1;
    if (at > 1) at = 1;
    double share = o->schedule == PARE_COSINE   ? 0.5 * (1 + cos(3.14159265358979323846 * at))
                   : o->schedule == PARE_LINEAR ? 1 - at
                                                : 1;
    if (o->schedule == PARE_CONSTANT) return o->rate;
    return o->rate * (o->min_rate + (1 - o->min_rate) * share);
}

typedef struct norm_job {
    const float *g;
    size_t n;
    double *sum; /* per run */
} norm_job;

static void norm_item(void *ctx, size_t i) {
    const norm_job *j = ctx;
    size_t first = i * RUN, end = j->n - first < RUN ? j->n : first + RUN;
    double s[4] = {0};
    for (size_t k = first; k < end; k++) s[k & 3] += (double)j->g[k] * (double)j->g[k];
    j->sum[i] = s[0] + s[1] + s[2] + s[3];
}

double pare_optim_norm(const pare_param *p, size_t n, const pare_param **bad) {
    enum { AT_ONCE = 256 }; /* runs */
    double total = 0, sum[AT_ONCE];
    *bad = NULL;
    for (size_t i = 0; i < n; i++) {
        double own = 0;
        for (size_t first = 0; first < p[i].n; first += (size_t)AT_ONCE * RUN) {
            size_t left = p[i].n - first, m = left < (size_t)AT_ONCE * RUN ? left : (size_t)AT_ONCE * RUN;
            size_t runs = (m + RUN - 1) / RUN;
            norm_job j = {p[i].g + first, m, sum};
            pare_parallel(runs, 1, norm_item, &j);
            for (size_t k = 0; k < runs; k++) own += sum[k];
        }
        if (!isfinite(own) && !*bad) *bad = &p[i];
        total += own;
    }
    return sqrt(total);
}

typedef struct step_job {
    const pare_optim *o;
    pare_param *p;
    float scale, rate, decay, beta1, beta2, fix1, fix2, eps, keep; /* fix: 1 / (1 - beta^t); keep: of the average */
} step_job;

static bool hidden(const pare_param *p, size_t i) { return p->mask && p->mask[i / 8] >> (i % 8) & 1; }

static void adamw(const step_job *j, const pare_param *p, size_t first, size_t end) {
    float *w = p->w, *m = p->m, *v = p->v;
    for (size_t i = first; i < end; i++) {
        float g = p->g[i] * j->scale;
        m[i] = j->beta1 * m[i] + (1.0f - j->beta1) * g;
        v[i] = j->beta2 * v[i] + (1.0f - j->beta2) * (g * g);
        float step = m[i] * j->fix1 / (sqrtf(v[i] * j->fix2) + j->eps);
        w[i] -= j->rate * (p->unit ? p->unit[i] : 1.0f) * (step + j->decay * w[i]);
    }
}

static void sgd(const step_job *j, const pare_param *p, size_t first, size_t end) {
    float momentum = (float)j->o->momentum;
    for (size_t i = first; i < end; i++) {
        p->v[i] = momentum * p->v[i] + p->g[i] * j->scale;
        float unit = p->unit ? p->unit[i] : 1.0f; /* squared: that of w / unit, back in w */
        p->w[i] -= j->rate * unit * unit * (p->v[i] + j->decay * p->w[i]);
    }
}

static void step_item(void *ctx, size_t item) {
    const step_job *j = ctx;
    const pare_param *p = j->p;
    size_t first = item * RUN, end = p->n - first < RUN ? p->n : first + RUN;
    if (j->o->kind == PARE_ADAMW) adamw(j, p, first, end);
    else sgd(j, p, first, end);
    if (p->mask)
        for (size_t i = first; i < end; i++)
            if (hidden(p, i)) p->w[i] = 0;
    if (p->ema)
        for (size_t i = first; i < end; i++) p->ema[i] = j->keep * p->ema[i] + (1.0f - j->keep) * p->w[i];
}

void pare_optim_step(const pare_optim *o, int64_t t, double norm, pare_param *p, size_t n) {
    double rise = (double)(1 + t) / (double)(10 + t);
    step_job j = {.o = o,
                  .scale = o->clip > 0 && norm > o->clip ? (float)(o->clip / norm) : 1.0f,
                  .rate = (float)pare_optim_rate(o, t),
                  .beta1 = (float)o->beta1,
                  .beta2 = (float)o->beta2,
                  .fix1 = (float)(1 / (1 - pow(o->beta1, (double)(t + 1)))),
                  .fix2 = (float)(1 / (1 - pow(o->beta2, (double)(t + 1)))),
                  .eps = (float)o->eps,
                  .keep = (float)(o->ema < rise ? o->ema : rise)};
    for (size_t i = 0; i < n; i++) {
        j.p = &p[i];
        j.decay = p[i].decay ? (float)o->decay : 0;
        pare_parallel((p[i].n + RUN - 1) / RUN, 1, step_item, &j);
    }
}
