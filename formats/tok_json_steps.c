/* SPDX-License-Identifier: Apache-2.0
 *
 * Normalizers and pre-tokenizers of a tokenizer.json: Sequences are flattened into one list of steps. Beside the list,
 * a one-line shape of the pre-tokenizer is kept, by which its GGUF word is known (tok_gguf_pre.c). */
#include "formats/tok_internal.h"

#include <jansson.h>

#define DEPTH_MAX 16
static const char gpt2_regex[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

static pare_status nomem(pare_tokenizer *t, pare_diag *d) {
    return pare_fail(d, PARE_ERR_NOMEM, t->file, NULL, "out of memory");
}

/* "pattern": {"String": ..} or {"Regex": ..}; also a bare string. */
pare_status tok_json_pattern(pare_tokenizer *t, const json_t *o, tok_step *s, pare_diag *d) {
    const json_t *p = json_object_get(o, "pattern"), *re = json_object_get(p, "Regex");
    if (json_is_string(re)) {
        s->a = tok_copy(t, json_string_value(re), json_string_length(re));
        if (!s->a.p) return nomem(t, d);
        return tok_regex_new(s->a.p, s->a.n, TOK_RE_ONIG, t->file, &s->re, d);
    }
    if (json_is_string(p)) return tok_json_str(t, o, "pattern", &s->a, d);
    if (!json_is_string(json_object_get(p, "String")))
        return pare_fail(d, PARE_ERR_INPUT, t->file, "pattern", "expected {\"String\": ...} or {\"Regex\": ...}");
    return tok_json_str(t, p, "String", &s->a, d);
}

static pare_status bert_normalizer(pare_tokenizer *t, const json_t *o, pare_diag *d) {
    tok_step *s = tok_add_step(&t->norm, TOK_N_BERT);
    if (!s) return nomem(t, d);
    s->clean = tok_json_bool(o, "clean_text", true);
    s->cjk = tok_json_bool(o, "handle_chinese_chars", true);
    s->lower = tok_json_bool(o, "lowercase", true);
    s->accents = tok_json_bool(o, "strip_accents", s->lower); /* null follows lowercase */
    t->lowercase = s->lower, t->strip_accents = s->accents;
    return PARE_OK;
}

static pare_status normalizer(pare_tokenizer *t, const json_t *o, int depth, pare_diag *d) {
    static const struct {
        const char *name;
        tok_kind kind;
        int form;
    } plain[] = {{"Lowercase", TOK_N_LOWER, 0},  {"NFC", TOK_N_FORM, TOK_NFC},
                 {"NFD", TOK_N_FORM, TOK_NFD},   {"NFKC", TOK_N_FORM, TOK_NFKC},
                 {"NFKD", TOK_N_FORM, TOK_NFKD}, {"StripAccents", TOK_N_STRIP_ACCENTS, 0},
                 {"ByteLevel", TOK_N_BYTES, 0}};
    if (!o || json_is_null(o)) return PARE_OK;
    const char *type = json_string_value(json_object_get(o, "type"));
    if (!type) return pare_fail(d, PARE_ERR_INPUT, t->file, "normalizer", "has no type");
    if (depth > DEPTH_MAX) return pare_fail(d, PARE_ERR_INPUT, t->file, "normalizer", "Sequences are nested too deep");
    if (!strcmp(type, "Sequence")) {
        const json_t *list = json_object_get(o, "normalizers");
        if (!json_is_array(list))
            return pare_fail(d, PARE_ERR_INPUT, t->file, "normalizer", "a Sequence needs a list of normalizers");
        for (size_t i = 0; i < json_array_size(list); i++)
            PARE_TRY(normalizer(t, json_array_get(list, i), depth + 1, d));
        return PARE_OK;
    }
    if (!strcmp(type, "BertNormalizer")) return bert_normalizer(t, o, d);
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if (!strcmp(type, plain[i].name)) {
            tok_step *s = tok_add_step(&t->norm, plain[i].kind);
            if (!s) return nomem(t, d);
            s->form = plain[i].form;
            return PARE_OK;
        }
    tok_kind kind = !strcmp(type, "Prepend") ? TOK_N_PREPEND : !strcmp(type, "Replace") ? TOK_N_REPLACE : TOK_N_STRIP;
    if (kind == TOK_N_STRIP && strcmp(type, "Strip") != 0)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, t->file, "normalizer", "normalizer %s is not supported", type);
    tok_step *s = tok_add_step(&t->norm, kind);
    if (!s) return nomem(t, d);
    if (kind == TOK_N_PREPEND) return tok_json_str(t, o, "prepend", &s->a, d);
    s->lower = tok_json_bool(o, "strip_left", true), s->accents = tok_json_bool(o, "strip_right", true);
    if (kind == TOK_N_STRIP) return PARE_OK;
    PARE_TRY(tok_json_pattern(t, o, s, d));
    return tok_json_str(t, o, "content", &s->b, d);
}

