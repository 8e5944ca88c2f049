/* SPDX-License-Identifier: Apache-2.0
 *
 * W4A16 and W8A16 on Hopper (cuda/w4a16_sm90.cuh): formats, splits of k. */
#include "cuda/w4a16_sm90.cuh"

#define LEAST 4 /* steps of a split */

__global__ void __launch_bounds__(PARE_W16_THREADS) w16_sum_kernel(pare_w16_args a) {
    int64_t i = (int64_t)blockIdx.x * PARE_W16_THREADS + threadIdx.x, all = (int64_t)a.m * a.n;
    if (i >= all) return;
    float sum = 0.0f;
    for (int s = 0; s < a.tiles.splits; s++) sum += a.t.parts[s * all + i];
    a.y[i] = sum * a.t.factor[i % a.n];
}

static pare_tiles plan(const pare_cuda *dev, const pare_cuda_mm *p) {
    return pare_tiles_plan(p->n, PARE_W16_ROWS, p->m, PARE_W16_TOKENS, pare_cuda_ceil(p->k, 64), dev->rt.sms, LEAST);
}

static bool can(const pare_cuda *dev, const pare_cuda_mm *p) {
#if defined PARE_SM90A || defined PARE_EMU
    return dev->rt.arch == 90 && p->rule == PARE_CR_F16 && pare_w16_has(p) && p->m >= 64 &&
           p->m * p->n < (int64_t)1 << 40 && p->m < 1 << 24 && p->n < 1 << 24;
#else
    return false; /* built without sm_90a */
#endif
}
static size_t workspace(const pare_cuda *dev, const pare_cuda_mm *p) {
    pare_tiles t = plan(dev, p);
    return pare_w16_bytes(p) + (t.splits > 1 ? (size_t)t.splits * (size_t)(p->m * p->n) * sizeof(float) : 0);
}

static void run(pare_cuda *dev, const pare_cuda_mm *p) {
    pare_w16_args a = {};
    a.w = p->w, a.t = pare_w16_make(dev, p);
    a.m = (int)p->m, a.n = (int)p->n;
    a.y = p->y;
    a.tiles = plan(dev, p);
#define PARE_W16_RUN(cf, asymmetric, f, c)                                                                             \
    if (p->format == cf && (asymmetric) == (p->w.asym != 0)) pare_w16_launch<pare_format_##c>(dev, a);
    PARE_W16_FORMATS(PARE_W16_RUN)
#undef PARE_W16_RUN
    if (a.tiles.splits > 1)
        pare_launch<w16_sum_kernel>(dev->rt.stream, dim3((unsigned)pare_cuda_ceil(p->m * p->n, PARE_W16_THREADS)),
                                    PARE_W16_THREADS, 0, a);
}

const pare_cuda_mm_kernel pare_cuda_mm_w4a16_sm90 = {"w4a16_sm90", can, workspace, run};
