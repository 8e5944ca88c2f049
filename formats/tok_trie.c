/* SPDX-License-Identifier: Apache-2.0
 *
 * A byte trie for the few texts that are looked for everywhere in the input: added and special tokens. */
#include "formats/tok_internal.h"

static int32_t child_of(const tok_trie *t, int32_t first, unsigned char byte) {
    for (int32_t c = first; c; c = t->v[c].next)
        if (t->v[c].byte == byte) return c;
    return 0;
}

bool tok_trie_add(tok_trie *t, const char *p, size_t n, int32_t id) {
    int32_t at = 0;
    if (!n) return true;
    if (pare_grow((void **)&t->v, &t->cap, t->n + n + 1, sizeof *t->v) != PARE_OK) return false;
    if (!t->n) t->v[t->n++] = (tok_trie_node){0, 0, -1, 0}; /* index 0 means none */
    for (size_t i = 0; i < n; i++) {
        unsigned char b = (unsigned char)p[i];
        int32_t c = i ? child_of(t, t->v[at].child, b) : t->root[b];
        if (!c) {
            c = (int32_t)t->n++;
            t->v[c] = (tok_trie_node){0, i ? t->v[at].child : 0, -1, b};
            if (i) t->v[at].child = c;
            else t->root[b] = c;
        }
        at = c;
    }
    if (t->v[at].id < 0) t->v[at].id = id;
    return true;
}

size_t tok_trie_longest(const tok_trie *t, const char *p, size_t n, int32_t *id) {
    size_t best = 0;
    *id = -1;
    if (!n) return 0;
    int32_t at = t->root[(unsigned char)p[0]];
    for (size_t i = 0; at;) {
        i++;
        if (t->v[at].id >= 0) *id = t->v[at].id, best = i;
        at = i < n ? child_of(t, t->v[at].child, (unsigned char)p[i]) : 0;
    }
    return best;
}

void tok_trie_mark(const tok_trie *t, const char *p, size_t n, bool *seen) {
    for (size_t s = 0; s < n; s++) {
        int32_t at = t->root[(unsigned char)p[s]];
        for (size_t i = s; at;) {
            i++;
            if (t->v[at].id >= 0) seen[t->v[at].id] = true;
            at = i < n ? child_of(t, t->v[at].child, (unsigned char)p[i]) : 0;
        }
    }
}

void tok_trie_free(tok_trie *t) {
    pare_free(t->v);
    *t = (tok_trie){0};
}
