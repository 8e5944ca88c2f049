/* SPDX-License-Identifier: Apache-2.0
 *
 * cuda/w16.cuh. Scales: a warp per row, once for the largest and once to write. */
#include "cuda/w16.cuh"

#include "cuda/formats.cuh"

#define THREADS 256

/* A thread per 16 columns. */
__global__ void __launch_bounds__(THREADS)
    x_kernel(const float *x, uint16_t *to, int64_t groups, int64_t k, int64_t k_pad) {
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= groups) return;
    int64_t per_row = k_pad / 16, row = i / per_row, first = i % per_row * 16;
    const float *from = x + row * k + first;
    float v[16];
#pragma unroll
    for (int c = 0; c < 16; c++) v[c] = first + c < k ? from[c] : 0.0f;
    uint4 *out = (uint4 *)(to + row * k_pad + first);
    out[0] = make_uint4(pare_f2h2(v[0], v[1]), pare_f2h2(v[4], v[5]), pare_f2h2(v[8], v[9]), pare_f2h2(v[12], v[13]));
    out[1] = make_uint4(pare_f2h2(v[2], v[3]), pare_f2h2(v[6], v[7]), pare_f2h2(v[10], v[11]), pare_f2h2(v[14], v[15]));
}

/* 2^e that brings the largest value of a row into [2^13, 2^14), and 2^-e; at most 2^126, 1 where it is not finite. */
static __device__ __forceinline__ float power_of(float most, float *inverse) {
    int e = max((int)(pare_bits(most) >> 23), 14);
    *inverse = e < 255 ? pare_float((uint32_t)(e - 13) << 23) : 1.0f;
    return e < 255 ? pare_float((uint32_t)(267 - e) << 23) : 1.0f;
}

template <class F> __global__ void __launch_bounds__(THREADS) scales_kernel(pare_cuda_weight w, pare_w16 to) {
    constexpr int PER = F::HALVES ? 2 : 1;
    int64_t row = ((int64_t)blockIdx.x * THREADS + threadIdx.x) / 32;
    int lane = (int)threadIdx.x % 32, n = (int)(to.k_pad / 32) * PER;
    if (row >= to.n_pad) return;
    bool in = row < w.n;
    const uint8_t *scales = w.scales + (in ? row : 0) * w.scale_row;
    int have = in ? w.slabs * 8 * PER : 0; /* of the row's; k_pad may end before the slab */
    float most = 0.0f, inverse;
    for (int i = lane; i < n && i < have; i += 32) {
        float2 s = F::scale(w, scales, i / PER, i % PER);
        most = fmaxf(most, fmaxf(128.0f * fabsf(s.x), fabsf(s.y)));
    }
    most = pare_warp_max(most);
    float power = power_of(most, &inverse);
    if (in && lane == 0) to.factor[row] = inverse;
    for (int i = lane; i < n; i += 32) {
        float2 s = i < have ? F::scale(w, scales, i / PER, i % PER) : make_float2(0.0f, 0.0f);
        to.scales[(i / (2 * PER) * to.n_pad + row) * (2 * PER) + i % (2 * PER)] =
            pare_f2h2(s.x * power, F::MINIMA ? s.y * power : 0.0f);
    }
}

static int64_t padded_k(const pare_cuda_mm *p) { return pare_cuda_ceil(p->k, 64) * 64; }
static int64_t padded_n(const pare_cuda_mm *p) { return pare_cuda_ceil(p->n, 256) * 256; }
static size_t round256(size_t n) { return (n + 255) & ~(size_t)255; }
static size_t x_bytes(const pare_cuda_mm *p) { return round256((size_t)(p->m * padded_k(p)) * 2); }

static int halves_of(const pare_cuda_mm *p) {
#define PARE_W16_HALVES(cf, a, f, c)                                                                                   \
    if (p->format == cf && (a) == (p->w.asym != 0)) return pare_format_##f::HALVES ? 2 : 1;
    PARE_W16_FORMATS(PARE_W16_HALVES)
#undef PARE_W16_HALVES
    return 0;
}
bool pare_w16_has(const pare_cuda_mm *p) { return halves_of(p) != 0; }

static size_t scale_bytes(const pare_cuda_mm *p) {
    return round256((size_t)(padded_k(p) / 32 * padded_n(p)) * 4 * (size_t)halves_of(p));
}
size_t pare_w16_bytes(const pare_cuda_mm *p) {
    return x_bytes(p) + scale_bytes(p) + round256((size_t)p->n * sizeof(float));
}

pare_w16 pare_w16_make(pare_cuda *dev, const pare_cuda_mm *p) {
    char *mem = (char *)p->workspace;
    pare_w16 t = {};
    t.x = (uint16_t *)mem, t.scales = (uint32_t *)(mem + x_bytes(p));
    t.factor = (float *)(mem + x_bytes(p) + scale_bytes(p)), t.parts = (float *)(mem + pare_w16_bytes(p));
    t.k_pad = padded_k(p), t.n_pad = padded_n(p);
    int64_t groups = p->m * t.k_pad / 16;
    dim3 grid((unsigned)pare_cuda_ceil(t.n_pad, THREADS / 32));
    pare_launch<x_kernel>(dev->rt.stream, dim3((unsigned)pare_cuda_ceil(groups, THREADS)), THREADS, 0, p->x, t.x,
                          groups, p->k, t.k_pad);
#define PARE_W16_SCALES(cf, a, f, c)                                                                                   \
    if (p->format == cf && (a) == (p->w.asym != 0))                                                                    \
        pare_launch<scales_kernel<pare_format_##f>>(dev->rt.stream, grid, THREADS, 0, p->w, t);
    PARE_W16_FORMATS(PARE_W16_SCALES)
#undef PARE_W16_SCALES
    return t;
}
