/* SPDX-License-Identifier: Apache-2.0
 *
 * A vocabulary from a GGUF's tokenizer.ggml.* keys: model llama (SPM), gpt2 (BPE) or bert (WPM), with llama.cpp's
 * defaults for what the file leaves out. */
#include "formats/tok_internal.h"

#include "core/log.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#define K(x) "tokenizer.ggml." x

static pare_status nomem(pare_tokenizer *t, pare_diag *d) {
    return pare_fail(d, PARE_ERR_NOMEM, t->file, NULL, "out of memory");
}

static pare_status array(pare_tokenizer *t, const pare_source *src, const char *key, pare_meta_type type,
                         const pare_meta **out, pare_diag *d) {
    *out = pare_source_meta(src, key);
    if (!*out) return PARE_OK;
    if ((*out)->type != PARE_META_ARRAY || (*out)->v.arr.type != type)
        return pare_fail(d, PARE_ERR_INPUT, t->file, key, "expected an array of %s",
                         type == PARE_META_STR   ? "strings"
                         : type == PARE_META_F32 ? "f32"
                                                 : "i32");
    return PARE_OK;
}

static pare_status load_tokens(pare_tokenizer *t, const pare_source *src, pare_diag *d) {
    const pare_meta *m;
    PARE_TRY(array(t, src, K("tokens"), PARE_META_STR, &m, d));
    if (!m || !m->v.arr.n) return pare_fail(d, PARE_ERR_INPUT, t->file, K("tokens"), "the vocabulary is missing");
    const pare_str *s = m->v.arr.data;
    size_t n = m->v.arr.n;
    if (!tok_vocab_init(&t->vocab, n)) return nomem(t, d);
    for (size_t i = 0; i < n; i++) {
        char empty[32];
        pare_str text = s[i];
        if (!text.n) text = (pare_str){empty, (size_t)snprintf(empty, sizeof empty, "[EMPTY_%zu]", i)};
        text = tok_copy(t, text.p, text.n);
        if (!text.p) return nomem(t, d);
        int32_t dup;
        tok_vocab_set(&t->vocab, (int32_t)i, text, &dup);
        if (dup >= 0)
            return pare_fail(d, PARE_ERR_INPUT, t->file, K("tokens"), "tokens %d and %zu have the same text \"%.40s\"",
                             dup, i, text.p);
    }
    tok_vocab_quick(&t->vocab);
    return PARE_OK;
}

/* Tokens that llama.cpp takes for control tokens by their text, whatever the file says. */
static const char *const control_names[] = {"<|eot_id|>",
                                            "<|im_end|>",
                                            "<|end|>",
                                            "<end_of_turn>",
                                            "<|endoftext|>",
                                            "<|end_of_text|>",
                                            "<EOT>",
                                            "_<EOT>",
                                            "[EOT]",
                                            "<｜end▁of▁sentence｜>",
                                            "<end_of_utterance>",
                                            "<|eom_id|>",
                                            "</s>",
                                            "[EOS]",
                                            "<eos>",
                                            "<turn|>",
                                            "<|tool_response>",
                                            "<|return|>",
                                            "<|call|>",
                                            "<|flush|>",
                                            "<|calls|>",
                                            "[e~[",
                                            "<|fim_prefix|>",
                                            "<fim-prefix>",
                                            "<fim_prefix>",
                                            "<PRE>",
                                            "▁<PRE>",
                                            "<|code_prefix|>",
                                            "<|prefix|>",
                                            "<｜fim▁begin｜>",
                                            "<｜fim▁hole｜>",
                                            "<｜fim▁end｜>",
                                            "<|fim_suffix|>",
                                            "<fim-suffix>",
                                            "<fim_suffix>",
                                            "<SUF>",
                                            "▁<SUF>",
                                            "<|code_suffix|>",
                                            "<|suffix|>",
                                            "<|fim_middle|>",
                                            "<fim-middle>",
                                            "<fim_middle>",
                                            "<MID>",
                                            "▁<MID>",
                                            "<|code_middle|>",
                                            "<|middle|>",
                                            "<|fim_pad|>",
                                            "<fim-pad>",
                                            "<fim_pad>",
                                            "<PAD>",
                                            "[PAD]",
                                            "<|fim_repo|>",
                                            "<|repo_name|>",
                                            "<fim-repo>",
                                            "<REPO>",
                                            "<reponame>",
                                            "<|file_sep|>"};
