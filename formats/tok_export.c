/* SPDX-License-Identifier: Apache-2.0
 *
 * The GGUF view of a vocabulary: texts, types, scores and merges as tokenizer.ggml.* hold them. A BPE with byte
 * fallback becomes SPM: its score is minus the index of the first merge that makes the text, which reproduces the
 * merges exactly. */
#include "formats/tok_internal.h"

#include "core/log.h"

#include <stdio.h>

struct tok_export {
    pare_arena *arena;
    pare_gguf_vocab v;
};

void tok_export_free(struct tok_export **e) {
    if (!*e) return;
    pare_arena_free(&(*e)->arena);
    pare_free(*e);
    *e = NULL;
}

static const char llama3[] = "split<(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
                             "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+>;bytes;";
static const char qwen2[] = "split<(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
                            "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+>;bytes;";
static const char qwen35[] = "split<(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| "
                             "?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+>;bytes;";
#define CASED_A "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+"
#define CASED_B "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*"
#define APOS    "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
static const char tekken[] =
    "split<" CASED_A "|" CASED_B "|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+>;bytes;";
static const char gpt4o[] = "split<" CASED_A APOS "|" CASED_B APOS
                            "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+>;bytes;";
static const char deepseek3[] =
    "split<\\p{N}{1,3}>;split<[\xE4\xB8\x80-\xE9\xBE\xA5\xE3\x81\x80-\xE3\x82\x9F\xE3\x82\xA0-\xE3\x83\xBF]+>;"
    "split<[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| "
    "?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+>;bytes;";

/* llama.cpp's word for what the pre-tokenizer does; NULL when it knows none. */
static const char *pre_word(const pare_tokenizer *t) {
    const struct {
        const char *shape, *word;
    } known[] = {{"bytes+gpt2;", "gpt-2"},
                 {"digits;bytes+gpt2;", "smollm"},
                 {llama3, t->ignore_merges ? "llama-bpe" : "smaug-bpe"},
                 {qwen2, "qwen2"},
                 {qwen35, "qwen35"},
                 {tekken, "tekken"},
                 {gpt4o, "gpt-4o"},
                 {deepseek3, "deepseek-v3"},
                 {"punct;bytes+gpt2;digits;split<[0-9][0-9][0-9]>;", "falcon"},
                 {"punct;bytes+gpt2;numbers;split<[0-9][0-9][0-9]>;", "falcon"}};
    for (size_t i = 0; t->pre_shape && i < sizeof known / sizeof *known; i++)
        if (!strcmp(t->pre_shape, known[i].shape)) return known[i].word;
    return NULL;
}

static bool has_pre(const pare_tokenizer *t, tok_kind kind) {
    for (size_t i = 0; i < t->pre.n; i++)
        if (t->pre.v[i].kind == kind) return true;
    return false;
}

/* Whether a space goes in front of the text: by a Prepend normalizer or a Metaspace. */
static bool prepends(const pare_tokenizer *t) {
    for (size_t i = 0; i < t->norm.n; i++)
        if (t->norm.v[i].kind == TOK_N_PREPEND) return true;
    for (size_t i = 0; i < t->pre.n; i++)
        if (t->pre.v[i].kind == TOK_P_META) return t->pre.v[i].prepend != TOK_NEVER;
    return false;
}

static bool looks_control(pare_str s) { return s.n > 4 && !memcmp(s.p, "<|", 2) && !memcmp(s.p + s.n - 2, "|>", 2); }

static int32_t type_of(const pare_tokenizer *t, size_t id, bool spm) {
    pare_str s = t->vocab.text[id];
    if (!s.p) return 5;
    if (spm && (int32_t)id == t->unk) return 2;
    int32_t a = t->added_of[id];
    if (a >= 0) return t->added[a].special || looks_control(s) || (s.n > 8 && !memcmp(s.p, "<unused", 7)) ? 3 : 4;
    return spm && t->byte_id[0] >= 0 && s.n == 6 && !memcmp(s.p, "<0x", 3) ? 6 : 1;
}

static bool text_of(const pare_tokenizer *t, size_t id, int32_t type, pare_arena *arena, pare_str *out) {
    pare_str s = id < t->vocab.n ? t->vocab.text[id] : (pare_str){0};
    tok_text o = {0};
    bool ok;
    if (!s.p) {
        char pad[32];
        ok = tok_text_add(&o, pad, (size_t)snprintf(pad, sizeof pad, "[PAD%zu]", id));
    } else if (t->model == TOK_WORDPIECE && type == 1) {
        bool inner = s.n > t->word_prefix.n && !memcmp(s.p, t->word_prefix.p, t->word_prefix.n);
        size_t cut = inner ? t->word_prefix.n : 0;
        ok = (inner || tok_text_add(&o, TOK_META, 3)) && tok_text_add(&o, s.p + cut, s.n - cut);
    } else if (type == 4) {
        ok = true; /* user-defined: U+2581 is written as the space it stands for */
        for (size_t i = 0; ok && i < s.n;) {
            bool m = s.n - i >= 3 && !memcmp(s.p + i, TOK_META, 3);
            ok = m ? tok_text_add(&o, " ", 1) : tok_text_add(&o, s.p + i, 1);
            i += m ? 3 : 1;
        }
    } else ok = tok_text_add(&o, s.p, s.n);
    char *p = ok ? pare_arena_strndup(arena, o.p ? o.p : "", o.n) : NULL;
    *out = (pare_str){p, o.n};
    pare_free(o.p);
    return p != NULL;
}

