/* SPDX-License-Identifier: Apache-2.0
 *
 * GGUF BPE (tokenizer.ggml.model gpt2) as llama.cpp runs it: invalid bytes become U+FFFD, the regexes of the pre kind
 * cut one after another inside the pieces left by the one before (gaps stay pieces), bytes become visible characters,
 * merges are looked up by text. A symbol that is no token is looked up byte by byte of its text; what is not found is
 * lost. */
#include "formats/tok_internal.h"

static char class_of(uint32_t c) {
    if (c < 0x80) return (char)c;
    if (tok_is_space(c)) return 0x0B;
    switch (tok_group(c)) {
    case 'N': return (char)0xD1;
    case 'L': return (char)0xD2;
    case 'P': return (char)0xD3;
    case 'M': return (char)0xD4;
    case 'S': return (char)0xD5;
    default: return (char)0xD0;
    }
}

/* w->in: the text in UTF-8; w->norm: one class byte per code point; w->at_cp: where each code point starts in w->in. */
static bool prepare(tok_work *w, const char *p, size_t n) {
    w->in.n = w->norm.n = 0;
    if (pare_grow((void **)&w->at_cp, &w->at_cap, n + 1, sizeof *w->at_cp) != PARE_OK) return false;
    if (!tok_text_reserve(&w->in, 3 * n + 4) || !tok_text_reserve(&w->norm, n + 1)) return false;
    for (size_t i = 0, used; i < n; i += used) {
        uint32_t c = tok_utf8_lenient((const unsigned char *)p + i, n - i, &used);
        w->at_cp[w->norm.n] = w->in.n;
        w->norm.p[w->norm.n++] = class_of(c);
        w->in.n += tok_utf8_put(c, w->in.p + w->in.n);
    }
    w->at_cp[w->norm.n] = w->in.n;
    return true;
}

/* Cuts piece q (in code points) with one regex. Wide ones run over w->in, where offsets are bytes. */
static pare_status cut(tok_work *w, const tok_regex *re, bool wide, tok_piece q) {
    size_t base = wide ? w->at_cp[q.at] : q.at, n = wide ? w->at_cp[q.at + q.n] - base : q.n;
    const char *p = (wide ? w->in.p : w->norm.p) + base;
    size_t done = q.at, cp = q.at, end = q.at + q.n;
    for (size_t at = 0, from, to; at < n; at = to) {
        int k = tok_regex_next(re, &w->matcher, p, n, at, &from, &to, w->d);
        if (k < 0) return w->d->code;
        if (!k) break;
        size_t a = from + base, b = to + base;
        if (wide) {
            while (w->at_cp[cp] < a) cp++;
            a = cp;
            while (w->at_cp[cp] < b) cp++;
            b = cp;
        }
        if (!tok_push_piece(&w->piece2, done, a - done, false) || !tok_push_piece(&w->piece2, a, b - a, false))
            return tok_nomem(w);
        done = b;
    }
    return tok_push_piece(&w->piece2, done, end - done, false) ? PARE_OK : tok_nomem(w);
}

/* The token whose text is the visible form of p, for vocabularies that prefer it to merging. */
static int32_t whole_word(tok_work *w, const char *p, size_t n) {
    w->b.n = 0;
    if (!tok_text_reserve(&w->b, 2 * n)) return -2;
    for (size_t i = 0; i < n; i++) {
        size_t k;
        char u[2];
        tok_byte_char((unsigned char)p[i], u, &k);
        memcpy(w->b.p + w->b.n, u, k);
        w->b.n += k;
    }
    return tok_vocab_find(&w->t->vocab, w->b.p, w->b.n);
}

static pare_status emit(tok_work *w, int32_t sym) {
    const pare_tokenizer *t = w->t;
    if ((size_t)sym < t->vocab.n) return tok_push_id(w, sym) ? PARE_OK : tok_nomem(w);
    pare_str s = t->syms.text[(size_t)sym - t->vocab.n];
    for (size_t i = 0; i < s.n; i++) {
        int32_t id = tok_vocab_find(&t->vocab, s.p + i, 1);
        if (id >= 0 && !tok_push_id(w, id)) return tok_nomem(w);
    }
    return PARE_OK;
}

static pare_status word(tok_work *w, const char *p, size_t n) {
    const pare_tokenizer *t = w->t;
    uint64_t h = tok_hash_more(TOK_HASH0, p, n);
    if (tok_cache_get(w, h, p, n)) return PARE_OK;
    size_t from = w->ids->n;
    if (t->ignore_merges) {
        int32_t id = whole_word(w, p, n);
        if (id == -2) return tok_nomem(w);
        if (id >= 0) return tok_push_id(w, id) ? PARE_OK : tok_nomem(w);
    }
    if (pare_grow((void **)&w->sym, &w->sym_cap, n, sizeof *w->sym) != PARE_OK) return tok_nomem(w);
    w->n_sym = n;
    for (size_t i = 0; i < n; i++) w->sym[i].id = t->byte_id[(unsigned char)p[i]];
    if (!tok_bpe_merge(w, &t->merges)) return tok_nomem(w);
    for (size_t i = 0; i < w->n_sym; i++) PARE_TRY(emit(w, w->sym[i].id));
    tok_cache_put(w, h, p, n, from);
    return PARE_OK;
}

pare_status tok_gguf_bpe_encode(tok_work *w, const char *p, size_t n) {
    const pare_tokenizer *t = w->t;
    if (!n) return PARE_OK;
    if (!prepare(w, p, n)) return tok_nomem(w);
    w->piece.n = 0;
    if (!tok_push_piece(&w->piece, 0, w->norm.n, false)) return tok_nomem(w);
    for (int r = 0; r < 6 && t->pre_re[r]; r++) {
        w->piece2.n = 0;
        for (size_t i = 0; i < w->piece.n; i++) PARE_TRY(cut(w, t->pre_re[r], t->pre_kind->wide[r], w->piece.v[i]));
        tok_pieces x = w->piece;
        w->piece = w->piece2, w->piece2 = x;
    }
    for (size_t i = 0; i < w->piece.n; i++) {
        tok_piece q = w->piece.v[i];
        PARE_TRY(word(w, w->in.p + w->at_cp[q.at], w->at_cp[q.at + q.n] - w->at_cp[q.at]));
    }
    return PARE_OK;
}
