/* SPDX-License-Identifier: Apache-2.0
 *
 * The attention kernels of cpu/vec.h for AVX2. */
#define FN(name) pare_##name##_avx2
#define NV       2
#include "cpu/attn_simd.h"