static bool fill_scores(const pare_tokenizer *t, size_t n, pare_arena *arena, const float **out) {
    float *s = pare_arena_alloc(arena, n * sizeof *s);
    if (!s) return false;
    for (size_t i = 0; i < n; i++) s[i] = -(float)(t->n_merge_list + 1); /* made by no merge: after all others */
    for (size_t i = t->n_merge_list; i-- > 0;) {
        const tok_merge *m = tok_merges_find(&t->merges, t->merge_list[i][0], t->merge_list[i][1]);
        if (m) s[m->out] = -(float)i;
    }
    *out = s;
    return true;
}

static bool fill_merges(const pare_tokenizer *t, pare_arena *arena, pare_gguf_vocab *v) {
    pare_str *m = pare_arena_alloc(arena, (t->n_merge_list + 1) * sizeof *m);
    for (size_t i = 0; m && i < t->n_merge_list; i++) {
        pare_str side[2] = {t->vocab.text[t->merge_list[i][0]], t->vocab.text[t->merge_list[i][1]]};
        tok_text o = {0};
        bool ok = true;
        for (int k = 0; ok && k < 2; k++) {
            for (size_t j = 0; ok && j < side[k].n; j++) /* a space inside a side is spelled visibly */
                ok = side[k].p[j] == ' ' ? tok_text_add(&o, "\xC4\xA0", 2) : tok_text_add(&o, side[k].p + j, 1);
            if (k == 0) ok = ok && tok_text_add(&o, " ", 1);
        }
        char *p = ok ? pare_arena_strndup(arena, o.p, o.n) : NULL;
        m[i] = (pare_str){p, o.n};
        pare_free(o.p);
        if (!p) return false;
    }
    v->merges = m, v->n_merges = t->n_merge_list;
    return m != NULL;
}

static pare_status from_json(pare_tokenizer *t, size_t n, pare_arena *arena, pare_gguf_vocab *v, pare_diag *d) {
    bool wpm = t->model == TOK_WORDPIECE, bytes = has_pre(t, TOK_P_BYTES), spm = !wpm && !bytes;
    for (size_t i = 0; i < t->norm.n; i++) bytes |= t->norm.v[i].kind == TOK_N_BYTES;
    if (spm && !t->byte_fallback)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, t->file, "model",
                         "GGUF has no form for a BPE with neither bytes nor byte fallback");
    v->model = wpm ? "bert" : spm ? "llama" : "gpt2";
    if (!wpm && !spm && !(v->pre = pre_word(t))) {
        pare_log(PARE_LOG_WARN,
                 "%s: llama.cpp knows no pre-tokenizer like this one; \"default\" is written and may cut words "
                 "elsewhere",
                 t->file);
        v->pre = "default";
    }
    int32_t *types = pare_arena_alloc(arena, n * sizeof *types);
    pare_str *texts = pare_arena_alloc(arena, n * sizeof *texts);
    bool ok = types && texts;
    for (size_t i = 0; ok && i < n; i++) {
        types[i] = i < t->vocab.n ? type_of(t, i, spm) : 5;
        ok = text_of(t, i, types[i], arena, &texts[i]);
    }
    if (ok && spm) ok = fill_scores(t, n, arena, &v->scores);
    if (ok && !spm && !wpm) ok = fill_merges(t, arena, v);
    if (!ok) return pare_fail(d, PARE_ERR_NOMEM, t->file, NULL, "out of memory");
    v->tokens = texts, v->types = types;
    if (wpm) {
        v->lowercase = t->lowercase, v->strip_accents = t->strip_accents;
        return PARE_OK;
    }
    v->add_bos = t->info.add_bos && t->info.bos >= 0;
    v->add_eos = t->info.add_eos && t->info.eos >= 0;
    if (spm) v->add_space_prefix = prepends(t);
    return PARE_OK;
}

