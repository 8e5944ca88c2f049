/* SPDX-License-Identifier: Apache-2.0
 *
 * Pre-tokenizers of a tokenizer.json: each step cuts every piece further; ByteLevel and Metaspace also rewrite the
 * text. A split knows the pieces that match and the gaps between them; the behavior says which are joined or dropped.
 */
#include "formats/tok_internal.h"

void tok_byte_char(unsigned char b, char out[2], size_t *n) {
    uint32_t cp = b;
    if (b < 0x21) cp = 256u + b;
    else if (b >= 0x7F && b <= 0xA0) cp = 256u + 33 + (b - 0x7Fu);
    else if (b == 0xAD) cp = 256u + 67;
    char u[4];
    *n = tok_utf8_put(cp, u);
    memcpy(out, u, 2);
}

int tok_char_byte(uint32_t cp) {
    if ((cp >= 0x21 && cp <= 0x7E) || (cp >= 0xA1 && cp <= 0xFF && cp != 0xAD)) return (int)cp;
    if (cp < 256 || cp > 256 + 67) return -1;
    cp -= 256;
    return cp < 33 ? (int)cp : cp < 67 ? (int)(0x7F + cp - 33) : 0xAD;
}

/* Cuts piece q by w->match (matches in ascending order, relative to the text), which holds only the matching parts. */
static bool cut(tok_work *w, tok_piece q, const tok_step *s) {
    size_t end = q.at + q.n, at = q.at, m = 0;
    size_t from = q.at; /* the open piece that later parts may join */
    bool open = false, prev = false;
    tok_pieces *o = &w->piece2;
#define CLOSE(to) (!open || tok_push_piece(o, from, (to)-from, q.first && from == q.at))
    while (at < end) {
        bool is = m < w->match.n && w->match.v[m].at == at;
        size_t to = is ? at + w->match.v[m].n : m < w->match.n ? w->match.v[m].at : end;
        if (is) m++;
        bool hit = is != s->invert, join = false;
        switch (s->behavior) {
        case TOK_REMOVED:
            if (!hit && !tok_push_piece(o, at, to - at, q.first && at == q.at)) return false;
            at = to;
            continue;
        case TOK_ISOLATED: break;
        case TOK_CONTIGUOUS: join = open && hit == prev; break;
        case TOK_WITH_PREVIOUS: join = open && hit && !prev; break;
        case TOK_WITH_NEXT: join = open && prev && !hit; break; /* read backwards: a match joins the gap behind it */
        }
        if (!join) {
            if (!CLOSE(at)) return false;
            from = at, open = true;
        }
        prev = hit, at = to;
    }
    return CLOSE(end);
#undef CLOSE
}

static bool char_hit(const tok_step *s, uint32_t c) {
    switch (s->kind) {
    case TOK_P_DIGITS: return tok_is_number(c);
    case TOK_P_SPACES: return tok_is_space(c);
    case TOK_P_PUNCT: return tok_is_punct(c);
    default: return false;
    }
}

/* Fills w->match with the matching parts of piece q of w->a. */
static pare_status find(tok_work *w, tok_piece q, const tok_step *s) {
    const char *p = w->a.p + q.at;
    w->match.n = 0;
    for (size_t at = 0, from, to; at < q.n; at = to) {
        if (s->re) {
            int k = tok_regex_next(s->re, &w->matcher, p, q.n, at, &from, &to, w->d);
            if (k < 0) return w->d->code;
            if (!k) break;
        } else if (s->kind == TOK_P_SPLIT || s->kind == TOK_P_META) {
            const char *hit = s->a.n ? memmem(p + at, q.n - at, s->a.p, s->a.n) : NULL;
            if (!hit) break;
            from = (size_t)(hit - p), to = from + s->a.n;
        } else {
            from = to = at;
            if (!char_hit(s, tok_utf8_get(p, &to))) continue;
        }
        if (!tok_push_piece(&w->match, q.at + from, to - from, false)) return tok_nomem(w);
    }
    return PARE_OK;
}