static const char *const plain_names[] = {"<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"};

static void set_types(pare_tokenizer *t, int32_t *types, const char *const *names, size_t n, int32_t type) {
    for (size_t i = 0; i < n; i++) {
        int32_t id = tok_vocab_find(&t->vocab, names[i], strlen(names[i]));
        if (id >= 0) types[id] = type;
    }
}

static pare_status load_types(pare_tokenizer *t, const pare_source *src, pare_diag *d) {
    const pare_meta *m, *sc;
    PARE_TRY(array(t, src, K("token_type"), PARE_META_I32, &m, d));
    PARE_TRY(array(t, src, K("scores"), PARE_META_F32, &sc, d));
    size_t n = t->vocab.n;
    if (m && m->v.arr.n < n)
        return pare_fail(d, PARE_ERR_INPUT, t->file, K("token_type"), "%zu entries for %zu tokens", m->v.arr.n, n);
    if (sc && sc->v.arr.n < n)
        return pare_fail(d, PARE_ERR_INPUT, t->file, K("scores"), "%zu entries for %zu tokens", sc->v.arr.n, n);
    int32_t *types = pare_arena_alloc(t->arena, n * sizeof *types);
    float *scores = sc ? pare_arena_alloc(t->arena, n * sizeof *scores) : NULL;
    if (!types || (sc && !scores)) return nomem(t, d);
    for (size_t i = 0; i < n; i++) types[i] = 1;
    if (m) memcpy(types, m->v.arr.data, n * sizeof *types);
    if (sc) memcpy(scores, sc->v.arr.data, n * sizeof *scores);
    for (size_t i = 0; sc && i < n; i++)
        if (scores[i] != scores[i])
            return pare_fail(d, PARE_ERR_INPUT, t->file, K("scores"), "token %zu has score NaN", i);
    set_types(t, types, control_names, sizeof control_names / sizeof *control_names, 3);
    set_types(t, types, plain_names, sizeof plain_names / sizeof *plain_names, 4);
    t->types = types, t->scores = scores;
    return PARE_OK;
}

static int longer_first(const void *a, const void *b, void *texts) {
    const pare_str *s = texts;
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    if (s[x].n != s[y].n) return s[x].n > s[y].n ? -1 : 1;
    return x < y ? -1 : x > y;
}

static pare_status load_specials(pare_tokenizer *t, pare_diag *d) {
    t->special = pare_malloc((t->vocab.n + 1) * sizeof *t->special);
    if (!t->special) return nomem(t, d);
    for (size_t i = 0; i < t->vocab.n; i++)
        if (t->types[i] >= 2 && t->types[i] <= 4) {
            if (t->vocab.text[i].n > TOK_TEXT_MAX)
                return pare_fail(d, PARE_ERR_UNSUPPORTED, t->file, K("tokens"),
                                 "special tokens longer than %d bytes are not supported", TOK_TEXT_MAX);
            t->special[t->n_special++] = (int32_t)i;
            if (!tok_trie_add(&t->special_trie, t->vocab.text[i].p, t->vocab.text[i].n, (int32_t)i)) return nomem(t, d);
        }
    qsort_r(t->special, t->n_special, sizeof *t->special, longer_first, t->vocab.text);
    return PARE_OK;
}

static pare_status one_id(pare_tokenizer *t, const pare_source *src, const char *key, int64_t dflt, int64_t *out,
                          pare_diag *d) {
    uint64_t v = 0;
    const pare_meta *m = pare_source_meta(src, key);
    *out = dflt >= 0 && (uint64_t)dflt < t->vocab.n ? dflt : -1;
    if (!m) return PARE_OK;
    if (m->type != PARE_META_U32) return pare_fail(d, PARE_ERR_INPUT, t->file, key, "expected u32");
    v = m->v.u;
    if (v < t->vocab.n) *out = (int64_t)v;
    else
        pare_log(PARE_LOG_WARN, "%s: %s: %llu is outside the vocabulary; the default is used", t->file, key,
                 (unsigned long long)v);
    return PARE_OK;
}

