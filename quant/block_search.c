/* SPDX-License-Identifier: Apache-2.0
 *
 * Fitting the parameters of the searched block formats. The sub-blocks of several blocks lie side by side (PARE_BATCH
 * lanes) and are fitted freely; then each block's scales and offsets are rounded to its small integers times d and
 * dmin, and every sub-block takes the neighbouring integers with the smallest weighted error under the stored
 * parameters. A block is scaled by a power of two first, so that neither tiny nor huge values leave the range of f32.
 */
#include "quant/block_grid.h"

#include "quant/lanes.h"

#include <math.h>
#include <string.h>

#define MAX_RUN 32

typedef struct batch {
    const pare_block_format *f;
    const pare_qops *ops;
    size_t blocks;            /* in this batch, each with f->subs lanes */
    int exponent[PARE_BATCH]; /* per block: values were multiplied by 2^-exponent */
    float mul[PARE_BATCH];    /* per lane */
    float x[MAX_RUN * PARE_BATCH], w[MAX_RUN * PARE_BATCH], q[MAX_RUN * PARE_BATCH];
    float s[PARE_BATCH], m[PARE_BATCH], sum_w[PARE_BATCH], sum_wx[PARE_BATCH];
} batch;

/* Exponent e with 2^-e * x in [0.5, 1); 0 for 0. */
static int exponent_of(float x) {
    int e = 0;
    (void)frexpf(x, &e);
    return e < -126 ? -126 : e;
}

static void load_values(batch *b, const float *w, size_t w_ld) {
    const float *src[PARE_BATCH] = {NULL};
    float lo[PARE_BATCH], hi[PARE_BATCH];
    size_t subs = b->f->subs;
    b->ops->minmax(w, w_ld, b->blocks, b->f->elems, lo, hi);
    for (size_t l = 0; l < PARE_BATCH; l++) {
        size_t block = l / subs;
        b->mul[l] = 1;
        if (block >= b->blocks) continue;
        b->exponent[block] = exponent_of(-lo[block] > hi[block] ? -lo[block] : hi[block]);
        b->mul[l] = ldexpf(1.0f, -b->exponent[block]);
        src[l] = w + block * w_ld + l % subs * b->f->run;
    }
    b->ops->batch_load(src, b->mul, b->f->run, b->x);
}

/* Importance of the lanes' columns, each scaled to at most 1; all equal where a sub-block has none. */
static void load_importance(batch *b, const float *importance) {
    static const float equal[MAX_RUN] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
                                         1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    const float *src[PARE_BATCH] = {NULL};
    float mul[PARE_BATCH], lo[PARE_BATCH], hi[PARE_BATCH];
    size_t subs = b->f->subs, run = b->f->run;
    b->ops->minmax(importance, run, subs, run, lo, hi);
    for (size_t l = 0; l < b->blocks * subs; l++) {
        size_t j = l % subs;
        src[l] = hi[j] > 0 ? importance + j * run : equal;
        mul[l] = hi[j] > 0 ? ldexpf(1.0f, -exponent_of(hi[j])) : 1;
    }
    for (size_t l = b->blocks * subs; l < PARE_BATCH; l++) mul[l] = 1;
    b->ops->batch_load(src, mul, (int)run, b->q);
}

static void set_weights(batch *b, const float *importance, const float *row_energy) {
    const pare_block_search *search = &b->f->search;
    float c[PARE_BATCH], total = 0;
    size_t subs = b->f->subs;
    b->ops->batch_energy(b->x, b->f->run, c);
    for (size_t l = 0; l < PARE_BATCH; l++) {
        if (!importance) {
            c[l] = search->rms * sqrtf(c[l] / b->f->run);
            continue;
        }
        if (l % subs == 0) {
            total = 0;
            for (size_t j = 0; j < subs; j++) total += c[l + j];
            total *= search->energy / b->f->elems;
            if (search->row_energy && row_energy &&
                l / subs < b->blocks) { /* in the batch's units; far above them any */
                double e = (double)row_energy[l / subs] * b->mul[l] * b->mul[l] * search->energy;
                total = e < 1e30 ? (float)e : 1e30f;
            }
        }
        c[l] = total;
    }
    b->ops->batch_weights(importance ? search->importance : search->weights, b->x, b->q, b->f->run, c, b->w);
}

