/* SPDX-License-Identifier: Apache-2.0
 *
 * Growing byte strings and UTF-8, strict (RFC 3629: no surrogates, no overlong forms) and by lead byte. */
#include "formats/tok_internal.h"

bool tok_text_reserve(tok_text *t, size_t more) {
    return pare_grow((void **)&t->p, &t->cap, t->n + more, 1) == PARE_OK;
}

bool tok_text_add(tok_text *t, const char *p, size_t n) {
    if (t->cap - t->n < n && !tok_text_reserve(t, n)) return false;
    if (n) memcpy(t->p + t->n, p, n);
    t->n += n;
    return true;
}

bool tok_text_add_cp(tok_text *t, uint32_t cp) {
    char u[4];
    return tok_text_add(t, u, tok_utf8_put(cp, u));
}

size_t tok_utf8_put(uint32_t cp, char out[4]) {
    if (cp < 0x80) return out[0] = (char)cp, 1;
    if (cp < 0x800) return out[0] = (char)(0xC0 | cp >> 6), out[1] = (char)(0x80 | (cp & 0x3F)), 2;
    if (cp < 0x10000) {
        out[0] = (char)(0xE0 | cp >> 12), out[1] = (char)(0x80 | (cp >> 6 & 0x3F)), out[2] = (char)(0x80 | (cp & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | cp >> 18), out[1] = (char)(0x80 | (cp >> 12 & 0x3F));
    out[2] = (char)(0x80 | (cp >> 6 & 0x3F)), out[3] = (char)(0x80 | (cp & 0x3F));
    return 4;
}

uint32_t tok_utf8_get(const char *p, size_t *at) {
    const unsigned char *s = (const unsigned char *)p + *at;
    if (s[0] < 0x80) return *at += 1, s[0];
    if (s[0] < 0xE0) return *at += 2, (s[0] & 0x1Fu) << 6 | (s[1] & 0x3Fu);
    if (s[0] < 0xF0) return *at += 3, (s[0] & 0x0Fu) << 12 | (s[1] & 0x3Fu) << 6 | (s[2] & 0x3Fu);
    return *at += 4, (s[0] & 0x07u) << 18 | (s[1] & 0x3Fu) << 12 | (s[2] & 0x3Fu) << 6 | (s[3] & 0x3Fu);
}

size_t tok_utf8_len(unsigned char lead) { return lead < 0xC0 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4; }

bool tok_is_ascii(const char *p, size_t n) {
    unsigned char any = 0;
    for (size_t i = 0; i < n; i++) any |= (unsigned char)p[i];
    return any < 0x80;
}

/* Length of the valid sequence at s (1..4), or 0 with *bad = bytes of the maximal ill-formed part. */
static size_t sequence(const unsigned char *s, size_t n, size_t *bad) {
    unsigned char b = s[0], lo = 0x80, hi = 0xBF;
    if (b < 0x80) return 1;
    *bad = 1;
    if (b < 0xC2 || b > 0xF4) return 0;
    size_t len = b < 0xE0 ? 2 : b < 0xF0 ? 3 : 4;
    if (b == 0xE0) lo = 0xA0;
    if (b == 0xED) hi = 0x9F;
    if (b == 0xF0) lo = 0x90;
    if (b == 0xF4) hi = 0x8F;
    for (size_t i = 1; i < len; i++, lo = 0x80, hi = 0xBF) {
        if (i >= n || s[i] < lo || s[i] > hi) return *bad = i, 0;
    }
    return len;
}

size_t tok_utf8_valid_prefix(const char *p, size_t n) {
    size_t i = 0, bad;
    while (i < n) {
        size_t k = sequence((const unsigned char *)p + i, n - i, &bad);
        if (!k) break;
        i += k;
    }
    return i;
}

bool tok_utf8_repair(tok_text *out, const char *p, size_t n) {
    for (size_t i = 0; i < n;) {
        size_t k = tok_utf8_valid_prefix(p + i, n - i), bad = 0;
        if (!tok_text_add(out, p + i, k)) return false;
        i += k;
        if (i == n) break;
        (void)sequence((const unsigned char *)p + i, n - i, &bad);
        if (!tok_text_add(out, "\xEF\xBF\xBD", 3)) return false;
        i += bad;
    }
    return true;
}

uint32_t tok_utf8_lenient(const unsigned char *s, size_t n, size_t *used) {
    size_t len = tok_utf8_len(s[0]);
    *used = 1;
    if (s[0] < 0x80) return s[0];
    if (s[0] < 0xC0 || s[0] >= 0xF8 || len > n) return 0xFFFD;
    uint32_t c = s[0] & (0x7Fu >> len);
    for (size_t i = 1; i < len; i++) {
        if ((s[i] & 0xC0) != 0x80) return 0xFFFD;
        c = c << 6 | (s[i] & 0x3Fu);
    }
    *used = len;
    return c < 0x110000 ? c : 0xFFFD;
}