static pare_status split(tok_work *w, const tok_step *s) {
    w->piece2.n = 0;
    for (size_t i = 0; i < w->piece.n; i++) {
        PARE_TRY(find(w, w->piece.v[i], s));
        if (!cut(w, w->piece.v[i], s)) return tok_nomem(w);
    }
    tok_pieces x = w->piece;
    w->piece = w->piece2, w->piece2 = x;
    return PARE_OK;
}

/* Whitespace: runs of word characters, and runs of what is neither word nor space. */
static pare_status words(tok_work *w) {
    w->piece2.n = 0;
    for (size_t i = 0; i < w->piece.n; i++) {
        tok_piece q = w->piece.v[i];
        int prev = 0; /* 0 space, 1 word, 2 other */
        size_t from = q.at;
        for (size_t at = q.at; at <= q.at + q.n;) {
            size_t here = at;
            int k = 0;
            if (at < q.at + q.n) {
                uint32_t c = tok_utf8_get(w->a.p, &at);
                k = tok_is_word(c) ? 1 : tok_is_space(c) ? 0 : 2;
            } else at++;
            if (k == prev) continue;
            if (prev && !tok_push_piece(&w->piece2, from, here - from, q.first && from == q.at)) return tok_nomem(w);
            from = here, prev = k;
        }
    }
    tok_pieces x = w->piece;
    w->piece = w->piece2, w->piece2 = x;
    return PARE_OK;
}

/* Rewrites every piece into w->b: spaces to the replacement (Metaspace), or bytes to visible characters. */
static bool rewrite(tok_work *w, const tok_step *s, bool bytes) {
    w->b.n = 0;
    for (size_t i = 0; i < w->piece.n; i++) {
        tok_piece *q = &w->piece.v[i];
        const char *p = w->a.p + q->at;
        size_t at = w->b.n;
        if (bytes) {
            if (!tok_text_reserve(&w->b, 2 * q->n)) return false;
            for (size_t k = 0; k < q->n; k++) {
                size_t n;
                char u[2];
                tok_byte_char((unsigned char)p[k], u, &n);
                memcpy(w->b.p + w->b.n, u, n);
                w->b.n += n;
            }
        } else if (s->kind == TOK_P_BYTES) { /* the prefix space */
            if ((q->n && p[0] != ' ' && !tok_text_add(&w->b, " ", 1)) || !tok_text_add(&w->b, p, q->n)) return false;
        } else {
            bool has = (q->n && p[0] == ' ') || (q->n >= s->a.n && !memcmp(p, s->a.p, s->a.n));
            if (!has && (s->prepend == TOK_ALWAYS || (s->prepend == TOK_FIRST && q->first)) &&
                !tok_text_add(&w->b, s->a.p, s->a.n))
                return false;
            for (size_t k = 0; k < q->n; k++)
                if (!(p[k] == ' ' ? tok_text_add(&w->b, s->a.p, s->a.n) : tok_text_add(&w->b, p + k, 1))) return false;
        }
        q->at = at, q->n = w->b.n - at;
    }
    tok_text x = w->a;
    w->a = w->b, w->b = x;
    return true;
}

pare_status tok_pretokenize(tok_work *w, const tok_steps *steps) {
    static const tok_step spaces = {.kind = TOK_P_SPACES, .behavior = TOK_REMOVED};
    static const tok_step punct = {.kind = TOK_P_PUNCT, .behavior = TOK_ISOLATED};
    for (size_t i = 0; i < steps->n; i++) {
        const tok_step *s = &steps->v[i];
        switch (s->kind) {
        case TOK_P_BYTES:
            if (s->prefix_space && !rewrite(w, s, false)) return tok_nomem(w);
            if (s->re) PARE_TRY(split(w, s));
            if (!rewrite(w, s, true)) return tok_nomem(w);
            break;
        case TOK_P_META:
            if (!rewrite(w, s, false)) return tok_nomem(w);
            if (s->split) PARE_TRY(split(w, s));
            break;
        case TOK_P_BERT:
            PARE_TRY(split(w, &spaces));
            PARE_TRY(split(w, &punct));
            break;
        case TOK_P_WORDS: PARE_TRY(words(w)); break;
        default: PARE_TRY(split(w, s)); break;
        }
    }
    return PARE_OK;
}