static pare_status load_ids(pare_tokenizer *t, const pare_source *src, pare_diag *d) {
    pare_tokenizer_info *o = &t->info;
    bool spm = t->model == TOK_SPM, wpm = t->model == TOK_WPM;
    PARE_TRY(one_id(t, src, K("bos_token_id"), spm ? 1 : wpm ? 101 : 11, &o->bos, d));
    PARE_TRY(one_id(t, src, K("eos_token_id"), spm ? 2 : wpm ? -1 : 11, &o->eos, d));
    PARE_TRY(one_id(t, src, K("unknown_token_id"), spm ? 0 : wpm ? 100 : -1, &o->unk, d));
    PARE_TRY(one_id(t, src, K("seperator_token_id"), wpm ? 102 : -1, &o->sep, d)); /* sic */
    PARE_TRY(one_id(t, src, K("padding_token_id"), wpm ? 0 : -1, &o->pad, d));
    PARE_TRY(one_id(t, src, K("mask_token_id"), wpm ? 103 : -1, &o->mask, d));
    PARE_TRY(one_id(t, src, K("cls_token_id"), wpm ? o->bos : -1, &o->cls, d));
    t->unk = (int32_t)o->unk;
    o->add_bos = spm || wpm || (t->pre_kind && t->pre_kind->add_bos);
    o->add_eos = wpm;
    t->add_space_prefix = spm;
    bool b;
    if (pare_meta_get_bool(src, K("add_bos_token"), &b)) t->gguf_add_bos = b;
    if (pare_meta_get_bool(src, K("add_eos_token"), &b)) t->gguf_add_eos = b;
    if (pare_meta_get_bool(src, K("add_space_prefix"), &b)) t->gguf_add_space = t->add_space_prefix = b;
    if (!wpm && t->gguf_add_bos >= 0) o->add_bos = t->gguf_add_bos;
    if (!wpm && t->gguf_add_eos >= 0) o->add_eos = t->gguf_add_eos;
    t->lowercase = true;
    if (pare_meta_get_bool(src, K("normalizer.lowercase"), &b)) t->lowercase = b;
    t->strip_accents = t->lowercase;
    if (pare_meta_get_bool(src, K("normalizer.strip_accents"), &b)) t->strip_accents = b;
    if (wpm && (o->bos < 0 || o->sep < 0 || o->unk < 0))
        return pare_fail(d, PARE_ERR_INPUT, t->file, K("tokens"),
                         "a bert vocabulary needs its bos, seperator and unknown ids");
    return PARE_OK;
}

/* A symbol is a token id, or vocab.n + k for a text that merges need but that is no token. -1 = out of memory. */
static int32_t symbol(pare_tokenizer *t, const char *p, size_t n) {
    int32_t id = tok_vocab_find(&t->vocab, p, n), dup;
    if (id >= 0) return id;
    id = tok_vocab_find(&t->syms, p, n);
    if (id < 0) {
        if (t->n_syms == t->syms.n && !tok_vocab_widen(&t->syms, 2 * t->syms.n)) return -1;
        pare_str s = tok_copy(t, p, n);
        if (!s.p) return -1;
        id = (int32_t)t->n_syms++;
        tok_vocab_set(&t->syms, id, s, &dup);
    }
    return id + (int32_t)t->vocab.n;
}

static pare_status load_merges(pare_tokenizer *t, const pare_source *src, pare_diag *d) {
    const pare_meta *m;
    PARE_TRY(array(t, src, K("merges"), PARE_META_STR, &m, d));
    if (!m) return pare_fail(d, PARE_ERR_INPUT, t->file, K("merges"), "a gpt2 vocabulary needs its merges");
    const pare_str *s = m->v.arr.data;
    size_t n = m->v.arr.n;
    t->gguf_merges = pare_malloc((n + 1) * sizeof *t->gguf_merges);
    if (!t->gguf_merges || !tok_merges_init(&t->merges, n) || !tok_vocab_init(&t->syms, 512)) return nomem(t, d);
    for (unsigned b = 0; b < 256; b++) {
        size_t k;
        char u[2];
        tok_byte_char((unsigned char)b, u, &k);
        if ((t->byte_id[b] = symbol(t, u, k)) < 0) return nomem(t, d);
    }
    tok_text cat = {0};
    pare_status st = PARE_OK;
    for (size_t i = 0; st == PARE_OK && i < n; i++) {
        t->gguf_merges[i] = tok_copy(t, s[i].p, s[i].n);
        const char *sp = s[i].n > 1 ? memchr(s[i].p + 1, ' ', s[i].n - 1) : NULL;
        t->n_gguf_merges = i + 1;
        if (!t->gguf_merges[i].p) st = nomem(t, d);
        if (!sp || st != PARE_OK) continue;
        size_t nl = (size_t)(sp - s[i].p), nr = s[i].n - nl - 1;
        cat.n = 0;
        bool ok = tok_text_add(&cat, s[i].p, nl) && tok_text_add(&cat, sp + 1, nr);
        int32_t l = ok ? symbol(t, s[i].p, nl) : -1, r = l >= 0 ? symbol(t, sp + 1, nr) : -1,
                o = r >= 0 ? symbol(t, cat.p, cat.n) : -1;
        if (o < 0) st = nomem(t, d);
        else tok_merges_set(&t->merges, l, r, (uint32_t)i, o, true);
    }
    pare_free(cat.p);
    return st;
}

