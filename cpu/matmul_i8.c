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

#define FEW         3
#define MANY_STEP   528 /* tokens per item: a prompt batch of 512 in whole tiles, of six or sixteen */
#define MANY_PANELS 4   /* panels per item */
#define TALL_FROM   16  /* tokens from which tall tiles pay */
#define ROWS_MOST   128 /* stored rows per item, few tokens */
#define STREAMS     2   /* places of an item read side by side: memory answers them faster than one */
#define EXPAND_FOR  16  /* rows expanded before they are interleaved */

typedef struct i8_job {
    const pare_mm_table *t;
    pare_i8_source s;
    pare_act_rule rule;
    const uint8_t *w;
    const float *x;
    float *y;
    int64_t m, n, tiles, slabs, m_step, n_panels, per_item, n_groups, rows_step;
    char *rows;       /* prepared activation rows */
    char *tile;       /* [slabs][tiles] of pare_i8_tile, or pare_i8_tall; NULL for few tokens */
    int height;       /* tokens per tile */
    pare_row_fn *row; /* straight from storage, or NULL */
} i8_job;

static size_t tiles_bytes(size_t k, int64_t m, int height) {
    size_t tiles = (size_t)((m + height - 1) / height);
    return tiles * ((k + PARE_I8_SLAB - 1) / PARE_I8_SLAB) *
           (height == PARE_I8_TALL ? sizeof(pare_i8_tall) : sizeof(pare_i8_tile));
}

static void *tile_at(const i8_job *g, int64_t slab, int64_t tile) {
    size_t bytes = g->height == PARE_I8_TALL ? sizeof(pare_i8_tall) : sizeof(pare_i8_tile);
    return g->tile + (size_t)(slab * g->tiles + tile) * bytes;
}

