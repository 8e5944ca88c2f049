/* SPDX-License-Identifier: Apache-2.0
 *
 * Is every weight a number? NaN and Inf are told by their exponent bits, at memory speed. */
#ifndef PARE_FORMATS_VALIDATE_H
#define PARE_FORMATS_VALIDATE_H

#include "core/qtype.h"

/* Index of the first NaN or Inf among n elements of a float type (f64, f32, f16, bf16, the f8 types), SIZE_MAX when
 * there is none. src of any alignment. Other types have no such values: SIZE_MAX. */
size_t pare_find_nonfinite(const pare_qtype *qt, const void *src, size_t n);

/* True when an exponent of all ones occurs in n 16-bit or 32-bit words; mask is that exponent. equal: exactly. */
typedef bool pare_any_exponent_fn(const void *src, size_t n, uint32_t mask);
pare_any_exponent_fn pare_any_exponent16_ref, pare_any_exponent16_avx2, pare_any_exponent32_ref,
    pare_any_exponent32_avx2;

#endif
