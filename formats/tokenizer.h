/* SPDX-License-Identifier: Apache-2.0
 *
 * Tokenizers: tokenizer.json (BPE byte-level, BPE with byte fallback, WordPiece) and GGUF vocabularies (llama/SPM,
 * gpt2/BPE, bert/WPM). A folder's tokenizer follows the Hugging Face `tokenizers` package, a GGUF's follows llama.cpp.
 */
#ifndef PARE_FORMATS_TOKENIZER_H
#define PARE_FORMATS_TOKENIZER_H

#include "formats/source.h"

typedef struct pare_tokenizer pare_tokenizer;

typedef struct pare_ids {
    int64_t *v;
    size_t n, cap;
} pare_ids; /* zero to begin; free with pare_ids_free */
void pare_ids_free(pare_ids *ids);

/* From a folder's tokenizer.json (+ tokenizer_config.json, config.json) or a GGUF's tokenizer.ggml.* keys. */
pare_status pare_tokenizer_open(const pare_source *src, pare_tokenizer **out, pare_diag *d);
/* From the bytes of a tokenizer.json; file is for messages. */
pare_status pare_tokenizer_from_json(const char *json, size_t n_bytes, const char *file, pare_tokenizer **out,
                                     pare_diag *d);
void pare_tokenizer_close(pare_tokenizer **t);

enum {
    PARE_TOK_SPECIAL = 1, /* add what the post-processor or add_bos/add_eos say ([CLS] .. [SEP], <s> ..) */
    PARE_TOK_PARSE = 2    /* control tokens spelled out in the text become their ids (what Hugging Face does by default;
                             llama.cpp's perplexity does not). Added tokens that are not special always do */
};
/* Appends the ids of text (n_bytes, any bytes: invalid UTF-8 is handled as the peer does) to *ids. Thread-safe. */
pare_status pare_tokenize(const pare_tokenizer *t, const char *text, size_t n_bytes, unsigned flags, pare_ids *ids,
                          pare_diag *d);
/* Appends the text of ids to a growing buffer (*buf, *n, *cap; pare_free it); control tokens are left out. *buf NULL
 * starts a text (the space a tokenizer puts in front of one is dropped there); to go on, id by id if need be, pass the
 * same buffer, emptied (*n = 0) or not. Bytes come as they are: a character split over tokens is whole once its last
 * byte is there, and bytes that make no character stay. */
pare_status pare_detokenize(const pare_tokenizer *t, const int64_t *ids, size_t n_ids, char **buf, size_t *n,
                            size_t *cap);

typedef struct pare_tokenizer_info {
    const char *model; /* "bpe", "spm", "wordpiece" */
    const char *pre;   /* GGUF pre-tokenizer word ("llama-bpe", "qwen2", "smollm", "gpt-2", ...), or "" if unknown */
    size_t vocab;      /* ids 0..vocab-1 */
    int64_t bos, eos, unk, pad, sep, cls, mask; /* -1 = none */
    bool add_bos, add_eos;
} pare_tokenizer_info;
const pare_tokenizer_info *pare_tokenizer_describe(const pare_tokenizer *t);

/* The GGUF view of this vocabulary, for writers: what tokenizer.ggml.* keys hold. Arrays live as long as t. */
typedef struct pare_gguf_vocab {
    const char *model, *pre; /* "llama", "gpt2", "bert"; pre NULL when not BPE */
    size_t n;
    const pare_str *tokens;
    const float *scores;  /* NULL when the model has none */
    const int32_t *types; /* 1 normal .. 6 byte */
    size_t n_merges;
    const pare_str *merges;                     /* "left right" */
    int64_t bos, eos, unk, sep, pad, cls, mask; /* -1 = absent */
    int add_bos, add_eos, add_space_prefix;     /* -1 = key left out */
    int lowercase, strip_accents;               /* WPM normalizer; -1 = key left out */
} pare_gguf_vocab;
pare_status pare_tokenizer_gguf(pare_tokenizer *t, size_t vocab_size, pare_gguf_vocab *out, pare_diag *d);

/* True (and *diff = the first id that differs) tells that two vocabularies give different texts to some id. */
bool pare_tokenizer_differ(const pare_tokenizer *a, const pare_tokenizer *b, int64_t *diff);

#endif
