/* SPDX-License-Identifier: Apache-2.0
 *
 * The model of a tokenizer.json: BPE (merges as "left right" or [left, right]) and WordPiece vocabularies. */
#include "formats/tok_internal.h"

#include <jansson.h>
#include <stdio.h>

static pare_status nomem(pare_tokenizer *t, pare_diag *d) {
    return pare_fail(d, PARE_ERR_NOMEM, t->file, NULL, "out of memory");
}

static pare_status scan_vocab(pare_tokenizer *t, json_t *vocab, size_t *n_ids, size_t *bytes, pare_diag *d) {
    const char *key;
    json_t *id;
    *n_ids = *bytes = 0;
    json_object_foreach(vocab, key, id) {
        json_int_t v = json_is_integer(id) ? json_integer_value(id) : -1;
        if (v < 0 || v > INT32_MAX / 8)
            return pare_fail(d, PARE_ERR_INPUT, t->file, "model.vocab", "token \"%.40s\" has no usable id", key);
        if ((size_t)v >= *n_ids) *n_ids = (size_t)v + 1;
        *bytes += strlen(key) + 1;
    }
    if (!*n_ids) return pare_fail(d, PARE_ERR_INPUT, t->file, "model.vocab", "is empty");
    if (*n_ids > 4 * json_object_size(vocab) + 65536)
        return pare_fail(d, PARE_ERR_INPUT, t->file, "model.vocab", "ids reach %zu for %zu tokens", *n_ids,
                         json_object_size(vocab));
    return PARE_OK;
}

static pare_status load_vocab(pare_tokenizer *t, const json_t *model, pare_diag *d) {
    json_t *vocab = json_object_get(model, "vocab");
    if (!json_is_object(vocab))
        return pare_fail(d, PARE_ERR_INPUT, t->file, "model.vocab", "expected an object of token: id");
    size_t n, bytes;
    PARE_TRY(scan_vocab(t, vocab, &n, &bytes, d));
    char *blob = pare_arena_alloc(t->arena, bytes);
    if (!blob || !tok_vocab_init(&t->vocab, n)) return nomem(t, d);
    const char *key;
    json_t *id;
    json_object_foreach(vocab, key, id) {
        int32_t dup, v = (int32_t)json_integer_value(id);
        size_t k = strlen(key);
        if (t->vocab.text[v].p)
            return pare_fail(d, PARE_ERR_INPUT, t->file, "model.vocab", "id %d belongs to two tokens", v);
        memcpy(blob, key, k + 1);
        tok_vocab_set(&t->vocab, v, (pare_str){blob, tok_unmask(t, blob, k)}, &dup);
        blob += k + 1;
    }
    return PARE_OK;
}

/* Splits one merge into its two texts. */
static bool merge_texts(const json_t *m, pare_str *l, pare_str *r) {
    if (json_is_array(m) && json_array_size(m) == 2) {
        const json_t *a = json_array_get(m, 0), *b = json_array_get(m, 1);
        if (!json_is_string(a) || !json_is_string(b)) return false;
        *l = (pare_str){json_string_value(a), json_string_length(a)};
        *r = (pare_str){json_string_value(b), json_string_length(b)};
        return true;
    }
    if (!json_is_string(m)) return false;
    const char *p = json_string_value(m), *end = p + json_string_length(m), *sp = memchr(p, ' ', (size_t)(end - p));
    if (!sp || memchr(sp + 1, ' ', (size_t)(end - sp - 1))) return false;
    *l = (pare_str){p, (size_t)(sp - p)}, *r = (pare_str){sp + 1, (size_t)(end - sp - 1)};
    return true;
}

static pare_status one_merge(pare_tokenizer *t, const json_t *m, size_t i, tok_text *tmp, pare_diag *d) {
    pare_str l, r;
    char where[48];
    snprintf(where, sizeof where, "model.merges[%zu]", i);
    if (!merge_texts(m, &l, &r))
        return pare_fail(d, PARE_ERR_INPUT, t->file, where, "expected \"left right\" or [\"left\", \"right\"]");
    if (t->nul.n) { /* rare: give the arena the two texts, to put U+0000 back */
        l = tok_copy(t, l.p, l.n), r = tok_copy(t, r.p, r.n);
        if (!l.p || !r.p) return nomem(t, d);
    }
    size_t cut = t->word_prefix.n && r.n >= t->word_prefix.n ? t->word_prefix.n : 0;
    tmp->n = 0;
    if (!tok_text_add(tmp, l.p, l.n) || !tok_text_add(tmp, r.p + cut, r.n - cut)) return nomem(t, d);
    int32_t a = tok_vocab_find(&t->vocab, l.p, l.n), b = tok_vocab_find(&t->vocab, r.p, r.n);
    int32_t out = tok_vocab_find(&t->vocab, tmp->p ? tmp->p : "", tmp->n);
    if (a < 0 || b < 0 || out < 0)
        return pare_fail(d, PARE_ERR_INPUT, t->file, where, "\"%.*s\" is not in the vocabulary",
                         a < 0   ? (int)l.n
                         : b < 0 ? (int)r.n
                                 : (int)tmp->n,
                         a < 0   ? l.p
                         : b < 0 ? r.p
                                 : tmp->p);
    tok_merges_set(&t->merges, a, b, (uint32_t)i, out, false);
    t->merge_list[i][0] = a, t->merge_list[i][1] = b;
    return PARE_OK;
}

