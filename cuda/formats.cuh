/* SPDX-License-Identifier: Apache-2.0
 *
 * One struct per weight format: how device kernels read a chunk (32 columns of a row, cuda/layout.cuh). Every matrix
 * kernel is a template over these and knows no format itself; a new format is one struct and one line in PARE_FORMATS.
 *
 *   LOW, HIGH     bytes per chunk in the low and the high plane (HIGH 0: none)
 *   SLAB_SCALES   bytes per slab in the scale plane (0: grouped integers, see pare_cuda_weight)
 *   HALVES        true: each half chunk (16 columns) has a scale of its own
 *   MINIMA        true: w = scale * code + minimum; else minimum is 0
 *   ASYM          true: grouped integers with zero points; minimum = -scale * zero, and integer sums can be exact
 * without it: code - zero = raw - above(stored) OFFSET        what stored codes are above the code: code = raw - OFFSET
 *   raw(low, high, t, lo, hi)     low, high: the chunk in each plane (registers, global or shared memory, aligned to
 *                 4 bytes); t 0..3. lo: codes + OFFSET of columns 4t .. 4t+3, one byte each, first column lowest; hi:
 * of columns 16+4t .. Valid as signed bytes codes(low, high, t, lo, hi)   the same with the offset off, signed: the A
 * fragment of the int8 tensor product (cuda/mma.cuh), and the k order of the others stored, fetch(w, scales, chunk)
 * loads what the scales of a chunk are made from, so that kernels can ask for it early. scales: the row's scale plane,
 * aligned to 16 bytes (or one slab of it in shared memory, aligned to 16, or 4 where SLAB_SCALES is no multiple of 16;
 * then chunk counts from that slab) scale_of(w, stored, chunk, half)      float2 {scale, minimum} scale(w, scales,
 * chunk, half)         both steps in one value(w, stored, chunk, half, code)   the weight as the format's decode has it
 *
 * equal: codes, scale and minimum as the CPU's expand has them, bit for bit; value as pare_qtype.decode, bit for bit.
 * Asymmetric grouped integers count codes and zero points from -2^(bits-1), so minimum = -scale * zero is smaller than
 * the CPU's, which counts both from 0. An e8m0 scale of 255 (mxfp4) is NaN everywhere. */
#ifndef PARE_CUDA_FORMATS_CUH
#define PARE_CUDA_FORMATS_CUH

#include "cuda/dev.cuh"
#include "cuda/layout.cuh"

/* Four signed bytes to two pairs of f16, exactly: 0x6400 + u is 1024 + u, for u = byte + 128. */
__device__ __forceinline__ void pare_bytes_to_halves(uint32_t v, uint32_t &low, uint32_t &high) {
    uint32_t u = v ^ 0x80808080u;
    low = pare_hsub2(__byte_perm(u, 0x64646464u, 0x4140), 0x64806480u);
    high = pare_hsub2(__byte_perm(u, 0x64646464u, 0x4342), 0x64806480u);
}

/* OFFSET off four bytes; no borrow between bytes, since every byte stays above 0 until the sign is turned. */
template <int OFFSET> __device__ __forceinline__ uint32_t pare_take_off(uint32_t v) {
    return OFFSET ? (v + (0x80808080u - 0x01010101u * OFFSET)) ^ 0x80808080u : v;
}

/* Nibbles of word t of a chunk, low ones and high ones. */
__device__ __forceinline__ void pare_nibbles(const uint8_t *low, int t, uint32_t &lo, uint32_t &hi) {
    uint32_t v = ((const uint32_t *)low)[t];
    lo = v & 0x0f0f0f0fu, hi = v >> 4 & 0x0f0f0f0fu;
}

/* The same through a table of 16 signed bytes. Selectors count three bits, so each half of the table is asked and the
 * fourth bit chooses. */
__device__ __forceinline__ void pare_looked_up(const uint8_t *low, int t, uint4 table, uint32_t &lo, uint32_t &hi) {
    uint32_t v = ((const uint32_t *)low)[t], at = v & 0x77777777u, choose = 0x32103210u | (v & 0x88888888u) >> 1, r[2];
    for (int i = 0; i < 2; i++)
        r[i] = pare_pick(pare_pick(table.x, table.y, at >> 16 * i), pare_pick(table.z, table.w, at >> 16 * i),
                         choose >> 16 * i);
    lo = __byte_perm(r[0], r[1], 0x6420), hi = __byte_perm(r[0], r[1], 0x7531);
}

/* Adds the bit of each column (high plane of 1 bit) as BIT. */
template <int BIT>
__device__ __forceinline__ void pare_add_bits(const uint8_t *high, int t, uint32_t &lo, uint32_t &hi) {
    uint32_t v = *(const uint32_t *)high;
    lo = pare_and_or(BIT == 16 ? v << (4 - t) : v << 2 >> t, 0x01010101u * BIT, lo);
    hi = pare_and_or(BIT == 16 ? v >> t : v >> (2 + t), 0x01010101u * BIT, hi);
}

