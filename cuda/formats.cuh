/* SPDX-License-Identifier: Apache-2.0
 *
 * One struct per weight format: how device kernels read a chunk (32 columns of a row, cuda/layout.cuh). Every matrix
 * kernel is a template over these and knows no format itself; a new format is one struct and one line in PARE_FORMATS.
 *
 *   LOW, HIGH     bytes per chunk in the low and the high plane (HIGH 0: none)
 *   HALVES        true: each half chunk (16 columns) has a scale of its own
 *   MINIMA        true: w = scale * code + minimum; else minimum is 0
 *   codes(low, high, t, lo, hi)   low, high: the chunk in each plane (global or shared memory, 4-byte aligned); t 0..3.
 *                 lo: signed codes of columns 4t .. 4t+3, one byte each, first column lowest; hi: of columns 16+4t ..
 *                 The offset is taken off already: w = scale * code + minimum. This is the A fragment of the int8
 *                 tensor product (cuda/mma.cuh), and the k order of the others
 *   scale(w, scales, chunk, half)  scales: the row's scale plane (or the slab's in shared memory, then chunk counts
 *                 from that slab); float2 {scale, minimum}
 *
 * equal: codes exactly; scale and minimum as the CPU's expand has them, bit for bit. Asymmetric grouped integers have
 * code = q - zero folded: minimum = -scale * zero. */
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

/* Nibbles 0..15 of a word, low ones and high ones, minus OFFSET, as signed bytes. */
template <int OFFSET> __device__ __forceinline__ void pare_nibbles(uint32_t v, uint32_t &lo, uint32_t &hi) {
    const uint32_t bias = 0x80808080u - 0x01010101u * OFFSET; /* no borrow between bytes: every byte stays above 0 */
    lo = ((v & 0x0f0f0f0fu) + bias) ^ 0x80808080u;
    hi = ((v >> 4 & 0x0f0f0f0fu) + bias) ^ 0x80808080u;
}

struct pare_format_q4_0 {
    static constexpr int LOW = 16, HIGH = 0, SLAB_SCALES = 16;
    static constexpr bool HALVES = false, MINIMA = false;
    static __device__ __forceinline__ void codes(const uint8_t *low, const uint8_t *, int t, uint32_t &lo,
                                                 uint32_t &hi) {
        pare_nibbles<8>(((const uint32_t *)low)[t], lo, hi);
    }
    static __device__ __forceinline__ float2 scale(const pare_cuda_weight &, const uint8_t *scales, int chunk, int) {
        return make_float2(pare_h2f(((const uint16_t *)scales)[chunk]), 0.0f);
    }
};

struct pare_format_q8_0 {
    static constexpr int LOW = 32, HIGH = 0, SLAB_SCALES = 16;
    static constexpr bool HALVES = false, MINIMA = false;
    static __device__ __forceinline__ void codes(const uint8_t *low, const uint8_t *, int t, uint32_t &lo,
                                                 uint32_t &hi) {
        lo = ((const uint32_t *)low)[t], hi = ((const uint32_t *)low)[4 + t];
    }
    static __device__ __forceinline__ float2 scale(const pare_cuda_weight &, const uint8_t *scales, int chunk, int) {
        return make_float2(pare_h2f(((const uint16_t *)scales)[chunk]), 0.0f);
    }
};

#endif
