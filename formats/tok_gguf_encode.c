/* SPDX-License-Identifier: Apache-2.0
 *
 * Text to ids the way llama.cpp does it: special tokens are cut out first, the longest text first (control and unknown
 * ones only on request), then each fragment goes through the vocabulary's own algorithm. */
#include "formats/tok_internal.h"

/* Bytes of text cut off behind a special token (phi-3: white space). */
static size_t swallowed(const pare_tokenizer *t, int32_t id, const char *p, size_t n) {
    pare_str s = t->vocab.text[id];
    if (!t->rstrip_specials || (s.n == 5 && !memcmp(s.p, "<unk>", 5)) || (s.n == 3 && !memcmp(s.p, "<s>", 3)) ||
        (s.n == 13 && !memcmp(s.p, "<|endoftext|>", 13)))
        return 0;
    size_t k = 0;
    while (k < n && (p[k] == ' ' || (p[k] >= 9 && p[k] <= 13))) k++;
    return k;
}

static bool cut_one(tok_work *w, int32_t id, const char *p) {
    pare_str s = w->t->vocab.text[id];
    w->cut2.n = 0;
    for (size_t i = 0; i < w->cut.n; i++) {
        tok_cut c = w->cut.v[i];
        if (c.id >= 0) {
            if (!tok_push_cut(&w->cut2, c.id, c.at, c.n)) return false;
            continue;
        }
        for (const char *hit; c.n >= s.n && (hit = memmem(p + c.at, c.n, s.p, s.n));) {
            size_t at = (size_t)(hit - p), rest = c.at + c.n - at - s.n;
            if (at > c.at && !tok_push_cut(&w->cut2, -1, c.at, at - c.at)) return false;
            if (!tok_push_cut(&w->cut2, id, at, s.n)) return false;
            size_t skip = swallowed(w->t, id, hit + s.n, rest);
            c.at = at + s.n + skip, c.n = rest - skip;
        }
        if (c.n && !tok_push_cut(&w->cut2, -1, c.at, c.n)) return false;
    }
    tok_cuts x = w->cut;
    w->cut = w->cut2, w->cut2 = x;
    return true;
}

static pare_status partition(tok_work *w, const char *p, size_t n) {
    const pare_tokenizer *t = w->t;
    w->cut.n = 0;
    if (n && !tok_push_cut(&w->cut, -1, 0, n)) return tok_nomem(w);
    if (!t->n_special || !n) return PARE_OK;
    bool *seen = pare_calloc(t->vocab.n, 1);
    if (!seen) return tok_nomem(w);
    tok_trie_mark(&t->special_trie, p, n, seen);
    bool ok = true;
    for (size_t i = 0; ok && i < t->n_special; i++) {
        int32_t id = t->special[i];
        if (seen[id] && ((w->flags & PARE_TOK_PARSE) || t->types[id] == 4)) ok = cut_one(w, id, p);
    }
    pare_free(seen);
    return ok ? PARE_OK : tok_nomem(w);
}

static pare_status fragment(tok_work *w, const char *p, size_t n, bool behind_special) {
    switch (w->t->model) {
    case TOK_SPM:
        if (!w->t->add_space_prefix || !behind_special) return tok_spm_encode(w, p, n);
        w->b.n = 0;
        if (!tok_text_add(&w->b, " ", 1) || !tok_text_add(&w->b, p, n)) return tok_nomem(w);
        return tok_spm_encode(w, w->b.p, w->b.n);
    case TOK_WPM: return tok_wpm_encode(w, p, n);
    default: return tok_gguf_bpe_encode(w, p, n);
    }
}

pare_status tok_encode_gguf(tok_work *w, const char *p, size_t n) {
    const pare_tokenizer *t = w->t;
    const pare_tokenizer_info *o = &t->info;
    bool special = w->flags & PARE_TOK_SPECIAL, wpm = t->model == TOK_WPM, behind = true;
    int64_t last = wpm ? o->sep : o->eos;
    PARE_TRY(partition(w, p, n));
    if (special && (o->add_bos || wpm) && o->bos >= 0 && !tok_push_id(w, (int32_t)o->bos)) return tok_nomem(w);
    for (size_t i = 0; i < w->cut.n; i++) {
        tok_cut c = w->cut.v[i];
        if (c.id < 0) PARE_TRY(fragment(w, p + c.at, c.n, behind));
        else if (!tok_push_id(w, c.id)) return tok_nomem(w);
        behind = c.id >= 0;
    }
    if (special && (o->add_eos || wpm) && last >= 0 && !tok_push_id(w, (int32_t)last)) return tok_nomem(w);
    return PARE_OK;
}
