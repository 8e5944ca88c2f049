/* SPDX-License-Identifier: Apache-2.0
 *
 * The dispatch table of the matmul kernels: scalar first, then overwritten upward by what the processor has. */
#include "cpu/matmul_kernels.h"

static pare_mm_table table;
static uint32_t filled_for = UINT32_MAX;

static void fill(uint32_t mask) {
#define PARE_KERNEL(op, isa, need)                                                                                     \
    if ((mask & (need)) == (need)) table.op = pare_##op##_##isa;
#include "cpu/matmul.def"
#undef PARE_KERNEL
}

const pare_mm_table *pare_mm_kernels(void) {
    uint32_t mask = pare_cpu_mask();
    if (__atomic_load_n(&filled_for, __ATOMIC_ACQUIRE) != mask) {
#pragma omp critical(pare_mm_table)
        if (__atomic_load_n(&filled_for, __ATOMIC_ACQUIRE) != mask) {
            fill(mask);
            __atomic_store_n(&filled_for, mask, __ATOMIC_RELEASE);
        }
    }
    return &table;
}
