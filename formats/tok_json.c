/* SPDX-License-Identifier: Apache-2.0
 *
 * tokenizer.json of the Hugging Face tokenizers package: the frame, added tokens, and what they make of the vocabulary.
 * Components that are not supported are refused by name. */
#include "formats/tok_internal.h"

#include <jansson.h>
#include <stdio.h>

bool tok_json_bool(const json_t *o, const char *key, bool dflt) {
    const json_t *v = json_object_get(o, key);
    return json_is_boolean(v) ? json_is_true(v) : dflt;
}

pare_status tok_json_str(pare_tokenizer *t, const json_t *o, const char *key, pare_str *out, pare_diag *d) {
    const json_t *v = json_object_get(o, key);
    *out = (pare_str){"", 0};
    if (!v || json_is_null(v)) return PARE_OK;
    if (!json_is_string(v)) return pare_fail(d, PARE_ERR_INPUT, t->file, key, "expected a string");
    if (json_string_length(v) > TOK_TEXT_MAX)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, t->file, key, "texts longer than %d bytes are not supported",
                         TOK_TEXT_MAX);
    *out = tok_copy(t, json_string_value(v), json_string_length(v));
    return out->p ? PARE_OK : pare_fail(d, PARE_ERR_NOMEM, t->file, key, "out of memory");
}

tok_step *tok_add_step(tok_steps *s, tok_kind kind) {
    if (pare_grow((void **)&s->v, &s->cap, s->n + 1, sizeof *s->v) != PARE_OK) return NULL;
    s->v[s->n] = (tok_step){.kind = kind};
    return &s->v[s->n++];
}

static pare_status one_added(pare_tokenizer *t, const json_t *o, tok_added *a, pare_diag *d) {
    const json_t *id = json_object_get(o, "id"), *text = json_object_get(o, "content");
    if (!json_is_object(o) || !json_is_integer(id) || !json_is_string(text))
        return pare_fail(d, PARE_ERR_INPUT, t->file, "added_tokens",
                         "expected objects with an integer id and a string content");
    json_int_t v = json_integer_value(id);
    if (v < 0 || v > INT32_MAX / 8)
        return pare_fail(d, PARE_ERR_INPUT, t->file, "added_tokens", "id %lld is out of range", (long long)v);
    a->id = (int32_t)v;
    a->special = tok_json_bool(o, "special", false);
    a->single_word = tok_json_bool(o, "single_word", false);
    a->lstrip = tok_json_bool(o, "lstrip", false);
    a->rstrip = tok_json_bool(o, "rstrip", false);
    a->normalized = tok_json_bool(o, "normalized", !a->special);
    return tok_json_str(t, o, "content", &a->text, d);
}

static pare_status read_added(pare_tokenizer *t, const json_t *list, pare_diag *d) {
    if (!list || json_is_null(list)) return PARE_OK;
    if (!json_is_array(list)) return pare_fail(d, PARE_ERR_INPUT, t->file, "added_tokens", "expected a list");
    t->added = pare_calloc(json_array_size(list) + 1, sizeof *t->added);
    if (!t->added) return pare_fail(d, PARE_ERR_NOMEM, t->file, NULL, "out of memory");
    for (size_t i = 0; i < json_array_size(list); i++) {
        PARE_TRY(one_added(t, json_array_get(list, i), &t->added[t->n_added], d));
        if (t->added[t->n_added].text.n) t->n_added++; /* an empty one matches nothing */
    }
    return PARE_OK;
}

/* The content of a normalized added token is looked for as the normalizer leaves it. */
static pare_status add_to_tries(pare_tokenizer *t, pare_diag *d) {
    pare_diag own = {0};
    tok_work w = {.t = t, .d = d ? d : &own};
    tok_text text = {0};
    pare_status s = PARE_OK;
    for (size_t i = 0; s == PARE_OK && i < t->n_added; i++) {
        tok_added *a = &t->added[i];
        bool norm = a->normalized;
        pare_str p = a->shown = a->text;
        if (norm && t->norm.n) {
            s = tok_normalize(&w, &t->norm, p.p, p.n, &text);
            p = (pare_str){text.p, text.n};
            if (s == PARE_OK) a->shown = tok_copy(t, text.p, text.n);
            if (s == PARE_OK && !a->shown.p) s = pare_fail(d, PARE_ERR_NOMEM, t->file, NULL, "out of memory");
        }
        if (s == PARE_OK && !tok_trie_add(norm ? &t->norm_trie : &t->raw_trie, p.p, p.n, (int32_t)i))
            s = pare_fail(d, PARE_ERR_NOMEM, t->file, NULL, "out of memory");
    }
    pare_free(text.p);
    pare_free(w.b.p);
    tok_matcher_free(&w.matcher);
    return s;
}

