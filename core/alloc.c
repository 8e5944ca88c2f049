/* SPDX-License-Identifier: Apache-2.0
 *
 * Allocation through one swappable table, and the arena. */
#include "core/alloc.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *libc_alloc(void *ctx, size_t bytes, size_t align) {
    if (align <= 16) return malloc(bytes);
    void *p = NULL;
    return posix_memalign(&p, align, bytes) == 0 ? p : NULL;
}
static void *libc_resize(void *ctx, void *p, size_t bytes) { return realloc(p, bytes); }
static void libc_release(void *ctx, void *p) { free(p); }

static const pare_allocator libc_allocator = {libc_alloc, libc_resize, libc_release, NULL};
static pare_allocator current = {libc_alloc, libc_resize, libc_release, NULL};

void pare_set_allocator(const pare_allocator *a) { current = a ? *a : libc_allocator; }

void *pare_malloc(size_t bytes) { return current.alloc(current.ctx, bytes ? bytes : 1, 16); }

void *pare_calloc(size_t n, size_t elem_bytes) {
    size_t bytes;
    if (__builtin_mul_overflow(n, elem_bytes, &bytes)) return NULL;
    void *p = pare_malloc(bytes);
    if (p) memset(p, 0, bytes ? bytes : 1);
    return p;
}

void *pare_realloc(void *p, size_t bytes) { return current.resize(current.ctx, p, bytes ? bytes : 1); }

void *pare_malloc_aligned(size_t bytes) {
    if (bytes > SIZE_MAX - 64) return NULL;
    return current.alloc(current.ctx, bytes ? (bytes + 63) & ~(size_t)63 : 64, 64);
}

void pare_free(void *p) {
    if (p) current.release(current.ctx, p);
}

char *pare_strndup(const char *s, size_t n) {
    char *p = pare_malloc(n + 1);
    if (!p) return NULL;
    memcpy(p, s, n);
    p[n] = 0;
    return p;
}
char *pare_strdup(const char *s) { return pare_strndup(s, strlen(s)); }

char *pare_sprintf(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *p = n < 0 ? NULL : pare_malloc((size_t)n + 1);
    if (!p) return NULL;
    va_start(ap, fmt);
    vsnprintf(p, (size_t)n + 1, fmt, ap);
    va_end(ap);
    return p;
}

pare_status pare_grow(void **array, size_t *cap, size_t need, size_t elem_bytes) {
    if (need <= *cap) return PARE_OK;
    size_t want = *cap < SIZE_MAX / 4 ? *cap * 2 : need, bytes;
    if (want < need) want = need;
    if (want < 16) want = 16;
    if (__builtin_mul_overflow(want, elem_bytes, &bytes)) return PARE_ERR_NOMEM;
    void *p = pare_realloc(*array, bytes);
    if (!p) return PARE_ERR_NOMEM;
    *array = p;
    *cap = want;
    return PARE_OK;
}

typedef struct chunk {
    struct chunk *next;
    size_t used, cap;
} chunk;
struct pare_arena {
    chunk *head;
};

#define CHUNK_HEAD  ((sizeof(chunk) + 15) & ~(size_t)15)
#define CHUNK_BYTES ((size_t)64 << 10) /* large enough that a model's names need few, small enough to waste little */

pare_arena *pare_arena_new(void) { return pare_calloc(1, sizeof(pare_arena)); }

void *pare_arena_alloc(pare_arena *a, size_t bytes) {
    if (bytes > SIZE_MAX - 64 - CHUNK_HEAD) return NULL;
    bytes = (bytes + 15) & ~(size_t)15;
    if (!a->head || a->head->cap - a->head->used < bytes) {
        size_t cap = bytes > CHUNK_BYTES ? bytes : CHUNK_BYTES;
        chunk *c = pare_malloc(CHUNK_HEAD + cap);
        if (!c) return NULL;
        *c = (chunk){a->head, 0, cap};
        a->head = c;
    }
    void *p = (char *)a->head + CHUNK_HEAD + a->head->used;
    a->head->used += bytes;
    return memset(p, 0, bytes);
}

char *pare_arena_strndup(pare_arena *a, const char *s, size_t n) {
    char *p = pare_arena_alloc(a, n + 1);
    return p ? memcpy(p, s, n) : NULL;
}

void pare_arena_free(pare_arena **a) {
    if (!a || !*a) return;
    for (chunk *c = (*a)->head, *next; c; c = next) next = c->next, pare_free(c);
    pare_free(*a);
    *a = NULL;
}
