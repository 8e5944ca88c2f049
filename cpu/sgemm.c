/* SPDX-License-Identifier: Apache-2.0
 *
 * f32 products, scalar kernels and the frame: B is packed in panels of 64 columns by 256 of the inner dimension, kept
 * in L2 on the stack; tiles of 6 rows pass over it. The order of sums depends on nothing but k. */
#include "cpu/matmul.h"
#include "cpu/matmul_kernels.h"

#include "core/threads.h"

#include <string.h>

float pare_dot_f32_ref(const void *w, const float *x, size_t n) {
    float s = 0;
    for (size_t i = 0; i < n; i++) {
        float v;
        memcpy(&v, (const char *)w + 4 * i, 4);
        s += v * x[i];
    }
    return s;
}

float pare_dot_f16_ref(const void *w, const float *x, size_t n) {
    float s = 0;
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, (const char *)w + 2 * i, 2);
        s += pare_f16_to_f32(h) * x[i];
    }
    return s;
}

float pare_dot_bf16_ref(const void *w, const float *x, size_t n) {
    float s = 0;
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, (const char *)w + 2 * i, 2);
        s += pare_bf16_to_f32(h) * x[i];
    }
    return s;
}

void pare_panel_f32_ref(const float *rows, int64_t ld, int64_t kc, int n, float *panel) {
    int padded = (n + 15) / 16 * 16;
    for (int64_t k = 0; k < kc; k++) {
        for (int c = 0; c < n; c++) panel[k * PARE_F32_COLS + c] = rows[c * ld + k];
        for (int c = n; c < padded; c++) panel[k * PARE_F32_COLS + c] = 0;
    }
}

void pare_gemm_f32_ref(int64_t kc, const float *a, int64_t a_row, int64_t a_col, const float *panel, float *c,
                       int64_t ldc, int m, int n, bool accumulate) {
    for (int i = 0; i < m; i++) {
        float s[PARE_F32_COLS] = {0};
        for (int64_t k = 0; k < kc; k++) {
            float v = a[i * a_row + k * a_col];
            for (int j = 0; j < n; j++) s[j] += v * panel[k * PARE_F32_COLS + j];
        }
        for (int j = 0; j < n; j++) c[i * ldc + j] = accumulate ? c[i * ldc + j] + s[j] : s[j];
    }
}

void pare_round_bf16_ref(const float *x, size_t n, float *out) {
    for (size_t i = 0; i < n; i++) out[i] = pare_bf16_to_f32(pare_f32_to_bf16(x[i]));
}

typedef struct sgemm_job {
    const pare_mm_table *t;
    bool trans_b;
    int64_t m, n, k, a_row, a_col, ldb, ldc, m_step, n_panels;
    float alpha, beta;
    const float *a, *b;
    float *c;
} sgemm_job;

void pare_mm_panel(const pare_mm_table *t, bool trans_b, const float *b, int64_t ldb, int64_t k0, int64_t kc,
                   int64_t j0, int n, float *panel) {
    if (trans_b) t->panel_f32(b + j0 * ldb + k0, ldb, kc, n, panel);
    else
        for (int64_t k = 0; k < kc; k++) {
            memcpy(panel + k * PARE_F32_COLS, b + (k0 + k) * ldb + j0, (size_t)n * sizeof(float));
            memset(panel + k * PARE_F32_COLS + n, 0, (size_t)((n + 15) / 16 * 16 - n) * sizeof(float));
        }
}

void pare_mm_panel_times(float alpha, int64_t kc, int n, float *panel) {
    if (alpha != 1.0f)
        for (int64_t i = 0; i < kc * PARE_F32_COLS; i++)
            if (i % PARE_F32_COLS < n) panel[i] *= alpha;
}

void pare_mm_times(float beta, int64_t m, int64_t n, float *c, int64_t ldc) {
    for (int64_t i = 0; i < m && beta != 1.0f; i++)
        for (int64_t j = 0; j < n; j++) c[i * ldc + j] *= beta;
}

static void sgemm_item(void *ctx, size_t item) {
    const sgemm_job *g = ctx;
    int64_t j0 = (int64_t)item % g->n_panels * PARE_F32_COLS, i0 = (int64_t)item / g->n_panels * g->m_step;
    int64_t i1 = i0 + g->m_step < g->m ? i0 + g->m_step : g->m;
    int n = (int)(g->n - j0 < PARE_F32_COLS ? g->n - j0 : PARE_F32_COLS);
    _Alignas(64) float panel[PARE_MM_SLAB * PARE_F32_COLS];
    bool add = g->beta != 0.0f;
    if (add) pare_mm_times(g->beta, i1 - i0, n, g->c + i0 * g->ldc + j0, g->ldc);
    for (int64_t k0 = 0; k0 < g->k || k0 == 0; k0 += PARE_MM_SLAB, add = true) {
        int64_t kc = g->k - k0 < PARE_MM_SLAB ? g->k - k0 : PARE_MM_SLAB;
        pare_mm_panel(g->t, g->trans_b, g->b, g->ldb, k0, kc, j0, n, panel);
        pare_mm_panel_times(g->alpha, kc, n, panel);
        for (int64_t i = i0; i < i1; i += PARE_F32_ROWS)
            g->t->gemm_f32(kc, g->a + i * g->a_row + k0 * g->a_col, g->a_row, g->a_col, panel, g->c + i * g->ldc + j0,
                           g->ldc, (int)(i1 - i < PARE_F32_ROWS ? i1 - i : PARE_F32_ROWS), n, add);
    }
}

void pare_sgemm(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda,
                const float *b, int64_t ldb, float beta, float *c, int64_t ldc) {
    if (m <= 0 || n <= 0) return;
    sgemm_job g = {.t = pare_mm_kernels(),
                   .trans_b = trans_b,
                   .m = m,
                   .n = n,
                   .k = k,
                   .ldb = ldb,
                   .ldc = ldc,
                   .alpha = alpha,
                   .beta = beta,
                   .a = a,
                   .b = b,
                   .c = c,
                   .m_step = m < 384 ? m : 384};
    g.a_row = trans_a ? 1 : lda;
    g.a_col = trans_a ? lda : 1;
    g.n_panels = (n + PARE_F32_COLS - 1) / PARE_F32_COLS;
    if (g.n_panels < 8 && m > 96) g.m_step = 96; /* few panels: cut rows finer, so that threads share the work */
    pare_parallel((size_t)(g.n_panels * ((m + g.m_step - 1) / g.m_step)), 1, sgemm_item, &g);
}
