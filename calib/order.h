/* SPDX-License-Identifier: Apache-2.0
 *
 * The order in which a sweep fixes columns: those first whose inputs have the most energy, since whoever comes early
 * has the most columns left to make its error good ("act-order" of the GPTQ authors' code). Nothing is reordered on
 * disk: groups stay whole, their parameters are fitted when the sweep reaches them. */
#ifndef PARE_CALIB_ORDER_H
#define PARE_CALIB_ORDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* order [n]: groups of `outer` columns by falling sum of h's diagonal (h [n, n]), within them groups of `inner`, within
 * those columns; equal ones by number.
 * pre: inner divides outer, outer divides n. fails: false when out of memory */
bool pare_order_by_energy(size_t n, const float *h, size_t inner, size_t outer, uint32_t *order);

#endif