static pare_status behavior(pare_tokenizer *t, const json_t *o, tok_behavior dflt, tok_behavior *out, pare_diag *d) {
    static const char *const names[] = {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
    const json_t *v = json_object_get(o, "behavior");
    *out = dflt;
    if (!v) return PARE_OK;
    for (int i = 0; json_is_string(v) && i < 5; i++)
        if (!strcmp(json_string_value(v), names[i])) return *out = (tok_behavior)i, PARE_OK;
    return pare_fail(d, PARE_ERR_INPUT, t->file, "pre_tokenizer", "unknown behavior %s",
                     json_is_string(v) ? json_string_value(v) : "");
}

/* Appends to the shape, and to the list. */
static tok_step *add_pre(pare_tokenizer *t, tok_kind kind, const char *shape) {
    size_t old = t->pre_shape ? strlen(t->pre_shape) : 0;
    char *longer = pare_malloc(old + 2 * strlen(shape) + 1), *to = longer;
    if (!longer) return NULL;
    if (old) memcpy(to, t->pre_shape, old);
    to += old;
    for (const char *p = shape; *p; p++) /* line ends of a pattern may be spelled or literal */
        if (*p == '\r' || *p == '\n') *to++ = '\\', *to++ = *p == '\r' ? 'r' : 'n';
        else *to++ = *p;
    *to = 0;
    pare_free(t->pre_shape);
    t->pre_shape = longer;
    return tok_add_step(&t->pre, kind);
}

static pare_status byte_level(pare_tokenizer *t, const json_t *o, pare_diag *d) {
    bool regex = tok_json_bool(o, "use_regex", true);
    tok_step *s = add_pre(t, TOK_P_BYTES,
                          tok_json_bool(o, "add_prefix_space", true) ? (regex ? "space+bytes+gpt2;" : "space+bytes;")
                                                                     : (regex ? "bytes+gpt2;" : "bytes;"));
    if (!s) return nomem(t, d);
    s->prefix_space = tok_json_bool(o, "add_prefix_space", true);
    s->behavior = TOK_ISOLATED;
    return regex ? tok_regex_new(gpt2_regex, sizeof gpt2_regex - 1, TOK_RE_ONIG, t->file, &s->re, d) : PARE_OK;
}

static pare_status metaspace(pare_tokenizer *t, const json_t *o, pare_diag *d) {
    tok_step *s = add_pre(t, TOK_P_META, "meta;");
    if (!s) return nomem(t, d);
    s->behavior = TOK_WITH_NEXT;
    s->split = tok_json_bool(o, "split", true);
    const char *scheme = json_string_value(json_object_get(o, "prepend_scheme"));
    if (!scheme) s->prepend = tok_json_bool(o, "add_prefix_space", true) ? TOK_ALWAYS : TOK_NEVER;
    else if (!strcmp(scheme, "always")) s->prepend = TOK_ALWAYS;
    else if (!strcmp(scheme, "first")) s->prepend = TOK_FIRST;
    else if (!strcmp(scheme, "never")) s->prepend = TOK_NEVER;
    else return pare_fail(d, PARE_ERR_INPUT, t->file, "pre_tokenizer", "Metaspace: unknown prepend_scheme %s", scheme);
    PARE_TRY(tok_json_str(t, o, "replacement", &s->a, d));
    if (s->a.n > 4)
        return pare_fail(d, PARE_ERR_INPUT, t->file, "pre_tokenizer", "Metaspace: the replacement is one character");
    if (!s->a.n) s->a = (pare_str){TOK_META, 3};
    return PARE_OK;
}

static pare_status split(pare_tokenizer *t, const json_t *o, pare_diag *d) {
    const json_t *p = json_object_get(o, "pattern");
    const char *re = json_string_value(json_object_get(p, "Regex")),
               *str = json_string_value(json_object_get(p, "String"));
    char *shape = pare_sprintf("%s<%s>%s", re ? "split" : "cut",
                               re    ? re
                               : str ? str
                                     : "",
                               tok_json_bool(o, "invert", false) ? "!;" : ";");
    tok_step *s = shape ? add_pre(t, TOK_P_SPLIT, shape) : NULL;
    pare_free(shape);
    if (!s) return nomem(t, d);
    s->invert = tok_json_bool(o, "invert", false);
    PARE_TRY(tok_json_pattern(t, o, s, d));
    return behavior(t, o, TOK_ISOLATED, &s->behavior, d);
}

static pare_status pre_tokenizer(pare_tokenizer *t, const json_t *o, int depth, pare_diag *d) {
    if (!o || json_is_null(o)) return PARE_OK;
    const char *type = json_string_value(json_object_get(o, "type"));
    if (!type) return pare_fail(d, PARE_ERR_INPUT, t->file, "pre_tokenizer", "has no type");
    if (depth > DEPTH_MAX)
        return pare_fail(d, PARE_ERR_INPUT, t->file, "pre_tokenizer", "Sequences are nested too deep");
    if (!strcmp(type, "Sequence")) {
        const json_t *list = json_object_get(o, "pretokenizers");
        if (!json_is_array(list))
            return pare_fail(d, PARE_ERR_INPUT, t->file, "pre_tokenizer", "a Sequence needs a list of pretokenizers");
        for (size_t i = 0; i < json_array_size(list); i++)
            PARE_TRY(pre_tokenizer(t, json_array_get(list, i), depth + 1, d));
        return PARE_OK;
    }
    if (!strcmp(type, "ByteLevel")) return byte_level(t, o, d);
    if (!strcmp(type, "Metaspace")) return metaspace(t, o, d);
    if (!strcmp(type, "Split")) return split(t, o, d);
    tok_step *s = NULL;
    if (!strcmp(type, "BertPreTokenizer")) s = add_pre(t, TOK_P_BERT, "bert;");
    else if (!strcmp(type, "Whitespace")) s = add_pre(t, TOK_P_WORDS, "words;");
    else if (!strcmp(type, "WhitespaceSplit")) {
        if ((s = add_pre(t, TOK_P_SPACES, "spaces;"))) s->behavior = TOK_REMOVED;
    } else if (!strcmp(type, "Digits")) {
        bool each = tok_json_bool(o, "individual_digits", false);
        if ((s = add_pre(t, TOK_P_DIGITS, each ? "digits;" : "numbers;")))
            s->behavior = each ? TOK_ISOLATED : TOK_CONTIGUOUS;
    } else if (!strcmp(type, "Punctuation")) {
        if ((s = add_pre(t, TOK_P_PUNCT, "punct;"))) PARE_TRY(behavior(t, o, TOK_ISOLATED, &s->behavior, d));
    } else if (!strcmp(type, "CharDelimiterSplit")) {
        if ((s = add_pre(t, TOK_P_SPLIT, "delimiter;"))) {
            s->behavior = TOK_REMOVED;
            PARE_TRY(tok_json_str(t, o, "delimiter", &s->a, d));
        }
    } else
        return pare_fail(d, PARE_ERR_UNSUPPORTED, t->file, "pre_tokenizer", "pre-tokenizer %s is not supported", type);
    return s ? PARE_OK : nomem(t, d);
}

pare_status tok_load_steps(pare_tokenizer *t, const json_t *root, pare_diag *d) {
    PARE_TRY(normalizer(t, json_object_get(root, "normalizer"), 0, d));
    return pre_tokenizer(t, json_object_get(root, "pre_tokenizer"), 0, d);
}
