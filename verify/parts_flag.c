/* SPDX-License-Identifier: Apache-2.0
 *
 * Which nodes or tensors stand out: 6 dB or more (four times the error energy) below the median of their kind, where a
 * kind is a name without its numbers ("blk.#.ffn_down.weight"); and the worst of all. */
#include "verify/layer_metrics.h"

#include "core/alloc.h"
#include "core/status.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define OUTLIER_DB 6.0
#define MIN_KIND   4 /* fewer have no meaningful median */

/* Compares names with every run of digits taken as equal. */
static int kind_order(const char *a, const char *b) {
    for (;; a++, b++) {
        bool da = *a >= '0' && *a <= '9', db = *b >= '0' && *b <= '9';
        if (da && db) {
            while (a[1] >= '0' && a[1] <= '9') a++;
            while (b[1] >= '0' && b[1] <= '9') b++;
        } else if (*a != *b || !*a) return (unsigned char)*a - (unsigned char)*b;
    }
}

static int by_kind(const void *a, const void *b) {
    const pare_part *x = *(pare_part *const *)a, *y = *(pare_part *const *)b;
    int k = kind_order(x->name, y->name);
    if (k) return k;
    if (x->sqnr_db != y->sqnr_db) return x->sqnr_db < y->sqnr_db ? -1 : 1;
    return x < y ? -1 : x > y;
}

pare_status pare_parts_flag(pare_part *parts, size_t n, pare_diag *d) {
    pare_part **order = pare_malloc(n * sizeof *order), *worst = NULL;
    if (!order) return pare_fail(d, PARE_ERR_NOMEM, NULL, "report", "no memory for %zu rows", n);
    for (size_t i = 0; i < n; i++) {
        order[i] = &parts[i];
        parts[i].flagged = false;
        if (isfinite(parts[i].sqnr_db) && (!worst || parts[i].sqnr_db < worst->sqnr_db)) worst = &parts[i];
    }
    qsort(order, n, sizeof *order, by_kind);
    for (size_t i = 0; i < n;) {
        size_t j = i;
        while (j < n && kind_order(order[i]->name, order[j]->name) == 0) j++;
        double median = order[i + (j - i) / 2]->sqnr_db;
        for (size_t k = i; k < j && j - i >= MIN_KIND && order[k]->sqnr_db <= median - OUTLIER_DB; k++)
            if (order[k]->sqnr_db < median) order[k]->flagged = true; /* also an infinite median */
        i = j;
    }
    if (worst) worst->flagged = true;
    pare_free(order);
    return PARE_OK;
}
