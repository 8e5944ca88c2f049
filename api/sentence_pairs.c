/* SPDX-License-Identifier: Apache-2.0
 *
 * Pairs of sentences that mean the same, a pair a line. */
#include "api/verify_impl.h"

#include "core/alloc.h"
#include "core/status.h"

#include <string.h>

static pare_status add(pare_sentences *s, size_t *room, const char *line, size_t n, size_t number, const char *path,
                       pare_diag *d) {
    const char *tab = memchr(line, '\t', n), *end = line + n;
    if (!tab || tab == line || tab + 1 == end || memchr(tab + 1, '\t', (size_t)(end - tab - 1)))
        return pare_fail(d, PARE_ERR_INPUT, path, NULL,
                         "line %zu: a pair was expected, `sentence TAB sentence` (contrastive learns from sentences "
                         "that "
                         "mean the same)",
                         number);
    if (pare_grow((void **)&s->v, room, s->n + 2, sizeof *s->v) != PARE_OK)
        return pare_fail(d, PARE_ERR_NOMEM, path, NULL, "no memory for the sentences");
    s->v[s->n++] = (pare_str){line, (size_t)(tab - line)};
    s->v[s->n++] = (pare_str){tab + 1, (size_t)(end - tab - 1)};
    return PARE_OK;
}

pare_status pare_sentences_parse_pairs(const pare_verify_data *data, const char *path, pare_sentences *out,
                                       pare_diag *d) {
    const char *at = data->bytes, *end = at + data->n_bytes;
    size_t room = 0;
    pare_status s = PARE_OK;
    *out = (pare_sentences){0};
    for (size_t number = 1; s == PARE_OK && at < end; number++) {
        const char *nl = memchr(at, '\n', (size_t)(end - at));
        if (!nl) nl = end;
        size_t n = (size_t)(nl - at);
        if (n && at[n - 1] == '\r') n--;
        if (n) s = add(out, &room, at, n, number, path, d);
        at = nl + 1;
    }
    if (s == PARE_OK && out->n < 4) s = pare_fail(d, PARE_ERR_INPUT, path, NULL, "at least two pairs are needed");
    if (s != PARE_OK) pare_sentences_free(out);
    return s;
}
