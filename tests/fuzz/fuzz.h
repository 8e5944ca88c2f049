/* SPDX-License-Identifier: Apache-2.0
 *
 * A fuzz target is tests/fuzz/fuzz_NAME.c with the two functions below. `make fuzz` builds each with clang's libFuzzer
 * (FUZZ_SECONDS each); `make check` runs each for a few seconds under gcc's sanitizers with the mutations of replay.c.
 * Seeds are made by the target itself: no binary blobs in the tree. */
#ifndef PARE_TESTS_FUZZ_H
#define PARE_TESTS_FUZZ_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* memfd_create */
#endif
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap); /* seed i into buf, its length; 0 when there are no more */

/* The bytes as a file in memory; path is good until the next call. */
static inline const char *fuzz_file(const uint8_t *data, size_t n) {
    static int fd = -1;
    static char path[64];
    if (fd >= 0) close(fd);
    fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || (n && write(fd, data, n) != (ssize_t)n)) abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return path;
}

typedef struct fuzz_buf {
    uint8_t *p;
    size_t n, cap;
} fuzz_buf; /* for building seeds */
static inline void fuzz_put(fuzz_buf *b, const void *p, size_t n) {
    if (n > b->cap - b->n) abort();
    if (n) memcpy(b->p + b->n, p, n);
    b->n += n;
}
static inline void fuzz_put_int(fuzz_buf *b, uint64_t v, size_t bytes) { fuzz_put(b, &v, bytes); }
static inline void fuzz_put_text(fuzz_buf *b, const char *s) { fuzz_put(b, s, strlen(s)); }
static inline void fuzz_put_str(fuzz_buf *b, const char *s) { /* u64 length + text */
    fuzz_put_int(b, strlen(s), 8);
    fuzz_put_text(b, s);
}
static inline void fuzz_pad(fuzz_buf *b, size_t align) {
    while (b->n % align) fuzz_put(b, "", 1);
}

#endif