/* What every format has, made from what it says. */
template <class F> struct pare_format {
    static constexpr bool ASYM = false;
    static __device__ __forceinline__ void codes(const uint8_t *low, const uint8_t *high, int t, uint32_t &lo,
                                                 uint32_t &hi) {
        F::raw(low, high, t, lo, hi);
        lo = pare_take_off<F::OFFSET>(lo), hi = pare_take_off<F::OFFSET>(hi);
    }
    static __device__ __forceinline__ float2 scale(const pare_cuda_weight &w, const uint8_t *scales, int chunk,
                                                   int half) {
        return F::scale_of(w, F::fetch(w, scales, chunk), chunk, half);
    }
    template <class S>
    static __device__ __forceinline__ float value(const pare_cuda_weight &w, S s, int chunk, int half, int code) {
        float2 m = F::scale_of(w, s, chunk, half);
        float v = m.x * (float)code;
        return F::MINIMA ? v + m.y : v;
    }
};

/* ---- 32 columns to a scale: f16 d, or f16 d and f16 m ---- */

template <class F> struct pare_format_d : pare_format<F> {
    static constexpr int SLAB_SCALES = 16;
    static constexpr bool HALVES = false, MINIMA = false;
    typedef uint16_t stored;
    static __device__ __forceinline__ stored fetch(const pare_cuda_weight &, const uint8_t *scales, int chunk) {
        return ((const uint16_t *)scales)[chunk];
    }
    static __device__ __forceinline__ float2 scale_of(const pare_cuda_weight &, stored s, int, int) {
        return make_float2(pare_h2f(s), 0.0f);
    }
};
template <class F> struct pare_format_dm : pare_format<F> {
    static constexpr int SLAB_SCALES = 32;
    static constexpr bool HALVES = false, MINIMA = true;
    typedef uint32_t stored;
    static __device__ __forceinline__ stored fetch(const pare_cuda_weight &, const uint8_t *scales, int chunk) {
        return ((const uint32_t *)scales)[chunk];
    }
    static __device__ __forceinline__ float2 scale_of(const pare_cuda_weight &, stored s, int, int) {
        return make_float2(pare_h2f((uint16_t)s), pare_h2f((uint16_t)(s >> 16)));
    }
};

#define PARE_RAW                                                                                                       \
    static __device__ __forceinline__ void raw(const uint8_t *low, const uint8_t *high, int t, uint32_t &lo,           \
                                               uint32_t &hi)

struct pare_format_q4_0 : pare_format_d<pare_format_q4_0> {
    static constexpr int LOW = 16, HIGH = 0, OFFSET = 8;
    PARE_RAW { pare_nibbles(low, t, lo, hi); }
};
struct pare_format_q4_1 : pare_format_dm<pare_format_q4_1> {
    static constexpr int LOW = 16, HIGH = 0, OFFSET = 0;
    PARE_RAW { pare_nibbles(low, t, lo, hi); }
};
struct pare_format_q5_0 : pare_format_d<pare_format_q5_0> {
    static constexpr int LOW = 16, HIGH = 4, OFFSET = 16;
    PARE_RAW { pare_nibbles(low, t, lo, hi), pare_add_bits<16>(high, t, lo, hi); }
};
struct pare_format_q5_1 : pare_format_dm<pare_format_q5_1> {
    static constexpr int LOW = 16, HIGH = 4, OFFSET = 0;
    PARE_RAW { pare_nibbles(low, t, lo, hi), pare_add_bits<16>(high, t, lo, hi); }
};
struct pare_format_q8_0 : pare_format_d<pare_format_q8_0> {
    static constexpr int LOW = 32, HIGH = 0, OFFSET = 0;
    PARE_RAW { lo = ((const uint32_t *)low)[t], hi = ((const uint32_t *)low)[4 + t]; }
};

/* -127 -104 -83 -65 -49 -35 -22 -10, 1 13 25 38 53 69 89 113 */
#define PARE_IQ4_TABLE make_uint4(0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u)
struct pare_format_iq4_nl : pare_format_d<pare_format_iq4_nl> {
    static constexpr int LOW = 16, HIGH = 0, OFFSET = 0;
    PARE_RAW { pare_looked_up(low, t, PARE_IQ4_TABLE, lo, hi); }
};

/* e2m1 doubled: 0 1 2 3 4 6 8 12 and their negatives; the scale is halved. */
struct pare_format_mxfp4 : pare_format<pare_format_mxfp4> {
    static constexpr int LOW = 16, HIGH = 0, OFFSET = 0, SLAB_SCALES = 8;
    static constexpr bool HALVES = false, MINIMA = false;
    typedef uint8_t stored;
    PARE_RAW { pare_looked_up(low, t, make_uint4(0x03020100u, 0x0c080604u, 0xfdfeff00u, 0xf4f8fafcu), lo, hi); }
    static __device__ __forceinline__ stored fetch(const pare_cuda_weight &, const uint8_t *scales, int chunk) {
        return scales[chunk];
    }
    static __device__ __forceinline__ float2 scale_of(const pare_cuda_weight &, stored e, int, int) {
        uint32_t bits = e < 2 ? 0x00200000u << e : e == 255 ? 0x7fc00000u : (uint32_t)(e - 1) << 23; /* 2^(e - 128) */
        return make_float2(pare_float(bits), 0.0f);
    }
};

