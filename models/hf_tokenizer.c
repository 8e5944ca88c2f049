/* SPDX-License-Identifier: Apache-2.0
 *
 * tokenizer.json and tokenizer_config.json from a GGUF vocabulary: byte-level BPE (gpt2), BPE with byte fallback
 * (llama), WordPiece (bert). SPM scores become merges: every split of a token into two tokens, best score first, which
 * is the order in which SPM joins. */
#include "models/mapping.h"

#include "core/status.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define META "\xE2\x96\x81" /* U+2581, a visible space */
enum { UNKNOWN = 2, CONTROL = 3, USER = 4 };

static json_t *str(pare_str s) { return json_stringn(s.p, s.n); }
static bool is(const char *a, const char *b) { return a && strcmp(a, b) == 0; }

static json_t *split(const char *regex) {
    return json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split", "pattern", "Regex", regex, "behavior", "Isolated",
                     "invert", 0);
}
static json_t *byte_level(bool use_regex) {
    return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1, "use_regex",
                     use_regex);
}
static json_t *sequence(const char *list, json_t *a, json_t *b) {
    return json_pack("{s:s, s:[o, o]}", "type", "Sequence", list, a, b);
}

#define TAIL       "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define TAIL_SLASH "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define WORD       "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
#define CASED_A    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+"
#define CASED_B    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*"
#define APOS       "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"

/* The pre-tokenizer behind llama.cpp's word, as the models that gave it its name have it; NULL when not known here. */
static json_t *pre_tokenizer(const char *pre) {
    if (is(pre, "gpt-2") || is(pre, "phi-2") || is(pre, "olmo")) return byte_level(true);
    if (is(pre, "smollm") || is(pre, "starcoder") || is(pre, "command-r"))
        return sequence("pretokenizers", json_pack("{s:s, s:b}", "type", "Digits", "individual_digits", 1),
                        byte_level(true));
    const char *regex = is(pre, "llama-bpe") || is(pre, "llama3") || is(pre, "smaug-bpe") || is(pre, "dbrx") ? WORD
                            "|\\p{N}{1,3}" TAIL
                        : is(pre, "qwen2") || is(pre, "deepseek-r1-qwen") ? WORD "|\\p{N}" TAIL
                        : is(pre, "tekken")                               ? CASED_A "|" CASED_B "|\\p{N}" TAIL_SLASH
                        : is(pre, "gpt-4o") ? CASED_A APOS "|" CASED_B APOS "|\\p{N}{1,3}" TAIL_SLASH
                                            : NULL;
    return regex ? sequence("pretokenizers", split(regex), byte_level(false)) : NULL;
}

/* ---- vocabulary and merges ---- */
static json_t *vocab_of(const pare_gguf_vocab *v, bool wordpiece) {
    json_t *o = json_object();
    for (size_t i = 0; o && i < v->n; i++) {
        pare_str t = v->tokens[i];
        bool word = wordpiece && t.n > 3 && memcmp(t.p, META, 3) == 0;
        char *text = word                            ? pare_strndup(t.p + 3, t.n - 3)
                     : wordpiece && v->types[i] == 1 ? pare_sprintf("##%.*s", (int)t.n, t.p)
                                                     : pare_strndup(t.p, t.n);
        if (!text || json_object_set_new(o, text, json_integer((json_int_t)i)) != 0) json_decref(o), o = NULL;
        pare_free(text);
    }
    return o;
}

typedef struct {
    float score;
    uint32_t token, left, right, cut;
} join;

static int by_score(const void *pa, const void *pb) {
    const join *a = pa, *b = pb;
    if (a->score != b->score) return a->score > b->score ? -1 : 1;
    if (a->token != b->token) return a->token < b->token ? -1 : 1;
    if (a->left != b->left) return a->left < b->left ? -1 : 1;
    return (a->right > b->right) - (a->right < b->right);
}

