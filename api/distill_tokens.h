/* SPDX-License-Identifier: Apache-2.0
 *
 * The tokens of a text that may be larger than memory.
 *
 * op:     ids = the tokens of the text's pieces, one after another: each as long as `piece` bytes allow, cut behind a
 *         line (behind a character where a line is longer). A text of at most `piece` bytes is one piece; what the
 *         tokenizer puts before a text comes before the first
 * layout: 4 bytes a token, in memory up to `most` bytes, else in a file without a name beside `beside`, mapped
 * fails:  PARE_ERR_NOT_FOUND, PARE_ERR_IO; PARE_ERR_INPUT when the text is empty, or not UTF-8, with the byte;
 * PARE_ERR_MISMATCH when an id is beyond vocab; PARE_ERR_NOSPACE; PARE_ERR_NOMEM owns:   pare_text_tokens_close, also
 * after a failure */
#ifndef PARE_API_DISTILL_TOKENS_H
#define PARE_API_DISTILL_TOKENS_H

#include "formats/tokenizer.h"

typedef struct pare_text_tokens {
    const uint32_t *v;
    size_t n;
    uint64_t sum;       /* checksum over the ids */
    uint32_t *own;      /* memory */
    size_t cap, mapped; /* mapped: bytes of the file */
} pare_text_tokens;

typedef struct pare_text_opts {
    const char *path;   /* NULL: the text built in */
    const char *beside; /* where the file would lie */
    const char *model;  /* for messages */
    int64_t vocab;      /* rows of the embedding */
    size_t piece, most; /* 0: 8 MiB, 256 MiB */
} pare_text_opts;

pare_status pare_text_tokens_open(const pare_tokenizer *t, const pare_text_opts *o, pare_text_tokens *out,
                                  pare_diag *d);
void pare_text_tokens_close(pare_text_tokens *t);

#endif