/* ---- grouped integers: an entry of w.entry bytes per group ---- */

template <class F, bool ZEROS, int ZERO> struct pare_format_int : pare_format<F> {
    static constexpr bool ASYM = ZEROS;
    static constexpr int HIGH = 0, SLAB_SCALES = 0;
    static constexpr bool HALVES = false, MINIMA = ASYM;
    typedef uint2 stored; /* scale's bits, zero + 2^(bits-1) */
    static __device__ __forceinline__ stored fetch(const pare_cuda_weight &w, const uint8_t *scales, int chunk) {
        const uint8_t *p = scales + (size_t)((chunk * 32) >> w.group_shift) * w.entry;
        if (w.entry == 2) return make_uint2(*(const uint16_t *)p, 0);
        if (w.entry == 8) return *(const uint2 *)p;
        uint32_t v = *(const uint32_t *)p;
        return ASYM ? make_uint2(v & 0xffff, v >> 16) : make_uint2(v, 0);
    }
    static __device__ __forceinline__ float scale_value(const pare_cuda_weight &w, uint32_t bits) {
        return w.scale_type == PARE_CT_F16 ? pare_h2f((uint16_t)bits)
                                           : pare_float(w.scale_type == PARE_CT_BF16 ? bits << 16 : bits);
    }
    static __device__ __forceinline__ float zero_of(stored s) { return ASYM ? (float)((int)(s.y & 255) - ZERO) : 0.0f; }
    /* what raw codes are above (code - zero) */
    static __device__ __forceinline__ int above(stored s) { return (int)(s.y & 255) - ZERO + F::OFFSET; }
    static __device__ __forceinline__ float2 scale_of(const pare_cuda_weight &w, stored s, int, int) {
        float d = scale_value(w, s.x);
        return make_float2(d, ASYM ? -d * zero_of(s) : 0.0f);
    }
    static __device__ __forceinline__ float value(const pare_cuda_weight &w, stored s, int, int, int code) {
        float v = ((float)code - zero_of(s)) * scale_value(w, s.x);
        return w.scale_type == PARE_CT_F16    ? pare_h2f(pare_f2h(v))
               : w.scale_type == PARE_CT_BF16 ? pare_bf2f(pare_f2bf(v))
                                              : v;
    }
};
template <bool ASYM> struct pare_format_int4_any : pare_format_int<pare_format_int4_any<ASYM>, ASYM, 8> {
    static constexpr int LOW = 16, OFFSET = 8;
    PARE_RAW { pare_nibbles(low, t, lo, hi); }
};
template <bool ASYM> struct pare_format_int8_any : pare_format_int<pare_format_int8_any<ASYM>, ASYM, 128> {
    static constexpr int LOW = 32, OFFSET = 0;
    PARE_RAW { lo = ((const uint32_t *)low)[t], hi = ((const uint32_t *)low)[4 + t]; }
};
typedef pare_format_int4_any<false> pare_format_int4;
typedef pare_format_int4_any<true> pare_format_int4_asym;
typedef pare_format_int8_any<false> pare_format_int8;
typedef pare_format_int8_any<true> pare_format_int8_asym;

#include "cuda/formats_k.cuh"
#undef PARE_RAW

/* X(enumerator of pare_cuda_format, asymmetric, struct) */
#define PARE_FORMATS(X)                                                                                                \
    X(PARE_CF_Q4_0, 0, pare_format_q4_0)                                                                               \
    X(PARE_CF_Q4_1, 0, pare_format_q4_1)                                                                               \
    X(PARE_CF_Q5_0, 0, pare_format_q5_0)                                                                               \
    X(PARE_CF_Q5_1, 0, pare_format_q5_1)                                                                               \
    X(PARE_CF_Q8_0, 0, pare_format_q8_0)                                                                               \
    X(PARE_CF_IQ4_NL, 0, pare_format_iq4_nl)                                                                           \
    X(PARE_CF_MXFP4, 0, pare_format_mxfp4)                                                                             \
    X(PARE_CF_Q2_K, 0, pare_format_q2_k)                                                                               \
    X(PARE_CF_Q3_K, 0, pare_format_q3_k)                                                                               \
    X(PARE_CF_Q4_K, 0, pare_format_q4_k)                                                                               \
    X(PARE_CF_Q5_K, 0, pare_format_q5_k)                                                                               \
    X(PARE_CF_Q6_K, 0, pare_format_q6_k)                                                                               \
    X(PARE_CF_IQ4_XS, 0, pare_format_iq4_xs)                                                                           \
    X(PARE_CF_INT4, 0, pare_format_int4)                                                                               \
    X(PARE_CF_INT4, 1, pare_format_int4_asym)                                                                          \
    X(PARE_CF_INT8, 0, pare_format_int8)                                                                               \
    X(PARE_CF_INT8, 1, pare_format_int8_asym)

#endif
