/* SPDX-License-Identifier: Apache-2.0
 *
 * Threads are OpenMP; this is the one knob and the loop that keeps results independent of the thread count. */
#ifndef PARE_CORE_THREADS_H
#define PARE_CORE_THREADS_H

#include "pare/pare.h"

/* Runs fn(ctx, item) for item 0..n-1, each exactly once, on pare_threads() threads, in no particular order (dynamic,
 * `chunk` items at a time; 0 = 1). Items must not depend on one another. Returns when all are done. Nested calls run
 * on the calling thread. */
typedef void pare_item_fn(void *ctx, size_t item);
void pare_parallel(size_t n, size_t chunk, pare_item_fn *fn, void *ctx);
/* The calling thread's index inside pare_parallel: 0 .. pare_threads()-1. */
int pare_thread_index(void);

#endif
