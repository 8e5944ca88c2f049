/* SPDX-License-Identifier: Apache-2.0
 *
 * The frame of integer products. Few tokens: each stored row is read once and met by all tokens. Many: items of 32
 * stored rows and a run of tokens; each slab of the rows is expanded into a panel in L1, and the tiles of tokens pass
 * over it. */
#include "cpu/matmul_i8.h"
#include "cpu/matmul_kernels.h"

#include "core/threads.h"

#include <assert.h>
#include <string.h>

#define FEW        3
#define MANY_STEP  516 /* tokens per item: a prompt batch of 512 in whole tiles */
#define ROWS_STEP  32  /* stored rows per item, few tokens */
#define EXPAND_FOR 16  /* rows expanded before they are interleaved */

typedef struct i8_job {
    const pare_mm_table *t;
    pare_i8_source s;
    pare_act_rule rule;
    const uint8_t *w;
    const float *x;
    float *y;
    int64_t m, n, tiles, slabs, m_step, n_panels;
    char *rows;         /* prepared activation rows */
    pare_i8_tile *tile; /* [slabs][tiles] */
    pare_row_fn *row;   /* straight from storage, or NULL */
} i8_job;

static size_t tiles_bytes(size_t k, int64_t m) {
    size_t tiles = (size_t)(m + PARE_I8_TOKENS - 1) / PARE_I8_TOKENS;
    return tiles * ((k + PARE_I8_SLAB - 1) / PARE_I8_SLAB) * sizeof(pare_i8_tile);
}

size_t pare_matmul_i8_workspace(const pare_i8_source *s, int64_t m) {
    size_t rows = (size_t)m * pare_i8_act_bytes(s->k);
    return m <= FEW ? rows : rows + tiles_bytes(s->k, m);
}

static pare_i8_shape shape_of(const i8_job *g, size_t first) {
    bool by_slab = g->rule == PARE_RULE_Q8_K || g->rule == PARE_RULE_TOKEN;
    size_t n = g->s.k - first < PARE_I8_SLAB ? g->s.k - first : PARE_I8_SLAB;
    return (pare_i8_shape){.group = by_slab ? g->s.group : 32,
                           .blocks = (int)((n + 31) / 32),
                           .by_slab = by_slab,
                           .minima = g->s.minima,
                           .wide = g->s.wide};
}

static void *row_mem(const i8_job *g, int64_t i) { return g->rows + (size_t)i * pare_i8_act_bytes(g->s.k); }

/* Rounds six rows; where panels follow, lays them out as tiles. */
static void prepare_item(void *ctx, size_t item) {
    i8_job *g = ctx;
    int64_t i0 = (int64_t)item * PARE_I8_TOKENS, n = g->m - i0 < PARE_I8_TOKENS ? g->m - i0 : PARE_I8_TOKENS;
    pare_i8_act rows[PARE_I8_TOKENS];
    for (int64_t i = 0; i < n; i++)
        pare_i8_act_make(&g->s, g->rule, g->x + (i0 + i) * (int64_t)g->s.k, !g->tile, row_mem(g, i0 + i), &rows[i]);
    for (int64_t c = 0; g->tile && c < g->slabs; c++) {
        pare_i8_shape shape = shape_of(g, (size_t)c * PARE_I8_SLAB);
        pare_i8_tile_make(&g->s, &shape, rows, (int)n, (size_t)c * PARE_I8_SLAB,
                          &g->tile[c * g->tiles + (int64_t)item]);
    }
}

static void few_item(void *ctx, size_t item) {
    const i8_job *g = ctx;
    int64_t first = (int64_t)item * ROWS_STEP, end = first + ROWS_STEP < g->n ? first + ROWS_STEP : g->n;
    pare_i8_act x[FEW];
    pare_i8_slab slab;
    for (int64_t i = 0; i < g->m; i++) x[i] = pare_i8_act_at(g->s.k, row_mem(g, i));
    for (int64_t r = first; r < end; r++) {
        const uint8_t *row = g->w + (size_t)r * g->s.row_bytes;
        float sum[FEW] = {0};
        if (g->row)
            for (int64_t i = 0; i < g->m; i++) sum[i] = g->row(&g->s, row, &x[i]);
        else
            for (size_t c = 0; c < g->s.k; c += PARE_I8_SLAB) {
                g->t->expand(&g->s, row, c, g->s.k - c < PARE_I8_SLAB ? g->s.k - c : PARE_I8_SLAB, &slab);
                for (int64_t i = 0; i < g->m; i++) sum[i] += g->t->dot_i8(&g->s, &slab, &x[i], c);
            }
        for (int64_t i = 0; i < g->m; i++) g->y[i * g->n + r] = sum[i];
    }
}

