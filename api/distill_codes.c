/* SPDX-License-Identifier: Apache-2.0
 *
 * Latents of a quantized matrix, and the codes nearest to them (api/distill_codes.h). What a group's codes can say is
 * asked of the grid itself: the ends of its range by snapping numbers far outside. */
#include "api/distill.h"

#include "core/status.h"
#include "core/threads.h"

#include <math.h>
#include <string.h>

#define SPAN 8.0f  /* steps to one unit of a latent: a rate that is good for scales then is good for codes */
#define FAR  1e30f /* beyond every range, and finite when divided by the smallest scale */

typedef struct line { /* one group of a thread */
    float *w, *low, *high;
    int8_t *codes, *code_low, *code_high, *tried;
    uint8_t *params;
} line;

typedef struct work {
    pare_codes *c;
    bool open;      /* latents from codes; else codes from latents */
    const float *w; /* open: what latents lean towards, or NULL */
    float share;
    size_t group, bytes;
    char *memory; /* a line for each thread */
} work;

static line line_of(const work *k) {
    char *p = k->memory + (size_t)pare_thread_index() * k->bytes;
    size_t g = k->group;
    float *f = (float *)p;
    int8_t *i = (int8_t *)(f + 3 * g);
    uint8_t *params = (uint8_t *)(p + (g * (3 * sizeof(float) + 4) + 63) / 64 * 64);
    return (line){f, f + g, f + 2 * g, i, i + g, i + 2 * g, i + 3 * g, params};
}

static void ends(const pare_qtype *q, const line *l, size_t g) {
    for (size_t i = 0; i < g; i++) l->w[i] = -FAR;
    q->grid->snap(q, l->params, g, l->w, g, 1, 0, g, l->code_low, g, l->low, g);
    for (size_t i = 0; i < g; i++) l->w[i] = FAR;
    q->grid->snap(q, l->params, g, l->w, g, 1, 0, g, l->code_high, g, l->high, g);
}

/* 0: all codes of the sub-block say the same. */
static float step_of(const line *l, size_t i) {
    int n = l->code_high[i] - l->code_low[i];
    return n ? (l->high[i] - l->low[i]) / (float)(n > 0 ? n : -n) : 0;
}

static float within(const line *l, size_t i, float v) { return fminf(fmaxf(v, l->low[i]), l->high[i]); }

/* Latents begin in the middle of their code: one that is pushed this way and that keeps it, one that is pushed one way
 * leaves. (At the original's weights, close decisions would be taken back by noise before anything is learned.) */
static void open_group(const pare_qtype *q, const line *l, size_t g, const uint8_t *block, float *at) {
    q->decode(q, block, l->w, g);
    for (size_t i = 0; i < g; i++) {
        float step = step_of(l, i) * SPAN;
        at[i] = step > 0 ? l->w[i] / step : 0;
    }
}

/* From the middle towards w, `share` of the way there, or to the border where w lies beyond it. */
static void lean_group(const line *l, size_t g, const float *w, float share, float *at) {
    for (size_t i = 0; i < g; i++) {
        float step = step_of(l, i), off = step > 0 ? (w[i] - l->w[i]) / step : 0;
        at[i] += share * fminf(fmaxf(off, -0.5f), 0.5f) / SPAN;
    }
}

static void snap_group(const pare_qtype *q, const line *l, size_t g, float *at, uint8_t *block, size_t stride) {
    for (size_t i = 0; i < g; i++) {
        float step = step_of(l, i) * SPAN, v = at[i] * step;
        l->w[i] = within(l, i, v);
        if (step > 0 && l->w[i] != v) at[i] = l->w[i] / step;
    }
    q->grid->snap(q, l->params, g, l->w, g, 1, 0, g, l->tried, g, NULL, 0);
    for (size_t i = 0; i < g; i++)
        if (step_of(l, i) > 0) l->codes[i] = l->tried[i];
    q->grid->pack(q, l->params, l->codes, g, 1, g, block, stride);
}

static void row_item(void *ctx, size_t r) {
    const work *k = ctx;
    const pare_scales *s = k->c->scales;
    const pare_qtype *q = s->type;
    line l = line_of(k);
    size_t g = k->group, group_bytes = q->block_elems ? pare_row_bytes(q, g) : s->row_bytes;
    for (size_t b = 0; b < s->cols / g; b++) {
        uint8_t *block = s->data + r * s->row_bytes + b * group_bytes;
        size_t first = r * s->cols + b * g;
        q->grid->unpack(q, block, s->row_bytes, 1, g, l.params, l.codes, g);
        ends(q, &l, g);
        if (k->open) open_group(q, &l, g, block, k->c->at + first);
        if (k->w) lean_group(&l, g, k->w + first, k->share, k->c->at + first);
        if (!k->open) snap_group(q, &l, g, k->c->at + first, block, s->row_bytes);
    }
}

static pare_status each_row(pare_codes *c, bool open, const float *w, float share, pare_diag *d) {
    const pare_scales *s = c->scales;
    work k = {.c = c, .open = open, .w = w, .share = share, .group = s->type->grid->group};
    if (!k.group) k.group = s->cols;
    k.bytes = (k.group * (3 * sizeof(float) + 4) + 63) / 64 * 64 + (s->type->grid->param_bytes + 63) / 64 * 64;
    if (!(k.memory = pare_malloc_aligned((size_t)pare_threads() * k.bytes)))
        return pare_fail(d, PARE_ERR_NOMEM, NULL, "codes", "no memory for a group per thread");
    pare_parallel(s->rows, 1, row_item, &k);
    pare_free(k.memory);
    return PARE_OK;
}

pare_status pare_codes_open(pare_scales *scales, pare_codes *out, pare_diag *d) {
    *out = (pare_codes){.scales = scales, .at = pare_malloc_aligned(scales->rows * scales->cols * sizeof(float))};
    if (!out->at) return pare_fail(d, PARE_ERR_NOMEM, NULL, "codes", "no memory for this matrix's latents");
    return each_row(out, true, NULL, 0, d);
}

pare_status pare_codes_lean(pare_codes *c, const float *w, float share, pare_diag *d) {
    return each_row(c, true, w, share, d);
}

void pare_codes_close(pare_codes *c) {
    pare_free(c->at);
    pare_free(c->zeros);
}

pare_status pare_codes_snap(pare_codes *c, pare_diag *d) { return each_row(c, false, NULL, 0, d); }
