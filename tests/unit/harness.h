/* SPDX-License-Identifier: Apache-2.0
 *
 * What unit tests share: cmocka, an allocator that fails at call k and counts what is live, guarded buffers. */
#ifndef PARE_TESTS_HARNESS_H
#define PARE_TESTS_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/alloc.h"

/* ---- failing allocator: harness_alloc_begin(k) lets k calls pass and fails the k-th (from 0); SIZE_MAX = never ----
 */
static struct { size_t calls, fail_at, live, failed; } harness_heap;

static inline void *harness_take(void *ctx, size_t bytes, size_t align) {
    if (harness_heap.calls++ == harness_heap.fail_at) return harness_heap.failed++, NULL;
    void *p = NULL;
    if (posix_memalign(&p, align < 16 ? 16 : align, bytes) != 0) return NULL;
    harness_heap.live++;
    return p;
}
static inline void *harness_resize(void *ctx, void *p, size_t bytes) {
    if (harness_heap.calls++ == harness_heap.fail_at) return harness_heap.failed++, NULL;
    void *q = realloc(p, bytes);
    if (q && !p) harness_heap.live++;
    return q;
}
static inline void harness_release(void *ctx, void *p) {
    if (p) harness_heap.live--;
    free(p);
}
static inline void harness_alloc_begin(size_t fail_at) {
    static const pare_allocator a = {harness_take, harness_resize, harness_release, NULL};
    memset(&harness_heap, 0, sizeof harness_heap);
    harness_heap.fail_at = fail_at;
    pare_set_allocator(&a);
}
/* Restores the C library's allocator; returns how many blocks were still live (a leak when not 0). */
static inline size_t harness_alloc_end(void) {
    pare_set_allocator(NULL);
    return harness_heap.live;
}
/* Runs body(ctx) with allocation k failing for k = 0, 1, ... until a run needs fewer calls than k. body must return
 * PARE_OK or PARE_ERR_NOMEM and leave nothing live; single-threaded code only (set pare_set_threads(1)). */
static inline void harness_fail_every_alloc(pare_status (*body)(void *ctx), void *ctx) {
    for (size_t k = 0;; k++) {
        harness_alloc_begin(k);
        pare_status s = body(ctx);
        size_t failed = harness_heap.failed, live = harness_alloc_end();
        if (live) fail_msg("allocation %zu failing leaks %zu blocks", k, live);
        if (!failed) {
            assert_int_equal(s, PARE_OK);
            return;
        }
        if (s != PARE_ERR_NOMEM) fail_msg("allocation %zu failing gives status %d, not out of memory", k, (int)s);
    }
}

/* ---- guarded buffers: n bytes at `shift` bytes past a 64-byte boundary, 64 guard bytes on either side ---- */
typedef struct harness_buf {
    unsigned char *base, *p;
    size_t n;
} harness_buf;
static inline harness_buf harness_buf_new(size_t n, size_t shift) {
    harness_buf b = {aligned_alloc(64, (n + shift + 128 + 63) / 64 * 64), NULL, n};
    b.p = b.base + 64 + shift;
    memset(b.base, 0xA5, n + shift + 128);
    return b;
}
static inline void harness_buf_check(const harness_buf *b) { /* nothing wrote outside */
    for (unsigned char *q = b->base; q < b->p; q++) assert_int_equal(*q, 0xA5);
    for (int i = 0; i < 64; i++) assert_int_equal(b->p[b->n + (size_t)i], 0xA5);
}
static inline void harness_buf_free(harness_buf *b) {
    harness_buf_check(b);
    free(b->base);
}

#endif
