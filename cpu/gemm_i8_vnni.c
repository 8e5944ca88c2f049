/* SPDX-License-Identifier: Apache-2.0
 *
 * Integer products with AVX512-VNNI: 32 rows x 6 tokens, 12 integer and 12 float sums in registers. */
#include "cpu/matmul_kernels.h"

#include <immintrin.h>

#define IV                   __m512i
#define FV                   __m512
#define LANES                16
#define VECTORS              2
#define WIDE_32              true
#define IV_LOAD(p)           _mm512_load_si512(p)
#define IV_SET1(i)           _mm512_set1_epi32(i)
#define IV_TO_FV(v)          _mm512_cvtepi32_ps(v)
#define FV_LOAD(p)           _mm512_load_ps(p)
#define FV_STORE(p, v)       _mm512_store_ps(p, v)
#define FV_SET1(f)           _mm512_set1_ps(f)
#define FV_ZERO()            _mm512_setzero_ps()
#define FV_MUL(a, b)         _mm512_mul_ps(a, b)
#define FV_ADD(a, b)         _mm512_add_ps(a, b)
#define FV_FMA(a, b, c)      _mm512_fmadd_ps(a, b, c)
#define DOT(sum, w, x, wide) _mm512_dpbusd_epi32(sum, w, x)
#include "cpu/gemm_i8_impl.h"

INSTANCE(2)
INSTANCE(4)
INSTANCE(6)

void pare_gemm_i8_vnni(const pare_i8_shape *s, const pare_i8_panel *w, const pare_i8_tile *x, int tokens, float *c,
                       bool accumulate) {
    tile_args a = {.s = s, .w = w, .x = x, .c = c, .accumulate = accumulate};
    if (tokens <= 2) tile_2(a);
    else if (tokens <= 4) tile_4(a);
    else tile_6(a);
}

/* Sum of the four lanes of each 128-bit part of four vectors: lane 4*i+j of the result is part i of v[j]. */
static inline __m512i sum_parts(__m512i v0, __m512i v1, __m512i v2, __m512i v3) {
    __m512i a = _mm512_add_epi32(_mm512_unpacklo_epi32(v0, v1), _mm512_unpackhi_epi32(v0, v1));
    __m512i b = _mm512_add_epi32(_mm512_unpacklo_epi32(v2, v3), _mm512_unpackhi_epi32(v2, v3));
    return _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
}

float pare_dot_i8_vnni(const pare_i8_source *s, const pare_i8_slab *w, const pare_i8_act *x, size_t first) {
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i v[4];
    for (int i = 0; i < 4; i++)
        v[i] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_load_si512(w->codes + 64 * i),
                                   _mm512_loadu_si512(x->codes + first + 64 * i));
    __m512i sum = _mm512_permutexvar_epi32(order, sum_parts(v[0], v[1], v[2], v[3]));
    __m512i off = _mm512_mullo_epi32(_mm512_set1_epi32(s->offset), _mm512_loadu_si512(x->sum + first / 16));
    __m512 f = _mm512_cvtepi32_ps(_mm512_sub_epi32(sum, off));
    f = _mm512_mul_ps(f, _mm512_mul_ps(_mm512_loadu_ps(w->scale), _mm512_loadu_ps(x->scale + first / 16)));
    if (s->minima) f = _mm512_fmadd_ps(_mm512_loadu_ps(w->minimum), _mm512_loadu_ps(x->scaled_sum + first / 16), f);
    return _mm512_reduce_add_ps(f);
}
