/* SPDX-License-Identifier: Apache-2.0
 *
 * The row kernels of cpu/vec.h for AVX-512. */
#define FN(name) pare_##name##_avx512
#include "cpu/vec_simd.h"
