/* SPDX-License-Identifier: Apache-2.0
 *
 * Scores to masks to weights (prune/solve.h). */
#include "prune/solve.h"

#include "calib/target.h"
#include "calib/sweep.h"
#include "core/alloc.h"
#include "core/status.h"
#include "core/threads.h"

#include <stdatomic.h>
#include <string.h>

#define CHUNK 64  /* rows that one thread takes at a time */
#define STEP  128 /* columns of the sweep whose weights compete */

static pare_status no_memory(const pare_prune_layer *l, pare_diag *d) {
    return pare_fail(d, PARE_ERR_NOMEM, NULL, l->name, "no memory for pruning %zu x %zu weights", l->rows, l->n);
}

static size_t gcd(size_t a, size_t b) { return b ? gcd(b, a % b) : a; }

size_t pare_prune_step(const pare_pattern_spec *s, size_t group, size_t n) {
    size_t unit = s->unit_cols, base = unit;
    bool grouped = group > 1 && group < n; /* one group for the whole row cuts nothing */
    if (!s->together) { /* a decision reaches no further than a unit: the later it falls, the better it is informed */
        if (!grouped || group % unit == 0 || unit % group == 0) return unit;
    }
    if (grouped) base = unit / gcd(unit, group) * group;
    return base > 512 ? 0 : base > STEP ? base : STEP / base * base;
}

/* Rows that must be seen at once: for the pattern, and for the scope. */
static size_t chunk_rows(const pare_prune_layer *l) {
    if (l->spec->together && l->scope != PARE_SCOPE_ROW) return l->rows;
    return (CHUNK + l->spec->unit_rows - 1) / l->spec->unit_rows * l->spec->unit_rows;
}

typedef struct work {
    const pare_prune_layer *l;
    float *moment;
    _Atomic bool failed;
} work;

static void mask_slice(const pare_prune_layer *l, const pare_score_in *in, size_t first, float *score, uint8_t *zero) {
    pare_mask_in m = {.spec = l->spec,
                      .sparsity = l->sparsity,
                      .by_row = l->scope == PARE_SCOPE_ROW,
                      .rows = in->rows,
                      .cols = in->cols,
                      .first = first,
                      .score = score,
                      .scratch = score + in->rows * in->cols,
                      .zero = zero};
    l->criterion->score(in, score);
    l->spec->kind->mask(&m);
}

static void below_limit(pare_prune_limit *limit, const float *score, size_t n, uint8_t *zero) {
    for (size_t i = 0; i < n; i++) {
        bool tie = score[i] == limit->below && limit->ties;
        limit->ties -= tie;
        zero[i] = score[i] < limit->below || tie;
    }
}

/* Rows of the layer without a sweep: zeros, everything else as it is. */
static void plain_item(void *ctx, size_t i) {
    work *k = ctx;
    const pare_prune_layer *l = k->l;
    size_t step = chunk_rows(l), r0 = i * step, rows = l->rows - r0 < step ? l->rows - r0 : step, n = rows * l->n;
    float *w = l->w + r0 * l->n, *score = pare_malloc(n * 2 * sizeof *score);
    uint8_t *zero = pare_calloc(n, 1);
    if (score && zero) {
        pare_score_in in = {.w = w, .rows = rows, .cols = l->n, .ld = l->n, .moment = k->moment};
        if (l->gradient) in.gradient = l->gradient + r0 * l->n;
        if (l->limit) {
            l->criterion->score(&in, score);
            below_limit(l->limit, score, n, zero);
        } else mask_slice(l, &in, 0, score, zero);
        for (size_t j = 0; j < n; j++)
            if (zero[j]) w[j] = 0;
    } else atomic_store(&k->failed, true);
    pare_free(score);
    pare_free(zero);
}

static pare_status plain(const pare_prune_layer *l, pare_diag *d) {
    work k = {.l = l};
    if (l->criterion->needs & PARE_NEEDS_MOMENTS) {
        if (!(k.moment = pare_malloc(l->n * sizeof *k.moment))) return no_memory(l, d);
        for (size_t j = 0; j < l->n; j++) k.moment[j] = (float)((double)l->s->h[j * l->n + j] / (double)l->s->tokens);
    }
    size_t step = chunk_rows(l);
    pare_parallel((l->rows + step - 1) / step, 1, plain_item, &k);
    pare_free(k.moment);
    return atomic_load(&k.failed) ? no_memory(l, d) : pare_is_interrupted() ? pare_interrupted(d) : PARE_OK;
}

static void choose(void *ctx, size_t row0, size_t rows, size_t first, size_t count, const float *w, size_t ld,
                   const float *inv_diag, uint8_t *zero) {
    work *k = ctx;
    float *score = pare_malloc(rows * count * 2 * sizeof *score);
    if (!score) {
        atomic_store(&k->failed, true);
        return;
    }
    pare_score_in in = {.w = w, .rows = rows, .cols = count, .ld = ld, .inv_diag = inv_diag};
    mask_slice(k->l, &in, first, score, zero);
    pare_free(score);
}

static pare_status swept(const pare_prune_layer *l, pare_diag *d) {
    work k = {.l = l};
    size_t group = l->type ? l->type->grid->group : 0;
    pare_sweep sweep = {.rows = l->rows,
                        .n = l->n,
                        .u = l->u,
                        .type = l->type,
                        .w = l->w,
                        .out = l->out,
                        .choose = choose,
                        .ctx = &k,
                        .step = pare_prune_step(l->spec, group, l->n),
                        .chunk_rows = chunk_rows(l)};
    if (l->s->c) {
        float *target = pare_malloc(l->rows * l->n * sizeof *target);
        if (!target) return no_memory(l, d);
        pare_status s = pare_target_for(l->rows, l->n, l->w, l->s, l->u, NULL, target, NULL, d);
        memcpy(l->w, target, l->rows * l->n * sizeof *target);
        pare_free(target);
        PARE_TRY(s);
    }
    PARE_TRY(pare_sweep_run(&sweep, d));
    return atomic_load(&k.failed) ? no_memory(l, d) : PARE_OK;
}

pare_status pare_prune_solve(const pare_prune_layer *l, pare_diag *d) {
    return l->criterion->needs & PARE_NEEDS_SWEEP ? swept(l, d) : plain(l, d);
}
