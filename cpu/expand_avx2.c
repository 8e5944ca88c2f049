/* SPDX-License-Identifier: Apache-2.0
 *
 * Expansion of integer formats, compiled for AVX2 and F16C. */
#include "cpu/matmul_kernels.h"

#include <immintrin.h>

static inline float half_at(const uint8_t *p) { return _cvtsh_ss((unsigned short)(p[0] | p[1] << 8)); }
#define EXPAND_NAME    pare_expand_avx2
#define EXPAND_HALF(p) half_at(p)
#include "cpu/expand_impl.h"

void pare_decode_slab_avx2(const pare_i8_source *s, const pare_i8_slab *w, float *out) {
    const pare_int_format *f = s->type->int_format;
    const pare_qtype *round = f ? f->scale_type : &pare_qtype_f32;
    for (int j = 0; j < PARE_I8_SLAB; j += 8) {
        int g = j / 16;
        __m256i c = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(w->codes + j)));
        __m256 v = _mm256_cvtepi32_ps(_mm256_sub_epi32(c, _mm256_set1_epi32(s->offset)));
        if (f && f->asym) v = _mm256_sub_ps(v, _mm256_set1_ps(w->zero[g]));
        v = _mm256_mul_ps(v, _mm256_set1_ps(w->scale[g]));
        if (!f && s->minima) v = _mm256_add_ps(v, _mm256_set1_ps(w->minimum[g]));
        if (round == &pare_qtype_f16) v = _mm256_cvtph_ps(_mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
        _mm256_storeu_ps(out + j, v);
    }
    if (round == &pare_qtype_bf16)
        for (int j = 0; j < PARE_I8_SLAB; j++) out[j] = pare_bf16_to_f32(pare_f32_to_bf16(out[j]));
}