/* NULL: out of memory. */
static json_t *merges_from_scores(const pare_gguf_vocab *v, const json_t *vocab) {
    join *list = NULL;
    size_t n = 0, cap = 0;
    json_t *out = json_array();
    bool ok = out != NULL;
    for (size_t i = 0; ok && i < v->n; i++) {
        pare_str t = v->tokens[i];
        if (v->types[i] != 1 || t.n > 512) continue;
        for (size_t c = 1; ok && c < t.n; c++) {
            if (((unsigned char)t.p[c] & 0xC0) == 0x80) continue; /* inside a character */
            const json_t *l = json_object_getn(vocab, t.p, c), *r = json_object_getn(vocab, t.p + c, t.n - c);
            if (!l || !r || v->types[json_integer_value(l)] != 1 || v->types[json_integer_value(r)] != 1) continue;
            ok = pare_grow((void **)&list, &cap, n + 1, sizeof *list) == PARE_OK;
            if (ok)
                list[n++] = (join){v->scores[i], (uint32_t)i, (uint32_t)json_integer_value(l),
                                   (uint32_t)json_integer_value(r), (uint32_t)c};
        }
    }
    if (ok && n) qsort(list, n, sizeof *list, by_score);
    for (size_t k = 0; ok && k < n; k++) {
        pare_str t = v->tokens[list[k].token];
        char *s = pare_sprintf("%.*s %.*s", (int)list[k].cut, t.p, (int)(t.n - list[k].cut), t.p + list[k].cut);
        ok = s && json_array_append_new(out, json_string(s)) == 0;
        pare_free(s);
    }
    pare_free(list);
    if (!ok) json_decref(out);
    return ok ? out : NULL;
}

static json_t *merges_of(const pare_gguf_vocab *v) {
    json_t *out = json_array();
    for (size_t i = 0; i < v->n_merges; i++) json_array_append_new(out, str(v->merges[i]));
    return out;
}

static json_t *added_tokens(const pare_gguf_vocab *v) {
    json_t *out = json_array();
    for (size_t i = 0; i < v->n; i++) {
        int32_t type = v->types[i];
        if (type != UNKNOWN && type != CONTROL && type != USER) continue;
        json_array_append_new(out, json_pack("{s:I, s:o, s:b, s:b, s:b, s:b, s:b}", "id", (json_int_t)i, "content",
                                             str(v->tokens[i]), "single_word", 0, "lstrip", 0, "rstrip", 0,
                                             "normalized", type == USER, "special", type != USER));
    }
    return out;
}

/* [before] A [after], and the pair form. */
static json_t *template_of(const pare_gguf_vocab *v, int64_t before, int64_t after, bool middle) {
    json_t *single = json_array(), *pair = json_array(), *tokens = json_object();
    for (int part = 0; part < 2; part++) {
        json_t *seq = json_pack("{s:{s:s, s:i}}", "Sequence", "id", part ? "B" : "A", "type_id", part);
        for (int k = 0; k < 3; k++) {
            int64_t id = k == 0 ? before : after;
            json_t *e = seq;
            if (k == 0 && part && middle) continue; /* BERT: one [CLS], a [SEP] behind each */
            if (k != 1 && id < 0) continue;
            if (k != 1) {
                e = json_pack("{s:{s:o, s:i}}", "SpecialToken", "id", str(v->tokens[id]), "type_id", part);
                char *name = pare_strndup(v->tokens[id].p, v->tokens[id].n);
                if (name)
                    json_object_set_new(tokens, name,
                                        json_pack("{s:s, s:[I], s:[s]}", "id", name, "ids", (json_int_t)id, "tokens",
                                                  name));
                pare_free(name);
            }
            if (!part) json_array_append(single, e);
            json_array_append(pair, e);
            if (k != 1) json_decref(e);
        }
        json_decref(seq);
    }
    return json_pack("{s:s, s:o, s:o, s:o}", "type", "TemplateProcessing", "single", single, "pair", pair,
                     "special_tokens", tokens);
}