static pare_status from_gguf(pare_tokenizer *t, size_t n, pare_arena *arena, pare_gguf_vocab *v, pare_diag *d) {
    v->model = t->model == TOK_SPM ? "llama" : t->model == TOK_WPM ? "bert" : "gpt2";
    v->pre = t->model == TOK_GGUF_BPE ? t->pre_word : NULL;
    int32_t *types = pare_arena_alloc(arena, n * sizeof *types);
    pare_str *texts = pare_arena_alloc(arena, n * sizeof *texts);
    float *scores = t->scores ? pare_arena_alloc(arena, n * sizeof *scores) : NULL;
    bool ok = types && texts && (scores || !t->scores);
    for (size_t i = 0; ok && i < n; i++) {
        bool in = i < t->vocab.n;
        types[i] = in ? t->types[i] : 5;
        if (scores) scores[i] = in ? t->scores[i] : -1e6f;
        if (in) texts[i] = t->vocab.text[i];
        else {
            char pad[32];
            size_t k = (size_t)snprintf(pad, sizeof pad, "[PAD%zu]", i);
            texts[i] = (pare_str){pare_arena_strndup(arena, pad, k), k};
            ok = texts[i].p != NULL;
        }
    }
    if (!ok) return pare_fail(d, PARE_ERR_NOMEM, t->file, NULL, "out of memory");
    v->tokens = texts, v->types = types, v->scores = scores;
    v->merges = t->gguf_merges, v->n_merges = t->n_gguf_merges;
    v->add_bos = t->gguf_add_bos, v->add_eos = t->gguf_add_eos, v->add_space_prefix = t->gguf_add_space;
    if (t->model == TOK_WPM) v->lowercase = t->lowercase, v->strip_accents = t->strip_accents;
    return PARE_OK;
}

/* llama.cpp aborts on two tokens with one text. */
static pare_status check_unique(const pare_tokenizer *t, const pare_gguf_vocab *v, pare_diag *d) {
    tok_vocab seen;
    pare_status s =
        tok_vocab_init(&seen, v->n) ? PARE_OK : pare_fail(d, PARE_ERR_NOMEM, t->file, NULL, "out of memory");
    for (size_t i = 0; s == PARE_OK && i < v->n; i++) {
        int32_t dup;
        tok_vocab_set(&seen, (int32_t)i, v->tokens[i], &dup);
        if (dup >= 0)
            s = pare_fail(d, PARE_ERR_UNSUPPORTED, t->file, NULL, "tokens %d and %zu would get the same text in a GGUF",
                          dup, i);
    }
    tok_vocab_free(&seen);
    return s;
}

pare_status pare_tokenizer_gguf(pare_tokenizer *t, size_t vocab_size, pare_gguf_vocab *out, pare_diag *d) {
    if (vocab_size < t->vocab.n || vocab_size > INT32_MAX / 8)
        return pare_fail(d, PARE_ERR_MISMATCH, t->file, NULL,
                         "the tokenizer has %zu tokens, the model's embedding %zu rows", t->vocab.n, vocab_size);
    if (t->view && t->view->v.n != vocab_size) tok_export_free(&t->view);
    if (!t->view) {
        struct tok_export *e = pare_calloc(1, sizeof *e);
        if (e) e->arena = pare_arena_new();
        if (!e || !e->arena) return pare_free(e), pare_fail(d, PARE_ERR_NOMEM, t->file, NULL, "out of memory");
        const pare_tokenizer_info *o = &t->info;
        e->v = (pare_gguf_vocab){.n = vocab_size,
                                 .bos = o->bos,
                                 .eos = o->eos,
                                 .unk = o->unk,
                                 .sep = o->sep,
                                 .pad = o->pad,
                                 .cls = o->cls,
                                 .mask = o->mask,
                                 .add_bos = -1,
                                 .add_eos = -1,
                                 .add_space_prefix = -1,
                                 .lowercase = -1,
                                 .strip_accents = -1};
        pare_status s =
            t->gguf ? from_gguf(t, vocab_size, e->arena, &e->v, d) : from_json(t, vocab_size, e->arena, &e->v, d);
        if (s == PARE_OK) s = check_unique(t, &e->v, d);
        if (s != PARE_OK) return tok_export_free(&e), s;
        t->view = e;
    }
    *out = t->view->v;
    return PARE_OK;
}

bool pare_tokenizer_differ(const pare_tokenizer *a, const pare_tokenizer *b, int64_t *diff) {
    size_t na = a->vocab.n, nb = b->vocab.n, n = na > nb ? na : nb;
    tok_text x = {0}, y = {0};
    size_t i = 0;
    for (; i < n; i++) {
        x.n = y.n = 0;
        bool ok = tok_piece_bytes(a, (int64_t)i, &x) && tok_piece_bytes(b, (int64_t)i, &y);
        if (!ok || x.n != y.n || (x.n && memcmp(x.p, y.p, x.n) != 0)) break;
    }
    pare_free(x.p);
    pare_free(y.p);
    if (diff) *diff = i < n ? (int64_t)i : -1;
    return i < n;
}
