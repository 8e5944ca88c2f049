/* SPDX-License-Identifier: Apache-2.0
 *
 * Text to ids the way the tokenizers package does it: cut out added tokens that match the raw text, normalize what is
 * between, cut out those that match normalized text, pre-tokenize the rest, run the model on each piece. */
#include "formats/tok_internal.h"

static uint32_t char_before(const char *p, size_t at) {
    size_t i = at - 1;
    while (i && ((unsigned char)p[i] & 0xC0) == 0x80) i--;
    return tok_utf8_get(p, &i);
}

/* Whole words only: no word character on either side. */
static bool stands_alone(const char *p, size_t n, size_t from, size_t to) {
    size_t i = to;
    return !(from && tok_is_word(char_before(p, from))) && !(to < n && tok_is_word(tok_utf8_get(p, &i)));
}

static size_t skip_spaces_left(const char *p, size_t from) {
    while (from) {
        size_t i = from - 1;
        while (i && ((unsigned char)p[i] & 0xC0) == 0x80) i--;
        size_t at = i;
        if (!tok_is_space(tok_utf8_get(p, &i))) break;
        from = at;
    }
    return from;
}

static size_t skip_spaces_right(const char *p, size_t n, size_t to) {
    for (size_t i = to; i < n; to = i)
        if (!tok_is_space(tok_utf8_get(p, &i))) break;
    return to;
}

/* Cuts p[0..n) at the added tokens of trie into *out; at = where p lies in a longer text. */
static bool cut_added(tok_work *w, const tok_trie *trie, const char *p, size_t n, tok_cuts *out) {
    const pare_tokenizer *t = w->t;
    size_t done = 0;
    for (size_t i = 0; trie->n && i < n;) {
        int32_t k;
        size_t len = trie->root[(unsigned char)p[i]] ? tok_trie_longest(trie, p + i, n - i, &k) : 0;
        if (!len) {
            i++;
            continue;
        }
        const tok_added *a = &t->added[k];
        size_t from = i, to = i + len;
        i = to;
        if (a->special && !(w->flags & PARE_TOK_PARSE)) continue;
        if (a->single_word && !stands_alone(p, n, from, to)) continue;
        if (a->lstrip) {
            size_t left = skip_spaces_left(p, from);
            from = left > done ? left : done;
        }
        if (a->rstrip) to = skip_spaces_right(p, n, to);
        if (from > done && !tok_push_cut(out, -1, done, from - done)) return false;
        if (!tok_push_cut(out, a->id, from, to - from)) return false;
        done = to;
    }
    return done >= n || tok_push_cut(out, -1, done, n - done);
}

static pare_status model_word(tok_work *w, const char *p, size_t n) {
    if (w->t->model == TOK_WORDPIECE) return tok_wordpiece_word(w, p, n);
    for (size_t at = 0, k; at < n; at += k) {
        k = w->t->meta_leads ? tok_meta_word(p + at, n - at) : n - at;
        PARE_TRY(tok_bpe_word(w, p + at, k));
    }
    return PARE_OK;
}

/* Normalized text without added tokens. */
static pare_status encode_plain(tok_work *w, const char *p, size_t n, bool first) {
    const pare_tokenizer *t = w->t;
    if (!t->pre.n) return model_word(w, p, n);
    w->a.n = w->piece.n = 0;
    if (!tok_text_add(&w->a, p, n) || !tok_push_piece(&w->piece, 0, n, first)) return tok_nomem(w);
    PARE_TRY(tok_pretokenize(w, &t->pre));
    /* the model may use w->b, not w->a */
    for (size_t i = 0; i < w->piece.n; i++) PARE_TRY(model_word(w, w->a.p + w->piece.v[i].at, w->piece.v[i].n));
    return PARE_OK;
}

static pare_status encode_fragment(tok_work *w, const char *p, size_t n, bool first) {
    const pare_tokenizer *t = w->t;
    if (t->norm.n) {
        PARE_TRY(tok_normalize(w, &t->norm, p, n, &w->norm));
        p = w->norm.p, n = w->norm.n;
    }
    if (!n) return PARE_OK;
    if (!t->norm_trie.n) return encode_plain(w, p, n, first);
    w->cut2.n = 0;
    if (!cut_added(w, &t->norm_trie, p, n, &w->cut2)) return tok_nomem(w);
    for (size_t i = 0; i < w->cut2.n; i++) {
        tok_cut c = w->cut2.v[i];
        if (c.id >= 0) {
            if (!tok_push_id(w, c.id)) return tok_nomem(w);
        } else PARE_TRY(encode_plain(w, p + c.at, c.n, first && !c.at));
    }
    return PARE_OK;
}

pare_status tok_encode_hf(tok_work *w, const char *p, size_t n) {
    const pare_tokenizer *t = w->t;
    bool special = w->flags & PARE_TOK_SPECIAL;
    if (tok_utf8_valid_prefix(p, n) < n) {
        if (!tok_utf8_repair(&w->in, p, n)) return tok_nomem(w);
        p = w->in.p, n = w->in.n;
    }
    for (size_t i = 0; special && i < t->n_head; i++)
        if (!tok_push_id(w, t->head[i])) return tok_nomem(w);
    w->cut.n = 0;
    if (!cut_added(w, &t->raw_trie, p, n, &w->cut)) return tok_nomem(w);
    for (size_t i = 0; i < w->cut.n; i++) {
        tok_cut c = w->cut.v[i];
        if (c.id >= 0) {
            if (!tok_push_id(w, c.id)) return tok_nomem(w);
        } else PARE_TRY(encode_fragment(w, p + c.at, c.n, !c.at));
    }
    for (size_t i = 0; special && i < t->n_tail; i++)
        if (!tok_push_id(w, t->tail[i])) return tok_nomem(w);
    return PARE_OK;
}
