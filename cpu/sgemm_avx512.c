/* SPDX-License-Identifier: Apache-2.0
 *
 * f32 kernels for AVX-512: tiles of 6 x 64, 24 sums in registers against 10 loads per step. */
#include "cpu/matmul_kernels.h"

#include <immintrin.h>

static inline __m512 load_f32(__mmask16 m, const char *p) { return _mm512_maskz_loadu_ps(m, p); }
static inline __m512 load_f16(__mmask16 m, const char *p) { return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, p)); }
static inline __m512 load_bf16(__mmask16 m, const char *p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, p)), 16));
}

/* Rows follow one another in memory, so prefetching past the end of one fetches the next. */
#define AHEAD 2048
#define DOT(type, bytes)                                                                                               \
    float pare_dot_##type##_avx512(const void *w, const float *x, size_t n) {                                          \
        const char *p = w;                                                                                             \
        __m512 s[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};            \
        size_t i = 0;                                                                                                  \
        for (; i + 64 <= n; i += 64) {                                                                                 \
            for (size_t j = 0; j < bytes; j++) _mm_prefetch(p + bytes * i + 64 * j + AHEAD, _MM_HINT_T0);              \
            _Pragma("GCC unroll 4") for (size_t j = 0; j < 4; j++) s[j] =                                              \
                _mm512_fmadd_ps(load_##type(0xFFFF, p + bytes * (i + 16 * j)), _mm512_loadu_ps(x + i + 16 * j), s[j]); \
        }                                                                                                              \
        for (; i < n; i += 16) {                                                                                       \
            __mmask16 m = n - i < 16 ? (__mmask16)((1u << (n - i)) - 1) : 0xFFFF;                                      \
            s[0] = _mm512_fmadd_ps(load_##type(m, p + bytes * i), _mm512_maskz_loadu_ps(m, x + i), s[0]);              \
        }                                                                                                              \
        return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(s[0], s[1]), _mm512_add_ps(s[2], s[3])));              \
    }
DOT(f32, 4)
DOT(f16, 2)
DOT(bf16, 2)

/* 16 rows of 16 values to 16 columns. */
static inline void transpose16(__m512 r[16]) {
    __m512 t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        for (int h = 0; h < 2; h++) {
            __m512d a = _mm512_castps_pd(t[i + h]), b = _mm512_castps_pd(t[i + 2 + h]);
            r[i + 2 * h] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
            r[i + 2 * h + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        }
    }
    for (int i = 0; i < 4; i++) { /* 4x4 transposition of 128-bit lanes among r[i], r[i+4], r[i+8], r[i+12] */
        __m512 a = _mm512_shuffle_f32x4(r[i], r[i + 4], 0x88), b = _mm512_shuffle_f32x4(r[i], r[i + 4], 0xDD);
        __m512 c = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0x88), d = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0xDD);
        t[i] = _mm512_shuffle_f32x4(a, c, 0x88);
        t[i + 4] = _mm512_shuffle_f32x4(b, d, 0x88);
        t[i + 8] = _mm512_shuffle_f32x4(a, c, 0xDD);
        t[i + 12] = _mm512_shuffle_f32x4(b, d, 0xDD);
    }
    for (int i = 0; i < 16; i++) r[i] = t[i];
}

void pare_panel_f32_avx512(const float *rows, int64_t ld, int64_t kc, int n, float *panel) {
    for (int c = 0; c < n; c += 16)
        for (int64_t k = 0; k < kc; k += 16) {
            __mmask16 m = kc - k < 16 ? (__mmask16)((1u << (kc - k)) - 1) : 0xFFFF;
            __m512 r[16];
            for (int i = 0; i < 16; i++)
                r[i] = c + i < n ? _mm512_maskz_loadu_ps(m, rows + (c + i) * ld + k) : _mm512_setzero_ps();
            transpose16(r);
            for (int i = 0; i < 16 && i < kc - k; i++) _mm512_store_ps(panel + (k + i) * PARE_F32_COLS + c, r[i]);
        }
}

static inline void put(float *c, __mmask16 m, __m512 v, bool accumulate) {
    if (accumulate) v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(m, c));
    _mm512_mask_storeu_ps(c, m, v);
}

/* m rows x nv vectors; instances for every m and nv keep all sums in registers. */
#define TILE(m, nv)                                                                                                    \
    static void tile_##m##_##nv(int64_t kc, const float *a, int64_t a_row, int64_t a_col, const float *b, float *c,    \
                                int64_t ldc, __mmask16 last, bool accumulate) {                                        \
        __m512 s[m][nv];                                                                                               \
        for (int i = 0; i < m; i++)                                                                                    \
            for (int j = 0; j < nv; j++) s[i][j] = _mm512_setzero_ps();                                                \
        for (int64_t k = 0; k < kc; k++, a += a_col, b += PARE_F32_COLS) {                                             \
            __m512 w[nv];                                                                                              \
            _Pragma("GCC unroll 4") for (int j = 0; j < nv; j++) w[j] = _mm512_load_ps(b + 16 * j);                    \
            _Pragma("GCC unroll 6") for (int i = 0; i < m; i++) {                                                      \
                __m512 v = _mm512_set1_ps(a[i * a_row]);                                                               \
                _Pragma("GCC unroll 4") for (int j = 0; j < nv; j++) s[i][j] = _mm512_fmadd_ps(v, w[j], s[i][j]);      \
            }                                                                                                          \
        }                                                                                                              \
        for (int i = 0; i < m; i++)                                                                                    \
            for (int j = 0; j < nv; j++)                                                                               \
                put(c + i * ldc + 16 * j, j == nv - 1 ? last : (__mmask16)0xFFFF, s[i][j], accumulate);                \
    }
#define TILES(m) TILE(m, 1) TILE(m, 2) TILE(m, 3) TILE(m, 4)
TILES(1)
TILES(2)
TILES(3)
TILES(4)
TILES(5)
TILES(6)

typedef void tile_fn(int64_t, const float *, int64_t, int64_t, const float *, float *, int64_t, __mmask16, bool);
#define ROW(m)                                                                                                         \
    { tile_##m##_1, tile_##m##_2, tile_##m##_3, tile_##m##_4 }
static tile_fn *const tiles[6][4] = {ROW(1), ROW(2), ROW(3), ROW(4), ROW(5), ROW(6)};

void pare_gemm_f32_avx512(int64_t kc, const float *a, int64_t a_row, int64_t a_col, const float *panel, float *c,
                          int64_t ldc, int m, int n, bool accumulate) {
    int nv = (n + 15) / 16, tail = n - 16 * (nv - 1);
    tiles[m - 1][nv - 1](kc, a, a_row, a_col, panel, c, ldc, (__mmask16)((1u << tail) - 1), accumulate);
}

void pare_round_bf16_avx512(const float *x, size_t n, float *out) {
    const __m512i one = _mm512_set1_epi32(1), half = _mm512_set1_epi32(0x7FFF), quiet = _mm512_set1_epi32(0x400000);
    const __m512i top = _mm512_set1_epi32((int)0xFFFF0000);
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = n - i < 16 ? (__mmask16)((1u << (n - i)) - 1) : 0xFFFF;
        __m512 f = _mm512_maskz_loadu_ps(m, x + i);
        __m512i u = _mm512_castps_si512(f), odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), one);
        __m512i r = _mm512_add_epi32(u, _mm512_add_epi32(odd, half));
        r = _mm512_mask_or_epi32(r, _mm512_cmp_ps_mask(f, f, _CMP_UNORD_Q), u, quiet);
        _mm512_mask_storeu_epi32(out + i, m, _mm512_and_si512(r, top));
    }
}
