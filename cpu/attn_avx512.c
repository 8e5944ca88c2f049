/* SPDX-License-Identifier: Apache-2.0
 *
 * The attention kernels of cpu/vec.h for AVX-512. */
#define FN(name) pare_##name##_avx512
#define NV       4
#include "cpu/attn_simd.h"
