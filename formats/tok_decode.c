/* SPDX-License-Identifier: Apache-2.0
 *
 * Ids to text. Tokens are decoded one at a time and appended, so a text may be made in parts: a buffer not yet
 * allocated is the start of a text, where decoders drop the space a tokenizer put in front. */
#include "formats/tok_internal.h"

static bool is_byte_name(pare_str s) {
    if (s.n != 6 || memcmp(s.p, "<0x", 3) != 0 || s.p[5] != '>') return false;
    for (int i = 3; i < 5; i++)
        if (!((s.p[i] >= '0' && s.p[i] <= '9') || (s.p[i] >= 'A' && s.p[i] <= 'F') || (s.p[i] >= 'a' && s.p[i] <= 'f')))
            return false;
    return true;
}

static char byte_of_name(pare_str s) {
    int v = 0;
    for (int i = 3; i < 5; i++) v = v * 16 + (s.p[i] <= '9' ? s.p[i] - '0' : (s.p[i] | 32) - 'a' + 10);
    return (char)v;
}

static bool add_replaced(tok_text *o, const char *p, size_t n, pare_str what, pare_str by) {
    while (what.n && n >= what.n) {
        const char *hit = memmem(p, n, what.p, what.n);
        if (!hit) break;
        if (!tok_text_add(o, p, (size_t)(hit - p)) || !tok_text_add(o, by.p, by.n)) return false;
        n -= (size_t)(hit - p) + what.n;
        p = hit + what.n;
    }
    return tok_text_add(o, p, n);
}

/* Visible characters back to bytes; a token with any other character stays as it is. */
static bool add_visible(tok_text *o, const char *p, size_t n) {
    size_t ok = tok_utf8_valid_prefix(p, n), start = o->n;
    for (size_t i = 0; i < n;) {
        int b = ok == n ? tok_char_byte(tok_utf8_get(p, &i)) : -1;
        if (b < 0) return o->n = start, tok_text_add(o, p, n);
        char c = (char)b;
        if (!tok_text_add(o, &c, 1)) return false;
    }
    return true;
}

static const pare_str meta = {TOK_META, 3}, space = {" ", 1};

static bool gguf_piece(const pare_tokenizer *t, int64_t id, tok_text *o) {
    pare_str s = t->vocab.text[id];
    int32_t type = t->types[id];
    if (type == 6 && is_byte_name(s)) {
        char c = byte_of_name(s);
        return tok_text_add(o, &c, 1);
    }
    if (type == 5 || type == 6) return true; /* unused */
    if (type != 1) return tok_text_add(o, s.p, s.n);
    return t->model == TOK_GGUF_BPE ? add_visible(o, s.p, s.n) : add_replaced(o, s.p, s.n, meta, space);
}

static bool has_step(const tok_steps *s, tok_kind kind) {
    for (size_t i = 0; i < s->n; i++)
        if (s->v[i].kind == kind) return true;
    return false;
}

bool tok_piece_bytes(const pare_tokenizer *t, int64_t id, tok_text *o) {
    if (id < 0 || (size_t)id >= t->vocab.n || !t->vocab.text[id].p) return true;
    if (t->gguf) return gguf_piece(t, id, o);
    pare_str s = t->vocab.text[id];
    if (t->added_of[id] >= 0) return tok_text_add(o, s.p, s.n);
    if (t->model == TOK_WORDPIECE) {
        if (s.n > t->word_prefix.n && !memcmp(s.p, t->word_prefix.p, t->word_prefix.n))
            return tok_text_add(o, s.p + t->word_prefix.n, s.n - t->word_prefix.n);
        return tok_text_add(o, " ", 1) && tok_text_add(o, s.p, s.n);
    }
    if (has_step(&t->pre, TOK_P_BYTES) || has_step(&t->dec, TOK_D_BYTES)) return add_visible(o, s.p, s.n);
    if (t->byte_fallback && is_byte_name(s)) {
        char c = byte_of_name(s);
        return tok_text_add(o, &c, 1);
    }
    return add_replaced(o, s.p, s.n, meta, space);
}

