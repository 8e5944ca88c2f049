/* SPDX-License-Identifier: Apache-2.0
 *
 * Integer products with AVX2: tiles of 8 rows x 4 tokens; codes above 63 take even and odd activation bytes apart,
 * since a pair of products would overflow 16 bits. */
#include "cpu/matmul_kernels.h"

#include <immintrin.h>

static inline __attribute__((always_inline)) __m256i dot4(__m256i sum, __m256i w, __m256i x, bool wide) {
    const __m256i ones = _mm256_set1_epi16(1);
    if (!wide) return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), ones));
    __m256i even = _mm256_maddubs_epi16(w, _mm256_and_si256(x, _mm256_set1_epi16(0x00FF)));
    __m256i odd = _mm256_maddubs_epi16(w, _mm256_andnot_si256(_mm256_set1_epi16(0x00FF), x));
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(even, ones));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(odd, ones));
}

#define IV                   __m256i
#define FV                   __m256
#define LANES                8
#define VECTORS              1
#define WIDE_32              s->wide
#define IV_LOAD(p)           _mm256_load_si256((const __m256i *)(const void *)(p))
#define IV_SET1(i)           _mm256_set1_epi32(i)
#define IV_TO_FV(v)          _mm256_cvtepi32_ps(v)
#define FV_LOAD(p)           _mm256_load_ps(p)
#define FV_STORE(p, v)       _mm256_store_ps(p, v)
#define FV_SET1(f)           _mm256_set1_ps(f)
#define FV_ZERO()            _mm256_setzero_ps()
#define FV_MUL(a, b)         _mm256_mul_ps(a, b)
#define FV_ADD(a, b)         _mm256_add_ps(a, b)
#define FV_FMA(a, b, c)      _mm256_fmadd_ps(a, b, c)
#define DOT(sum, w, x, wide) dot4(sum, w, x, wide)
#include "cpu/gemm_i8_impl.h"

INSTANCE(2)
INSTANCE(4)

void pare_gemm_i8_avx2(const pare_i8_shape *s, const pare_i8_panel *w, const pare_i8_tile *x, int tokens, float *c,
                       bool accumulate) {
    for (int r = 0; r < PARE_I8_ROWS; r += LANES) {
        tile_args a = {.s = s, .w = w, .x = x, .c = c, .r0 = r, .accumulate = accumulate};
        int t = 0;
        for (; tokens - t > 2; t += 4) {
            if (t + 4 > PARE_I8_TOKENS) break;
            a.t0 = t, tile_4(a);
        }
        for (; t < tokens; t += 2) a.t0 = t, tile_2(a);
    }
}

static inline __m256i half_sums(const uint8_t *w, const int8_t *x, bool wide) {
    return dot4(_mm256_setzero_si256(), _mm256_load_si256((const __m256i *)(const void *)w),
                _mm256_loadu_si256((const __m256i *)(const void *)x), wide);
}

float pare_dot_i8_avx2(const pare_i8_source *s, const pare_i8_slab *w, const pare_i8_act *x, size_t first) {
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    __m256 acc = _mm256_setzero_ps();
    for (size_t b = 0; b < PARE_I8_SLAB; b += 128) { /* eight groups of 16 */
        __m256i v[4];
        for (size_t i = 0; i < 4; i++) v[i] = half_sums(w->codes + b + 32 * i, x->codes + first + b + 32 * i, s->wide);
        __m256i sum = _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3]));
        sum = _mm256_permutevar8x32_epi32(sum, order);
        size_t g = b / 16, at = first / 16 + g;
        __m256i xs = _mm256_loadu_si256((const __m256i *)(const void *)(x->sum + at));
        sum = _mm256_sub_epi32(sum, _mm256_mullo_epi32(_mm256_set1_epi32(s->offset), xs));
        __m256 scale = _mm256_mul_ps(_mm256_loadu_ps(w->scale + g), _mm256_loadu_ps(x->scale + at));
        acc = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), scale, acc);
        if (s->minima) acc = _mm256_fmadd_ps(_mm256_loadu_ps(w->minimum + g), _mm256_loadu_ps(x->scaled_sum + at), acc);
    }
    __m128 h = _mm_add_ps(_mm256_castps256_ps128(acc), _mm256_extractf128_ps(acc, 1));
    h = _mm_add_ps(h, _mm_movehl_ps(h, h));
    return _mm_cvtss_f32(_mm_add_ss(h, _mm_movehdup_ps(h)));
}
