/* SPDX-License-Identifier: Apache-2.0
 *
 * GGUF SPM (tokenizer.ggml.model llama): SentencePiece's BPE by scores. Of all adjacent pairs whose concatenation is a
 * token, the one of highest score is merged first, the leftmost among equals; what is no token ends as bytes. */
#include "formats/tok_internal.h"

/* Smaller order = higher score, then further left. */
static uint64_t order_of(float score, uint32_t left) {
    uint32_t u;
    if (score == 0) score = 0; /* -0 and 0 compare equal */
    memcpy(&u, &score, 4);
    u = u & 0x80000000u ? ~u : u | 0x80000000u; /* now ascending like the score */
    return (uint64_t)~u << 32 | left;
}

/* Here a symbol is a run of text: id = its start, next/prev its neighbours; its bytes end where the next one starts. */
static size_t end_of(const tok_work *w, int32_t i) {
    return w->sym[i].next < 0 ? w->end : (size_t)w->sym[w->sym[i].next].id;
}

static bool try_pair(tok_work *w, int32_t l, int32_t r) {
    if (l < 0 || r < 0) return true;
    size_t from = (size_t)w->sym[l].id, n = end_of(w, r) - from;
    int32_t id = tok_vocab_find(&w->t->vocab, w->a.p + from, n);
    if (id < 0) return true;
    float score = w->t->scores ? w->t->scores[id] : 0;
    return tok_heap_push(w, (tok_pair){order_of(score, (uint32_t)l), l, r, id, (uint32_t)n});
}

static pare_status emit(tok_work *w, const char *p, size_t n) {
    const pare_tokenizer *t = w->t;
    int32_t id = tok_vocab_find(&t->vocab, p, n);
    if (id >= 0) return tok_push_id(w, id) ? PARE_OK : tok_nomem(w);
    for (size_t i = 0; i < n; i++) {
        id = t->byte_id[(unsigned char)p[i]];
        if (id < 0) id = tok_vocab_find(&t->vocab, p + i, 1);
        if (id < 0) id = t->unk;
        if (id < 0)
            return pare_fail(w->d, PARE_ERR_INPUT, t->file, "tokenizer.ggml.tokens",
                             "no token for byte 0x%02X and no unknown token", (unsigned char)p[i]);
        if (!tok_push_id(w, id)) return tok_nomem(w);
    }
    return PARE_OK;
}

static bool symbols(tok_work *w, size_t from) {
    w->n_sym = 0;
    for (size_t i = from; i < w->end;) {
        size_t k = tok_utf8_len((unsigned char)w->a.p[i]);
        if (k > w->end - i) k = w->end - i;
        if (w->n_sym == w->sym_cap && pare_grow((void **)&w->sym, &w->sym_cap, w->n_sym + 1, sizeof *w->sym) != PARE_OK)
            return false;
        int32_t s = (int32_t)w->n_sym++;
        i += k;
        w->sym[s] = (tok_sym){(int32_t)(i - k), s - 1, i < w->end ? s + 1 : -1};
    }
    return true;
}

/* The escaped text w->a[from..from + n). */
static pare_status merge(tok_work *w, size_t from, size_t n) {
    uint64_t h = tok_hash_more(TOK_HASH0, w->a.p + from, n);
    size_t ids_from = w->ids->n;
    if (tok_cache_get(w, h, w->a.p + from, n)) return PARE_OK;
    w->end = from + n;
    if (!symbols(w, from)) return tok_nomem(w);
    w->n_heap = 0;
    for (size_t i = 1; i < w->n_sym; i++)
        if (!try_pair(w, (int32_t)i - 1, (int32_t)i)) return tok_nomem(w);
    tok_sym *s = w->sym;
    while (w->n_heap) {
        tok_pair x = tok_heap_pop(w);
        int32_t l = x.left, r = x.right;
        if (s[l].id < 0 || s[r].id < 0 || s[l].next != r || end_of(w, r) - (size_t)s[l].id != x.bytes) continue;
        s[l].next = s[r].next;
        if (s[r].next >= 0) s[s[r].next].prev = l;
        s[r].id = -1;
        if (!try_pair(w, s[l].prev, l) || !try_pair(w, l, s[l].next)) return tok_nomem(w);
    }
    for (int32_t i = w->n_sym ? 0 : -1; i >= 0; i = s[i].next)
        PARE_TRY(emit(w, w->a.p + s[i].id, end_of(w, i) - (size_t)s[i].id));
    tok_cache_put(w, h, w->a.p + from, n, ids_from);
    return PARE_OK;
}

/* Spaces as U+2581; the caller puts the prefix space into p. */
pare_status tok_spm_encode(tok_work *w, const char *p, size_t n) {
    w->a.n = 0;
    for (size_t i = 0; i < n; i++)
        if (!(p[i] == ' ' ? tok_text_add(&w->a, TOK_META, 3) : tok_text_add(&w->a, p + i, 1))) return tok_nomem(w);
    /* A broken lead byte may swallow the start of a word, so only valid text is cut. */
    bool words = w->t->meta_leads && tok_utf8_valid_prefix(w->a.p, w->a.n) == w->a.n;
    for (size_t at = 0, k; at < w->a.n; at += k) {
        k = words ? tok_meta_word(w->a.p + at, w->a.n - at) : w->a.n - at;
        PARE_TRY(merge(w, at, k));
    }
    return PARE_OK;
}
