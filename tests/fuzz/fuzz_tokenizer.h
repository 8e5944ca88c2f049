/* SPDX-License-Identifier: Apache-2.0
 *
 * What the tokenizer targets do with a vocabulary that was accepted: ids of a text under every flag, their text, the
 * GGUF view, itself compared with itself. */
#ifndef PARE_TESTS_FUZZ_TOKENIZER_H
#define PARE_TESTS_FUZZ_TOKENIZER_H

#include "fuzz.h"

#include "core/alloc.h"
#include "formats/tokenizer.h"

static inline void fuzz_tokenizer(pare_tokenizer *t, const char *text, size_t n) {
    size_t vocab = pare_tokenizer_describe(t)->vocab;
    for (unsigned flags = 0; flags < 4; flags++) {
        pare_diag d = {0};
        pare_ids ids = {0};
        pare_status s = pare_tokenize(t, text, n, flags, &ids, &d);
        if ((s == PARE_OK) != (d.code == PARE_OK) || (s != PARE_OK && ids.n)) abort();
        char *buf = NULL;
        size_t len = 0, cap = 0;
        for (size_t i = 0; i < ids.n; i++) {
            if (ids.v[i] < 0 || (size_t)ids.v[i] >= vocab) abort();
            if (pare_detokenize(t, ids.v + i, 1, &buf, &len, &cap) != PARE_OK || len > 1 << 20) break;
        }
        pare_free(buf);
        pare_ids_free(&ids);
    }
    pare_gguf_vocab v;
    volatile size_t sum = 0;
    if (pare_tokenizer_gguf(t, vocab + 2, &v, NULL) == PARE_OK)
        for (size_t i = 0; i < v.n; i++) sum += v.tokens[i].n ? (unsigned char)v.tokens[i].p[v.tokens[i].n - 1] : 0;
    int64_t at;
    if (pare_tokenizer_differ(t, t, &at)) abort();
}

#endif
