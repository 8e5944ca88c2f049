/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of a tokenizer: the vocabulary, the steps a tokenizer.json describes, and the scratch memory of one call.
 * A pare_tokenizer never changes once it is open (but for the lazily built GGUF view), so calls may run in parallel. */
#ifndef PARE_FORMATS_TOK_INTERNAL_H
#define PARE_FORMATS_TOK_INTERNAL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* memmem, qsort_r */
#endif

#include "core/alloc.h"
#include "core/status.h"
#include "formats/tokenizer.h"

#include <string.h>

#define TOK_TEXT_MAX 4096           /* bytes of an added token, of a Replace's content, ...: real ones end well below */
#define TOK_META     "\xE2\x96\x81" /* U+2581, the visible space of SentencePiece */

/* ---- growing byte strings and UTF-8: tok_text.c ---- */
typedef struct tok_text {
    char *p;
    size_t n, cap;
} tok_text;
bool tok_text_reserve(tok_text *t, size_t more); /* room for `more` bytes after n */
bool tok_text_add(tok_text *t, const char *p, size_t n);
bool tok_text_add_cp(tok_text *t, uint32_t cp);

size_t tok_utf8_put(uint32_t cp, char out[4]);                /* bytes written; cp < 0x110000 */
uint32_t tok_utf8_get(const char *p, size_t *at);             /* p is valid UTF-8; advances *at */
size_t tok_utf8_valid_prefix(const char *p, size_t n);        /* bytes of the longest valid prefix */
bool tok_utf8_repair(tok_text *out, const char *p, size_t n); /* each maximal invalid part becomes one U+FFFD */
/* As llama.cpp decodes: overlong forms and surrogates pass, any other invalid byte is U+FFFD. n >= 1. */
uint32_t tok_utf8_lenient(const unsigned char *s, size_t n, size_t *used);
size_t tok_utf8_len(unsigned char lead); /* by lead byte alone, 1..4 */
bool tok_is_ascii(const char *p, size_t n);

/* ---- character classes: tok_class.c; "old" ones as the Unicode 8 tables that the tokenizers package carries ---- */
bool tok_is_space(uint32_t cp);      /* White_Space */
bool tok_is_number(uint32_t cp);     /* N */
bool tok_is_word(uint32_t cp);       /* \w of Rust's regex: Alphabetic, M, Nd, Pc, Join_Control */
bool tok_is_mark(uint32_t cp);       /* M, old */
bool tok_is_nonspacing(uint32_t cp); /* Mn, old */
bool tok_is_punct(uint32_t cp);      /* P old, or ASCII punctuation */
bool tok_is_control(uint32_t cp);    /* C without Cn, old */
bool tok_is_cjk(uint32_t cp);        /* the ideograph blocks BERT sets apart */
char tok_group(uint32_t cp); /* first letter of the general category, Unicode 15.1: L N M P S Z C, '-' unassigned */
enum { TOK_NFC, TOK_NFD, TOK_NFKC, TOK_NFKD };
bool tok_normal_form(int form, const char *p, size_t n, tok_text *out); /* appends; tok_forms.c */
bool tok_decompose(bool compat, const char *p, size_t n, int32_t **cps, size_t *n_cps, size_t *cap);

/* ---- vocabulary: tok_vocab.c ---- */
typedef struct tok_slot {
    uint32_t tag, id1;
} tok_slot; /* id1 0 = free */
typedef struct tok_vocab {
    pare_str *text; /* by id; p NULL where the file leaves a hole */
    size_t n;       /* ids 0..n-1 */
    tok_slot *slot;
    uint32_t mask;
    size_t used, max_bytes;
    int32_t quick[512]; /* ids of one-code-point texts below U+0200, -1 = none */
} tok_vocab;
#define TOK_HASH0 0xCBF29CE484222325ull
static inline uint64_t tok_hash_more(uint64_t h, const char *p, size_t n) { /* FNV-1a, so prefixes hash on the way */
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)p[i]) * 0x100000001B3ull;
    return h;
}
bool tok_vocab_init(tok_vocab *v, size_t n_ids);
/* Names id; false = out of memory. *dup = the id that has this text already (then nothing changes), else -1. */
void tok_vocab_set(tok_vocab *v, int32_t id, pare_str text, int32_t *dup);
bool tok_vocab_widen(tok_vocab *v, size_t n_ids);
void tok_vocab_quick(tok_vocab *v);
int32_t tok_vocab_find(const tok_vocab *v, const char *p, size_t n); /* -1 = none */
int32_t tok_vocab_find_hashed(const tok_vocab *v, uint64_t h, const char *head, size_t n_head, const char *p, size_t n);
void tok_vocab_free(tok_vocab *v);
bool tok_vocab_meta_leads(const tok_vocab *v);
/* Bytes of the first word of p, which ends before a U+2581 that follows anything else. n when there is none. */
size_t tok_meta_word(const char *p, size_t n);