/* What written English does not put a space before; the tokenizers package's list. */
static bool clean_up(tok_text *a, tok_text *b) {
    static const char *const rules[][2] = {{" .", "."},   {" ?", "?"},     {" !", "!"},    {" ,", ","},
                                           {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},  {" do not", " don't"},
                                           {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        b->n = 0;
        if (!add_replaced(b, a->p, a->n, (pare_str){rules[i][0], strlen(rules[i][0])},
                          (pare_str){rules[i][1], strlen(rules[i][1])}))
            return false;
        tok_text x = *a;
        *a = *b, *b = x;
    }
    return true;
}

typedef struct state {
    bool first, fused;
    int strip_left;
    tok_text a, b;
    tok_matcher m;
} state;

static bool strip(const tok_step *s, state *st) {
    int left = s->start;
    if (st->fused) left = st->first ? s->start : st->strip_left;
    size_t at = 0, end = st->a.n;
    while (left > 0 && s->a.n && end - at >= s->a.n && !memcmp(st->a.p + at, s->a.p, s->a.n)) at += s->a.n, left--;
    for (int k = s->stop; k > 0 && s->a.n && end - at >= s->a.n && !memcmp(st->a.p + end - s->a.n, s->a.p, s->a.n); k--)
        end -= s->a.n;
    if (st->fused) st->strip_left = at == st->a.n ? left : 0; /* fused text: the run may go on in the next token */
    st->b.n = 0;
    return at == end || tok_text_add(&st->b, st->a.p + at, end - at);
}

static bool regex_replace(const tok_step *s, state *st) {
    size_t done = 0;
    for (size_t at = 0, from, to; at < st->a.n; at = done = to) {
        if (tok_regex_next(s->re, &st->m, st->a.p, st->a.n, at, &from, &to, NULL) <= 0) break;
        if (!tok_text_add(&st->b, st->a.p + done, from - done) || !tok_text_add(&st->b, s->b.p, s->b.n)) return false;
    }
    return done == st->a.n || tok_text_add(&st->b, st->a.p + done, st->a.n - done);
}

/* st->a through one decoder step into st->b. */
static bool step(const tok_step *s, state *st) {
    tok_text *a = &st->a, *b = &st->b;
    b->n = 0;
    switch (s->kind) {
    case TOK_D_BYTES: return add_visible(b, a->p, a->n);
    case TOK_D_WORDPIECE:
        if (st->first) {
            if (!tok_text_add(b, a->p, a->n)) return false;
        } else if (a->n >= s->a.n && !memcmp(a->p, s->a.p, s->a.n)) {
            if (!tok_text_add(b, a->p + s->a.n, a->n - s->a.n)) return false;
        } else if (!tok_text_add(b, " ", 1) || !tok_text_add(b, a->p, a->n)) return false;
        return !s->clean || clean_up(b, a);
    case TOK_D_META:
        return add_replaced(b, a->p, a->n, s->a, st->first && s->prepend != TOK_NEVER ? (pare_str){"", 0} : space);
    case TOK_D_FALLBACK:
        if (is_byte_name((pare_str){a->p, a->n})) {
            char c = byte_of_name((pare_str){a->p, a->n});
            return tok_text_add(b, &c, 1);
        }
        return tok_text_add(b, a->p, a->n);
    case TOK_D_REPLACE: return s->re ? regex_replace(s, st) : add_replaced(b, a->p, a->n, s->a, s->b);
    case TOK_D_STRIP: return strip(s, st);
    case TOK_D_BPE: return add_replaced(b, a->p, a->n, s->a, space);
    default: st->fused = true; return tok_text_add(b, a->p, a->n);
    }
}

static bool hf_token(const pare_tokenizer *t, int64_t id, state *st, tok_text *o) {
    int32_t added = t->added_of[id];
    if (added >= 0 && t->added[added].special) return true;
    st->a.n = 0;
    st->fused = false;
    if (!t->has_decoder && !st->first && !tok_text_add(&st->a, " ", 1)) return false;
    pare_str text = added >= 0 ? t->added[added].shown : t->vocab.text[id];
    if (!tok_text_add(&st->a, text.p, text.n)) return false;
    for (size_t i = 0; i < t->dec.n; i++) {
        if (!step(&t->dec.v[i], st)) return false;
        tok_text x = st->a;
        st->a = st->b, st->b = x;
    }
    st->first = false;
    return tok_text_reserve(o, st->a.n + 1) && tok_text_add(o, st->a.p, st->a.n);
}

static bool gguf_token(const pare_tokenizer *t, int64_t id, state *st, tok_text *o) {
    if (t->types[id] == 2 || t->types[id] == 3) return true;
    st->a.n = 0;
    if (!gguf_piece(t, id, &st->a)) return false;
    bool drop = st->first && (t->add_space_prefix || t->model == TOK_WPM) && st->a.n && st->a.p[0] == ' ';
    st->first = false;
    return tok_text_reserve(o, st->a.n + 1) && tok_text_add(o, st->a.p + drop, st->a.n - drop);
}

pare_status pare_detokenize(const pare_tokenizer *t, const int64_t *ids, size_t n_ids, char **buf, size_t *n,
                            size_t *cap) {
    state st = {.first = *buf == NULL};
    tok_text o = {*buf, *n, *cap};
    bool ok = tok_text_reserve(&st.a, 1) && tok_text_reserve(&st.b, 1);
    for (size_t i = 0; ok && i < n_ids; i++) {
        if (ids[i] < 0 || (size_t)ids[i] >= t->vocab.n || !t->vocab.text[ids[i]].p) continue;
        ok = t->gguf ? gguf_token(t, ids[i], &st, &o) : hf_token(t, ids[i], &st, &o);
    }
    pare_free(st.a.p);
    pare_free(st.b.p);
    tok_matcher_free(&st.m);
    *buf = o.p, *n = o.n, *cap = o.cap;
    return ok ? PARE_OK : PARE_ERR_NOMEM;
}