/* ---- the three kinds ---- */
static const char *text_at(const pare_gguf_vocab *v, int64_t id, char buf[256]) {
    if (id < 0 || (size_t)id >= v->n || v->tokens[id].n >= 256) return NULL;
    memcpy(buf, v->tokens[id].p, v->tokens[id].n);
    buf[v->tokens[id].n] = 0;
    return buf;
}

static void steps_spm(const pare_gguf_vocab *v, json_t *t) {
    json_t *replace = json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", "String", " ", "content", META);
    bool space = v->add_space_prefix != 0;
    json_object_set_new(t, "normalizer",
                        space ? sequence("normalizers", json_pack("{s:s, s:s}", "type", "Prepend", "prepend", META),
                                         replace)
                              : replace);
    json_t *steps = json_pack("[{s:s, s:{s:s}, s:s}, {s:s}, {s:s}]", "type", "Replace", "pattern", "String", META,
                              "content", " ", "type", "ByteFallback", "type", "Fuse");
    if (space)
        json_array_append_new(steps, json_pack("{s:s, s:s, s:i, s:i}", "type", "Strip", "content", " ", "start", 1,
                                               "stop", 0));
    json_object_set_new(t, "decoder", json_pack("{s:s, s:o}", "type", "Sequence", "decoders", steps));
}

static json_t *model_bpe(const pare_gguf_vocab *v, json_t *vocab, json_t *merges, bool spm) {
    char buf[256];
    const char *unk = spm ? text_at(v, v->unk, buf) : NULL;
    return json_pack("{s:s, s:n, s:s?, s:n, s:n, s:b, s:b, s:b, s:o, s:o}", "type", "BPE", "dropout", "unk_token", unk,
                     "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", spm, "byte_fallback", spm,
                     "ignore_merges", is(v->pre, "llama-bpe") || is(v->pre, "llama3") || is(v->pre, "tekken"), "vocab",
                     vocab, "merges", merges);
}

static void steps_wordpiece(const pare_gguf_vocab *v, json_t *t) {
    bool lower = v->lowercase != 0;
    json_object_set_new(t, "normalizer",
                        json_pack("{s:s, s:b, s:b, s:o, s:b}", "type", "BertNormalizer", "clean_text", 1,
                                  "handle_chinese_chars", 1, "strip_accents",
                                  v->strip_accents < 0 ? json_null() : json_boolean(v->strip_accents), "lowercase",
                                  lower));
    json_object_set_new(t, "pre_tokenizer", json_pack("{s:s}", "type", "BertPreTokenizer"));
    json_object_set_new(t, "post_processor",
                        template_of(v, v->cls >= 0 ? v->cls : v->bos, v->sep >= 0 ? v->sep : v->eos, true));
    json_object_set_new(t, "decoder", json_pack("{s:s, s:s, s:b}", "type", "WordPiece", "prefix", "##", "cleanup", 1));
}

