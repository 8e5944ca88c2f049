/* SPDX-License-Identifier: Apache-2.0
 *
 * The k-th smallest of more scores than fit into memory: non-negative floats order as their bits do, so a count of the
 * high halves finds the bin, and a count of the low halves within it the value. */
#include "prune/solve.h"

#include "core/alloc.h"

#include <string.h>

struct pare_prune_rank {
    uint64_t count[1 << 16];
    uint64_t left; /* of k, within the bin */
    uint32_t high;
    bool second;
};

static uint32_t bits_of(float v) {
    uint32_t b;
    memcpy(&b, &v, sizeof b);
    return b & 0x7fffffffu; /* -0 counts as 0 */
}

pare_prune_rank *pare_prune_rank_new(void) { return pare_calloc(1, sizeof(pare_prune_rank)); }

void pare_prune_rank_free(pare_prune_rank **r) {
    pare_free(*r);
    *r = NULL;
}

void pare_prune_rank_add(pare_prune_rank *r, const float *score, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint32_t b = bits_of(score[i]);
        if (!r->second) r->count[b >> 16]++;
        else if (b >> 16 == r->high) r->count[b & 0xffff]++;
    }
}

/* The bin in which the k-th (from 1) lies; *k becomes its place within the bin. */
static uint32_t bin_of(const pare_prune_rank *r, uint64_t *k) {
    uint32_t b = 0;
    while (b < 0xffff && *k > r->count[b]) *k -= r->count[b++];
    return b;
}

void pare_prune_rank_turn(pare_prune_rank *r, uint64_t k) {
    r->left = k;
    r->high = bin_of(r, &r->left);
    r->second = true;
    memset(r->count, 0, sizeof r->count);
}

pare_prune_limit pare_prune_rank_limit(const pare_prune_rank *r) {
    pare_prune_limit l = {0, r->left};
    uint32_t bits = r->high << 16 | bin_of(r, &l.ties);
    memcpy(&l.below, &bits, sizeof bits);
    return l;
}
