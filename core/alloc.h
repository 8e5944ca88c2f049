/* SPDX-License-Identifier: Apache-2.0
 *
 * The one way memory is taken. The table can be swapped, so that tests fail the k-th allocation for every k.
 * owns: the caller owns what it gets; every function accepts the results of the others; pare_free accepts NULL. */
#ifndef PARE_CORE_ALLOC_H
#define PARE_CORE_ALLOC_H

#include "pare/pare.h"

typedef struct pare_allocator {
    void *(*alloc)(void *ctx, size_t bytes, size_t align); /* NULL on failure; align is a power of two >= 16 */
    void *(*resize)(void *ctx, void *p, size_t bytes);     /* p from alloc with align 16, or NULL */
    void (*release)(void *ctx, void *p);
    void *ctx;
} pare_allocator;

void pare_set_allocator(const pare_allocator *a); /* NULL restores the C library's; only while nothing is allocated */

void *pare_malloc(size_t bytes);                /* 16-byte aligned, not cleared; bytes 0 gives a valid pointer */
void *pare_calloc(size_t n, size_t elem_bytes); /* cleared; NULL when n * elem_bytes overflows */
void *pare_realloc(void *p, size_t bytes);      /* p stays valid on failure */
void *pare_malloc_aligned(size_t bytes);        /* 64-byte aligned, size rounded up to 64; never pare_realloc it */
void pare_free(void *p);
char *pare_strdup(const char *s);
char *pare_strndup(const char *s, size_t n);
/* printf into a fresh string; NULL on failure. */
PARE_PRINTF(1, 2) char *pare_sprintf(const char *fmt, ...);

/* Grows *array so that it holds at least `need` elements of elem_bytes; doubles. Returns PARE_OK or PARE_ERR_NOMEM,
 * leaving *array and *cap as they were. Usage: pare_grow((void **)&v, &cap, n + 1, sizeof *v). */
pare_status pare_grow(void **array, size_t *cap, size_t need, size_t elem_bytes);

/* ---- arena: many small lifetimes that end together ---- */
typedef struct pare_arena pare_arena;
pare_arena *pare_arena_new(void);                    /* NULL on failure */
void *pare_arena_alloc(pare_arena *a, size_t bytes); /* 16-byte aligned, cleared; NULL on failure */
char *pare_arena_strndup(pare_arena *a, const char *s, size_t n);
void pare_arena_free(pare_arena **a);

#endif