/* Added tokens join the vocabulary; one that the model names already keeps the model's id. */
static pare_status join_added(pare_tokenizer *t, pare_diag *d) {
    size_t n = t->vocab.n;
    for (size_t i = 0; i < t->n_added; i++)
        if ((size_t)t->added[i].id >= n) n = (size_t)t->added[i].id + 1;
    if (n > 4 * (t->vocab.used + t->n_added) + 65536)
        return pare_fail(d, PARE_ERR_INPUT, t->file, "added_tokens", "ids reach %zu for %zu tokens", n,
                         t->vocab.used + t->n_added);
    if (!tok_vocab_widen(&t->vocab, n)) return pare_fail(d, PARE_ERR_NOMEM, t->file, NULL, "out of memory");
    t->added_of = pare_malloc((n + 1) * sizeof *t->added_of);
    if (!t->added_of) return pare_fail(d, PARE_ERR_NOMEM, t->file, NULL, "out of memory");
    memset(t->added_of, -1, (n + 1) * sizeof *t->added_of);
    for (size_t i = 0; i < t->n_added; i++) {
        tok_added *a = &t->added[i];
        int32_t known = tok_vocab_find(&t->vocab, a->text.p, a->text.n), dup;
        if (known >= 0) a->id = known;
        else if (t->vocab.text[a->id].p)
            return pare_fail(d, PARE_ERR_INPUT, t->file, "added_tokens", "id %d is taken by another token", a->id);
        else tok_vocab_set(&t->vocab, a->id, a->text, &dup);
        if (t->added_of[a->id] < 0) t->added_of[a->id] = (int32_t)i;
    }
    return PARE_OK;
}

static const char *model_type(const json_t *m) {
    const char *type = json_string_value(json_object_get(m, "type"));
    if (type) return type;
    if (json_object_get(m, "merges")) return "BPE"; /* files from before the field existed */
    if (json_object_get(m, "max_input_chars_per_word")) return "WordPiece";
    return json_is_array(json_object_get(m, "vocab")) ? "Unigram" : "(none)";
}

static pare_status load_model(pare_tokenizer *t, const json_t *m, pare_diag *d) {
    if (!json_is_object(m)) return pare_fail(d, PARE_ERR_INPUT, t->file, "model", "expected an object");
    const char *type = model_type(m);
    if (!strcmp(type, "BPE")) return tok_load_bpe(t, m, d);
    if (!strcmp(type, "WordPiece")) return tok_load_wordpiece(t, m, d);
    return pare_fail(d, PARE_ERR_UNSUPPORTED, t->file, "model",
                     "tokenizer model %s is not supported (BPE and WordPiece are)", type);
}

static void name_specials(pare_tokenizer *t) {
    static const char *const unk[] = {"[UNK]", "<unk>"}, *const cls[] = {"[CLS]", "<s>"},
                             *const sep[] = {"[SEP]", "</s>"}, *const pad[] = {"[PAD]", "<pad>"},
                             *const mask[] = {"[MASK]", "<mask>"};
    pare_tokenizer_info *o = &t->info;
    struct {
        int64_t *to;
        const char *const *name;
    } all[] = {{&o->unk, unk}, {&o->pad, pad}, {&o->mask, mask}, {&o->cls, cls}, {&o->sep, sep}};
    if (t->unk >= 0) o->unk = t->unk;
    size_t n = t->model == TOK_WORDPIECE ? 5 : 3; /* <s> and </s> are bos and eos unless the model is BERT's */
    for (size_t i = 0; i < n; i++)
        for (int k = 0; k < 2 && *all[i].to < 0; k++)
            *all[i].to = tok_vocab_find(&t->vocab, all[i].name[k], strlen(all[i].name[k]));
    if (t->model != TOK_WORDPIECE) {
        o->bos = tok_vocab_find(&t->vocab, "<s>", 3);
        o->eos = tok_vocab_find(&t->vocab, "</s>", 4);
        if (t->n_head == 1) o->bos = t->head[0];
        if (t->n_tail == 1) o->eos = t->tail[0];
        o->add_bos = t->n_head == 1, o->add_eos = t->n_tail == 1;
    } else o->bos = o->cls, o->eos = o->sep, o->add_bos = t->n_head > 0, o->add_eos = t->n_tail > 0;
}

