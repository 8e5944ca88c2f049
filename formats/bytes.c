/* SPDX-License-Identifier: Apache-2.0
 *
 * Nothing is lost on failure but the output: failed is checked once, at the end. */
#include "formats/bytes.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/alloc.h"

void pare_bytes_put(pare_bytes *b, const void *src, size_t n) {
    if (b->failed || n == 0) return;
    if (n > SIZE_MAX / 2 - b->n || pare_grow((void **)&b->p, &b->cap, b->n + n, 1) != PARE_OK) {
        b->failed = true;
        return;
    }
    memcpy(b->p + b->n, src, n);
    b->n += n;
}

void pare_bytes_u32(pare_bytes *b, uint32_t v) { pare_bytes_put(b, &v, 4); }
void pare_bytes_u64(pare_bytes *b, uint64_t v) { pare_bytes_put(b, &v, 8); }
void pare_bytes_text(pare_bytes *b, const char *s) { pare_bytes_put(b, s, strlen(s)); }

void pare_bytes_printf(pare_bytes *b, const char *fmt, ...) {
    char line[256];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof line) b->failed = true;
    else pare_bytes_put(b, line, (size_t)n);
}

void pare_bytes_json(pare_bytes *b, const char *s, size_t n) {
    pare_bytes_text(b, "\"");
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c == '"' || c == '\\') pare_bytes_put(b, "\\", 1);
        if (c < 0x20) pare_bytes_printf(b, "\\u%04x", c);
        else pare_bytes_put(b, &s[i], 1);
    }
    pare_bytes_text(b, "\"");
}

void pare_bytes_fill(pare_bytes *b, char c, size_t align) {
    while (!b->failed && b->n % align) pare_bytes_put(b, &c, 1);
}

void pare_bytes_free(pare_bytes *b) {
    pare_free(b->p);
    *b = (pare_bytes){0};
}
