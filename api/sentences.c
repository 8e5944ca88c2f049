/* SPDX-License-Identifier: Apache-2.0
 *
 * Sentences as an encoder reads them. */
#include "api/verify_impl.h"

#include "core/status.h"

pare_status pare_sentence_ids(const pare_sentence_reader *r, const pare_str *s, size_t number, pare_ids *ids,
                              int64_t *length, bool *cut, pare_diag *d) {
    size_t start = ids->n;
    PARE_TRY(pare_tokenize(r->tok, s->p, s->n, PARE_TOK_SPECIAL, ids, d));
    int64_t n = (int64_t)(ids->n - start);
    if (n == 0) return pare_fail(d, PARE_ERR_INPUT, r->data, "sentence", "sentence %zu has no tokens", number + 1);
    for (size_t k = start; k < ids->n; k++)
        if (ids->v[k] < 0 || ids->v[k] >= r->vocab)
            return pare_fail(d, PARE_ERR_MISMATCH, r->path, "tokenizer",
                             "token id %lld is beyond the %lld rows of the embedding", (long long)ids->v[k],
                             (long long)r->vocab);
    if ((*cut = n > r->context)) {
        int64_t last = ids->v[ids->n - 1];
        n = r->context;
        ids->n = start + (size_t)n;
        if (last == pare_tokenizer_describe(r->tok)->sep) ids->v[ids->n - 1] = last;
    }
    *length = n;
    return PARE_OK;
}
