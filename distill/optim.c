/* SPDX-License-Identifier: Apache-2.0
 *
 * AdamW and SGD, a run of elements at a time. */
#include "distill/optim.h"

#include "core/threads.h"

#include <math.h>

#define RUN PARE_UPDATE_RUN

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

static bool hidden(const pare_update *u, size_t i) { return u->mask && u->mask[i / 8] >> (i % 8) & 1; }

static void adamw(const pare_update *u, size_t first, size_t end) {
    float *w = u->w, *m = u->m, *v = u->v;
    for (size_t i = first; i < end; i++) {
        float g = u->g[i] * u->scale;
        m[i] = u->beta1 * m[i] + (1.0f - u->beta1) * g;
        v[i] = u->beta2 * v[i] + (1.0f - u->beta2) * (g * g);
        float step = m[i] * u->fix1 / (sqrtf(v[i] * u->fix2) + u->eps);
        w[i] -= u->rate * (u->unit ? u->unit[i] : 1.0f) * (step + u->decay * w[i]);
    }
}

static void sgd(const pare_update *u, size_t first, size_t end) {
    for (size_t i = first; i < end; i++) {
        u->v[i] = u->momentum * u->v[i] + u->g[i] * u->scale;
        float unit = u->unit ? u->unit[i] : 1.0f; /* squared: that of w / unit, back in w */
        u->w[i] -= u->rate * unit * unit * (u->v[i] + u->decay * u->w[i]);
    }
}

static void step_item(void *ctx, size_t item) {
    const pare_update *u = ctx;
    size_t first = item * PARE_UPDATE_RUN, end = u->n - first < PARE_UPDATE_RUN ? u->n : first + PARE_UPDATE_RUN;
    if (u->kind == PARE_UPDATE_ADAMW) adamw(u, first, end);
    else sgd(u, first, end);
    if (u->mask)
        for (size_t i = first; i < end; i++)
            if (hidden(u, i)) u->w[i] = 0;
    if (u->ema)
        for (size_t i = first; i < end; i++) u->ema[i] = u->keep * u->ema[i] + (1.0f - u->keep) * u->w[i];
}

pare_update pare_optim_update(const pare_optim *o, int64_t t, double norm, const pare_param *p) {
    double rise = (double)(1 + t) / (double)(10 + t);
    return (pare_update){.kind = o->kind == PARE_ADAMW ? PARE_UPDATE_ADAMW : PARE_UPDATE_SGD,
                         .n = p->n,
                         .g = p->g,
                         .w = p->w,
                         .m = p->m,
                         .v = p->v,
                         .ema = p->ema,
                         .unit = p->unit,
                         .mask = p->mask,
                         .scale = o->clip > 0 && norm > o->clip ? (float)(o->clip / norm) : 1.0f,
                         .rate = (float)pare_optim_rate(o, t),
                         .decay = p->decay ? (float)o->decay : 0,
                         .beta1 = (float)o->beta1,
                         .beta2 = (float)o->beta2,
                         .fix1 = (float)(1 / (1 - pow(o->beta1, (double)(t + 1)))),
                         .fix2 = (float)(1 / (1 - pow(o->beta2, (double)(t + 1)))),
                         .eps = (float)o->eps,
                         .momentum = (float)o->momentum,
                         .keep = (float)(o->ema < rise ? o->ema : rise)};
}

void pare_optim_step(const pare_optim *o, int64_t t, double norm, pare_param *p, size_t n) {
    for (size_t i = 0; i < n; i++) {
        pare_update u = pare_optim_update(o, t, norm, &p[i]);
        pare_parallel((p[i].n + PARE_UPDATE_RUN - 1) / PARE_UPDATE_RUN, 1, step_item, &u);
    }
}