static void search_lanes(batch *b) {
    const pare_block_format *f = b->f;
    const pare_block_search *s = &f->search;
    if (f->codebook) b->ops->search_iq4(b->x, b->w, f->run, s->tries, b->s);
    else if (f->offset)
        b->ops->search_asym(b->x, b->w, f->run, f->hi, s->first, s->step, s->steps, f->subs > 1, b->s, b->m, b->sum_w,
                            b->sum_wx);
    else b->ops->search_sym(b->x, b->w, f->run, f->lo, f->hi, s->tries, b->s);
}

static float stored(uint16_t h, float mul) { return pare_f16_to_f32(h) * mul; }

/* One scale per block, and for offsets m: value = d code + m. */
static void finish_single(const batch *b, pare_block_params *params) {
    for (size_t i = 0; i < b->blocks; i++) {
        params[i] = (pare_block_params){.d = pare_f16_scale(ldexpf(b->s[i], b->exponent[i]))};
        if (b->f->offset) params[i].m = pare_f16_scale(ldexpf(b->m[i], b->exponent[i]));
    }
}

static void evaluate(const batch *b, const float *a, const float *off, float *error, float *sum_wl) {
    if (b->f->codebook) b->ops->eval_iq4(b->x, b->w, b->f->run, a, error);
    else b->ops->eval_affine(b->x, b->w, b->f->run, b->f->lo, b->f->hi, a, off, error, sum_wl);
}

/* Signed integer scales: d so that the scale of largest magnitude is the lowest integer. */
static void finish_scales(const batch *b, pare_block_params *params) {
    const pare_block_search *search = &b->f->search;
    size_t subs = b->f->subs, lanes = b->blocks * subs;
    float d[PARE_BATCH], near[PARE_BATCH], a[PARE_BATCH], error[PARE_BATCH], unused[PARE_BATCH];
    static const float none[PARE_BATCH] = {0};
    float best[PARE_BATCH] = {0};
    for (size_t l = 0; l < PARE_BATCH; l++) d[l] = near[l] = 0;
    for (size_t i = 0; i < b->blocks; i++) {
        float top = 0;
        for (size_t j = 0; j < subs; j++)
            if (fabsf(b->s[i * subs + j]) > fabsf(top)) top = b->s[i * subs + j];
        params[i] = (pare_block_params){.d = pare_f16_scale(ldexpf(top / (float)search->sc_lo, b->exponent[i]))};
        for (size_t l = i * subs; l < (i + 1) * subs; l++) {
            d[l] = stored(params[i].d, b->mul[l]);
            near[l] = d[l] != 0 ? s_rne(s_clamp(b->s[l] / d[l], (float)search->sc_lo, (float)search->sc_hi)) : 0;
        }
    }
    for (int delta = 0; delta < 3; delta++) { /* 0, -1, +1 */
        float sc[PARE_BATCH];
        for (size_t l = 0; l < PARE_BATCH; l++) {
            sc[l] = s_clamp(near[l] + (float)(delta == 2 ? 1 : -delta), (float)search->sc_lo, (float)search->sc_hi);
            a[l] = d[l] * sc[l];
        }
        evaluate(b, a, none, error, unused);
        for (size_t l = 0; l < lanes; l++)
            if (delta == 0 || error[l] < best[l]) {
                best[l] = error[l];
                params[l / subs].sc[l % subs] = (int8_t)sc[l];
            }
    }
}

typedef struct offsets {
    float d[PARE_BATCH], dmin[PARE_BATCH]; /* as stored, in the batch's units */
    float sc[PARE_BATCH], mn[PARE_BATCH];  /* nearest integers of the free fit */
    float best[PARE_BATCH];
} offsets;

