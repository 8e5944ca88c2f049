/* SPDX-License-Identifier: Apache-2.0
 *
 * From a stage in shared memory to what the tensor products take (cuda/mm_codes.cuh): codes as pairs of f16, scales of
 * the warp's rows as floats.
 *
 * Scales are decoded once per warp and stage, into [ENTRIES / 4][rows][4] floats of shared memory of the warp's own:
 * the coded scales of K formats cost too much for every lane that needs them. */
#ifndef PARE_CUDA_MM_FRAGMENTS_CUH
#define PARE_CUDA_MM_FRAGMENTS_CUH

#include "cuda/mm_stage.cuh"

/* How a format's raw codes become f16: bytes without a sign (0x6400 | u is 1024 + u), bytes with one, or straight from
 * its nibbles (0x6400 | 16 n is 1024 + 16 n). */
enum pare_codes_kind { PARE_CODES_UNSIGNED, PARE_CODES_SIGNED, PARE_CODES_NIBBLES };
template <class F> struct pare_codes_kind_of { static constexpr int value = PARE_CODES_UNSIGNED; };
#define PARE_CODES_KIND(format, kind)                                                                                  \
    template <> struct pare_codes_kind_of<pare_format_##format> { static constexpr int value = kind; };
PARE_CODES_KIND(q4_0, PARE_CODES_NIBBLES)
PARE_CODES_KIND(q4_1, PARE_CODES_NIBBLES)
PARE_CODES_KIND(q4_k, PARE_CODES_NIBBLES)
PARE_CODES_KIND(int4, PARE_CODES_NIBBLES)
PARE_CODES_KIND(int4_asym, PARE_CODES_NIBBLES)
PARE_CODES_KIND(q8_0, PARE_CODES_SIGNED)
PARE_CODES_KIND(int8, PARE_CODES_SIGNED)
PARE_CODES_KIND(int8_asym, PARE_CODES_SIGNED)
PARE_CODES_KIND(iq4_nl, PARE_CODES_SIGNED)
PARE_CODES_KIND(iq4_xs, PARE_CODES_SIGNED)
PARE_CODES_KIND(mxfp4, PARE_CODES_SIGNED)
#undef PARE_CODES_KIND

/* Codes of one row as pairs of f16: a[0..1] columns 4t .. 4t+3, a[2..3] columns 16+4t .. */
template <class F>
__device__ __forceinline__ void pare_code_halves(const uint8_t *low, const uint8_t *high, int t, uint32_t (&a)[4]) {
    constexpr int KIND = pare_codes_kind_of<F>::value;
    constexpr uint32_t ONE = 0x64006400u + 0x10001u * (KIND == PARE_CODES_SIGNED ? 128 : F::OFFSET);
    if constexpr (KIND == PARE_CODES_NIBBLES) {
        constexpr uint32_t SIXTEENTH = 0x2c002c00u, LESS = 0xd400d400u + 0x100010u * F::OFFSET; /* -(64 + OFFSET) */
        uint32_t v = ((const uint32_t *)low)[t];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            uint32_t p = __byte_perm(v, 0x64646464u, i ? 0x4342 : 0x4140);
            a[i] = pare_hsub2(p & 0x640f640fu, ONE);
            a[2 + i] = pare_hfma2(p & 0x64f064f0u, SIXTEENTH, LESS);
        }
    } else {
        uint32_t v[2];
        F::raw(low, high, t, v[0], v[1]);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            uint32_t u = KIND == PARE_CODES_SIGNED ? v[i / 2] ^ 0x80808080u : v[i / 2];
            a[i] = pare_hsub2(__byte_perm(u, 0x64646464u, i % 2 ? 0x4342 : 0x4140), ONE);
        }
    }
}

/* Codes to the weights that decode gives. by: f16 scale | f16 zero << 16; with bf16 the scale is in [1, 2) and its
 * power of two is multiplied later, so that the 8 bits of the product fit f16. */