size_t pare_matmul_i8_workspace(const pare_i8_source *s, int64_t m) {
    size_t rows = (size_t)m * pare_i8_act_bytes(s->k);
    if (m <= FEW) return rows;
    size_t low = tiles_bytes(s->k, m, PARE_I8_TOKENS), tall = m < TALL_FROM ? 0 : tiles_bytes(s->k, m, PARE_I8_TALL);
    return rows + (low > tall ? low : tall);
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

/* Rounds the rows of one tile; where panels follow, lays them out as tiles. */
static void prepare_item(void *ctx, size_t item) {
    i8_job *g = ctx;
    int64_t i0 = (int64_t)item * g->height, n = g->m - i0 < g->height ? g->m - i0 : g->height;
    pare_i8_act rows[PARE_I8_TALL];
    for (int64_t i = 0; i < n; i++)
        pare_i8_act_make(&g->s, g->rule, g->x + (i0 + i) * (int64_t)g->s.k, !g->tile, row_mem(g, i0 + i), &rows[i]);
    for (int64_t c = 0; g->tile && c < g->slabs; c++) {
        pare_i8_shape shape = shape_of(g, (size_t)c * PARE_I8_SLAB);
        void *tile = tile_at(g, c, (int64_t)item);
        if (g->height == PARE_I8_TALL) pare_i8_tall_make(&g->s, &shape, rows, (int)n, (size_t)c * PARE_I8_SLAB, tile);
        else pare_i8_tile_make(&g->s, &shape, rows, (int)n, (size_t)c * PARE_I8_SLAB, tile);
    }
}

static size_t slab_len(const i8_job *g, size_t c) { return g->s.k - c < PARE_I8_SLAB ? g->s.k - c : PARE_I8_SLAB; }

/* A slab is expanded while the one before is multiplied: loads wider than the stores before them would wait. */
static void few_row_expanded(const i8_job *g, const pare_i8_act *x, const uint8_t *row, float *sum) {
    pare_i8_slab slab[2];
    int at = 0;
    g->t->expand(&g->s, row, 0, slab_len(g, 0), &slab[0]);
    for (size_t c = 0; c < g->s.k; c += PARE_I8_SLAB, at ^= 1) {
        size_t next = c + PARE_I8_SLAB;
        if (next < g->s.k) g->t->expand(&g->s, row, next, slab_len(g, next), &slab[at ^ 1]);
        for (int64_t i = 0; i < g->m; i++) sum[i] += g->t->dot_i8(&g->s, &slab[at], &x[i], c);
    }
}

static void few_row(const i8_job *g, const pare_i8_act *x, int64_t r) {
    const uint8_t *row = g->w + (size_t)r * g->s.row_bytes;
    float sum[FEW] = {0};
    if (g->row)
        for (int64_t i = 0; i < g->m; i++) sum[i] = g->row(&g->s, row, &x[i]);
    else few_row_expanded(g, x, row, sum);
    for (int64_t i = 0; i < g->m; i++) g->y[i * g->n + r] = sum[i];
}

static void few_item(void *ctx, size_t item) {
    const i8_job *g = ctx;
    int64_t first = (int64_t)item * g->rows_step, end = first + g->rows_step < g->n ? first + g->rows_step : g->n;
    int64_t part = (end - first + STREAMS - 1) / STREAMS;
    pare_i8_act x[FEW];
    for (int64_t i = 0; i < g->m; i++) x[i] = pare_i8_act_at(g->s.k, row_mem(g, i));
    for (int64_t r = first; r < first + part; r++)
        for (int64_t q = r; q < end; q += part) few_row(g, x, q);
}

/* The slab at column c of stored rows j0 .. j0+n as a panel; missing rows repeat the last one. What the next slab will
 * want is asked for now: rows lie far apart, and no hardware prefetcher follows 32 of them. */
static void make_panel(const i8_job *g, int64_t j0, int n, size_t c, pare_i8_panel *p) {
    pare_i8_slab slabs[EXPAND_FOR];
    size_t len = g->s.k - c < PARE_I8_SLAB ? g->s.k - c : PARE_I8_SLAB;
    size_t slab_bytes = g->s.row_bytes * PARE_I8_SLAB / g->s.k, next = (c / PARE_I8_SLAB + 1) * slab_bytes;
    for (int r0 = 0; r0 < PARE_I8_ROWS; r0 += EXPAND_FOR) {
        for (int r = 0; r < EXPAND_FOR; r++) {
            const uint8_t *row = g->w + (size_t)(j0 + (r0 + r < n ? r0 + r : n - 1)) * g->s.row_bytes;
            g->t->expand(&g->s, row, c, len, &slabs[r]);
            for (size_t b = 0; b < slab_bytes && next + b < g->s.row_bytes; b += 64)
                __builtin_prefetch(row + next + b, 0, 2);
        }
        g->t->panel_i8(slabs, r0, p);
    }
}

/* All tokens of the item meet the panel of stored rows j0 .. j0+n at slab `slab`. */
static void pass_panel(const i8_job *g, int64_t j0, int n, int64_t slab, int64_t i0, int64_t i1, float *c) {
    pare_i8_panel panel;
    size_t first = (size_t)slab * PARE_I8_SLAB;
    pare_i8_shape shape = shape_of(g, first);
    make_panel(g, j0, n, first, &panel);
    if (g->height == PARE_I8_TALL) {
        g->t->gemm_i8_tall(&shape, &panel, tile_at(g, slab, i0 / PARE_I8_TALL), (int)(i1 - i0), c, slab > 0);
        return;
    }
    const pare_i8_tile *tile = tile_at(g, slab, i0 / PARE_I8_TOKENS);
    for (int64_t i = i0; i < i1; i += PARE_I8_TOKENS, c += PARE_I8_TOKENS * PARE_I8_ROWS, tile++)
        g->t->gemm_i8(&shape, &panel, tile, (int)(i1 - i < PARE_I8_TOKENS ? i1 - i : PARE_I8_TOKENS), c, slab > 0);
}

/* A slab of all tokens stays in L2 while the panels of the item pass over it. */
static void many_item(void *ctx, size_t item) {
    const i8_job *g = ctx;
    int64_t p0 = (int64_t)item % g->n_groups * g->per_item, i0 = (int64_t)item / g->n_groups * g->m_step;
    int64_t i1 = i0 + g->m_step < g->m ? i0 + g->m_step : g->m;
    int64_t panels = g->n_panels - p0 < g->per_item ? g->n_panels - p0 : g->per_item;
    _Alignas(64) float c[MANY_PANELS][MANY_STEP * PARE_I8_ROWS];
    for (int64_t slab = 0; slab < g->slabs; slab++)
        for (int64_t p = 0; p < panels; p++) {
            int64_t j0 = (p0 + p) * PARE_I8_ROWS;
            pass_panel(g, j0, (int)(g->n - j0 < PARE_I8_ROWS ? g->n - j0 : PARE_I8_ROWS), slab, i0, i1, c[p]);
        }
    int64_t j0 = p0 * PARE_I8_ROWS;
    for (int64_t i = i0; i < i1; i++)
        for (int64_t p = 0; p < panels; p++) {
            int64_t at = j0 + p * PARE_I8_ROWS, w = g->n - at < PARE_I8_ROWS ? g->n - at : PARE_I8_ROWS;
            memcpy(g->y + i * g->n + at, c[p] + (i - i0) * PARE_I8_ROWS, (size_t)w * sizeof(float));
        }
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
                .slabs = (int64_t)(s->k + PARE_I8_SLAB - 1) / PARE_I8_SLAB};
    g.height = g.t->gemm_i8_tall && m >= TALL_FROM ? PARE_I8_TALL : PARE_I8_TOKENS;
    g.tiles = (m + g.height - 1) / g.height;
    if (m > FEW) g.tile = g.rows + (size_t)m * pare_i8_act_bytes(s->k);
    g.row = pare_mm_row_kernel(g.t, s);
    pare_parallel((size_t)g.tiles, 1, prepare_item, &g);
    if (m <= FEW) {
        g.rows_step = n / (8 * pare_threads()); /* how items are cut changes no sum */
        g.rows_step = g.rows_step < 16 ? 16 : g.rows_step > ROWS_MOST ? ROWS_MOST : g.rows_step;
        pare_parallel((size_t)((n + g.rows_step - 1) / g.rows_step), 1, few_item, &g);
        return;
    }
    g.n_panels = (n + PARE_I8_ROWS - 1) / PARE_I8_ROWS;
    g.m_step = m < MANY_STEP ? g.tiles * g.height : MANY_STEP;
    if (g.n_panels < 8 && m > 96) g.m_step = 96;
    /* how items are cut changes no sum, so it may follow the number of threads */
    g.per_item = g.n_panels / (4 * pare_threads());
    g.per_item = g.per_item < 1 ? 1 : g.per_item > MANY_PANELS ? MANY_PANELS : g.per_item;
    g.n_groups = (g.n_panels + g.per_item - 1) / g.per_item;
    pare_parallel((size_t)(g.n_groups * ((m + g.m_step - 1) / g.m_step)), 1, many_item, &g);
}
