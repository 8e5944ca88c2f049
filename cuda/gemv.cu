/* SPDX-License-Identifier: Apache-2.0
 *
 * One token or two: which launch (cuda/gemv.cuh). It depends on shapes and on the device alone. */
#include "cuda/gemv.cuh"

/* Warps that share rows: the number that leaves the fewest steps to the block with the most work; a tile costs about a
 * quarter of a step besides. */
pare_gemv_plan pare_gemv_plan_for(const pare_cuda *dev, const pare_cuda_mm *p, int slabs_a_step, size_t shared) {
    int resident = dev->rt.sms * (2 * (shared + 1024) <= dev->rt.shared_max ? 2 : 1) / (int)p->m;
    if (resident < 1) resident = 1;
    pare_gemv_plan best = {};
    int64_t least = INT64_MAX;
    for (int split = 1; split <= PARE_GEMV_WARPS; split *= 2) {
        int tiles = (int)pare_cuda_ceil(p->w.n, PARE_GEMV_WARPS / split * PARE_GEMV_ROWS);
        int64_t cost = pare_cuda_ceil(tiles, resident) * (4 * pare_cuda_ceil(p->w.slabs, split * slabs_a_step) + 1);
        if (cost >= least) continue;
        least = cost;
        best.split = split, best.tiles = tiles, best.blocks = tiles < resident ? tiles : resident;
    }
    return best;
}

/* Shared memory as pare_gemv_shape counts it, at most: four words of digits and what a chunk may have. */
static bool can(const pare_cuda *dev, const pare_cuda_mm *p) {
    bool int8 = p->rule >= PARE_CR_Q8_0;
    size_t slab = int8 ? 256 + 8 * 4 * (3 + 2) : 1024 + 8 * 4 * (3 + 8);
    return p->m <= 2 && p->format != PARE_CF_NONE && p->format != PARE_CF_2OF4 &&
           (size_t)p->w.slabs * slab <= dev->rt.shared_max - 1024;
}
static size_t workspace(const pare_cuda *dev, const pare_cuda_mm *p) { return 0; }
static void run(pare_cuda *dev, const pare_cuda_mm *p) {
    (void)(pare_gemv_blocks(dev, p) || pare_gemv_k(dev, p) || pare_gemv_grouped(dev, p));
}

const pare_cuda_mm_kernel pare_cuda_mm_gemv = {"gemv", can, workspace, run};