template <class T> __device__ __forceinline__ uint32_t pare_codes_rounded(uint32_t codes, uint32_t by) {
    if (T::F::MINIMA) codes = pare_hsub2(codes, __byte_perm(by, 0, 0x3232));
    if (T::MODE == PARE_CODES_WEIGHT_F16) return pare_hmul2(codes, __byte_perm(by, 0, 0x1010));
    float s = pare_h2f((uint16_t)by);
    uint32_t r = pare_f2bf2(pare_h2f((uint16_t)codes) * s, pare_h2f((uint16_t)(codes >> 16)) * s);
    return pare_f2h2(pare_float(r << 16), pare_float(r & 0xffff0000u));
}

/* What is kept of an entry's scale: float2 {factor of the product, minimum}; rounded weights: {factor, see above}. */
template <class T>
__device__ __forceinline__ float2 pare_codes_entry(const pare_cuda_weight &w, const uint8_t *scales, int chunk,
                                                   int half) {
    typedef typename T::F F;
    if constexpr (T::ROUNDED) {
        auto s = F::fetch(w, scales, chunk);
        uint32_t zero = (uint32_t)pare_f2h(F::zero_of(s)) << 16;
        if (T::MODE == PARE_CODES_WEIGHT_F16) return make_float2(1.0f, pare_float(s.x | zero));
        uint32_t bits = s.x << 16,
                 power = bits & 0x7f800000u; /* f16 holds what bf16 has in [1, 2); 0 and below: as is */
        if (!power || power == 0x7f800000u) return make_float2(pare_float(bits), pare_float(0x3c00u | zero));
        return make_float2(pare_float(power), pare_float(pare_f2h(pare_float(bits ^ power ^ 0x3f800000u)) | zero));
    } else return F::scale(w, scales, chunk, half);
}

/* Scale bytes of this warp's rows to what is kept of them; a lane takes one of four entries of every eighth row. */
template <class T>
__device__ __forceinline__ void pare_codes_scales(const pare_codes_args &a, const uint8_t *s, int tile_row0, int row0,
                                                  int step, float *scale, float *second) {
    typedef typename T::F F;
    int lane = (int)threadIdx.x % 32, chunk0 = step % 2 * 4;
    if (T::GROUPED && !(a.w.group_shift >= 7 && a.w.entry == 2)) chunk0 = 0; /* the stage's alone */
#pragma unroll
    for (int j = 0; j < T::MT * 2 * (T::ENTRIES / 4); j++) {
        int part = j / (T::MT * 2), row = j % (T::MT * 2) * 8 + lane / 4, e = part * 4 + lane % 4;
        int chunk = chunk0 + (F::HALVES ? e / 2 : e), half = F::HALVES ? e % 2 : 0;
        const uint8_t *from = s + T::AT_SCALES + (row0 + row) * T::SCALES;
        float2 v;
        if (T::GROUPED && a.w.group_shift == 31)
            v = pare_codes_entry<T>(a.w, a.w.scales + (uint64_t)min(tile_row0 + row0 + row, a.w.n - 1) * a.w.scale_row,
                                    0, 0);
        else v = pare_codes_entry<T>(a.w, from, chunk, half);
        scale[(part * 16 * T::MT + row) * 4 + lane % 4] = v.x;
        if constexpr (T::PLANES == 2) second[(part * 16 * T::MT + row) * 4 + lane % 4] = v.y;
    }
    __syncwarp();
}

/* Scales of COUNT entries from `first` on (within four), for the lane's rows g, g + 8, .. */
template <class T, int COUNT>
__device__ __forceinline__ void pare_codes_read(const float *from, int first, float (&v)[T::MT * 2][COUNT]) {
    int g = (int)threadIdx.x % 32 / 4;
#pragma unroll
    for (int i = 0; i < T::MT * 2; i++) {
        const float *p = from + (first / 4 * 16 * T::MT + i * 8 + g) * 4 + first % 4;
        if constexpr (COUNT == 4) {
            float4 f = *(const float4 *)p;
            v[i][0] = f.x, v[i][1] = f.y, v[i][2] = f.z, v[i][3] = f.w;
        } else {
#pragma unroll
            for (int e = 0; e < COUNT; e++) v[i][e] = p[e];
        }
    }
}

#endif
