/* SPDX-License-Identifier: Apache-2.0
 *
 * In which order windows of a text are seen: each epoch all of them once, in an order that follows from seed and epoch
 * alone, so that a run can go on anywhere. A permutation is computed, not stored (Feistel network over the next power
 * of four, walking on while outside: Black and Rogaway 2002), so that texts may be larger than memory. */
#ifndef PARE_DISTILL_ORDER_H
#define PARE_DISTILL_ORDER_H

#include <stdint.h>

/* The window seen at position `at` (from 0, over all epochs) of n > 0 windows. */
uint64_t pare_order_at(uint64_t seed, uint64_t n, uint64_t at);

#endif
