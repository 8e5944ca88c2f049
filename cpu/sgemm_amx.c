/* SPDX-License-Identifier: Apache-2.0
 *
 * Products of bf16 numbers on tiles: 32 rows by 32 columns of c at a time, in four tiles of sums. */
#include "cpu/amx_tile.h"
#include "cpu/matmul_kernels.h"

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))
#define B_LD   (4 * PARE_F32_COLS) /* bytes from pair to pair of a panel */

/* Tiles 0..3 hold sums (16 x 16 f32), 4 and 5 rows of A (16 pairs each), 6 and 7 columns of B. */
static const pare_tile_config mixed_tiles = {.palette = 1,
                                             .colsb = {64, 64, 64, 64, 64, 64, 64, 64},
                                             .rows = {16, 16, 16, 16, 16, 16, 16, 16}};

/* Adds to sums at c (ldc in bytes), which are zeros at first when fresh. two: 32 rows, else 16; wide: 32 columns. */
INLINE void block_of(int64_t pairs, const float *a, int64_t lda, const float *b, bool fresh, const bool two,
                     const bool wide, float *c, int64_t ldc) {
    float *c2 = (float *)((char *)c + 16 * ldc);
    if (fresh) {
        PARE_TILE_ZERO(0);
        if (wide) PARE_TILE_ZERO(1);
        if (two) PARE_TILE_ZERO(2);
        if (two && wide) PARE_TILE_ZERO(3);
    } else {
        PARE_TILE_LOAD(0, c, ldc);
        if (wide) PARE_TILE_LOAD(1, c + 16, ldc);
        if (two) PARE_TILE_LOAD(2, c2, ldc);
        if (two && wide) PARE_TILE_LOAD(3, c2 + 16, ldc);
    }
    for (int64_t p = 0; p < pairs; p += 16) {
        PARE_TILE_LOAD(4, a + p, lda);
        if (two) PARE_TILE_LOAD(5, (const char *)(a + p) + 16 * lda, lda);
        PARE_TILE_LOAD(6, b + p * PARE_F32_COLS, B_LD);
        if (wide) PARE_TILE_LOAD(7, b + p * PARE_F32_COLS + 16, B_LD);
        PARE_TILE_DPBF16(0, 4, 6);
        if (wide) PARE_TILE_DPBF16(1, 4, 7);
        if (two) PARE_TILE_DPBF16(2, 5, 6);
        if (two && wide) PARE_TILE_DPBF16(3, 5, 7);
    }
    PARE_TILE_STORE(0, c, ldc);
    if (wide) PARE_TILE_STORE(1, c + 16, ldc);
    if (two) PARE_TILE_STORE(2, c2, ldc);
    if (two && wide) PARE_TILE_STORE(3, c2 + 16, ldc);
}

static void put_sums(const float *sums, int64_t rows, int n, float alpha, float *c, int64_t ldc, bool accumulate) {
    const __m512 by = _mm512_set1_ps(alpha);
    for (int64_t i = 0; i < rows; i++, sums += 32, c += ldc)
        for (int j = 0; j < n; j += 16) {
            __mmask16 m = n - j < 16 ? (__mmask16)((1u << (n - j)) - 1) : 0xFFFF;
            __m512 v = _mm512_mul_ps(_mm512_load_ps(sums + j), by);
            if (accumulate) v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(m, c + j));
            _mm512_mask_storeu_ps(c + j, m, v);
        }
}

/* Whole blocks are summed where they lie, others through a copy. */
void pare_gemm_bf16_tiles_amx(int64_t pairs, const float *a, int64_t a_row, int64_t a_col, int64_t m,
                              const float *panel, float alpha, float *c, int64_t ldc, int n, bool accumulate) {
    _Alignas(64) float sums[32 * 32];
    int64_t lda = 4 * a_row;
    pare_tile_configure(&mixed_tiles);
    for (int64_t i = 0; i < m; i += 32)
        for (int j = 0; j < n; j += 32) {
            int64_t rows = m - i < 32 ? m - i : 32;
            int cols = n - j < 32 ? n - j : 32;
            const float *ai = a + i * a_row, *b = panel + j;
            float *at = c + i * ldc + j;
            if (rows == 32 && cols == 32 && alpha == 1.0f) {
                block_of(pairs, ai, lda, b, !accumulate, true, true, at, 4 * ldc);
                continue;
            }
            if (rows > 16 && cols > 16) block_of(pairs, ai, lda, b, true, true, true, sums, 128);
            else if (rows > 16) block_of(pairs, ai, lda, b, true, true, false, sums, 128);
            else if (cols > 16) block_of(pairs, ai, lda, b, true, false, true, sums, 128);
            else block_of(pairs, ai, lda, b, true, false, false, sums, 128);
            put_sums(sums, rows, cols, alpha, at, ldc, accumulate);
        }
    pare_tile_release();
}
