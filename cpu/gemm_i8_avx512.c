/* SPDX-License-Identifier: Apache-2.0
 *
 * Integer products with AVX-512 BW but no VNNI: pairs in 16 bits, so that codes above 63 take even and odd activation
 * bytes apart (255 * 127 fits, twice that does not). Also the interleaving of panels. */
#include "cpu/matmul_kernels.h"

#include <immintrin.h>

static inline __attribute__((always_inline)) __m512i dot4(__m512i sum, __m512i w, __m512i x, bool wide) {
    const __m512i ones = _mm512_set1_epi16(1);
    if (!wide) return _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_maddubs_epi16(w, x), ones));
    __m512i even = _mm512_maddubs_epi16(w, _mm512_and_si512(x, _mm512_set1_epi16(0x00FF)));
    __m512i odd = _mm512_maddubs_epi16(w, _mm512_andnot_si512(_mm512_set1_epi16(0x00FF), x));
    sum = _mm512_add_epi32(sum, _mm512_madd_epi16(even, ones));
    return _mm512_add_epi32(sum, _mm512_madd_epi16(odd, ones));
}

#define IV                   __m512i
#define FV                   __m512
#define LANES                16
#define VECTORS              2
#define WIDE_32              s->wide
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
#define DOT(sum, w, x, wide) dot4(sum, w, x, wide)
#include "cpu/gemm_i8_impl.h"

INSTANCE(2)
INSTANCE(4)
INSTANCE(6)

void pare_gemm_i8_avx512(const pare_i8_shape *s, const pare_i8_panel *w, const pare_i8_tile *x, int tokens, float *c,
                         bool accumulate) {
    tile_args a = {.s = s, .w = w, .x = x, .c = c, .accumulate = accumulate};
    if (tokens <= 2) tile_2(a);
    else if (tokens <= 4) tile_4(a);
    else tile_6(a);
}

/* 16 rows of 16 words, at distance ld bytes, to columns at distance out_ld words. */
static inline void transpose_words(const uint8_t *rows, size_t ld, uint8_t *out, size_t out_ld) {
    __m512i r[16], t[16];
    for (size_t i = 0; i < 16; i++) r[i] = _mm512_load_si512(rows + i * ld);
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int h = 0; h < 2; h++) {
            r[i + 2 * h] = _mm512_unpacklo_epi64(t[i + h], t[i + 2 + h]);
            r[i + 2 * h + 1] = _mm512_unpackhi_epi64(t[i + h], t[i + 2 + h]);
        }
    for (int i = 0; i < 4; i++) {
        __m512i a = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88), b = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xDD);
        __m512i c = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88),
                d = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xDD);
        t[i] = _mm512_shuffle_i32x4(a, c, 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(b, d, 0x88);
        t[i + 8] = _mm512_shuffle_i32x4(a, c, 0xDD);
        t[i + 12] = _mm512_shuffle_i32x4(b, d, 0xDD);
    }
    for (size_t i = 0; i < 16; i++) _mm512_store_si512(out + 4 * i * out_ld, t[i]);
}

void pare_panel_i8_avx512(const pare_i8_slab *slabs, int r0, pare_i8_panel *p) {
    const size_t ld = sizeof *slabs;
    for (size_t c = 0; c < PARE_I8_SLAB; c += 64)
        transpose_words(slabs->codes + c, ld, p->codes + c * PARE_I8_ROWS + 4 * (size_t)r0, PARE_I8_ROWS);
    transpose_words((const uint8_t *)slabs->scale, ld, (uint8_t *)(p->scale[0] + r0), PARE_I8_ROWS);
    transpose_words((const uint8_t *)slabs->minimum, ld, (uint8_t *)(p->minimum[0] + r0), PARE_I8_ROWS);
}
