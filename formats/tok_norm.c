/* SPDX-License-Identifier: Apache-2.0
 *
 * Normalizers of a tokenizer.json, in the order given. Text is valid UTF-8 on both sides. */
#include "formats/tok_internal.h"

#include <utf8proc.h>

#define GROWTH_MAX 64 /* NFKD makes 18 times at most; only hostile Replace chains grow a text more */

static bool add_lower(tok_text *o, uint32_t c) {
    if (c < 0x80) {
        char b = (char)(c >= 'A' && c <= 'Z' ? c + 32 : c);
        return tok_text_add(o, &b, 1);
    }
    if (c == 0x130) return tok_text_add(o, "i\xCC\x87", 3); /* the one letter whose lower case is two characters */
    return tok_text_add_cp(o, (uint32_t)utf8proc_tolower((utf8proc_int32_t)c));
}

static bool bert(const tok_step *s, const char *p, size_t n, tok_text *tmp, tok_text *o) {
    tok_text *first = s->accents ? tmp : o;
    tmp->n = 0;
    for (size_t i = 0; i < n;) {
        uint32_t c = tok_utf8_get(p, &i);
        if (s->clean && c >= 0x80 && (c == 0xFFFD || tok_is_control(c))) continue;
        if (s->clean && c < 0x80 && (c == 0x7F || tok_is_control(c))) continue;
        if (s->clean && tok_is_space(c)) c = ' ';
        bool apart = s->cjk && c >= 0x3400 && tok_is_cjk(c), ok = true;
        if (apart) ok = tok_text_add(first, " ", 1);
        ok = ok && (s->lower && !s->accents ? add_lower(first, c) : tok_text_add_cp(first, c));
        if (apart) ok = ok && tok_text_add(first, " ", 1);
        if (!ok) return false;
    }
    if (!s->accents) return true;
    tok_text nfd = {0};
    bool ok = tok_normal_form(TOK_NFD, tmp->p, tmp->n, &nfd);
    for (size_t i = 0; ok && i < nfd.n;) {
        uint32_t c = tok_utf8_get(nfd.p, &i);
        if (tok_is_nonspacing(c)) continue;
        ok = s->lower ? add_lower(o, c) : tok_text_add_cp(o, c);
    }
    pare_free(nfd.p);
    return ok;
}

static bool strip(const tok_step *s, const char *p, size_t n, tok_text *o) {
    size_t from = 0, to = 0, i = 0;
    bool started = false;
    while (i < n) {
        size_t at = i;
        if (tok_is_space(tok_utf8_get(p, &i))) continue;
        if (!started) from = at, started = true;
        to = i;
    }
    if (!started) from = n; /* all white: nothing is left whichever side is stripped */
    if (!s->lower) from = 0;
    if (!s->accents) to = n;
    return from >= to || tok_text_add(o, p + from, to - from);
}

static pare_status too_long(tok_work *w) {
    return pare_fail(w->d, PARE_ERR_INPUT, w->t->file, "normalizer", "makes the text more than %d times longer",
                     GROWTH_MAX);
}

static pare_status replace(tok_work *w, const tok_step *s, const char *p, size_t n, tok_text *o) {
    size_t done = 0;
    for (size_t at = 0, from, to; at <= n; at = to) {
        if (s->re) {
            int k = tok_regex_next(s->re, &w->matcher, p, n, at, &from, &to, w->d);
            if (k < 0) return w->d->code;
            if (!k) break;
        } else {
            const char *hit = s->a.n && n - at >= s->a.n ? memmem(p + at, n - at, s->a.p, s->a.n) : NULL;
            if (!hit) break;
            from = (size_t)(hit - p), to = from + s->a.n;
        }
        if (!tok_text_add(o, p + done, from - done) || !tok_text_add(o, s->b.p, s->b.n)) return tok_nomem(w);
        if (o->n > w->norm_max) return too_long(w);
        done = to;
    }
    return tok_text_add(o, p + done, n - done) ? PARE_OK : tok_nomem(w);
}

static pare_status apply(tok_work *w, const tok_step *s, const char *p, size_t n, tok_text *o) {
    bool ok = true;
    switch (s->kind) {
    case TOK_N_BERT: ok = bert(s, p, n, &w->b, o); break;
    case TOK_N_LOWER:
        for (size_t i = 0; ok && i < n;) ok = add_lower(o, tok_utf8_get(p, &i));
        break;
    case TOK_N_FORM: ok = tok_normal_form(s->form, p, n, o); break;
    case TOK_N_STRIP_ACCENTS:
        for (size_t i = 0; ok && i < n;) {
            uint32_t c = tok_utf8_get(p, &i);
            if (!tok_is_mark(c)) ok = tok_text_add_cp(o, c);
        }
        break;
    case TOK_N_PREPEND: ok = !n || (tok_text_add(o, s->a.p, s->a.n) && tok_text_add(o, p, n)); break;
    case TOK_N_REPLACE: return replace(w, s, p, n, o);
    case TOK_N_STRIP: ok = strip(s, p, n, o); break;
    case TOK_N_BYTES:
        for (size_t i = 0; ok && i < n; i++) {
            char u[2];
            size_t k;
            tok_byte_char((unsigned char)p[i], u, &k);
            ok = tok_text_add(o, u, k);
        }
        break;
    default: break;
    }
    return ok ? PARE_OK : tok_nomem(w);
}

pare_status tok_normalize(tok_work *w, const tok_steps *steps, const char *p, size_t n, tok_text *out) {
    tok_text from = {0}, to = {0};
    pare_status s = tok_text_add(&from, p, n) ? PARE_OK : tok_nomem(w);
    w->norm_max = (n + TOK_TEXT_MAX) * GROWTH_MAX;
    for (size_t i = 0; s == PARE_OK && i < steps->n; i++) {
        to.n = 0;
        s = apply(w, &steps->v[i], from.p, from.n, &to);
        if (s == PARE_OK && to.n > w->norm_max) s = too_long(w);
        tok_text x = from;
        from = to, to = x;
    }
    if (s == PARE_OK) {
        out->n = 0;
        if (!tok_text_add(out, from.p, from.n)) s = tok_nomem(w);
    }
    pare_free(from.p);
    pare_free(to.p);
    return s;
}
