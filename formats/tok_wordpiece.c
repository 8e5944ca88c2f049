/* SPDX-License-Identifier: Apache-2.0
 *
 * WordPiece (Devlin et al. 2018): greedy, longest piece first; a word with no full cover is one unk. */
#include "formats/tok_internal.h"

#define HASHES TOK_TEXT_MAX

/* Hashes of all prefixes are taken in one pass, then tried longest first. */
int32_t tok_longest(const tok_vocab *v, pare_str head, const char *p, size_t n, size_t *len) {
    size_t max = v->max_bytes > head.n ? v->max_bytes - head.n : 0;
    uint64_t h[HASHES], base = tok_hash_more(TOK_HASH0, head.p, head.n);
    if (max > n) max = n;
    if (max > HASHES) max = HASHES; /* longer tokens were refused */
    for (size_t k = 0; k < max; k++) h[k] = base = tok_hash_more(base, p + k, 1);
    for (size_t k = max; k > 0; k--) {
        if (k < n && ((unsigned char)p[k] & 0xC0) == 0x80) continue; /* inside a character */
        int32_t id = tok_vocab_find_hashed(v, h[k - 1], head.p, head.n, p, k);
        if (id >= 0) return *len = k, id;
    }
    return -1;
}

pare_status tok_wordpiece_word(tok_work *w, const char *p, size_t n) {
    const pare_tokenizer *t = w->t;
    size_t chars = 0, from = w->ids->n;
    for (size_t i = 0; i < n; i++) chars += ((unsigned char)p[i] & 0xC0) != 0x80;
    uint64_t h = tok_hash_more(TOK_HASH0, p, n);
    if (tok_cache_get(w, h, p, n)) return PARE_OK;
    bool bad = chars > t->max_word_chars;
    for (size_t at = 0, len; !bad && at < n; at += len) {
        int32_t id = tok_longest(&t->vocab, at ? t->word_prefix : (pare_str){"", 0}, p + at, n - at, &len);
        if (id < 0) {
            bad = true;
            break;
        }
        if (!tok_push_id(w, id)) return tok_nomem(w);
    }
    if (bad) {
        w->ids->n = from;
        if (!tok_push_id(w, t->unk)) return tok_nomem(w);
    }
    tok_cache_put(w, h, p, n, from);
    return PARE_OK;
}
