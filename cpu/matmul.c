/* SPDX-License-Identifier: Apache-2.0
 *
 * The frame of cpu/matmul.h. Activations are rounded once into the workspace; then items of up to 64 stored rows run in
 * parallel, each summing over the columns in the same order whatever the thread. */
#include "cpu/matmul.h"
#include "cpu/matmul_kernels.h"

#include "core/threads.h"

#include <assert.h>
#include <string.h>

#define FEW 4 /* up to so many tokens: row by row dot products instead of panels */

typedef struct mm_job {
    const pare_mm_table *t;
    const pare_tensor *w;
    pare_act_rule rule;
    bool integer; /* rows are read through s */
    pare_i8_source s;
    int64_t m, n, k, m_step, n_panels;
    const float *x;
    float *y, *rounded;
} mm_job;

static size_t row_bytes(const pare_tensor *w) { return pare_row_bytes(w->type, (size_t)pare_tensor_cols(w)); }

/* Columns first .. first+n (first a multiple of 256, n <= 256) of a stored row, exactly as the format's decode has
 * them; out holds 256. */
static void decode_part(const mm_job *g, int64_t row, size_t first, size_t n, float *out) {
    const pare_qtype *qt = g->w->type;
    const uint8_t *p = (const uint8_t *)g->w->data + (size_t)row * row_bytes(g->w);
    if (!g->integer) {
        qt->decode(qt, p + first / qt->block_elems * qt->block_bytes, out, n);
        return;
    }
    pare_i8_slab slab;
    g->t->expand(&g->s, p, first, n, &slab);
    g->t->decode_slab(&g->s, &slab, out);
}

static void round_item(void *ctx, size_t i) {
    mm_job *g = ctx;
    pare_act_round_row(g->rule, g->x + (int64_t)i * g->k, (size_t)g->k, g->rounded + (int64_t)i * g->k);
}

/* Few tokens: a row at a time, plain floats straight from storage. */
static void dot_item(void *ctx, size_t item) {
    const mm_job *g = ctx;
    const pare_qtype *qt = g->w->type;
    pare_dot_f32_fn *direct = qt == &pare_qtype_f32    ? g->t->dot_f32
                              : qt == &pare_qtype_f16  ? g->t->dot_f16
                              : qt == &pare_qtype_bf16 ? g->t->dot_bf16
                                                       : NULL;
    int64_t first = (int64_t)item * PARE_F32_COLS, end = first + PARE_F32_COLS < g->n ? first + PARE_F32_COLS : g->n;
    _Alignas(64) float buf[PARE_MM_SLAB];
    for (int64_t r = first; r < end; r++) {
        const char *row = (const char *)g->w->data + (size_t)r * row_bytes(g->w);
        if (direct) {
            for (int64_t i = 0; i < g->m; i++) g->y[i * g->n + r] = direct(row, g->x + i * g->k, (size_t)g->k);
            continue;
        }
        float s[FEW] = {0};
        for (int64_t k0 = 0; k0 < g->k; k0 += PARE_MM_SLAB) {
            size_t kc = (size_t)(g->k - k0 < PARE_MM_SLAB ? g->k - k0 : PARE_MM_SLAB);
            decode_part(g, r, (size_t)k0, kc, buf);
            for (int64_t i = 0; i < g->m; i++) s[i] += g->t->dot_f32(buf, g->x + i * g->k + k0, kc);
        }
        for (int64_t i = 0; i < g->m; i++) g->y[i * g->n + r] = s[i];
    }
}

/* Many tokens: 64 rows decoded to an f32 panel, slab by slab, all tokens of the item passing over each. */
static void panel_item(void *ctx, size_t item) {
    const mm_job *g = ctx;
    int64_t j0 = (int64_t)item % g->n_panels * PARE_F32_COLS, i0 = (int64_t)item / g->n_panels * g->m_step;
    int64_t i1 = i0 + g->m_step < g->m ? i0 + g->m_step : g->m;
    int n = (int)(g->n - j0 < PARE_F32_COLS ? g->n - j0 : PARE_F32_COLS);
    _Alignas(64) float panel[PARE_MM_SLAB * PARE_F32_COLS], rows[16 * PARE_MM_SLAB];
    for (int64_t k0 = 0; k0 < g->k; k0 += PARE_MM_SLAB) {
        int64_t kc = g->k - k0 < PARE_MM_SLAB ? g->k - k0 : PARE_MM_SLAB;
        for (int c = 0; c < n; c += 16) {
            int nc = n - c < 16 ? n - c : 16;
            for (int r = 0; r < nc; r++) decode_part(g, j0 + c + r, (size_t)k0, (size_t)kc, rows + r * PARE_MM_SLAB);
            g->t->panel_f32(rows, PARE_MM_SLAB, kc, nc, panel + c);
        }
        for (int64_t i = i0; i < i1; i += PARE_F32_ROWS)
            g->t->gemm_f32(kc, g->x + i * g->k + k0, g->k, 1, panel, g->y + i * g->n + j0, g->n,
                           (int)(i1 - i < PARE_F32_ROWS ? i1 - i : PARE_F32_ROWS), n, k0 > 0);
    }
}

size_t pare_matmul_stored_workspace(const pare_tensor *w, int64_t m, pare_act_round act) {
    pare_act_rule rule = pare_act_rule_for(w->type, act);
    pare_i8_source s;
    if (rule == PARE_RULE_NONE) return 0;
    if (pare_act_block(rule, 1) && pare_i8_source_of(w, &s)) return pare_matmul_i8_workspace(&s, m);
    return (size_t)m * (size_t)pare_tensor_cols(w) * sizeof(float);
}

void pare_matmul_stored(const pare_tensor *w, const float *x, float *y, int64_t m, pare_act_round act,
                        void *workspace) {
    mm_job g = {.t = pare_mm_kernels(),
                .w = w,
                .rule = pare_act_rule_for(w->type, act),
                .m = m,
                .n = pare_tensor_rows(w),
                .k = pare_tensor_cols(w),
                .x = x,
                .y = y,
                .rounded = workspace};
    assert(w->type->decode && g.k > 0 && pare_qtype_fits(w->type, (size_t)g.k));
    if (m <= 0 || g.n <= 0) return;
    g.integer = pare_i8_source_of(w, &g.s);
    if (g.integer && pare_act_block(g.rule, 1)) {
        pare_matmul_i8(&g.s, w->data, g.n, x, y, m, g.rule, workspace);
        return;
    }
    if (g.rule != PARE_RULE_NONE) {
        pare_parallel((size_t)m, 4, round_item, &g);
        g.x = g.rounded;
    }
    g.n_panels = (g.n + PARE_F32_COLS - 1) / PARE_F32_COLS;
    g.m_step = m < 384 ? m : 384;
    if (g.n_panels < 8 && m > 96) g.m_step = 96;
    if (m <= FEW) pare_parallel((size_t)g.n_panels, 1, dot_item, &g);
    else pare_parallel((size_t)(g.n_panels * ((m + g.m_step - 1) / g.m_step)), 1, panel_item, &g);
}
