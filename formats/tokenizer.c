/* SPDX-License-Identifier: Apache-2.0
 *
 * Tokenizers: opening, closing, and the calls of formats/tokenizer.h. */
#include "formats/tok_internal.h"

#include <stdio.h>

#define FILE_MAX (512ull << 20) /* a tokenizer.json beyond this is no tokenizer */

pare_str tok_copy(pare_tokenizer *t, const char *p, size_t n) {
    char *c = pare_arena_strndup(t->arena, p ? p : "", n);
    return (pare_str){c, c ? tok_unmask(t, c, n) : 0};
}

size_t tok_unmask(const pare_tokenizer *t, char *p, size_t n) {
    size_t o = 0;
    if (!t->nul.n) return n;
    for (size_t i = 0; i < n; o++) {
        bool hit = n - i >= t->nul.n && !memcmp(p + i, t->nul.p, t->nul.n);
        p[o] = hit ? 0 : p[i];
        i += hit ? t->nul.n : 1;
    }
    return p[o] = 0, o;
}

static pare_tokenizer *fresh(const char *file) {
    pare_tokenizer *t = pare_calloc(1, sizeof *t);
    if (!t) return NULL;
    t->unk = -1;
    t->info = (pare_tokenizer_info){"", "", 0, -1, -1, -1, -1, -1, -1, -1, false, false};
    t->gguf_add_bos = t->gguf_add_eos = t->gguf_add_space = -1;
    t->max_word_chars = 100;
    memset(t->byte_id, -1, sizeof t->byte_id);
    t->arena = pare_arena_new();
    t->file = pare_strdup(file ? file : "tokenizer.json");
    if (!t->arena || !t->file) pare_tokenizer_close(&t);
    return t;
}

static void free_steps(tok_steps *s) {
    for (size_t i = 0; i < s->n; i++) tok_regex_free(&s->v[i].re);
    pare_free(s->v);
    *s = (tok_steps){0};
}

void pare_tokenizer_close(pare_tokenizer **tp) {
    if (!tp || !*tp) return;
    pare_tokenizer *t = *tp;
    tok_vocab_free(&t->vocab);
    tok_vocab_free(&t->syms);
    pare_free(t->merges.v);
    pare_free(t->merge_list);
    pare_free(t->added_of);
    pare_free(t->added);
    pare_free(t->special);
    pare_free(t->gguf_merges);
    pare_free(t->pre_shape);
    tok_trie_free(&t->raw_trie);
    tok_trie_free(&t->norm_trie);
    tok_trie_free(&t->special_trie);
    free_steps(&t->norm);
    free_steps(&t->pre);
    free_steps(&t->dec);
    for (size_t i = 0; i < 6; i++) tok_regex_free(&t->pre_re[i]);
    tok_export_free(&t->view);
    pare_arena_free(&t->arena);
    pare_free(t->file);
    pare_free(t);
    *tp = NULL;
}

pare_status pare_tokenizer_from_json(const char *json, size_t n_bytes, const char *file, pare_tokenizer **out,
                                     pare_diag *d) {
    *out = NULL;
    pare_tokenizer *t = fresh(file);
    if (!t) return pare_fail(d, PARE_ERR_NOMEM, file, NULL, "out of memory");
    pare_status s = tok_load_json(t, json, n_bytes, d);
    if (s != PARE_OK) pare_tokenizer_close(&t);
    *out = t;
    return s;
}

static pare_status read_file(const char *path, char **out, size_t *n, pare_diag *d) {
    FILE *f = fopen(path, "rb");
    if (!f) return pare_fail_errno(d, path, "cannot open");
    pare_status s = PARE_OK;
    size_t cap = 0;
    *out = NULL, *n = 0;
    for (size_t k = 1; s == PARE_OK && k;) {
        if (*n > FILE_MAX) s = pare_fail(d, PARE_ERR_INPUT, path, NULL, "larger than %llu MB", FILE_MAX >> 20);
        else if (pare_grow((void **)out, &cap, *n + (1 << 16), 1) != PARE_OK)
            s = pare_fail(d, PARE_ERR_NOMEM, path, NULL, "out of memory");
        else *n += k = fread(*out + *n, 1, cap - *n, f);
    }
    if (s == PARE_OK && ferror(f)) s = pare_fail_errno(d, path, "cannot read");
    fclose(f);
    if (s != PARE_OK) pare_free(*out), *out = NULL;
    return s;
}

static pare_status open_folder(const pare_source *src, pare_tokenizer **out, pare_diag *d) {
    const char *slash = strrchr(src->path, '/');
    bool folder = src->kind == PARE_SOURCE_FOLDER;
    char *path = folder ? pare_sprintf("%s/tokenizer.json", src->path)
                        : pare_sprintf("%.*stokenizer.json", slash ? (int)(slash - src->path + 1) : 0, src->path);
    if (!path) return pare_fail(d, PARE_ERR_NOMEM, src->path, NULL, "out of memory");
    char *json = NULL;
    size_t n = 0;
    pare_status s = read_file(path, &json, &n, d);
    if (s == PARE_OK) s = pare_tokenizer_from_json(json, n, path, out, d);
    if (s == PARE_OK) s = tok_load_config(*out, src, d);
    if (s != PARE_OK) pare_tokenizer_close(out);
    pare_free(json);
    pare_free(path);
    return s;
}

pare_status pare_tokenizer_open(const pare_source *src, pare_tokenizer **out, pare_diag *d) {
    *out = NULL;
    if (src->kind != PARE_SOURCE_GGUF) return open_folder(src, out, d);
    pare_tokenizer *t = fresh(src->path);
    if (!t) return pare_fail(d, PARE_ERR_NOMEM, src->path, NULL, "out of memory");
    t->gguf = true;
    pare_status s = tok_load_gguf(t, src, d);
    if (s != PARE_OK) pare_tokenizer_close(&t);
    *out = t;
    return s;
}

const pare_tokenizer_info *pare_tokenizer_describe(const pare_tokenizer *t) { return &t->info; }

pare_status pare_tokenize(const pare_tokenizer *t, const char *text, size_t n_bytes, unsigned flags, pare_ids *ids,
                          pare_diag *d) {
    pare_diag own = {0};
    tok_work w = {.t = t, .d = d ? d : &own, .flags = flags, .ids = ids};
    size_t before = ids->n;
    if (n_bytes >= 4096) w.cache = pare_calloc(TOK_CACHE_SLOTS, sizeof *w.cache); /* without it: slower, same ids */
    pare_status s = n_bytes > INT32_MAX / 2
                        ? pare_fail(d, PARE_ERR_UNSUPPORTED, t->file, NULL, "texts end at 1 GB; tokenize in parts")
                    : t->gguf ? tok_encode_gguf(&w, text, n_bytes)
                              : tok_encode_hf(&w, text, n_bytes);
    if (s != PARE_OK) ids->n = before;
    tok_text *texts[] = {&w.in, &w.norm, &w.norm2, &w.a, &w.b, &w.cache_text};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) pare_free(texts[i]->p);
    void *lists[] = {w.cut.v, w.cut2.v, w.piece.v, w.piece2.v, w.match.v,  w.sym,
                     w.heap,  w.cps,    w.at_cp,   w.cache,    w.cache_ids};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) pare_free(lists[i]);
    tok_matcher_free(&w.matcher);
    return s;
}
