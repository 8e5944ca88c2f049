/* SPDX-License-Identifier: Apache-2.0
 *
 * A warp rounds one slab (256 columns) of activations. Lane l holds columns 4l .. 4l+3 (part 0) and 128 + 4l .. (part
 * 1); eight lanes hold a chunk, four a half chunk.
 *
 * int8 rules: as cpu/act_quant.h. Fixed point (what f32-grade products of codes want): x = scale * (16777216 d0 + 65536
 * d1 + 256 d2 + d3), digits in signed bytes, scale a power of two per chunk such that the largest magnitude is below
 * 2^30 scale; rounding is half of scale, 2^-31 of that magnitude at most. Magnitudes below 2^-96 count as 0; a chunk
 * with an infinity or NaN has scale NaN. */
#ifndef PARE_CUDA_ACT_CUH
#define PARE_CUDA_ACT_CUH

#include "cuda/dev.cuh"
#include "cuda/matmul.cuh"

template <int TERMS> struct pare_act_part {
    uint32_t digits[TERMS]; /* of this lane's four columns, most significant term first */
    int sum[TERMS];         /* over the half chunk */
    float scale, extra;     /* of the chunk; what minima multiply, over the half chunk */
};

#define PARE_ACT_TINY 1e-36f

/* Largest magnitude, infinity when any of the four is not finite. */
__device__ __forceinline__ float pare_act_largest(const float (&x)[4]) {
    float m = 0.0f;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float a = fabsf(x[i]);
        m = fmaxf(m, a <= 3.402823466e38f ? a : pare_float(0x7f800000u));
    }
    return m;
}
/* The same over groups of LANES. */
template <int LANES> __device__ __forceinline__ float pare_act_largest_of(float m) {
#pragma unroll
    for (int d = 1; d < LANES; d *= 2) m = fmaxf(m, __shfl_xor_sync(0xffffffffu, m, d));
    return m;
}

template <int LANES> __device__ __forceinline__ int pare_act_sum(int v) {
#pragma unroll
    for (int d = 1; d < LANES; d *= 2) v += __shfl_xor_sync(0xffffffffu, v, d);
    return v;
}

__device__ __forceinline__ uint32_t pare_act_codes(const float (&x)[4], float inv) {
    uint32_t r = 0;
#pragma unroll
    for (int i = 0; i < 4; i++) r |= ((uint32_t)min(__float2int_rn(x[i] * inv), 127) & 255) << 8 * i;
    return r;
}

/* The element of magnitude m that comes first in the slab. */
__device__ __forceinline__ float pare_act_first(const float (&x)[2][4], float m) {
    float ext = m;
#pragma unroll
    for (int p = 1; p >= 0; p--) {
        float mine = 0.0f;
#pragma unroll
        for (int i = 3; i >= 0; i--) mine = fabsf(x[p][i]) == m ? x[p][i] : mine;
        uint32_t who = __ballot_sync(0xffffffffu, fabsf(mine) == m);
        float first = __shfl_sync(0xffffffffu, mine, who ? __ffs((int)who) - 1 : 0);
        ext = who ? first : ext;
    }
    return ext;
}

/* Rules with codes. row_largest: of the whole row (TOKEN), as pare_act_largest. */
template <int RULE>
__device__ __forceinline__ void pare_act_int8(const float (&x)[2][4], float row_largest, pare_act_part<1> (&out)[2]) {
    float m[2], ext = 0.0f;
#pragma unroll
    for (int p = 0; p < 2; p++)
        m[p] = RULE == PARE_CR_TOKEN                        ? row_largest
               : pare_act_largest_of < RULE == PARE_CR_Q8_K ? 32
                                                            : 8 > (pare_act_largest(x[p]));
    if (RULE == PARE_CR_Q8_K) {
        m[0] = m[1] = fmaxf(m[0], m[1]);
        ext = pare_act_first(x, m[0]);
    }
#pragma unroll
    for (int p = 0; p < 2; p++) {
        bool finite = m[p] <= 3.402823466e38f, empty = !finite || !(m[p] >= PARE_ACT_TINY);
        float inv = empty ? 0.0f : RULE == PARE_CR_Q8_K ? -127.0f / ext : 127.0f / m[p];
        float plain = m[p] / 127.0f, scale = plain;
        if (RULE == PARE_CR_Q8_K) scale = 1.0f / inv;
        if (RULE == PARE_CR_Q8_0 || RULE == PARE_CR_Q8_1) scale = pare_h2f(pare_f2h(plain));
        out[p].digits[0] = empty ? 0u : pare_act_codes(x[p], inv);
        out[p].scale = !finite ? pare_float(0x7fc00000u) : empty ? 0.0f : scale;
        int sum = pare_act_sum<4>(__dp4a((int)out[p].digits[0], 0x01010101, 0));
        out[p].sum[0] = sum;
        out[p].extra = out[p].scale * (float)sum;
        if (RULE == PARE_CR_Q8_1) {
            int both = sum + __shfl_xor_sync(0xffffffffu, sum, 4);
            float s = finite ? pare_h2f(pare_f2h(plain * (float)both)) : out[p].scale;
            out[p].extra = threadIdx.x & 4 ? 0.0f : s;
        }
    }
}

/* 4 x 4 bytes turned: r[t] = byte 3 - t of each q. */
__device__ __forceinline__ void pare_act_turn(const uint32_t (&q)[4], uint32_t (&r)[4]) {
    uint32_t a = __byte_perm(q[0], q[1], 0x5140), b = __byte_perm(q[2], q[3], 0x5140),
             c = __byte_perm(q[0], q[1], 0x7362), d = __byte_perm(q[2], q[3], 0x7362);
    r[3] = __byte_perm(a, b, 0x5410), r[2] = __byte_perm(a, b, 0x7632);
    r[1] = __byte_perm(c, d, 0x5410), r[0] = __byte_perm(c, d, 0x7632);
}

/* Sums of digits as one number, in units of the last digit. */
__device__ __forceinline__ float pare_act_value(const int (&d)[4]) {
    return fmaf((float)(d[0] * 256 + d[1]), 65536.0f, (float)(d[2] * 256 + d[3]));
}
__device__ __forceinline__ float pare_act_value(const int (&d)[1]) { return (float)d[0]; }

__device__ __forceinline__ void pare_act_fixed(const float (&x)[2][4], pare_act_part<4> (&out)[2]) {
#pragma unroll
    for (int p = 0; p < 2; p++) {
        float m = pare_act_largest_of<8>(pare_act_largest(x[p]));
        bool finite = m <= 3.402823466e38f;
        int e = (int)(pare_bits(m) >> 23) - 126; /* m < 2^e */
        bool empty = !finite || e < -96;
        float up = pare_float((uint32_t)(127 + (empty ? 0 : 30 - e)) << 23);
        float down = pare_float((uint32_t)(127 + (empty ? 0 : e - 30)) << 23);
        uint32_t q[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            uint32_t v = empty ? 0u : (uint32_t)__float2int_rn(x[p][i] * up);
            q[i] = (v + 0x00808080u) ^ 0x00808080u; /* carries make the three lower bytes signed */
        }
        pare_act_turn(q, out[p].digits);
#pragma unroll
        for (int t = 0; t < 4; t++) out[p].sum[t] = pare_act_sum<4>(__dp4a((int)out[p].digits[t], 0x01010101, 0));
        out[p].scale = !finite ? pare_float(0x7fc00000u) : empty ? 0.0f : down;
        out[p].extra = out[p].scale * pare_act_value(out[p].sum);
    }
}

#endif
