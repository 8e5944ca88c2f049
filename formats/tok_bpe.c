/* SPDX-License-Identifier: Apache-2.0
 *
 * Byte pair encoding (Sennrich et al. 2016): merge the adjacent pair of lowest rank, leftmost first, until none is
 * left. Short words scan their pairs; long ones (a whole text may be one word) keep them in a heap over a linked list.
 */
#include "formats/tok_internal.h"

#define SCAN_MAX 24 /* below, scanning beats the heap */

/* Ordering puts rank (or inverted score) in the high half and the position in the low one. */
bool tok_heap_push(tok_work *w, tok_pair x) {
    if (w->n_heap == w->heap_cap &&
        pare_grow((void **)&w->heap, &w->heap_cap, w->n_heap + 1, sizeof *w->heap) != PARE_OK)
        return false;
    size_t i = w->n_heap++;
    for (; i && w->heap[(i - 1) / 2].order > x.order; i = (i - 1) / 2) w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = x;
    return true;
}

tok_pair tok_heap_pop(tok_work *w) {
    tok_pair top = w->heap[0], x = w->heap[--w->n_heap];
    size_t i = 0, n = w->n_heap;
    for (size_t c; (c = 2 * i + 1) < n; i = c) {
        if (c + 1 < n && w->heap[c + 1].order < w->heap[c].order) c++;
        if (w->heap[c].order >= x.order) break;
        w->heap[i] = w->heap[c];
    }
    if (n) w->heap[i] = x;
    return top;
}

static void merge_short(tok_work *w, const tok_merges *m) {
    const tok_merge *pair[SCAN_MAX];
    size_t n = w->n_sym;
    tok_sym *s = w->sym;
    for (size_t i = 0; i + 1 < n; i++) pair[i] = tok_merges_find(m, s[i].id, s[i + 1].id);
    for (;;) {
        size_t best = SIZE_MAX;
        for (size_t i = 0; i + 1 < n; i++)
            if (pair[i] && (best == SIZE_MAX || pair[i]->rank < pair[best]->rank)) best = i;
        if (best == SIZE_MAX) break;
        s[best].id = pair[best]->out;
        for (size_t i = best + 1; i + 1 < n; i++) s[i] = s[i + 1];
        for (size_t i = best + 1; i + 2 < n; i++) pair[i] = pair[i + 1];
        n--;
        if (best) pair[best - 1] = tok_merges_find(m, s[best - 1].id, s[best].id);
        if (best + 1 < n) pair[best] = tok_merges_find(m, s[best].id, s[best + 1].id);
    }
    w->n_sym = n;
}

static bool push_pair(tok_work *w, const tok_merges *m, int32_t l, int32_t r) {
    if (l < 0 || r < 0) return true;
    const tok_merge *x = tok_merges_find(m, w->sym[l].id, w->sym[r].id);
    return !x ||
           tok_heap_push(w, (tok_pair){(uint64_t)x->rank << 32 | (uint32_t)l, w->sym[l].id, w->sym[r].id, x->out, 0});
}

bool tok_bpe_merge(tok_work *w, const tok_merges *m) {
    if (w->n_sym < 2) return true;
    if (w->n_sym <= SCAN_MAX) return merge_short(w, m), true;
    tok_sym *s = w->sym;
    int32_t n = (int32_t)w->n_sym;
    w->n_heap = 0;
    for (int32_t i = 0; i < n; i++) s[i].prev = i - 1, s[i].next = i + 1 < n ? i + 1 : -1;
    for (int32_t i = 0; i + 1 < n; i++)
        if (!push_pair(w, m, i, i + 1)) return false;
    while (w->n_heap) {
        tok_pair x = tok_heap_pop(w);
        int32_t l = (int32_t)(uint32_t)x.order, r = s[l].next;
        if (s[l].id != x.left || r < 0 || s[r].id != x.right) continue; /* one side was merged since */
        s[l].id = x.out;
        s[r].id = -1;
        s[l].next = s[r].next;
        if (s[r].next >= 0) s[s[r].next].prev = l;
        if (!push_pair(w, m, s[l].prev, l) || !push_pair(w, m, l, s[l].next)) return false;
    }
    size_t k = 0;
    for (int32_t i = 0; i >= 0; i = s[i].next) s[k++].id = s[i].id, s[k - 1].next = s[i].next;
    w->n_sym = k;
    return true;
}

