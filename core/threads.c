/* SPDX-License-Identifier: Apache-2.0
 *
 * The thread knob and the parallel loop, on OpenMP. */
#include "core/threads.h"

#include <omp.h>

static int wanted;

void pare_set_threads(int n) { wanted = n > 0 ? n : 0; }

int pare_threads(void) {
    if (wanted) return wanted;
    int n = omp_get_num_procs();
    return n > 0 ? n : 1;
}

int pare_thread_index(void) { return omp_get_thread_num(); }

void pare_parallel(size_t n, size_t chunk, pare_item_fn *fn, void *ctx) {
    int threads = pare_threads();
    if (n <= 1 || threads == 1 || omp_in_parallel()) {
        for (size_t i = 0; i < n; i++) fn(ctx, i);
        return;
    }
    if ((size_t)threads > n) threads = (int)n;
    if (!chunk) chunk = 1;
#pragma omp parallel for schedule(dynamic, chunk) num_threads(threads)
    for (size_t i = 0; i < n; i++) fn(ctx, i);
}
