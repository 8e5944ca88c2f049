/* SPDX-License-Identifier: Apache-2.0
 *
 * f32 products in bf16 with f32 sums. A block of A is packed once per slab of the inner dimension and meets several
 * panels of B; rounding is part of packing. Where the processor multiplies bf16 numbers both are packed as pairs, else
 * they are packed as rounded f32 and pare_sgemm's kernels multiply them. */
#include "cpu/matmul.h"
#include "cpu/matmul_kernels.h"

#include "core/threads.h"

#include <string.h>

#define PAIRS  (PARE_MM_SLAB / 2)
#define ROWS   (PARE_BF16_ROWS / 2) /* of A as f32: the same bytes, which the L2 holds beside panels */
#define PANELS 4                    /* of B that meet them */
#define TURNED 64                   /* rows turned round at a time */

typedef struct mixed_job {
    const pare_mm_table *t;
    bool trans_a, trans_b;
    int64_t m, n, k, lda, ldb, ldc, m_step, n_step, n_items;
    float alpha, beta;
    const float *a, *b;
    float *c;
} mixed_job;

typedef struct mixed_part { /* of a job: rows and columns of c, and a slab */
    int64_t i0, rows, j0, j1, k0, kc;
    bool add; /* to what c holds */
} mixed_part;

/* ---- rounded f32 ---- */

/* Rows of op(A) as A has them: [rows][slab] or [kc][ROWS]. */
static void pack_a(const mixed_job *g, const mixed_part *p, float *out) {
    if (g->trans_a)
        for (int64_t k = 0; k < p->kc; k++)
            g->t->round_bf16(g->a + (p->k0 + k) * g->lda + p->i0, (size_t)p->rows, out + k * ROWS);
    else
        for (int64_t i = 0; i < p->rows; i++)
            g->t->round_bf16(g->a + (p->i0 + i) * g->lda + p->k0, (size_t)p->kc, out + i * PARE_MM_SLAB);
}

static void pack_b(const mixed_job *g, const mixed_part *p, int64_t j, int n, float *panel) {
    size_t padded = (size_t)(n + 15) / 16 * 16;
    pare_mm_panel(g->t, g->trans_b, g->b, g->ldb, p->k0, p->kc, j, n, panel);
    if (padded == PARE_F32_COLS) g->t->round_bf16(panel, (size_t)p->kc * PARE_F32_COLS, panel);
    else
        for (int64_t k = 0; k < p->kc; k++)
            g->t->round_bf16(panel + k * PARE_F32_COLS, padded, panel + k * PARE_F32_COLS);
    pare_mm_panel_times(g->alpha, p->kc, n, panel);
}

static void slab_as_f32(const mixed_job *g, const mixed_part *p, float *a, float *panel) {
    int64_t row = g->trans_a ? 1 : PARE_MM_SLAB, col = g->trans_a ? ROWS : 1;
    pack_a(g, p, a);
    for (int64_t j = p->j0; j < p->j1; j += PARE_F32_COLS) {
        int n = (int)(p->j1 - j < PARE_F32_COLS ? p->j1 - j : PARE_F32_COLS);
        pack_b(g, p, j, n, panel);
        for (int64_t i = 0; i < p->rows; i += PARE_F32_ROWS)
            g->t->gemm_f32(p->kc, a + i * row, row, col, panel, g->c + (p->i0 + i) * g->ldc + j, g->ldc,
                           (int)(p->rows - i < PARE_F32_ROWS ? p->rows - i : PARE_F32_ROWS), n, p->add);
    }
}

/* ---- pairs ---- */

/* Pair q of the slab of a matrix whose inner dimension goes down, n of its columns from x on. */
static void pair_across(const mixed_job *g, const float *x, int64_t ld, const mixed_part *p, int64_t q, int64_t n,
                        float *out) {
    const float *at = x + (p->k0 + 2 * q) * ld;
    g->t->bf16_across(at, 2 * q + 1 < p->kc ? at + ld : NULL, n, out);
}

/* Rows of op(A), [rows][PAIRS], of a matrix that lies the other way round. */
static void pack_turned(const mixed_job *g, const mixed_part *p, float *out) {
    _Alignas(64) float words[TURNED * TURNED], rows[TURNED * PARE_F32_COLS];
    int64_t pairs = (p->kc + 1) / 2;
    for (int64_t i = 0; i < p->rows; i += TURNED)
        for (int64_t q = 0; q < pairs; q += TURNED) {
            int64_t ni = p->rows - i < TURNED ? p->rows - i : TURNED, nq = pairs - q < TURNED ? pairs - q : TURNED;
            for (int64_t s = 0; s < nq; s++) pair_across(g, g->a + p->i0 + i, g->lda, p, q + s, ni, words + s * TURNED);
            g->t->panel_f32(words, TURNED, ni, (int)nq, rows);
            for (int64_t r = 0; r < ni; r++)
                memcpy(out + (i + r) * PAIRS + q, rows + r * PARE_F32_COLS, (size_t)(nq + 15) / 16 * 16 * sizeof *out);
        }
}

