/* SPDX-License-Identifier: Apache-2.0
 *
 * The check that every weight is a number, and not too large for what it becomes. */
#ifndef PARE_API_FINITE_H
#define PARE_API_FINITE_H

#include "core/qtype.h"

/* Index of the first value whose magnitude is above limit (finite, >= 0), or NaN; n when there is none. */
size_t pare_find_beyond(const float *v, size_t n, float limit);

#endif
