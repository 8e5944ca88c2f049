/* SPDX-License-Identifier: Apache-2.0
 *
 * f32 kernels for AVX2 and FMA: tiles of 6 x 16. */
#include "cpu/matmul_kernels.h"

#include <immintrin.h>
#include <string.h>

static float sum8(__m256 v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

static inline __m256 load_f32(const char *p) { return _mm256_loadu_ps((const float *)(const void *)p); }
static inline __m256 load_f16(const char *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}
static inline __m256 load_bf16(const char *p) {
    __m256i v = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(v, 16));
}

/* The tail is a zero-padded block of 8. */
#define DOT(type, bytes)                                                                                               \
    float pare_dot_##type##_avx2(const void *w, const float *x, size_t n) {                                            \
        const char *p = w;                                                                                             \
        __m256 s[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps()};            \
        size_t i = 0;                                                                                                  \
        for (; i + 32 <= n; i += 32) {                                                                                 \
            _mm_prefetch(p + bytes * i + 1024, _MM_HINT_T0);                                                           \
            for (size_t j = 0; j < 4; j++)                                                                             \
                s[j] = _mm256_fmadd_ps(load_##type(p + bytes * (i + 8 * j)), _mm256_loadu_ps(x + i + 8 * j), s[j]);    \
        }                                                                                                              \
        for (; i + 8 <= n; i += 8) s[0] = _mm256_fmadd_ps(load_##type(p + bytes * i), _mm256_loadu_ps(x + i), s[0]);   \
        if (i < n) {                                                                                                   \
            char wt[32] = {0};                                                                                         \
            float xt[8] = {0};                                                                                         \
            memcpy(wt, p + bytes * i, bytes * (n - i));                                                                \
            memcpy(xt, x + i, 4 * (n - i));                                                                            \
            s[1] = _mm256_fmadd_ps(load_##type(wt), _mm256_loadu_ps(xt), s[1]);                                        \
        }                                                                                                              \
        return sum8(_mm256_add_ps(_mm256_add_ps(s[0], s[1]), _mm256_add_ps(s[2], s[3])));                              \
    }
DOT(f32, 4)
DOT(f16, 2)
DOT(bf16, 2)

/* m x 16 outputs at column j of the panel. */
#define TILE(m)                                                                                                        \
    static void tile##m(int64_t kc, const float *a, int64_t a_row, int64_t a_col, const float *b, float *out) {        \
        __m256 s[m][2];                                                                                                \
        for (int i = 0; i < m; i++) s[i][0] = s[i][1] = _mm256_setzero_ps();                                           \
        for (int64_t k = 0; k < kc; k++, a += a_col, b += PARE_F32_COLS) {                                             \
            __m256 b0 = _mm256_load_ps(b), b1 = _mm256_load_ps(b + 8);                                                 \
            _Pragma("GCC unroll 6") for (int i = 0; i < m; i++) {                                                      \
                __m256 v = _mm256_broadcast_ss(a + i * a_row);                                                         \
                s[i][0] = _mm256_fmadd_ps(v, b0, s[i][0]);                                                             \
                s[i][1] = _mm256_fmadd_ps(v, b1, s[i][1]);                                                             \
            }                                                                                                          \
        }                                                                                                              \
        for (int i = 0; i < m; i++) {                                                                                  \
            _mm256_store_ps(out + 16 * i, s[i][0]);                                                                    \
            _mm256_store_ps(out + 16 * i + 8, s[i][1]);                                                                \
        }                                                                                                              \
    }
TILE(1)
TILE(2)
TILE(3)
TILE(4)
TILE(5)
TILE(6)

void pare_gemm_f32_avx2(int64_t kc, const float *a, int64_t a_row, int64_t a_col, const float *panel, float *c,
                        int64_t ldc, int m, int n, bool accumulate) {
    static void (*const tiles[])(int64_t, const float *, int64_t, int64_t, const float *,
                                 float *) = {tile1, tile2, tile3, tile4, tile5, tile6};
    _Alignas(32) float s[6 * 16];
    for (int j = 0; j < n; j += 16) {
        tiles[m - 1](kc, a, a_row, a_col, panel + j, s);
        int w = n - j < 16 ? n - j : 16;
        for (int i = 0; i < m; i++)
            for (int q = 0; q < w; q++)
                c[i * ldc + j + q] = accumulate ? c[i * ldc + j + q] + s[16 * i + q] : s[16 * i + q];
    }
}

void pare_round_bf16_avx2(const float *x, size_t n, float *out) {
    const __m256i one = _mm256_set1_epi32(1), half = _mm256_set1_epi32(0x7FFF), quiet = _mm256_set1_epi32(0x400000);
    const __m256 top = _mm256_castsi256_ps(_mm256_set1_epi32((int)0xFFFF0000));
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m256 f = _mm256_loadu_ps(x + i);
        __m256i u = _mm256_castps_si256(f), odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), one);
        __m256 r = _mm256_castsi256_ps(_mm256_add_epi32(u, _mm256_add_epi32(odd, half)));
        r = _mm256_blendv_ps(r, _mm256_castsi256_ps(_mm256_or_si256(u, quiet)), _mm256_cmp_ps(f, f, _CMP_UNORD_Q));
        _mm256_storeu_ps(out + i, _mm256_and_ps(r, top));
    }
    for (; i < n; i++) out[i] = pare_bf16_to_f32(pare_f32_to_bf16(x[i]));
}
