/* SPDX-License-Identifier: Apache-2.0
 *
 * Vector half conversions. Each converts the largest multiple of 8 elements <= n and returns how many; equal: bit for
 * bit to the scalar ones (NaN payloads excepted). Pointers may be unaligned. */
#ifndef PARE_CORE_HALF_KERNELS_H
#define PARE_CORE_HALF_KERNELS_H

#include <stddef.h>
#include <stdint.h>

size_t pare_f16_to_f32_avx2(const uint16_t *src, float *dst, size_t n);
size_t pare_f32_to_f16_avx2(const float *src, uint16_t *dst, size_t n);

#endif
