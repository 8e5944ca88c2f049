/* SPDX-License-Identifier: Apache-2.0
 *
 * f32-grade products from bf16 tiles. A number is cut into three terms of eight bits, x = x1 + x2 + x3, exactly, by
 * keeping the upper half of its word and going on with the rest; |x2| < 2^-7 |x|, |x3| < 2^-15 |x|. Of the nine
 * products of two such sums, x2 w3, x3 w2 and x3 w3 are left out: together less than 4.8e-7 |x w|. */
#include "cpu/amx_tile.h"
#include "cpu/matmul_kernels.h"

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))
#define TOKENS 32                  /* two tiles of 16 */
#define X_LD   (2 * PARE_MM_SLAB)  /* bytes from token to token */
#define W_LD   (4 * PARE_F32_COLS) /* bytes from one pair of columns to the next in a panel */

/* Tiles 0..3 hold sums (16 x 16 f32), 4 and 5 activations (16 tokens x 32 columns), 6 and 7 weights (16 pairs x 16
 * rows). */
static const pare_tile_config full_tiles = {.palette = 1,
                                            .colsb = {64, 64, 64, 64, 64, 64, 64, 64},
                                            .rows = {16, 16, 16, 16, 16, 16, 16, 16}};

typedef struct terms_x {
    _Alignas(64) uint16_t v[3][TOKENS][PARE_MM_SLAB];
} terms_x;

INLINE __m512i rest(__m512i v) {
    __m512 top = _mm512_castsi512_ps(_mm512_and_si512(v, _mm512_set1_epi32((int)0xFFFF0000)));
    return _mm512_castps_si512(_mm512_sub_ps(_mm512_castsi512_ps(v), top));
}

/* Term by term: upper halves of 32 words side by side, then what is left. */
void pare_terms_amx(const float *x, int64_t n, int terms, uint16_t *out, size_t ld) {
    _Alignas(64) static const uint16_t odd[32] = {1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
                                                  33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
    const __m512i upper = _mm512_load_si512(odd);
    for (int64_t i = 0; i < n; i += 32) {
        uint32_t m = n - i < 32 ? (1u << (n - i)) - 1 : UINT32_MAX;
        __m512i a = _mm512_maskz_loadu_epi32((__mmask16)m, x + i);
        __m512i b = m >> 16 ? _mm512_maskz_loadu_epi32((__mmask16)(m >> 16), x + i + 16) : _mm512_setzero_si512();
        for (int t = 0; t < terms; t++) {
            _mm512_storeu_si512(out + (size_t)t * ld + i, _mm512_permutex2var_epi16(a, upper, b));
            a = rest(a), b = rest(b);
        }
    }
}

/* Sums of 16 or 32 tokens and 32 stored rows over one slab, into sums [32][32]. */
INLINE void block(int64_t kc, const terms_x *x, int x_terms, const pare_terms_panel *w, int w_terms, int r0,
                  const bool two, float *sums) {
    PARE_TILE_ZERO(0);
    PARE_TILE_ZERO(1);
    if (two) PARE_TILE_ZERO(2);
    if (two) PARE_TILE_ZERO(3);
    for (int64_t k = 0; k < kc; k += 32)
        for (int q = w_terms - 1; q >= 0; q--) {
            const float *b = w->pairs[q][k / 2] + r0;
            PARE_TILE_LOAD(6, b, W_LD);
            PARE_TILE_LOAD(7, b + 16, W_LD);
            for (int p = x_terms - 1 < 2 - q ? x_terms - 1 : 2 - q; p >= 0; p--) { /* small products first */
                PARE_TILE_LOAD(4, x->v[p][0] + k, X_LD);
                PARE_TILE_DPBF16(0, 4, 6);
                PARE_TILE_DPBF16(1, 4, 7);
                if (!two) continue;
                PARE_TILE_LOAD(5, x->v[p][16] + k, X_LD);
                PARE_TILE_DPBF16(2, 5, 6);
                PARE_TILE_DPBF16(3, 5, 7);
            }
        }
    PARE_TILE_STORE(0, sums, 128);
    PARE_TILE_STORE(1, sums + 16, 128);
    if (two) PARE_TILE_STORE(2, sums + 16 * 32, 128);
    if (two) PARE_TILE_STORE(3, sums + 16 * 32 + 16, 128);
}

static void put_block(const float *sums, int tokens, int n, float *c, int64_t ldc, bool accumulate) {
    for (int t = 0; t < tokens; t++, sums += 32, c += ldc)
        for (int j = 0; j < n; j += 16) {
            __mmask16 m = n - j < 16 ? (__mmask16)((1u << (n - j)) - 1) : 0xFFFF;
            __m512 v = _mm512_load_ps(sums + j);
            if (accumulate) v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(m, c + j));
            _mm512_mask_storeu_ps(c + j, m, v);
        }
}

void pare_gemm_terms_amx(int64_t kc, const float *x, int64_t ldx, int64_t m, int x_terms, const pare_terms_panel *w,
                         int w_terms, float *c, int64_t ldc, int n, bool accumulate) {
    terms_x xt;
    _Alignas(64) float sums[TOKENS * 32];
    pare_tile_configure(&full_tiles);
    for (int64_t i = 0; i < m; i += TOKENS) {
        int tokens = (int)(m - i < TOKENS ? m - i : TOKENS);
        bool two = tokens > 16;
        for (int t = 0; t < tokens; t++)
            pare_terms_amx(x + (i + t) * ldx, kc, x_terms, xt.v[0][t], TOKENS * PARE_MM_SLAB);
        for (int p = 0; p < x_terms; p++)
            memset(xt.v[p][tokens], 0, (size_t)((two ? 32 : 16) - tokens) * sizeof xt.v[p][0]);
        for (int j = 0; j < n; j += 32) {
            const pare_terms_panel *panel = w + j / PARE_F32_COLS;
            if (two) block(kc, &xt, x_terms, panel, w_terms, j % PARE_F32_COLS, true, sums);
            else block(kc, &xt, x_terms, panel, w_terms, j % PARE_F32_COLS, false, sums);
            put_block(sums, tokens, n - j < 32 ? n - j : 32, c + i * ldc + j, ldc, accumulate);
        }
    }
    pare_tile_release();
}
