/* SPDX-License-Identifier: Apache-2.0
 *
 * What this processor can do, in the order in which kernels improve on one another. */
#ifndef PARE_CORE_CPU_FEATURES_H
#define PARE_CORE_CPU_FEATURES_H

#include <stdbool.h>
#include <stdint.h>

enum {
    PARE_CPU_AVX2 = 1u << 0,   /* with FMA and F16C */
    PARE_CPU_AVX512 = 1u << 1, /* F BW DQ VL */
    PARE_CPU_VNNI = 1u << 2,   /* AVX512-VNNI */
    PARE_CPU_BF16 = 1u << 3,   /* AVX512-BF16 */
    PARE_CPU_AMX = 1u << 4,    /* tiles with int8 and bf16, permission granted by the kernel */
    PARE_CPU_VBMI2 = 1u << 5   /* AVX512-VBMI and -VBMI2, with VNNI and BMI2 */
};
/* Detected once, masked by PARE_CPU=ref|avx2|avx512|vnni|bf16|amx (the highest level allowed; VBMI2 from vnni on) and
 * pare_cpu_limit(). */
uint32_t pare_cpu_mask(void);
/* For tests: only these features from now on; all dispatch tables are refilled by their init functions. */
void pare_cpu_limit(uint32_t mask);
const char *pare_cpu_name(uint32_t mask); /* "AVX-512 VNNI", for reports */

#endif
