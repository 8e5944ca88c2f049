/* SPDX-License-Identifier: Apache-2.0
 *
 * Expansion of integer formats, compiled for AVX2 and F16C. */
#include "cpu/matmul_kernels.h"

#include <immintrin.h>

static inline float half_at(const uint8_t *p) { return _cvtsh_ss((unsigned short)(p[0] | p[1] << 8)); }
#define EXPAND_NAME    pare_expand_avx2
#define EXPAND_HALF(p) half_at(p)
#include "cpu/expand_impl.h"
