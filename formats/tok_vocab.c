/* SPDX-License-Identifier: Apache-2.0
 *
 * Vocabulary (text <-> id) and merge table, both open-addressed and at most half full. */
#include "formats/tok_internal.h"

static uint32_t slots_for(size_t n) {
    uint32_t c = 16;
    while (c < 2 * n + 2) c *= 2;
    return c;
}

static uint32_t mix(uint64_t h) { return (uint32_t)((h ^ h >> 29) * 0xBF58476D1CE4E5B9ull >> 32); }

bool tok_vocab_init(tok_vocab *v, size_t n_ids) {
    *v = (tok_vocab){.n = n_ids};
    if (n_ids > INT32_MAX / 4) return false;
    uint32_t slots = slots_for(n_ids);
    v->text = pare_calloc(n_ids ? n_ids : 1, sizeof *v->text);
    v->slot = pare_calloc(slots, sizeof *v->slot);
    v->mask = slots - 1;
    memset(v->quick, -1, sizeof v->quick);
    return v->text && v->slot;
}

void tok_vocab_free(tok_vocab *v) {
    pare_free(v->text);
    pare_free(v->slot);
    *v = (tok_vocab){0};
}

static void put(tok_vocab *v, uint32_t tag, int32_t id) {
    uint32_t i = tag & v->mask;
    while (v->slot[i].id1) i = (i + 1) & v->mask;
    v->slot[i] = (tok_slot){tag, (uint32_t)id + 1};
}

void tok_vocab_set(tok_vocab *v, int32_t id, pare_str text, int32_t *dup) {
    *dup = tok_vocab_find(v, text.p, text.n);
    if (*dup >= 0) return;
    v->text[id] = text;
    put(v, mix(tok_hash_more(TOK_HASH0, text.p, text.n)), id);
    v->used++;
    if (text.n > v->max_bytes) v->max_bytes = text.n;
}

bool tok_vocab_widen(tok_vocab *v, size_t n_ids) {
    if (n_ids <= v->n) return true;
    tok_vocab w;
    if (!tok_vocab_init(&w, n_ids)) return tok_vocab_free(&w), false;
    for (size_t i = 0; i < v->n; i++) {
        int32_t dup;
        if (v->text[i].p) tok_vocab_set(&w, (int32_t)i, v->text[i], &dup);
    }
    tok_vocab_free(v);
    *v = w;
    return true;
}

void tok_vocab_quick(tok_vocab *v) {
    for (uint32_t cp = 0; cp < 512; cp++) {
        char u[4];
        v->quick[cp] = tok_vocab_find(v, u, tok_utf8_put(cp, u));
    }
}

int32_t tok_vocab_find_hashed(const tok_vocab *v, uint64_t h, const char *head, size_t n_head, const char *p,
                              size_t n) {
    uint32_t tag = mix(h);
    for (uint32_t i = tag & v->mask; v->slot[i].id1; i = (i + 1) & v->mask) {
        if (v->slot[i].tag != tag) continue;
        const pare_str *s = &v->text[v->slot[i].id1 - 1];
        if (s->n == n_head + n && !memcmp(s->p, head, n_head) && !memcmp(s->p + n_head, p, n))
            return (int32_t)(v->slot[i].id1 - 1);
    }
    return -1;
}

int32_t tok_vocab_find(const tok_vocab *v, const char *p, size_t n) {
    if (n > v->max_bytes) return -1;
    return tok_vocab_find_hashed(v, tok_hash_more(TOK_HASH0, p, n), "", 0, p, n);
}

bool tok_merges_init(tok_merges *m, size_t n) {
    if (n > INT32_MAX / 4) return false;
    uint32_t slots = slots_for(n);
    m->v = pare_malloc(slots * sizeof *m->v);
    m->mask = slots - 1;
    if (!m->v) return false;
    for (uint32_t i = 0; i < slots; i++) m->v[i] = (tok_merge){UINT64_MAX, 0, 0};
    return true;
}

void tok_merges_set(tok_merges *m, int32_t left, int32_t right, uint32_t rank, int32_t out, bool keep_first) {
    tok_merge *old = (tok_merge *)tok_merges_find(m, left, right);
    if (old) {
        if (!keep_first) old->rank = rank, old->out = out;
        return;
    }
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right, h = key * 0x9E3779B97F4A7C15ull;
    uint32_t i = (uint32_t)(h >> 32) & m->mask;
    while (m->v[i].key != UINT64_MAX) i = (i + 1) & m->mask;
    m->v[i] = (tok_merge){key, rank, out};
}

size_t tok_meta_word(const char *p, size_t n) {
    for (size_t i = 1; i + 3 <= n;) {
        const char *hit = memmem(p + i, n - i, TOK_META, 3);
        if (!hit) break;
        i = (size_t)(hit - p);
        if (i < 3 || memcmp(hit - 3, TOK_META, 3) != 0) return i;
        i += 3;
    }
    return n;
}

bool tok_vocab_meta_leads(const tok_vocab *v) {
    for (size_t id = 0; id < v->n; id++) {
        pare_str s = v->text[id];
        for (size_t i = 1; s.p && i + 3 <= s.n; i++)
            if (!memcmp(s.p + i, TOK_META, 3) && (i < 3 || memcmp(s.p + i - 3, TOK_META, 3) != 0)) return false;
    }
    return tok_vocab_find(v, TOK_META, 3) >= 0;
}