static void start_offsets(const batch *b, offsets *o, pare_block_params *params) {
    float top_sc = (float)b->f->search.sc_hi;
    size_t subs = b->f->subs;
    memset(o, 0, sizeof *o);
    for (size_t i = 0; i < b->blocks; i++) {
        float scale = 0, min = 0;
        for (size_t l = i * subs; l < (i + 1) * subs; l++) {
            if (b->s[l] > scale) scale = b->s[l];
            if (-b->m[l] > min) min = -b->m[l];
        }
        params[i] = (pare_block_params){.d = pare_f16_scale(ldexpf(scale / top_sc, b->exponent[i])),
                                        .m = pare_f16_scale(ldexpf(min / top_sc, b->exponent[i]))};
        for (size_t l = i * subs; l < (i + 1) * subs; l++) {
            o->d[l] = stored(params[i].d, b->mul[l]);
            o->dmin[l] = stored(params[i].m, b->mul[l]);
            o->sc[l] = o->d[l] != 0 ? s_rne(s_clamp(b->s[l] / o->d[l], 0, top_sc)) : 0;
            o->mn[l] = o->dmin[l] != 0 ? s_rne(s_clamp(-b->m[l] / o->dmin[l], 0, top_sc)) : 0;
        }
    }
}

static void take_offsets(const batch *b, offsets *o, const float *sc, const float *mn, bool first,
                         pare_block_params *params, float *sum_wl) {
    size_t subs = b->f->subs;
    float a[PARE_BATCH], off[PARE_BATCH], error[PARE_BATCH];
    for (size_t l = 0; l < PARE_BATCH; l++) {
        a[l] = o->d[l] * sc[l];
        off[l] = o->dmin[l] * mn[l];
    }
    evaluate(b, a, off, error, sum_wl);
    for (size_t l = 0; l < b->blocks * subs; l++)
        if (first || error[l] < o->best[l]) {
            o->best[l] = error[l];
            params[l / subs].sc[l % subs] = (int8_t)sc[l];
            params[l / subs].mn[l % subs] = (uint8_t)mn[l];
        }
}

/* Integer scales and offsets: for the nearest scale and both neighbours, the offset that suits the resulting codes. */
static void finish_offsets(const batch *b, pare_block_params *params) {
    float top_sc = (float)b->f->search.sc_hi, sum_wl[PARE_BATCH], sc[PARE_BATCH], mn[PARE_BATCH];
    offsets o;
    start_offsets(b, &o, params);
    take_offsets(b, &o, o.sc, o.mn, true, params, sum_wl);
    for (int delta = 0; delta < 3; delta++) {
        for (size_t l = 0; l < PARE_BATCH; l++) sc[l] = s_clamp(o.sc[l] + (float)(delta == 2 ? 1 : -delta), 0, top_sc);
        if (delta) take_offsets(b, &o, sc, o.mn, false, params, sum_wl);
        for (size_t l = 0; l < PARE_BATCH; l++) {
            float m = b->sum_w[l] > 0 ? (o.d[l] * sc[l] * sum_wl[l] - b->sum_wx[l]) / b->sum_w[l] : 0;
            mn[l] = o.dmin[l] != 0 ? s_rne(s_clamp(m / o.dmin[l], 0, top_sc)) : 0;
        }
        take_offsets(b, &o, sc, mn, false, params, sum_wl);
    }
}

void pare_block_search_fit(const pare_block_format *f, const float *w, size_t w_ld, const float *importance,
                           const float *row_energy, size_t rows, pare_block_params *params) {
    batch b = {.f = f, .ops = pare_qops_get()};
    size_t most = PARE_BATCH / f->subs;
    for (size_t r = 0; r < rows; r += most) {
        b.blocks = rows - r < most ? rows - r : most;
        load_values(&b, w + r * w_ld, w_ld);
        if (importance) load_importance(&b, importance);
        set_weights(&b, importance, row_energy ? row_energy + r : NULL);
        search_lanes(&b);
        if (f->subs == 1) finish_single(&b, params + r);
        else if (f->offset) finish_offsets(&b, params + r);
        else finish_scales(&b, params + r);
    }
}
