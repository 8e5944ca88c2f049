/* SPDX-License-Identifier: Apache-2.0
 *
 * Columns by energy (calib/order.h). */
#include "calib/order.h"

#include "core/alloc.h"

#include <stdlib.h>

typedef struct key {
    double energy[3];   /* of the outer group, of the inner one, of the column */
    uint32_t number[3]; /* their numbers */
} key;

static int falling(const void *pa, const void *pb) {
    const key *a = pa, *b = pb;
    for (int i = 0; i < 3; i++) {
        if (a->energy[i] != b->energy[i]) return a->energy[i] > b->energy[i] ? -1 : 1;
        if (a->number[i] != b->number[i]) return a->number[i] < b->number[i] ? -1 : 1;
    }
    return 0;
}

static double energy(size_t n, const float *h, size_t first, size_t count) {
    double sum = 0;
    for (size_t j = first; j < first + count; j++) sum += (double)h[j * n + j];
    return sum;
}

bool pare_order_by_energy(size_t n, const float *h, size_t inner, size_t outer, uint32_t *order) {
    const size_t width[3] = {outer, inner, 1};
    key *k = pare_malloc(n * sizeof *k);
    if (!k) return false;
    for (size_t j = 0; j < n; j++)
        for (int i = 0; i < 3; i++) {
            size_t w = width[i], number = j / w;
            bool first = j % w == 0;
            k[j].energy[i] = first ? energy(n, h, j, w) : k[j - 1].energy[i];
            k[j].number[i] = (uint32_t)number;
        }
    qsort(k, n, sizeof *k, falling);
    for (size_t j = 0; j < n; j++) order[j] = k[j].number[2];
    pare_free(k);
    return true;
}