static pare_status load_pre(pare_tokenizer *t, const pare_source *src, pare_diag *d) {
    pare_str pre = {0};
    if (!pare_meta_get_str(src, K("pre"), &pre) || !pre.n) {
        pre = (pare_str){"default", 7};
        pare_log(PARE_LOG_WARN, "%s: no %s; the default pre-tokenizer is used", t->file, K("pre"));
    }
    t->pre_kind = tok_pre_find(pre);
    if (!t->pre_kind)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, t->file, K("pre"), "pre-tokenizer %.*s is not supported",
                         (int)(pre.n > 60 ? 60 : pre.n), pre.p);
    pare_str word = tok_copy(t, pre.p, pre.n);
    if (!word.p) return nomem(t, d);
    t->info.pre = t->pre_word = word.p;
    t->ignore_merges = t->pre_kind->ignore_merges;
    for (int i = 0; i < 6 && t->pre_kind->regex[i]; i++)
        PARE_TRY(tok_regex_new(t->pre_kind->regex[i], strlen(t->pre_kind->regex[i]),
                               t->pre_kind->wide[i] ? TOK_RE_WIDE : TOK_RE_BYTES, t->file, &t->pre_re[i], d));
    return load_merges(t, src, d);
}

pare_status tok_load_gguf(pare_tokenizer *t, const pare_source *src, pare_diag *d) {
    static const struct {
        const char *word;
        tok_model model;
        const char *name;
    } models[] = {{"llama", TOK_SPM, "spm"}, {"gpt2", TOK_GGUF_BPE, "bpe"}, {"bert", TOK_WPM, "wordpiece"}};
    pare_str m = {0};
    if (!pare_meta_get_str(src, K("model"), &m))
        return pare_fail(d, PARE_ERR_INPUT, t->file, K("model"), "the file has no tokenizer");
    size_t k = 0;
    while (k < 3 && !(strlen(models[k].word) == m.n && !memcmp(models[k].word, m.p, m.n))) k++;
    if (k == 3)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, t->file, K("model"), "tokenizer model %.*s is not supported",
                         (int)(m.n > 60 ? 60 : m.n), m.p);
    t->model = models[k].model;
    t->info.model = models[k].name;
    PARE_TRY(load_tokens(t, src, d));
    if (t->model == TOK_WPM && t->vocab.max_bytes > TOK_TEXT_MAX)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, t->file, K("tokens"), "tokens longer than %d bytes are not supported",
                         TOK_TEXT_MAX);
    PARE_TRY(load_types(t, src, d));
    PARE_TRY(load_specials(t, d));
    if (t->model == TOK_GGUF_BPE) PARE_TRY(load_pre(t, src, d));
    for (unsigned b = 0; b < 256 && t->model == TOK_SPM; b++) {
        char name[8];
        t->byte_id[b] = tok_vocab_find(&t->vocab, name, (size_t)snprintf(name, sizeof name, "<0x%02X>", b));
    }
    PARE_TRY(load_ids(t, src, d));
    pare_str name = {0};
    (void)pare_meta_get_str(src, "general.name", &name);
    for (size_t i = 0; i + 4 < name.n; i++) /* phi-3, phi3: white space behind special tokens belongs to them */
        if (tolower((unsigned char)name.p[i]) == 'p' && tolower((unsigned char)name.p[i + 1]) == 'h' &&
            tolower((unsigned char)name.p[i + 2]) == 'i' &&
            (name.p[i + 3] == '3' || (name.p[i + 3] == '-' && i + 4 < name.n && name.p[i + 4] == '3')))
            t->rstrip_specials = true;
    t->info.vocab = t->vocab.n;
    t->meta_leads = t->model == TOK_SPM && tok_vocab_meta_leads(&t->vocab);
    return PARE_OK;
}
