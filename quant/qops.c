/* SPDX-License-Identifier: Apache-2.0
 *
 * Choice of the inner loops at run time. */
#include "quant/qops.h"

#include "core/cpu_features.h"

const pare_qops *pare_qops_get(void) {
#if defined(__x86_64__)
    uint32_t mask = pare_cpu_mask();
    if (mask & PARE_CPU_AVX512) return &pare_qops_avx512;
    if (mask & PARE_CPU_AVX2) return &pare_qops_avx2;
#endif
    return &pare_qops_ref;
}