typedef struct tok_merge {
    uint64_t key;
    uint32_t rank;
    int32_t out;
} tok_merge; /* key = left << 32 | right */
typedef struct tok_merges {
    tok_merge *v;
    uint32_t mask;
} tok_merges;
bool tok_merges_init(tok_merges *m, size_t n);
/* keep_first: a pair seen again keeps its first rank (llama.cpp), else takes the new one (tokenizers). */
void tok_merges_set(tok_merges *m, int32_t left, int32_t right, uint32_t rank, int32_t out, bool keep_first);
static inline const tok_merge *tok_merges_find(const tok_merges *m, int32_t left, int32_t right) {
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right, h = key * 0x9E3779B97F4A7C15ull;
    for (uint32_t i = (uint32_t)(h >> 32) & m->mask;; i = (i + 1) & m->mask) {
        if (m->v[i].key == key) return &m->v[i];
        if (m->v[i].key == UINT64_MAX) return NULL;
    }
}

/* ---- substrings that are cut out of a text before anything else: tok_trie.c ---- */
typedef struct tok_trie_node {
    int32_t child, next, id;
    unsigned char byte;
} tok_trie_node; /* id -1 = no end */
typedef struct tok_trie {
    tok_trie_node *v;
    size_t n, cap;
    int32_t root[256];
} tok_trie;
bool tok_trie_add(tok_trie *t, const char *p, size_t n, int32_t id); /* the first id of a text stays */
/* Longest entry that starts at p; *id = -1 when none. Returns its bytes. */
size_t tok_trie_longest(const tok_trie *t, const char *p, size_t n, int32_t *id);
/* Marks in seen[] every id whose text occurs anywhere in p. */
void tok_trie_mark(const tok_trie *t, const char *p, size_t n, bool *seen);
void tok_trie_free(tok_trie *t);

/* ---- regular expressions: tok_regex.c ---- */
typedef struct tok_regex tok_regex;
enum { TOK_RE_ONIG = 1, TOK_RE_BYTES = 2, TOK_RE_WIDE = 4 }; /* Oniguruma syntax over UTF-8; bytes; UTF-8, ASCII \s */
pare_status tok_regex_new(const char *pattern, size_t n, int kind, const char *file, tok_regex **out, pare_diag *d);
void tok_regex_free(tok_regex **r);
typedef struct tok_matcher {
    void *data, *ctx, *stack;
    double start_s;
    size_t bytes;
} tok_matcher; /* scratch, one per call */
/* Next non-empty match of r in p[0..n) at or after *at. 1 found, 0 none, -1 failure (d filled). */
int tok_regex_next(const tok_regex *r, tok_matcher *m, const char *p, size_t n, size_t at, size_t *from, size_t *to,
                   pare_diag *d);
void tok_matcher_free(tok_matcher *m);

/* ---- steps of a tokenizer.json ---- */
typedef enum tok_kind {
    /* normalizers */
    TOK_N_BERT,
    TOK_N_LOWER,
    TOK_N_FORM,
    TOK_N_STRIP_ACCENTS,
    TOK_N_PREPEND,
    TOK_N_REPLACE,
    TOK_N_STRIP,
    TOK_N_BYTES,
    /* pre-tokenizers */
    TOK_P_BYTES,
    TOK_P_SPLIT,
    TOK_P_DIGITS,
    TOK_P_META,
    TOK_P_BERT,
    TOK_P_WORDS,
    TOK_P_SPACES,
    TOK_P_PUNCT,
    /* decoders */
    TOK_D_BYTES,
    TOK_D_WORDPIECE,
    TOK_D_META,
    TOK_D_FALLBACK,
    TOK_D_FUSE,
    TOK_D_REPLACE,
    TOK_D_STRIP,
    TOK_D_BPE
} tok_kind;
typedef enum tok_behavior { TOK_REMOVED, TOK_ISOLATED, TOK_WITH_PREVIOUS, TOK_WITH_NEXT, TOK_CONTIGUOUS } tok_behavior;
typedef struct tok_step {
    tok_kind kind;
    tok_regex *re; /* NULL: literal text in `a` */
    pare_str a, b; /* pattern or prefix or replacement; content */
    int form, start, stop;
    tok_behavior behavior;
    bool invert, clean, cjk, lower, accents; /* Bert; lower also: left, accents: right of Strip */
    bool prefix_space, use_regex, split;     /* ByteLevel, Metaspace */
    enum { TOK_ALWAYS, TOK_FIRST, TOK_NEVER } prepend;
} tok_step;
typedef struct tok_steps {
    tok_step *v;
    size_t n, cap;
} tok_steps;