static pare_status load_merges(pare_tokenizer *t, const json_t *list, pare_diag *d) {
    if (!json_is_array(list)) return pare_fail(d, PARE_ERR_INPUT, t->file, "model.merges", "expected a list");
    size_t n = json_array_size(list);
    t->merge_list = pare_malloc((n + 1) * sizeof *t->merge_list);
    if (!t->merge_list || !tok_merges_init(&t->merges, n)) return nomem(t, d);
    tok_text tmp = {0};
    pare_status s = PARE_OK;
    for (size_t i = 0; s == PARE_OK && i < n; i++) s = one_merge(t, json_array_get(list, i), i, &tmp, d);
    t->n_merge_list = n;
    pare_free(tmp.p);
    return s;
}

/* unk_token by name; -1 when there is none. */
static pare_status load_unk(pare_tokenizer *t, const json_t *model, bool needed, pare_diag *d) {
    PARE_TRY(tok_json_str(t, model, "unk_token", &t->unk_text, d));
    t->unk = t->unk_text.n ? tok_vocab_find(&t->vocab, t->unk_text.p, t->unk_text.n) : -1;
    for (size_t i = 0; t->unk < 0 && t->unk_text.n && i < t->n_added; i++)
        if (t->added[i].text.n == t->unk_text.n && !memcmp(t->added[i].text.p, t->unk_text.p, t->unk_text.n))
            t->unk = t->added[i].id;
    if (t->unk < 0 && (needed || t->unk_text.n))
        return pare_fail(d, PARE_ERR_INPUT, t->file, "model.unk_token", "is not in the vocabulary");
    return PARE_OK;
}

pare_status tok_load_bpe(pare_tokenizer *t, const json_t *model, pare_diag *d) {
    const json_t *dropout = json_object_get(model, "dropout");
    if (json_is_number(dropout) && json_number_value(dropout) > 0)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, t->file, "model.dropout", "random merges are not supported");
    t->model = TOK_BPE;
    t->byte_fallback = tok_json_bool(model, "byte_fallback", false);
    t->fuse_unk = tok_json_bool(model, "fuse_unk", false);
    t->ignore_merges = tok_json_bool(model, "ignore_merges", false);
    PARE_TRY(tok_json_str(t, model, "continuing_subword_prefix", &t->word_prefix, d));
    PARE_TRY(tok_json_str(t, model, "end_of_word_suffix", &t->word_suffix, d));
    PARE_TRY(load_vocab(t, model, d));
    PARE_TRY(load_unk(t, model, false, d));
    for (unsigned b = 0; b < 256; b++) {
        char name[8];
        int n = snprintf(name, sizeof name, "<0x%02X>", b);
        t->byte_id[b] = tok_vocab_find(&t->vocab, name, (size_t)n);
    }
    return load_merges(t, json_object_get(model, "merges"), d);
}

pare_status tok_load_wordpiece(pare_tokenizer *t, const json_t *model, pare_diag *d) {
    t->model = TOK_WORDPIECE;
    const json_t *max = json_object_get(model, "max_input_chars_per_word");
    if (json_is_integer(max) && json_integer_value(max) >= 0) t->max_word_chars = (size_t)json_integer_value(max);
    PARE_TRY(tok_json_str(t, model, "continuing_subword_prefix", &t->word_prefix, d));
    if (!json_object_get(model, "continuing_subword_prefix")) t->word_prefix = (pare_str){"##", 2};
    PARE_TRY(load_vocab(t, model, d));
    if (t->vocab.max_bytes > TOK_TEXT_MAX)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, t->file, "model.vocab",
                         "tokens longer than %d bytes are not supported", TOK_TEXT_MAX);
    return load_unk(t, model, true, d);
}