static pare_status load_root(pare_tokenizer *t, const json_t *root, pare_diag *d) {
    if (!json_is_object(root)) return pare_fail(d, PARE_ERR_INPUT, t->file, NULL, "expected a JSON object");
    PARE_TRY(read_added(t, json_object_get(root, "added_tokens"), d));
    PARE_TRY(tok_load_steps(t, root, d));
    PARE_TRY(load_model(t, json_object_get(root, "model"), d));
    PARE_TRY(join_added(t, d));
    tok_vocab_quick(&t->vocab);
    t->meta_leads = t->model == TOK_BPE && !t->ignore_merges && !t->word_prefix.n && !t->word_suffix.n &&
                    tok_vocab_meta_leads(&t->vocab);
    PARE_TRY(add_to_tries(t, d));
    const json_t *dec = json_object_get(root, "decoder");
    t->has_decoder = dec && !json_is_null(dec);
    PARE_TRY(tok_load_decoder(t, dec, 0, d));
    PARE_TRY(tok_load_post(t, json_object_get(root, "post_processor"), 0, d));
    name_specials(t);
    t->info.vocab = t->vocab.n;
    t->info.model = t->model == TOK_WORDPIECE ? "wordpiece" : "bpe";
    t->info.pre = t->pre_word ? t->pre_word : "";
    return PARE_OK;
}

/* jansson takes no U+0000 in a key, yet a vocabulary may have one: the escape is masked by a noncharacter that the file
 * does not use, and tok_unmask puts it back. *copy stays NULL when there is nothing to mask. */
static pare_status mask_nul(pare_tokenizer *t, const char *json, size_t n, char **copy, pare_diag *d) {
    static const char esc[] = "\\u0000";
    char utf8[4], hex[8] = "";
    *copy = NULL;
    if (!memmem(json, n, esc, 6)) return PARE_OK;
    uint32_t cp = 0xFDD0;
    size_t k = 0;
    for (; cp < 0xFDF0; cp++) {
        k = tok_utf8_put(cp, utf8);
        snprintf(hex, sizeof hex, "\\u%04x", cp);
        char upper[8];
        snprintf(upper, sizeof upper, "\\u%04X", cp);
        if (!memmem(json, n, utf8, k) && !memmem(json, n, hex, 6) && !memmem(json, n, upper, 6)) break;
    }
    if (cp == 0xFDF0)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, t->file, NULL, "U+0000 beside every noncharacter is not supported");
    t->nul = tok_copy(t, utf8, k);
    *copy = t->nul.p ? pare_malloc(n) : NULL;
    if (!*copy) return pare_fail(d, PARE_ERR_NOMEM, t->file, NULL, "out of memory");
    memcpy(*copy, json, n);
    for (size_t i = 0; i + 6 <= n;) {
        if (json[i] != '\\') i++;
        else if (memcmp(json + i, esc, 6) != 0) i += 2; /* an escaped backslash is not the start of an escape */
        else memcpy(*copy + i, hex, 6), i += 6;
    }
    return PARE_OK;
}

pare_status tok_load_json(pare_tokenizer *t, const char *json, size_t n, pare_diag *d) {
    json_error_t e;
    char *copy;
    PARE_TRY(mask_nul(t, json, n, &copy, d));
    json_t *root = json_loadb(copy ? copy : json, n, JSON_REJECT_DUPLICATES, &e);
    pare_free(copy);
    if (!root)
        return pare_fail(d, PARE_ERR_INPUT, t->file, NULL, "not valid JSON: %s at line %d, byte %d", e.text, e.line,
                         e.position);
    pare_status s = load_root(t, root, d);
    json_decref(root);
    return s;
}