/* As rows [rows][PAIRS]; for vectors, of a matrix that lies the other way round, as it lies: [pairs][rows]. */
static void pack_a_pairs(const mixed_job *g, const mixed_part *p, float *out) {
    if (g->trans_a && g->t->gemm_bf16_tiles) pack_turned(g, p, out);
    else if (g->trans_a)
        for (int64_t q = 0; 2 * q < p->kc; q++)
            pair_across(g, g->a + p->i0, g->lda, p, q, p->rows, out + q * PARE_BF16_ROWS);
    else
        for (int64_t i = 0; i < p->rows; i++)
            g->t->bf16_along(g->a + (p->i0 + i) * g->lda + p->k0, p->kc, (uint16_t *)(void *)(out + i * PAIRS));
    if (g->t->gemm_bf16_tiles) /* tiles read whole ones */
        memset(out + p->rows * PAIRS, 0, (size_t)((p->rows + 15) / 16 * 16 - p->rows) * PAIRS * sizeof *out);
}

static void pack_b_pairs(const mixed_job *g, const mixed_part *p, int64_t j, int n, float *panel) {
    _Alignas(64) float rows[16 * PAIRS];
    int64_t whole = (p->kc + 31) / 32 * 16; /* pairs up to a tile's end */
    if (g->t->gemm_bf16_tiles && (n < PARE_F32_COLS || p->kc % 32))
        memset(panel, 0, (size_t)whole * PARE_F32_COLS * sizeof *panel);
    if (!g->trans_b) {
        for (int64_t q = 0; 2 * q < p->kc; q++) pair_across(g, g->b + j, g->ldb, p, q, n, panel + q * PARE_F32_COLS);
        return;
    }
    for (int c = 0; c < n; c += 16) {
        int nc = n - c < 16 ? n - c : 16;
        for (int r = 0; r < nc; r++)
            g->t->bf16_along(g->b + (j + c + r) * g->ldb + p->k0, p->kc, (uint16_t *)(void *)(rows + r * PAIRS));
        g->t->panel_f32(rows, PAIRS, whole, nc, panel + c);
    }
}

static void slab_as_pairs(const mixed_job *g, const mixed_part *p, float *a, float *panel) {
    pare_gemm_bf16_fn *gemm = g->t->gemm_bf16_tiles ? g->t->gemm_bf16_tiles : g->t->gemm_bf16;
    bool as_it_lies = g->trans_a && !g->t->gemm_bf16_tiles;
    pack_a_pairs(g, p, a);
    for (int64_t j = p->j0; j < p->j1; j += PARE_F32_COLS) {
        int n = (int)(p->j1 - j < PARE_F32_COLS ? p->j1 - j : PARE_F32_COLS);
        pack_b_pairs(g, p, j, n, panel);
        gemm((p->kc + 1) / 2, a, as_it_lies ? 1 : PAIRS, as_it_lies ? PARE_BF16_ROWS : 1, p->rows, panel, g->alpha,
             g->c + p->i0 * g->ldc + j, g->ldc, n, p->add);
    }
}

/* ---- the frame ---- */

static bool has_pairs(const pare_mm_table *t) { return t->gemm_bf16_tiles || t->gemm_bf16 != pare_gemm_bf16_ref; }

static void item(void *ctx, size_t number) {
    const mixed_job *g = ctx;
    _Alignas(64) float a[PARE_BF16_ROWS * PAIRS], panel[PARE_MM_SLAB * PARE_F32_COLS];
    bool pairs = has_pairs(g->t);
    mixed_part p = {.j0 = (int64_t)number % g->n_items * g->n_step, .i0 = (int64_t)number / g->n_items * g->m_step};
    p.j1 = p.j0 + g->n_step < g->n ? p.j0 + g->n_step : g->n;
    p.rows = g->m - p.i0 < g->m_step ? g->m - p.i0 : g->m_step;
    p.add = g->beta != 0.0f;
    if (p.add) pare_mm_times(g->beta, p.rows, p.j1 - p.j0, g->c + p.i0 * g->ldc + p.j0, g->ldc);
    for (; p.k0 < g->k || p.k0 == 0; p.k0 += PARE_MM_SLAB, p.add = true) {
        p.kc = g->k - p.k0 < PARE_MM_SLAB ? g->k - p.k0 : PARE_MM_SLAB;
        if (pairs) slab_as_pairs(g, &p, a, panel);
        else slab_as_f32(g, &p, a, panel);
    }
}

/* Items: large, so that packing pays, and enough of them for all threads. No sum depends on it: blocks of rows begin at
 * multiples of 32. */
static void cut(mixed_job *g) {
    int64_t most = has_pairs(g->t) ? PARE_BF16_ROWS : ROWS, panels = (g->n + PARE_F32_COLS - 1) / PARE_F32_COLS;
    int64_t together = panels < PANELS ? panels : PANELS, items = pare_threads() > 1 ? 4 * pare_threads() : 1;
    while (together > 1 && (g->m + most - 1) / most * ((panels + together - 1) / together) < items) together--;
    while (most > 96 && (g->m + most - 1) / most * panels < items) most /= 2;
    g->m_step = g->m < most ? g->m : most;
    g->n_step = together * PARE_F32_COLS;
    g->n_items = (panels + together - 1) / together;
}

void pare_sgemm_bf16(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                     int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc) {
    if (m <= 0 || n <= 0) return;
    mixed_job g = {.t = pare_mm_kernels(),
                   .trans_a = trans_a,
                   .trans_b = trans_b,
                   .m = m,
                   .n = n,
                   .k = k,
                   .lda = lda,
                   .ldb = ldb,
                   .ldc = ldc,
                   .alpha = alpha,
                   .beta = beta,
                   .a = a,
                   .b = b,
                   .c = c};
    cut(&g);
    pare_parallel((size_t)(g.n_items * ((m + g.m_step - 1) / g.m_step)), 1, item, &g);
}
