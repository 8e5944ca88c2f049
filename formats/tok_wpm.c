/* SPDX-License-Identifier: Apache-2.0
 *
 * GGUF WPM (tokenizer.ggml.model bert) as llama.cpp runs it. It differs from the tokenizers package: only the first
 * code point of a decomposition is kept, all marks go (not only the nonspacing), U+000B, U+000C and U+0085 are spaces,
 * and words have no length limit. */
#include "formats/tok_internal.h"

#include <utf8proc.h>

static pare_status word(tok_work *w) {
    const pare_tokenizer *t = w->t;
    const char *p = w->b.p;
    size_t n = w->b.n, from = w->ids->n;
    if (n <= 3) return PARE_OK; /* nothing behind the phantom space */
    uint64_t h = tok_hash_more(TOK_HASH0, p, n);
    w->b.n = 3;
    if (tok_cache_get(w, h, p, n)) return PARE_OK;
    for (size_t at = 0, len; at < n; at += len) {
        int32_t id = tok_longest(&t->vocab, (pare_str){"", 0}, p + at, n - at, &len);
        if (id < 0) {
            w->ids->n = from;
            break;
        }
        if (!tok_push_id(w, id)) return tok_nomem(w);
    }
    if (w->ids->n == from && !tok_push_id(w, t->unk)) return tok_nomem(w);
    tok_cache_put(w, h, p, n, from);
    return PARE_OK;
}

static uint32_t first_of_nfd(uint32_t c) {
    utf8proc_int32_t d[32];
    if (c < 0xC0) return c;
    utf8proc_ssize_t k = utf8proc_decompose_char((utf8proc_int32_t)c, d, 32, UTF8PROC_DECOMPOSE, NULL);
    return k > 0 ? (uint32_t)d[0] : c;
}

pare_status tok_wpm_encode(tok_work *w, const char *p, size_t n) {
    const pare_tokenizer *t = w->t;
    w->b.n = 0;
    if (!tok_text_add(&w->b, TOK_META, 3)) return tok_nomem(w);
    for (size_t i = 0, used; i < n; i += used) {
        uint32_t c = tok_utf8_lenient((const unsigned char *)p + i, n - i, &used);
        if (t->strip_accents) c = first_of_nfd(c);
        if (tok_is_space(c)) {
            PARE_TRY(word(w));
            continue;
        }
        char g = c < 0x20 || c == 0x7F ? 'C' : tok_group(c);
        if (c == 0 || c == 0xFFFD || g == 'C' || (t->strip_accents && g == 'M')) continue;
        bool alone = g == 'P' || (c < 0x7F && g == 'S') || tok_is_cjk(c);
        if (t->lowercase) c = (uint32_t)utf8proc_tolower((utf8proc_int32_t)c);
        if (alone) PARE_TRY(word(w));
        if (!tok_text_add_cp(&w->b, c)) return tok_nomem(w);
        if (alone) PARE_TRY(word(w));
    }
    return word(w);
}
