/* SPDX-License-Identifier: Apache-2.0
 *
 * Temperature, top-k and top-p sampling. paper: Holtzman et al. 2019 (top-p). */
#include "api/sampler.h"

#include "core/alloc.h"

#include <math.h>
#include <stdlib.h>

pare_status pare_sampler_open(pare_sampler *s, size_t vocab, double temp, int64_t top_k, double top_p, uint64_t seed) {
    size_t k = top_k > 0 && (uint64_t)top_k < vocab ? (size_t)top_k : vocab;
    *s = (pare_sampler){.temp = temp, .top_p = top_p > 0 && top_p < 1 ? top_p : 1, .top_k = k, .vocab = vocab};
    pare_rng_seed(&s->rng, seed);
    if (temp <= 0) return PARE_OK;
    s->heap = pare_calloc(k, sizeof *s->heap);
    s->weight = pare_calloc(k, sizeof *s->weight);
    if (s->heap && s->weight) return PARE_OK;
    pare_sampler_close(s);
    return PARE_ERR_NOMEM;
}

void pare_sampler_close(pare_sampler *s) {
    pare_free(s->heap);
    pare_free(s->weight);
    s->heap = NULL;
    s->weight = NULL;
}

static bool better(pare_candidate a, pare_candidate b) { return a.logit != b.logit ? a.logit > b.logit : a.id < b.id; }

static int best_first(const void *a, const void *b) {
    return better(*(const pare_candidate *)a, *(const pare_candidate *)b) ? -1 : 1;
}

/* Moves the worst of the heap's n elements to its root, from i downwards. */
static void sift(pare_candidate *h, size_t n, size_t i) {
    for (;;) {
        size_t worst = i, l = 2 * i + 1, r = l + 1;
        if (l < n && better(h[worst], h[l])) worst = l;
        if (r < n && better(h[worst], h[r])) worst = r;
        if (worst == i) return;
        pare_candidate t = h[i];
        h[i] = h[worst], h[worst] = t, i = worst;
    }
}

static void keep_best(pare_sampler *s, const float *logits) {
    size_t k = s->top_k;
    for (size_t i = 0; i < k; i++) s->heap[i] = (pare_candidate){logits[i], (int32_t)i};
    if (k < s->vocab) {
        for (size_t i = k / 2; i-- > 0;) sift(s->heap, k, i);
        for (size_t i = k; i < s->vocab; i++) {
            pare_candidate c = {logits[i], (int32_t)i};
            if (better(c, s->heap[0])) s->heap[0] = c, sift(s->heap, k, 0);
        }
    }
    qsort(s->heap, k, sizeof *s->heap, best_first);
}

static int64_t likeliest(const float *logits, size_t n) {
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (logits[i] > logits[best]) best = i;
    return (int64_t)best;
}

int64_t pare_sampler_next(pare_sampler *s, const float *logits) {
    for (size_t i = 0; i < s->vocab; i++)
        if (isnan(logits[i])) return -1;
    if (s->temp <= 0) return likeliest(logits, s->vocab);
    keep_best(s, logits);
    double total = 0, kept = 0;
    for (size_t i = 0; i < s->top_k; i++)
        total += s->weight[i] = exp(((double)s->heap[i].logit - (double)s->heap[0].logit) / s->temp);
    size_t n = 0;
    while (n < s->top_k && (n == 0 || kept < s->top_p * total)) kept += s->weight[n++];
    double at = pare_rng_unit(&s->rng) * kept;
    for (size_t i = 0; i + 1 < n; i++)
        if ((at -= s->weight[i]) < 0) return s->heap[i].id;
    return s->heap[n - 1].id;
}