static pare_status build(const pare_source *s, const pare_gguf_vocab *v, json_t *t, pare_diag *d) {
    bool spm = is(v->model, "llama"), wordpiece = is(v->model, "bert");
    json_t *vocab = vocab_of(v, wordpiece), *model = NULL;
    if (!vocab) return pare_fail(d, PARE_ERR_NOMEM, s->path, NULL, "no memory for the vocabulary");
    char buf[256];
    json_object_set_new(t, "added_tokens", added_tokens(v));
    json_object_set_new(t, "normalizer", json_null());
    json_object_set_new(t, "pre_tokenizer", json_null());
    bool bos = v->add_bos < 0 ? spm || is(v->pre, "llama-bpe") || is(v->pre, "tekken") : v->add_bos,
         eos = v->add_eos > 0;
    json_object_set_new(t, "post_processor",
                        bos || eos ? template_of(v, bos ? v->bos : -1, eos ? v->eos : -1, false) : json_null());
    if (wordpiece) {
        steps_wordpiece(v, t);
        model = json_pack("{s:s, s:s, s:s, s:i, s:o}", "type", "WordPiece", "unk_token",
                          text_at(v, v->unk, buf) ? buf : "[UNK]", "continuing_subword_prefix", "##",
                          "max_input_chars_per_word", 100, "vocab", vocab);
    } else if (spm) {
        json_t *merges = v->scores ? merges_from_scores(v, vocab) : NULL;
        steps_spm(v, t);
        if (merges) model = model_bpe(v, vocab, merges, true);
        else json_decref(vocab);
    } else {
        json_t *pre = pre_tokenizer(v->pre);
        if (!pre) {
            json_decref(vocab);
            return pare_fail(d, PARE_ERR_UNSUPPORTED, s->path, "tokenizer.ggml.pre",
                             "there is no tokenizer.json for the pre-tokenizer `%s` here; give the original folder",
                             v->pre ? v->pre : "default");
        }
        if (is(v->pre, "qwen2")) json_object_set_new(t, "normalizer", json_pack("{s:s}", "type", "NFC"));
        json_object_set_new(t, "pre_tokenizer", pre);
        json_object_set_new(t, "decoder", byte_level(true));
        model = model_bpe(v, vocab, merges_of(v), false);
    }
    if (!model) return pare_fail(d, PARE_ERR_NOMEM, s->path, NULL, "no memory for the vocabulary, or it has no scores");
    json_object_set_new(t, "model", model);
    return PARE_OK;
}

static json_t *settings(const pare_source *s, const pare_mapping *m, const pare_gguf_vocab *v) {
    const struct {
        const char *key;
        int64_t id;
    } ids[] = {{"bos_token", v->bos}, {"eos_token", v->eos}, {"unk_token", v->unk},  {"sep_token", v->sep},
               {"pad_token", v->pad}, {"cls_token", v->cls}, {"mask_token", v->mask}};
    json_t *c = json_pack("{s:s, s:I, s:b}", "tokenizer_class", "PreTrainedTokenizerFast", "model_max_length",
                          (json_int_t)m->arch.context, "clean_up_tokenization_spaces", 0);
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
        if (ids[i].id >= 0 && (size_t)ids[i].id < v->n) json_object_set_new(c, ids[i].key, str(v->tokens[ids[i].id]));
    if (v->add_bos >= 0) json_object_set_new(c, "add_bos_token", json_boolean(v->add_bos));
    if (v->add_eos >= 0) json_object_set_new(c, "add_eos_token", json_boolean(v->add_eos));
    if (is(v->model, "bert"))
        json_object_set_new(c, "model_input_names",
                            json_pack("[s, s, s]", "input_ids", "token_type_ids", "attention_mask"));
    pare_str chat;
    if (pare_meta_get_str(s, "tokenizer.chat_template", &chat)) json_object_set_new(c, "chat_template", str(chat));
    return c;
}

pare_status pare_hf_tokenizer(const pare_source *s, pare_mapping *m, pare_diag *d) {
    pare_gguf_vocab v;
    PARE_TRY(pare_tokenizer_open(s, &m->tokenizer, d));
    PARE_TRY(pare_tokenizer_gguf(m->tokenizer, (size_t)m->arch.vocab, &v, d));
    const struct {
        const char *key;
        int64_t id;
    } ids[] = {{"bos_token_id", v.bos}, {"eos_token_id", v.eos}, {"pad_token_id", v.pad}};
    for (size_t i = 0; i < 3; i++)
        if (ids[i].id >= 0) json_object_set_new(m->config, ids[i].key, json_integer(ids[i].id));
    json_t *t = json_pack("{s:s, s:n, s:n}", "version", "1.0", "truncation", "padding");
    pare_status st = build(s, &v, t, d);
    if (st != PARE_OK) {
        json_decref(t);
        return st;
    }
    PARE_TRY(pare_hf_add_file(m, "tokenizer.json", t, d));
    return pare_hf_add_file(m, "tokenizer_config.json", settings(s, m, &v), d);
}