typedef struct tok_added { /* one entry of added_tokens */
    int32_t id;
    pare_str text, shown; /* shown: as decoders print it, which is normalized where matching is */
    bool special, single_word, lstrip, rstrip, normalized;
} tok_added;

typedef enum tok_model { TOK_BPE, TOK_WORDPIECE, TOK_SPM, TOK_GGUF_BPE, TOK_WPM } tok_model;

/* llama.cpp's pre kinds: tok_gguf_pre.c */
typedef struct tok_pre_kind {
    const char *names; /* separated by spaces, the first is ours */
    bool ignore_merges, add_bos;
    const char *regex[6]; /* applied one after another; see the file for their alphabet */
    bool wide[6];         /* over code points instead of classes */
} tok_pre_kind;
const tok_pre_kind *tok_pre_find(pare_str name); /* NULL when unknown */

struct pare_tokenizer {
    pare_arena *arena;
    tok_model model;
    bool gguf;
    char *file;
    pare_tokenizer_info info;

    tok_vocab vocab;
    tok_merges merges;
    size_t n_merge_list;
    int32_t (*merge_list)[2]; /* as in the file, vocabulary ids (tokenizer.json) */

    /* tokenizer.json */
    tok_steps norm, pre, dec;
    bool has_decoder;
    size_t n_added;
    tok_added *added;
    int32_t *added_of;            /* by id: index into added, or -1 */
    tok_trie raw_trie, norm_trie; /* ends are indices into added */
    size_t n_head, n_tail;
    int32_t *head, *tail; /* the post-processor's ids */
    bool byte_fallback, fuse_unk, ignore_merges;
    bool meta_leads; /* U+2581 stands in no token behind anything but itself, so no merge crosses a word's start */
    int32_t unk, byte_id[256];
    pare_str unk_text, word_prefix, word_suffix; /* continuing_subword_prefix, end_of_word_suffix */
    size_t max_word_chars;
    pare_str nul;    /* what stands for U+0000 in the parsed JSON; empty when nothing does */
    char *pre_shape; /* what the pre-tokenizer does, in one line, for the GGUF word */
    const char *pre_word;

    /* GGUF */
    const int32_t *types; /* by id */
    const float *scores;
    bool add_space_prefix, lowercase, strip_accents, add_sep, rstrip_specials;
    const tok_pre_kind *pre_kind;
    tok_regex *pre_re[6];
    tok_trie special_trie; /* ends are ids */
    size_t n_special;
    int32_t *special; /* longest first */
    tok_vocab syms;   /* texts of merges that are no token: symbol vocab.n + index */
    size_t n_syms;
    size_t n_gguf_merges;
    pare_str *gguf_merges;
    int gguf_add_bos, gguf_add_eos, gguf_add_space; /* -1 = the file has no such key */

    struct tok_export *view; /* built by pare_tokenizer_gguf */
};

/* ---- one call's scratch ---- */
typedef struct tok_piece {
    size_t at, n;
    bool first;
} tok_piece; /* first: starts where the whole input starts */
typedef struct tok_pieces {
    tok_piece *v;
    size_t n, cap;
} tok_pieces;
typedef struct tok_cut {
    int32_t id;
    size_t at, n;
} tok_cut; /* id -1 = text */
typedef struct tok_cuts {
    tok_cut *v;
    size_t n, cap;
} tok_cuts;
typedef struct tok_sym {
    int32_t id, prev, next;
} tok_sym;
typedef struct tok_pair {
    uint64_t order;
    int32_t left, right, out;
    uint32_t bytes;
} tok_pair;
typedef struct tok_cached {
    uint64_t hash;
    uint32_t at, n, ids_at, n_ids;
} tok_cached;
#define TOK_CACHE_SLOTS 8192
typedef struct tok_work {
    const pare_tokenizer *t;
    pare_diag *d;
    unsigned flags;
    pare_ids *ids;
    tok_text in, norm, norm2, a, b;
    tok_cuts cut, cut2;
    tok_pieces piece, piece2, match;
    tok_matcher matcher;
    size_t norm_max; /* bytes a normalizer may make */
    size_t end;      /* SPM: end of the word in w->a */
    tok_sym *sym;
    size_t n_sym, sym_cap;
    tok_pair *heap;
    size_t n_heap, heap_cap;
    int32_t *cps;
    size_t n_cps, cps_cap;
    size_t *at_cp;
    size_t at_cap;
    tok_cached *cache;
    tok_text cache_text;
    int32_t *cache_ids;
    size_t n_cache_ids, cache_ids_cap;
} tok_work;
pare_status tok_nomem(tok_work *w);
bool tok_push_id(tok_work *w, int32_t id);
bool tok_push_piece(tok_pieces *p, size_t at, size_t n, bool first);
bool tok_push_cut(tok_cuts *c, int32_t id, size_t at, size_t n);

