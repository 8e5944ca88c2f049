/* SPDX-License-Identifier: Apache-2.0
 *
 * Part of cuda/formats.cuh: formats of 256 columns, whose scales are coded themselves. A slab is one block. */

/* Bit pairs of word 0 (columns 0..15) and word 1 at t, as four bytes each, moved up by UP bits. */
template <int UP> __device__ __forceinline__ uint32_t pare_pairs(uint32_t v, int t) {
    return v >> 2 * t << UP & (0x03030303u << UP);
}

struct pare_format_q2_k : pare_format<pare_format_q2_k> {
    static constexpr int LOW = 8, HIGH = 0, OFFSET = 0, SLAB_SCALES = 20;
    static constexpr bool HALVES = true, MINIMA = true;
    typedef uint2 stored; /* two bytes of scale | min << 4; d, dmin */
    PARE_RAW { lo = pare_pairs<0>(((const uint32_t *)low)[0], t), hi = pare_pairs<0>(((const uint32_t *)low)[1], t); }
    static __device__ __forceinline__ stored fetch(const pare_cuda_weight &, const uint8_t *scales, int chunk) {
        const uint8_t *p = scales + chunk / 8 * SLAB_SCALES;
        return make_uint2(((const uint16_t *)p)[chunk % 8], *(const uint32_t *)(p + 16));
    }
    static __device__ __forceinline__ float2 scale_of(const pare_cuda_weight &, stored s, int, int half) {
        uint32_t b = s.x >> 8 * half;
        return make_float2(pare_h2f((uint16_t)s.y) * (float)(b & 15),
                           -pare_h2f((uint16_t)(s.y >> 16)) * (float)(b >> 4 & 15));
    }
};

struct pare_format_q3_k : pare_format<pare_format_q3_k> {
    static constexpr int LOW = 8, HIGH = 4, OFFSET = 4, SLAB_SCALES = 16;
    static constexpr bool HALVES = true, MINIMA = false;
    typedef uint4 stored;
    PARE_RAW {
        lo = pare_pairs<0>(((const uint32_t *)low)[0], t), hi = pare_pairs<0>(((const uint32_t *)low)[1], t);
        pare_add_bits<4>(high, t, lo, hi);
    }
    static __device__ __forceinline__ stored fetch(const pare_cuda_weight &, const uint8_t *scales, int chunk) {
        return *(const uint4 *)(scales + chunk / 8 * SLAB_SCALES);
    }
    static __device__ __forceinline__ float2 scale_of(const pare_cuda_weight &, stored s, int chunk, int half) {
        int j = chunk % 8 * 2 + half; /* low nibbles: bytes 0-7, low ones first; high pairs: bytes 8-11 */
        uint32_t low = (j & 4 ? s.y : s.x) >> (8 * (j & 3) + (j & 8) / 2) & 15,
                 high = s.z >> (8 * (j & 3) + j / 4 * 2) & 3;
        return make_float2(pare_h2f((uint16_t)s.w) * (float)((int)(low | high << 4) - 32), 0.0f);
    }
};

/* Q4_K and Q5_K: scale and min of chunks 0-3 are the low six bits of bytes 0-3 and 4-7; of 4-7 the low four bits are
 * the nibbles of bytes 8-11 and the high two bits are the top bits of bytes 0-3 and 4-7. */
template <class F> struct pare_format_k : pare_format<F> {
    static constexpr int LOW = 16, OFFSET = 0, SLAB_SCALES = 16;
    static constexpr bool HALVES = false, MINIMA = true;
    typedef uint4 stored; /* d, dmin; 12 bytes */
    static __device__ __forceinline__ stored fetch(const pare_cuda_weight &, const uint8_t *scales, int chunk) {
        return *(const uint4 *)(scales + chunk / 8 * SLAB_SCALES);
    }
    static __device__ __forceinline__ float2 scale_of(const pare_cuda_weight &, stored s, int chunk, int) {
        int shift = 8 * (chunk & 3);
        bool first = (chunk & 4) == 0;
        uint32_t a = s.y >> shift, b = s.z >> shift, c = s.w >> shift;
        uint32_t sc = first ? a & 63 : (c & 15) | (a >> 2 & 0x30),
                 mn = first ? b & 63 : (c >> 4 & 15) | (b >> 2 & 0x30);
        return make_float2(pare_h2f((uint16_t)s.x) * (float)sc, -pare_h2f((uint16_t)(s.x >> 16)) * (float)mn);
    }
};
struct pare_format_q4_k : pare_format_k<pare_format_q4_k> {
    static constexpr int HIGH = 0;
    PARE_RAW { pare_nibbles(low, t, lo, hi); }
};
struct pare_format_q5_k : pare_format_k<pare_format_q5_k> {
    static constexpr int HIGH = 4;
    PARE_RAW { pare_nibbles(low, t, lo, hi), pare_add_bits<16>(high, t, lo, hi); }
};

struct pare_format_q6_k : pare_format<pare_format_q6_k> {
    static constexpr int LOW = 16, HIGH = 8, OFFSET = 32, SLAB_SCALES = 20;
    static constexpr bool HALVES = true, MINIMA = false;
    typedef uint2 stored; /* two signed bytes; d */
    PARE_RAW {
        pare_nibbles(low, t, lo, hi);
        lo |= pare_pairs<4>(((const uint32_t *)high)[0], t), hi |= pare_pairs<4>(((const uint32_t *)high)[1], t);
    }
    static __device__ __forceinline__ stored fetch(const pare_cuda_weight &, const uint8_t *scales, int chunk) {
        const uint8_t *p = scales + chunk / 8 * SLAB_SCALES;
        return make_uint2(((const uint16_t *)p)[chunk % 8], *(const uint32_t *)(p + 16));
    }
    static __device__ __forceinline__ float2 scale_of(const pare_cuda_weight &, stored s, int, int half) {
        return make_float2(pare_h2f((uint16_t)s.y) * (float)(int8_t)(s.x >> 8 * half), 0.0f);
    }
};

struct pare_format_iq4_xs : pare_format<pare_format_iq4_xs> {
    static constexpr int LOW = 16, HIGH = 0, OFFSET = 0, SLAB_SCALES = 8;
    static constexpr bool HALVES = false, MINIMA = false;
    typedef uint2 stored; /* d, high pairs; low nibbles */
    PARE_RAW { pare_looked_up(low, t, PARE_IQ4_TABLE, lo, hi); }
    static __device__ __forceinline__ stored fetch(const pare_cuda_weight &, const uint8_t *scales, int chunk) {
        return *(const uint2 *)(scales + chunk / 8 * SLAB_SCALES);
    }
    static __device__ __forceinline__ float2 scale_of(const pare_cuda_weight &, stored s, int chunk, int) {
        int c = chunk & 7;
        uint32_t code = (s.y >> 4 * c & 15) | (s.x >> (16 + 2 * c) & 3) << 4;
        return make_float2(pare_h2f((uint16_t)s.x) * (float)((int)code - 32), 0.0f);
    }
};
