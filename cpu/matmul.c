/* SPDX-License-Identifier: Apache-2.0
 *
 * The frame of cpu/matmul.h. Activations are rounded once into the workspace; then items of up to 64 stored rows run in
 * parallel, each summing over the columns in the same order whatever the thread. */
#include "cpu/matmul.h"
#include "cpu/matmul_kernels.h"

#include "core/threads.h"

#include <assert.h>
#include <string.h>

#define TERMS_FROM   16 /* tokens from which tiles of bf16 terms pay */
#define TERMS_PANELS 2  /* panels per item of them */
#define FEW          4  /* up to so many tokens: row by row dot products instead of panels */

typedef struct mm_job {
    const pare_mm_table *t;
    const pare_tensor *w;
    pare_act_rule rule;
    bool integer; /* rows are read through s */
    pare_i8_source s;
    pare_sparse_view sparse; /* sparse floats */
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
    if (qt->sparse && !g->integer) {
        uint8_t values[PARE_MM_SLAB * 4];
        bool f32 = qt->sparse->bits == 32;
        g->t->sparse_slab(&g->sparse, p, first, n, f32 ? (void *)out : values);
        if (!f32) qt->sparse->dense->decode(qt->sparse->dense, values, out, n);
        return;
    }
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
        if (qt->sparse && !g->integer) {
            for (int64_t i = 0; i < g->m; i++)
                g->y[i * g->n + r] = g->t->sparse_dot(&g->sparse, (const uint8_t *)row, g->x + i * g->k);
            continue;
        }
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
    bool in_place = g->w->type == &pare_qtype_f32 && (uintptr_t)g->w->data % sizeof(float) == 0;
    const float *plain = in_place ? g->w->data : NULL; /* rows need no decoding */
    for (int64_t k0 = 0; k0 < g->k; k0 += PARE_MM_SLAB) {
        int64_t kc = g->k - k0 < PARE_MM_SLAB ? g->k - k0 : PARE_MM_SLAB;
        for (int c = 0; c < n; c += 16) {
            int nc = n - c < 16 ? n - c : 16;
            if (plain) {
                g->t->panel_f32(plain + (j0 + c) * g->k + k0, g->k, kc, nc, panel + c);
                continue;
            }
            for (int r = 0; r < nc; r++) decode_part(g, j0 + c + r, (size_t)k0, (size_t)kc, rows + r * PARE_MM_SLAB);
            g->t->panel_f32(rows, PARE_MM_SLAB, kc, nc, panel + c);
        }
        for (int64_t i = i0; i < i1; i += PARE_F32_ROWS)
            g->t->gemm_f32(kc, g->x + i * g->k + k0, g->k, 1, panel, g->y + i * g->n + j0, g->n,
                           (int)(i1 - i < PARE_F32_ROWS ? i1 - i : PARE_F32_ROWS), n, k0 > 0);
    }
}

/* bf16 terms that hold any value of the format's decode. */
static int terms_of(const pare_qtype *qt) {
    const pare_qtype *t = qt->int_format ? qt->int_format->scale_type
                          : qt->sparse   ? qt->sparse->dense
                                         : qt; /* what products are rounded to */
    return t == &pare_qtype_bf16 ? 1 : t == &pare_qtype_f16 ? 2 : 3;
}

/* Rows j0 .. j0+n, columns k0 .. k0+kc, as one panel. */
static void terms_panel(const mm_job *g, int64_t j0, int n, int64_t k0, int64_t kc, int terms, pare_terms_panel *p) {
    _Alignas(64) float row[PARE_MM_SLAB], pairs[3][16][PARE_MM_SLAB / 2];
    for (int c = 0; c < n; c += 16) {
        int nc = n - c < 16 ? n - c : 16;
        for (int r = 0; r < nc; r++) {
            decode_part(g, j0 + c + r, (size_t)k0, (size_t)kc, row);
            g->t->terms(row, kc, terms, (uint16_t *)(void *)pairs[0][r], 16 * PARE_MM_SLAB);
        }
        for (int t = 0; t < terms; t++)
            g->t->panel_f32(pairs[t][0], PARE_MM_SLAB / 2, (kc + 31) / 32 * 16, nc, p->pairs[t][0] + c);
    }
}

/* Many tokens with bf16 tiles: 128 rows decoded to terms, all tokens of the item passing over each slab. */
static void terms_item(void *ctx, size_t item) {
    const mm_job *g = ctx;
    int64_t j0 = (int64_t)item % g->n_panels * TERMS_PANELS * PARE_F32_COLS,
            i0 = (int64_t)item / g->n_panels * g->m_step;
    int64_t i1 = i0 + g->m_step < g->m ? i0 + g->m_step : g->m;
    int n = (int)(g->n - j0 < TERMS_PANELS * PARE_F32_COLS ? g->n - j0 : TERMS_PANELS * PARE_F32_COLS);
    int w_terms = terms_of(g->w->type), x_terms = g->rule == PARE_RULE_BF16 ? 1 : g->rule == PARE_RULE_F16 ? 2 : 3;
    pare_terms_panel panels[TERMS_PANELS];
    if (n % 32 && n % 32 <= 16) /* tiles come in pairs */
        for (int t = 0; t < w_terms; t++)
            for (int k = 0; k < PARE_MM_SLAB / 2; k++)
                memset(panels[n / PARE_F32_COLS].pairs[t][k] + n % PARE_F32_COLS / 32 * 32 + 16, 0, 64);
    for (int64_t k0 = 0; k0 < g->k; k0 += PARE_MM_SLAB) {
        int64_t kc = g->k - k0 < PARE_MM_SLAB ? g->k - k0 : PARE_MM_SLAB;
        for (int c = 0; c < n; c += PARE_F32_COLS)
            terms_panel(g, j0 + c, n - c < PARE_F32_COLS ? n - c : PARE_F32_COLS, k0, kc, w_terms,
                        &panels[c / PARE_F32_COLS]);
        g->t->gemm_terms(kc, g->x + i0 * g->k + k0, g->k, i1 - i0, x_terms, panels, w_terms, g->y + i0 * g->n + j0,
                         g->n, n, k0 > 0);
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
    if (w->type->sparse) g.sparse = pare_sparse_view_of(w->type, (size_t)g.k);
    if (g.integer && pare_act_block(g.rule, 1)) {
        pare_matmul_i8(&g.s, w->data, g.n, x, y, m, g.rule, workspace);
        return;
    }
    if (g.rule != PARE_RULE_NONE) {
        pare_parallel((size_t)m, 4, round_item, &g);
        g.x = g.rounded;
    }
    bool terms = g.t->gemm_terms && m >= TERMS_FROM;
    int64_t cols = terms ? TERMS_PANELS * PARE_F32_COLS : PARE_F32_COLS;
    g.n_panels = (g.n + cols - 1) / cols;
    g.m_step = m < 384 ? m : 384;
    if (g.n_panels < 8 && m > 96) g.m_step = 96;
    if (m <= FEW) pare_parallel((size_t)g.n_panels, 1, dot_item, &g);
    else pare_parallel((size_t)(g.n_panels * ((m + g.m_step - 1) / g.m_step)), 1, terms ? terms_item : panel_item, &g);
}