pare_status tok_normalize(tok_work *w, const tok_steps *steps, const char *p, size_t n, tok_text *out); /* tok_norm.c */
/* Splits w->a (one piece of the whole text, in w->piece) by the steps; leaves text in w->a, pieces in w->piece. */
pare_status tok_pretokenize(tok_work *w, const tok_steps *steps); /* tok_pre.c */
void tok_byte_char(unsigned char byte, char out[2], size_t *n);   /* GPT-2's visible alphabet */
int tok_char_byte(uint32_t cp);                                   /* -1 = not of that alphabet */

pare_status tok_bpe_word(tok_work *w, const char *p, size_t n); /* tok_bpe.c */
/* Merges w->sym[0..n_sym) (ids of m's alphabet) in place; leaves the survivors in w->sym. Lowest rank first, then
 * leftmost. */
bool tok_bpe_merge(tok_work *w, const tok_merges *m);
bool tok_heap_push(tok_work *w, tok_pair p); /* lowest order first */
tok_pair tok_heap_pop(tok_work *w);
pare_status tok_wordpiece_word(tok_work *w, const char *p, size_t n); /* tok_wordpiece.c */
/* Longest token head + p[0..k), k in 1..n; *len = k. -1 = none. */
int32_t tok_longest(const tok_vocab *v, pare_str head, const char *p, size_t n, size_t *len);
pare_status tok_spm_encode(tok_work *w, const char *p, size_t n);      /* tok_spm.c */
pare_status tok_gguf_bpe_encode(tok_work *w, const char *p, size_t n); /* tok_gguf_bpe.c */
pare_status tok_wpm_encode(tok_work *w, const char *p, size_t n);      /* tok_wpm.c */
pare_status tok_encode_hf(tok_work *w, const char *p, size_t n);       /* tok_encode.c */
pare_status tok_encode_gguf(tok_work *w, const char *p, size_t n);     /* tok_gguf_encode.c */
/* A word seen lately in this call: its ids are appended; else false. tok_cache_put remembers ids from `from` on. */
bool tok_cache_get(tok_work *w, uint64_t hash, const char *p, size_t n);
void tok_cache_put(tok_work *w, uint64_t hash, const char *p, size_t n, size_t from);

/* ---- loading ---- */
pare_status tok_load_json(pare_tokenizer *t, const char *json, size_t n, pare_diag *d); /* tok_json.c */
struct json_t;
pare_status tok_load_bpe(pare_tokenizer *t, const struct json_t *model, pare_diag *d); /* tok_json_model.c */
pare_status tok_load_wordpiece(pare_tokenizer *t, const struct json_t *model, pare_diag *d);
pare_status tok_load_vocab(pare_tokenizer *t, const struct json_t *model, const struct json_t *added, pare_diag *d);
pare_status tok_load_steps(pare_tokenizer *t, const struct json_t *root, pare_diag *d); /* tok_json_steps.c */
pare_status tok_load_decoder(pare_tokenizer *t, const struct json_t *dec, int depth,
                             pare_diag *d); /* tok_json_decoder.c */
pare_status tok_load_post(pare_tokenizer *t, const struct json_t *post, int depth, pare_diag *d);
pare_status tok_load_config(pare_tokenizer *t, const pare_source *src, pare_diag *d); /* tok_config.c */
pare_status tok_load_gguf(pare_tokenizer *t, const pare_source *src, pare_diag *d);   /* tok_gguf.c */
bool tok_json_bool(const struct json_t *o, const char *key, bool dflt);
pare_status tok_json_str(pare_tokenizer *t, const struct json_t *o, const char *key, pare_str *out, pare_diag *d);
pare_status tok_json_pattern(pare_tokenizer *t, const struct json_t *o, tok_step *s, pare_diag *d);
pare_str tok_copy(pare_tokenizer *t, const char *p, size_t n); /* into the arena; p NULL on failure */
size_t tok_unmask(const pare_tokenizer *t, char *p, size_t n); /* puts U+0000 back, in place; the new length */
tok_step *tok_add_step(tok_steps *s, tok_kind kind);

/* The bytes id stands for in running text (tok_decode.c); false when out of memory. Control ids give their own text. */
bool tok_piece_bytes(const pare_tokenizer *t, int64_t id, tok_text *out);
void tok_export_free(struct tok_export **e);

#endif
