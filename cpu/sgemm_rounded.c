/* SPDX-License-Identifier: Apache-2.0
 *
 * f32 products in bf16 with f32 sums, where the processor has nothing for it: operands are rounded while they are
 * packed, and pare_sgemm's kernels multiply them. A block of A is rounded once for up to four panels of B. */
#include "cpu/matmul.h"
#include "cpu/matmul_kernels.h"

#include "core/threads.h"

#define ROWS   192 /* of A at a time: with the inner dimension's slab as much as the L2 holds beside a panel */
#define PANELS 4   /* of B that meet them */

typedef struct bf16_job {
    const pare_mm_table *t;
    bool trans_b;
    int64_t m, n, k, a_row, a_col, ldb, ldc, m_step, n_step, n_items;
    float alpha, beta;
    const float *a, *b;
    float *c;
} bf16_job;

/* Rows i0 .. i0+rows of op(A), columns k0 .. k0+kc, lying as A does: [rows][slab] or [kc][ROWS]. */
static void pack_a(const bf16_job *g, int64_t i0, int64_t rows, int64_t k0, int64_t kc, float *out) {
    const float *a = g->a + i0 * g->a_row + k0 * g->a_col;
    if (g->a_col == 1)
        for (int64_t i = 0; i < rows; i++) g->t->round_bf16(a + i * g->a_row, (size_t)kc, out + i * PARE_MM_SLAB);
    else
        for (int64_t k = 0; k < kc; k++) g->t->round_bf16(a + k * g->a_col, (size_t)rows, out + k * ROWS);
}

static void pack_b(const bf16_job *g, int64_t k0, int64_t kc, int64_t j0, int n, float *panel) {
    size_t padded = (size_t)(n + 15) / 16 * 16;
    pare_mm_panel(g->t, g->trans_b, g->b, g->ldb, k0, kc, j0, n, panel);
    for (int64_t k = 0; k < kc; k++) g->t->round_bf16(panel + k * PARE_F32_COLS, padded, panel + k * PARE_F32_COLS);
    pare_mm_panel_times(g->alpha, kc, n, panel);
}

static void item(void *ctx, size_t number) {
    const bf16_job *g = ctx;
    int64_t j0 = (int64_t)number % g->n_items * g->n_step, i0 = (int64_t)number / g->n_items * g->m_step;
    int64_t j1 = j0 + g->n_step < g->n ? j0 + g->n_step : g->n, rows = g->m - i0 < g->m_step ? g->m - i0 : g->m_step;
    int64_t row = g->a_col == 1 ? PARE_MM_SLAB : 1, col = g->a_col == 1 ? 1 : ROWS;
    _Alignas(64) float a[ROWS * PARE_MM_SLAB], panel[PARE_MM_SLAB * PARE_F32_COLS];
    bool add = g->beta != 0.0f;
    if (add && g->beta != 1.0f)
        for (int64_t i = i0; i < i0 + rows; i++)
            for (int64_t j = j0; j < j1; j++) g->c[i * g->ldc + j] *= g->beta;
    for (int64_t k0 = 0; k0 < g->k || k0 == 0; k0 += PARE_MM_SLAB, add = true) {
        int64_t kc = g->k - k0 < PARE_MM_SLAB ? g->k - k0 : PARE_MM_SLAB;
        pack_a(g, i0, rows, k0, kc, a);
        for (int64_t j = j0; j < j1; j += PARE_F32_COLS) {
            int n = (int)(j1 - j < PARE_F32_COLS ? j1 - j : PARE_F32_COLS);
            pack_b(g, k0, kc, j, n, panel);
            for (int64_t i = 0; i < rows; i += PARE_F32_ROWS)
                g->t->gemm_f32(kc, a + i * row, row, col, panel, g->c + (i0 + i) * g->ldc + j, g->ldc,
                               (int)(rows - i < PARE_F32_ROWS ? rows - i : PARE_F32_ROWS), n, add);
        }
    }
}

void pare_sgemm_bf16(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                     int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc) {
    if (m <= 0 || n <= 0) return;
    bf16_job g = {.t = pare_mm_kernels(),
                  .trans_b = trans_b,
                  .m = m,
                  .n = n,
                  .k = k,
                  .a_row = trans_a ? 1 : lda,
                  .a_col = trans_a ? lda : 1,
                  .ldb = ldb,
                  .ldc = ldc,
                  .m_step = m < ROWS ? m : ROWS,
                  .alpha = alpha,
                  .beta = beta,
                  .a = a,
                  .b = b,
                  .c = c};
    int64_t panels = (n + PARE_F32_COLS - 1) / PARE_F32_COLS, together = panels < PANELS ? panels : PANELS;
    int64_t blocks = (m + g.m_step - 1) / g.m_step;
    while (together > 1 && blocks * ((panels + together - 1) / together) < 8) together--; /* work for all threads */
    g.n_step = together * PARE_F32_COLS;
    g.n_items = (panels + together - 1) / together;
    pare_parallel((size_t)(g.n_items * blocks), 1, item, &g);
}
