/* SPDX-License-Identifier: Apache-2.0
 *
 * Expansion of integer formats, compiled for AVX-512 BW and VL. */
#include "cpu/matmul_kernels.h"

#include <immintrin.h>

static inline float half_at(const uint8_t *p) { return _cvtsh_ss((unsigned short)(p[0] | p[1] << 8)); }
#define EXPAND_NAME    pare_expand_avx512
#define EXPAND_HALF(p) half_at(p)
#include "cpu/expand_impl.h"

/* To nearest even in the upper half; NaN stays NaN (its quiet bit survives the sum, or the blend keeps it). */
static inline __m512 round_bf16(__m512 v) {
    __m512i u = _mm512_castps_si512(v), odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    __m512i r = _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF)));
    r = _mm512_and_si512(r, _mm512_set1_epi32((int)0xFFFF0000));
    return _mm512_mask_mov_ps(_mm512_castsi512_ps(r), _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), v);
}

void pare_decode_slab_avx512(const pare_i8_source *s, const pare_i8_slab *w, float *out) {
    const pare_int_format *f = s->type->int_format;
    const pare_qtype *round = f ? f->scale_type : &pare_qtype_f32;
    bool asym = f && f->asym, minima = !f && s->minima;
    for (int g = 0; g < PARE_I8_SLAB / 16; g++) {
        __m512i c = _mm512_cvtepu8_epi32(_mm_load_si128((const __m128i *)(const void *)(w->codes + 16 * g)));
        __m512 v = _mm512_cvtepi32_ps(_mm512_sub_epi32(c, _mm512_set1_epi32(s->offset)));
        if (asym) v = _mm512_sub_ps(v, _mm512_set1_ps(w->zero[g]));
        v = _mm512_mul_ps(v, _mm512_set1_ps(w->scale[g]));
        if (minima) v = _mm512_add_ps(v, _mm512_set1_ps(w->minimum[g]));
        if (round == &pare_qtype_f16) v = _mm512_cvtph_ps(_mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
        else if (round == &pare_qtype_bf16) v = round_bf16(v);
        _mm512_storeu_ps(out + 16 * g, v);
    }
}
