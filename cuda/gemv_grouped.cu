/* SPDX-License-Identifier: Apache-2.0
 *
 * One token or two, grouped integers (cuda/gemv.cuh). Where products of code and scale are rounded to a 16-bit scale's
 * type, weights are made as the format's decode makes them and multiply x in f32; with f32 scales and under int8 rules
 * codes are multiplied. */
#include "cuda/gemv.cuh"

/* Four bytes, stored + something, minus base (all of what code - zero is below, 1024 or 2^23 of the trick included),
 * times scale, rounded in the scale's type. Everything before that is exact. */
template <bool BF16>
static __device__ __forceinline__ void values4(uint32_t bytes, uint32_t base, uint32_t scale, float (&v)[4]) {
    uint32_t p[2];
    if constexpr (!BF16) {
        p[0] = __byte_perm(bytes, 0x64646464u, 0x4140), p[1] = __byte_perm(bytes, 0x64646464u, 0x4342);
        for (int i = 0; i < 2; i++) {
            p[i] = pare_hmul2(pare_hsub2(p[i], base), scale);
            v[2 * i] = pare_h2f((uint16_t)p[i]), v[2 * i + 1] = pare_h2f((uint16_t)(p[i] >> 16));
        }
    } else {
        for (int i = 0; i < 4; i++)
            v[i] = (pare_float(__byte_perm(bytes, 0x4b000000u, 0x7440 + (uint32_t)i)) - pare_float(base)) *
                   pare_float(scale);
        p[0] = pare_f2bf2(v[0], v[1]), p[1] = pare_f2bf2(v[2], v[3]);
        for (int i = 0; i < 2; i++) v[2 * i] = pare_float(p[i] << 16), v[2 * i + 1] = pare_float(p[i] & 0xffff0000u);
    }
}

template <class F, bool BF16>
static __device__ __forceinline__ void multiply(float (&sum)[pare_gemv_shape<F, PARE_GEMV_FLOAT>::ROWS],
                                                const pare_gemv_stage<F, pare_gemv_shape<F, PARE_GEMV_FLOAT>> &st,
                                                int u, const pare_gemv &g, int slab, const uint32_t *x,
                                                const uint32_t *) {
    typedef pare_gemv_shape<F, PARE_GEMV_FLOAT> S;
    constexpr int WORDS = S::LANES == 8 ? 8 : 4;
    int in = (int)threadIdx.x % S::LANES, c = S::LANES == 8 ? in : in / 2, h = S::LANES == 8 ? 0 : in % 2;
    const uint32_t *from = x + slab * S::DIGITS + (h * 32 + c) * 4;
#pragma unroll
    for (int r = 0; r < S::ROWS; r++) {
        auto stored = st.scale[u][r];
        float z = F::zero_of(stored), part = 0.0f;
        uint32_t scale = BF16 ? stored.x << 16 : stored.x * 0x10001u;
        z += F::LOW == 32 ? 128.0f : (float)F::OFFSET; /* as bytes are turned below */
        uint32_t base = BF16 ? pare_bits(8388608.0f + z) : pare_f2h2(1024.0f + z, 1024.0f + z);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            uint32_t word[2];
            pare_gemv_words<F>(st.low[u][r], st.high[u][r], j, word[0], word[1]);
#pragma unroll
            for (int i = 0; i < WORDS / 4; i++) {
                float4 xv = *(const float4 *)(from + (4 * i + j) * 32);
                float v[4];
                values4<BF16>(F::LOW == 32 ? word[i] ^ 0x80808080u : word[i], base, scale, v);
                part = fmaf(v[0], xv.x, part), part = fmaf(v[1], xv.y, part);
                part = fmaf(v[2], xv.z, part), part = fmaf(v[3], xv.w, part);
            }
        }
        sum[r] += part;
    }
}

template <class F, bool BF16>
__global__ void __launch_bounds__(32 * PARE_GEMV_WARPS, 2) gemv_values_kernel(pare_gemv g) {
    pare_gemv_loop<F, PARE_GEMV_FLOAT, 0, multiply<F, BF16>>(g);
}

template <class F> static void launch(pare_cuda *dev, const pare_cuda_mm *p) {
    if (p->rule >= PARE_CR_Q8_0) {
        pare_gemv_codes<F, PARE_GEMV_INT8, PARE_CR_Q8_0>(dev, p);
        return;
    }
    if (p->w.scale_type == PARE_CT_F32) {
        pare_gemv_codes<F, PARE_GEMV_FIXED, PARE_CR_Q8_0>(dev, p);
        return;
    }
    size_t shared = pare_gemv_shared<F, PARE_GEMV_FLOAT>(p->w);
    pare_gemv_plan plan = pare_gemv_plan_for(dev, p, pare_gemv_shape<F, PARE_GEMV_FLOAT>::SLABS, shared);
    pare_gemv g = {p->w, p->x, p->y, p->rule, plan.split, plan.tiles};
    dim3 grid((unsigned)plan.blocks, (unsigned)p->m), block(32 * PARE_GEMV_WARPS);
    if (p->w.scale_type == PARE_CT_BF16)
        pare_launch<gemv_values_kernel<F, true>>(dev->rt.stream, grid, block, shared, g);
    else pare_launch<gemv_values_kernel<F, false>>(dev->rt.stream, grid, block, shared, g);
}

bool pare_gemv_grouped(pare_cuda *dev, const pare_cuda_mm *p) {
    if (p->format == PARE_CF_INT4) p->w.asym ? launch<pare_format_int4_asym>(dev, p) : launch<pare_format_int4>(dev, p);
    else if (p->format == PARE_CF_INT8)
        p->w.asym ? launch<pare_format_int8_asym>(dev, p) : launch<pare_format_int8>(dev, p);
    else return false;
    return true;
}
