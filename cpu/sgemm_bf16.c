/* SPDX-License-Identifier: Apache-2.0
 *
 * Products of pairs of bf16 numbers for AVX512-BF16: the tiles of cpu/sgemm_avx512.c, two multiply-adds a lane. */
#include "cpu/matmul_kernels.h"

#include <immintrin.h>
#include <string.h>

void pare_bf16_along_bf16(const float *x, int64_t n, uint16_t *out) {
    for (int64_t i = 0; i < n; i += 32) {
        uint32_t m = n - i < 32 ? (1u << (n - i)) - 1 : UINT32_MAX;
        __m512 low = _mm512_maskz_loadu_ps((__mmask16)m, x + i), high = _mm512_setzero_ps();
        if (m >> 16) high = _mm512_maskz_loadu_ps((__mmask16)(m >> 16), x + i + 16);
        _mm512_storeu_si512(out + i, (__m512i)_mm512_cvtne2ps_pbh(high, low));
    }
}

void pare_bf16_across_bf16(const float *x, const float *next, int64_t n, float *out) {
    _Alignas(64) static const uint16_t pairs[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                    8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    const __m512i order = _mm512_load_si512(pairs);
    for (int64_t i = 0; i < n; i += 16) {
        __mmask16 m = n - i < 16 ? (__mmask16)((1u << (n - i)) - 1) : 0xFFFF;
        __m512 low = _mm512_maskz_loadu_ps(m, x + i), high = _mm512_setzero_ps();
        if (next) high = _mm512_maskz_loadu_ps(m, next + i);
        _mm512_storeu_si512(out + i, _mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh(high, low)));
    }
}

static inline __m512bh pair_of(const float *word) {
    int u;
    memcpy(&u, word, 4);
    return (__m512bh)_mm512_set1_epi32(u);
}

static inline void put(float *c, __mmask16 m, __m512 v, __m512 alpha, bool accumulate) {
    v = _mm512_mul_ps(v, alpha);
    if (accumulate) v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(m, c));
    _mm512_mask_storeu_ps(c, m, v);
}

/* m rows x nv vectors; instances for every m and nv keep all sums in registers. */
#define TILE(m, nv)                                                                                                    \
    static void tile_##m##_##nv(int64_t pairs, const float *a, int64_t a_row, int64_t a_col, const float *b,           \
                                __m512 alpha, float *c, int64_t ldc, __mmask16 last, bool accumulate) {                \
        __m512 s[m][nv];                                                                                               \
        for (int i = 0; i < m; i++)                                                                                    \
            for (int j = 0; j < nv; j++) s[i][j] = _mm512_setzero_ps();                                                \
        for (int64_t p = 0; p < pairs; p++, a += a_col, b += PARE_F32_COLS) {                                          \
            __m512bh w[nv];                                                                                            \
            _Pragma("GCC unroll 4") for (int j = 0; j < nv; j++) w[j] = (__m512bh)_mm512_load_si512(b + 16 * j);       \
            _Pragma("GCC unroll 6") for (int i = 0; i < m; i++) {                                                      \
                __m512bh v = pair_of(a + i * a_row);                                                                   \
                _Pragma("GCC unroll 4") for (int j = 0; j < nv; j++) s[i][j] = _mm512_dpbf16_ps(s[i][j], v, w[j]);     \
            }                                                                                                          \
        }                                                                                                              \
        for (int i = 0; i < m; i++)                                                                                    \
            for (int j = 0; j < nv; j++)                                                                               \
                put(c + i * ldc + 16 * j, j == nv - 1 ? last : (__mmask16)0xFFFF, s[i][j], alpha, accumulate);         \
    }
#define TILES(m) TILE(m, 1) TILE(m, 2) TILE(m, 3) TILE(m, 4)
TILES(1)
TILES(2)
TILES(3)
TILES(4)
TILES(5)
TILES(6)

typedef void tile_fn(int64_t, const float *, int64_t, int64_t, const float *, __m512, float *, int64_t, __mmask16,
                     bool);
#define ROW(m)                                                                                                         \
    { tile_##m##_1, tile_##m##_2, tile_##m##_3, tile_##m##_4 }
static tile_fn *const tiles[6][4] = {ROW(1), ROW(2), ROW(3), ROW(4), ROW(5), ROW(6)};

void pare_gemm_bf16_bf16(int64_t pairs, const float *a, int64_t a_row, int64_t a_col, int64_t m, const float *panel,
                         float alpha, float *c, int64_t ldc, int n, bool accumulate) {
    int nv = (n + 15) / 16, tail = n - 16 * (nv - 1);
    for (int64_t i = 0; i < m; i += 6) {
        int rows = (int)(m - i < 6 ? m - i : 6);
        tiles[rows - 1][nv - 1](pairs, a + i * a_row, a_row, a_col, panel, _mm512_set1_ps(alpha), c + i * ldc, ldc,
                                (__mmask16)((1u << tail) - 1), accumulate);
    }
}
