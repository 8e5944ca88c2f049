/* SPDX-License-Identifier: Apache-2.0
 *
 * A growing run of bytes with a sticky failure, for headers that are built before the first byte is written. */
#ifndef PARE_FORMATS_BYTES_H
#define PARE_FORMATS_BYTES_H

#include "pare/pare.h"

typedef struct pare_bytes {
    char *p;
    size_t n, cap;
    bool failed;
} pare_bytes; /* zero to begin; owns p */

void pare_bytes_put(pare_bytes *b, const void *src, size_t n);
void pare_bytes_u32(pare_bytes *b, uint32_t v);
void pare_bytes_u64(pare_bytes *b, uint64_t v);
void pare_bytes_text(pare_bytes *b, const char *s);
void pare_bytes_json(pare_bytes *b, const char *s, size_t n); /* a quoted JSON string */
PARE_PRINTF(2, 3) void pare_bytes_printf(pare_bytes *b, const char *fmt, ...);
void pare_bytes_fill(pare_bytes *b, char c, size_t align); /* up to a multiple of align */
void pare_bytes_free(pare_bytes *b);

#endif
