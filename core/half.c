/* SPDX-License-Identifier: Apache-2.0
 *
 * f16 and bf16 conversions, round to nearest even, in integers (no compiler half type needed); NaN stays NaN. */
#include "core/cpu_features.h"
#include "core/half_kernels.h"
#include "core/qtype.h"

#include <string.h>

static inline uint32_t bits_of(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}
static inline float float_of(uint32_t u) {
    float f;
    memcpy(&f, &u, 4);
    return f;
}

float pare_f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, e = h >> 10 & 31, m = h & 0x3FF;
    if (e == 31) return float_of(sign | 0x7F800000 | m << 13);
    if (e) return float_of(sign | (e + 112) << 23 | m << 13);
    float v = (float)m * 0x1p-24f; /* exact */
    return float_of(sign | bits_of(v));
}

uint16_t pare_f32_to_f16(float f) {
    uint32_t u = bits_of(f), sign = u >> 16 & 0x8000, a = u & 0x7FFFFFFF;
    if (a >= 0x7F800000) return (uint16_t)(sign | 0x7C00 | (a > 0x7F800000 ? 0x200 | (a >> 13 & 0x1FF) : 0));
    if (a >= 0x477FF000) return (uint16_t)(sign | 0x7C00); /* rounds past 65504 */
    if (a < 0x38800000) {                                  /* subnormal half: let float addition round for us */
        float v = float_of(a) + 0.5f;                      /* ulp of [0.5, 1) is 2^-24 */
        return (uint16_t)(sign | (bits_of(v) - 0x3F000000));
    }
    uint32_t odd = a >> 13 & 1;
    a += 0xFFF + odd - ((uint32_t)112 << 23);
    return (uint16_t)(sign | a >> 13);
}

float pare_bf16_to_f32(uint16_t h) { return float_of((uint32_t)h << 16); }

uint16_t pare_f32_to_bf16(float f) {
    uint32_t u = bits_of(f);
    if ((u & 0x7FFFFFFF) > 0x7F800000) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7FFF + (u >> 16 & 1)) >> 16);
}

void pare_f16_to_f32_n(const uint16_t *src, float *dst, size_t n) {
    size_t i = 0;
#if defined(__x86_64__)
    if (pare_cpu_mask() & PARE_CPU_AVX2) i = pare_f16_to_f32_avx2(src, dst, n);
#endif
    for (; i < n; i++) {
        uint16_t h;
        memcpy(&h, (const char *)src + 2 * i, 2);
        dst[i] = pare_f16_to_f32(h);
    }
}
void pare_f32_to_f16_n(const float *src, uint16_t *dst, size_t n) {
    size_t i = 0;
#if defined(__x86_64__)
    if (pare_cpu_mask() & PARE_CPU_AVX2) i = pare_f32_to_f16_avx2(src, dst, n);
#endif
    for (; i < n; i++) {
        uint16_t h = pare_f32_to_f16(src[i]);
        memcpy((char *)dst + 2 * i, &h, 2);
    }
}
void pare_bf16_to_f32_n(const uint16_t *src, float *dst, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, (const char *)src + 2 * i, 2);
        dst[i] = pare_bf16_to_f32(h);
    }
}
void pare_f32_to_bf16_n(const float *src, uint16_t *dst, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint16_t h = pare_f32_to_bf16(src[i]);
        memcpy((char *)dst + 2 * i, &h, 2);
    }
}