static bool push_sym(tok_work *w, int32_t id) {
    if (w->n_sym == w->sym_cap && pare_grow((void **)&w->sym, &w->sym_cap, w->n_sym + 1, sizeof *w->sym) != PARE_OK)
        return false;
    w->sym[w->n_sym++].id = id;
    return true;
}

/* One character that the vocabulary lacks: its bytes, if all are there. *used = it was taken. */
static bool push_bytes(tok_work *w, const char *p, size_t n, bool *used) {
    const pare_tokenizer *t = w->t;
    *used = t->byte_fallback;
    for (size_t i = 0; *used && i < n; i++) *used = t->byte_id[(unsigned char)p[i]] >= 0;
    for (size_t i = 0; *used && i < n; i++)
        if (!push_sym(w, t->byte_id[(unsigned char)p[i]])) return false;
    return true;
}

static int32_t char_id(tok_work *w, const char *p, size_t n, bool first, bool last, const char **text, size_t *len) {
    const pare_tokenizer *t = w->t;
    *text = p, *len = n;
    if ((first || !t->word_prefix.n) && (!last || !t->word_suffix.n)) {
        size_t at = 0;
        uint32_t cp = tok_utf8_get(p, &at);
        return cp < 512 ? t->vocab.quick[cp] : tok_vocab_find(&t->vocab, p, n);
    }
    w->b.n = 0;
    bool ok = (first || tok_text_add(&w->b, t->word_prefix.p, t->word_prefix.n)) && tok_text_add(&w->b, p, n) &&
              (!last || tok_text_add(&w->b, t->word_suffix.p, t->word_suffix.n));
    if (!ok) return -2;
    *text = w->b.p, *len = w->b.n;
    return tok_vocab_find(&t->vocab, w->b.p, w->b.n);
}

pare_status tok_bpe_word(tok_work *w, const char *p, size_t n) {
    const pare_tokenizer *t = w->t;
    if (!n) return PARE_OK;
    uint64_t h = tok_hash_more(TOK_HASH0, p, n);
    if (tok_cache_get(w, h, p, n)) return PARE_OK;
    size_t from = w->ids->n, unknown = 0; /* unk tokens waiting: fused, or one at a time */
    if (t->ignore_merges) {
        int32_t id = tok_vocab_find_hashed(&t->vocab, h, "", 0, p, n);
        if (id >= 0) return tok_push_id(w, id) ? PARE_OK : tok_nomem(w);
    }
    w->n_sym = 0;
    for (size_t i = 0; i < n;) {
        size_t at = i;
        (void)tok_utf8_get(p, &i);
        const char *text;
        size_t len;
        int32_t id = char_id(w, p + at, i - at, at == 0, i == n, &text, &len);
        if (id == -2) return tok_nomem(w);
        bool bytes = false;
        if (id >= 0) {
            if (unknown && !push_sym(w, t->unk)) return tok_nomem(w);
            unknown = 0;
            if (!push_sym(w, id)) return tok_nomem(w);
        } else if (!push_bytes(w, text, len, &bytes)) return tok_nomem(w);
        if (id >= 0 || bytes || t->unk < 0) continue; /* without an unk token unknown characters leave no trace */
        if (unknown && !t->fuse_unk && !push_sym(w, t->unk)) return tok_nomem(w);
        unknown = 1;
    }
    if (unknown && !push_sym(w, t->unk)) return tok_nomem(w);
    if (!tok_bpe_merge(w, &t->merges)) return tok_nomem(w);
    for (size_t i = 0; i < w->n_sym; i++)
        if (!tok_push_id(w, w->sym[i].id)) return tok_nomem(w);
    tok_cache_put(w, h, p, n, from);
    return PARE_OK;
}