/* The slab at column c of stored rows j0 .. j0+n as a panel; missing rows repeat the last one. */
static void make_panel(const i8_job *g, int64_t j0, int n, size_t c, pare_i8_panel *p) {
    pare_i8_slab slabs[EXPAND_FOR];
    size_t len = g->s.k - c < PARE_I8_SLAB ? g->s.k - c : PARE_I8_SLAB;
    for (int r0 = 0; r0 < PARE_I8_ROWS; r0 += EXPAND_FOR) {
        for (int r = 0; r < EXPAND_FOR; r++) {
            int at = r0 + r < n ? r0 + r : n - 1;
            g->t->expand(&g->s, g->w + (size_t)(j0 + at) * g->s.row_bytes, c, len, &slabs[r]);
        }
        g->t->panel_i8(slabs, r0, p);
    }
}

static void many_item(void *ctx, size_t item) {
    const i8_job *g = ctx;
    int64_t j0 = (int64_t)item % g->n_panels * PARE_I8_ROWS, i0 = (int64_t)item / g->n_panels * g->m_step;
    int64_t i1 = i0 + g->m_step < g->m ? i0 + g->m_step : g->m;
    int n = (int)(g->n - j0 < PARE_I8_ROWS ? g->n - j0 : PARE_I8_ROWS);
    _Alignas(64) float c[MANY_STEP * PARE_I8_ROWS];
    pare_i8_panel panel;
    for (int64_t slab = 0; slab < g->slabs; slab++) {
        size_t first = (size_t)slab * PARE_I8_SLAB;
        pare_i8_shape shape = shape_of(g, first);
        make_panel(g, j0, n, first, &panel);
        for (int64_t i = i0; i < i1; i += PARE_I8_TOKENS) {
            int tokens = (int)(i1 - i < PARE_I8_TOKENS ? i1 - i : PARE_I8_TOKENS);
            g->t->gemm_i8(&shape, &panel, &g->tile[slab * g->tiles + i / PARE_I8_TOKENS], tokens,
                          c + (i - i0) * PARE_I8_ROWS, slab > 0);
        }
    }
    for (int64_t i = i0; i < i1; i++)
        memcpy(g->y + i * g->n + j0, c + (i - i0) * PARE_I8_ROWS, (size_t)n * sizeof(float));
}

void pare_matmul_i8(const pare_i8_source *s, const void *w, int64_t n, const float *x, float *y, int64_t m,
                    pare_act_rule rule, void *workspace) {
    i8_job g = {.t = pare_mm_kernels(),
                .s = *s,
                .rule = rule,
                .w = w,
                .x = x,
                .y = y,
                .m = m,
                .n = n,
                .rows = workspace,
                .tiles = (m + PARE_I8_TOKENS - 1) / PARE_I8_TOKENS,
                .slabs = (int64_t)(s->k + PARE_I8_SLAB - 1) / PARE_I8_SLAB};
    if (m > FEW) g.tile = (pare_i8_tile *)(void *)(g.rows + (size_t)m * pare_i8_act_bytes(s->k));
    g.row = pare_mm_row_kernel(g.t, s);
    pare_parallel((size_t)g.tiles, 1, prepare_item, &g);
    if (m <= FEW) {
        pare_parallel((size_t)((n + ROWS_STEP - 1) / ROWS_STEP), 1, few_item, &g);
        return;
    }
    g.n_panels = (n + PARE_I8_ROWS - 1) / PARE_I8_ROWS;
    g.m_step = m < MANY_STEP ? g.tiles * PARE_I8_TOKENS : MANY_STEP;
    if (g.n_panels < 8 && m > 96) g.m_step = 96;
    pare_parallel((size_t)(g.n_panels * ((m + g.m_step - 1) / g.m_step)), 1, many_item, &g);
}
