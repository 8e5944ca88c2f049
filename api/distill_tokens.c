/* SPDX-License-Identifier: Apache-2.0
 *
 * A text, piece by piece, into token ids (api/distill_tokens.h). */
#include "api/distill_tokens.h"

#include "calib/calib_text.h"
#include "core/status.h"
#include "formats/checksum.h"
#include "formats/source_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PIECE ((size_t)8 << 20)
#define MOST  ((size_t)256 << 20)

typedef struct reader {
    const pare_tokenizer *t;
    const pare_text_opts *o;
    pare_text_tokens *out;
    size_t piece, most, begun; /* begun: where in the text the piece at hand begins */
    FILE *spill;
    char *spill_path;
    pare_ids ids;
} reader;

static pare_status no_memory(const reader *r, pare_diag *d) {
    return pare_fail(d, PARE_ERR_NOMEM, r->o->path, NULL, "no memory for the text's tokens");
}

static pare_status no_space(const reader *r, pare_diag *d) {
    return pare_fail(d, errno == ENOSPC ? PARE_ERR_NOSPACE : PARE_ERR_IO, r->spill_path, "tokens",
                     "%zu tokens and more cannot be kept there: %s", r->out->n, strerror(errno));
}

/* From memory to a file that goes with the process. */
static pare_status begin_spill(reader *r, pare_diag *d) {
    r->spill_path = pare_sprintf("%s.pare-tokens-XXXXXX", r->o->beside);
    if (!r->spill_path) return no_memory(r, d);
    int fd = mkstemp(r->spill_path);
    if (fd < 0) return pare_fail_errno(d, r->spill_path, "cannot make a file for the tokens of a large text");
    unlink(r->spill_path);
    if (!(r->spill = fdopen(fd, "w+b"))) {
        close(fd);
        return no_memory(r, d);
    }
    size_t n = r->out->n;
    if (n && fwrite(r->out->own, sizeof *r->out->own, n, r->spill) != n) return no_space(r, d);
    pare_free(r->out->own);
    r->out->own = NULL;
    return PARE_OK;
}

static pare_status keep(reader *r, pare_diag *d) {
    pare_text_tokens *out = r->out;
    size_t n = r->ids.n;
    uint32_t *to = pare_malloc((n + 1) * sizeof *to);
    if (!to) return no_memory(r, d);
    pare_status s = PARE_OK;
    for (size_t i = 0; i < n && s == PARE_OK; i++) {
        if (r->ids.v[i] < 0 || r->ids.v[i] >= r->o->vocab)
            s = pare_fail(d, PARE_ERR_MISMATCH, r->o->model, "tokenizer",
                          "token id %lld is beyond the %lld rows of the embedding", (long long)r->ids.v[i],
                          (long long)r->o->vocab);
        else to[i] = (uint32_t)r->ids.v[i];
    }
    if (s == PARE_OK && !r->spill && (out->n + n) * sizeof *to > r->most) s = begin_spill(r, d);
    if (s == PARE_OK && r->spill && fwrite(to, sizeof *to, n, r->spill) != n) s = no_space(r, d);
    if (s == PARE_OK && !r->spill) {
        s = pare_grow((void **)&out->own, &out->cap, out->n + n, sizeof *to) == PARE_OK ? PARE_OK : no_memory(r, d);
        if (s == PARE_OK && n) memcpy(out->own + out->n, to, n * sizeof *to);
    }
    if (s == PARE_OK) out->sum = pare_checksum(out->sum, to, n * sizeof *to), out->n += n;
    pare_free(to);
    return s;
}

static pare_status piece(reader *r, const char *text, size_t n, pare_diag *d) {
    if (!pare_utf8_valid(text, n))
        return pare_fail(d, PARE_ERR_INPUT, r->o->path, NULL,
                         "the text is not UTF-8, or holds a zero byte (in the %zu bytes from byte %zu on)", n,
                         r->begun);
    r->ids.n = 0;
    PARE_TRY(pare_tokenize(r->t, text, n, r->begun ? 0 : PARE_TOK_SPECIAL, &r->ids, d));
    r->begun += n;
    return keep(r, d);
}

/* How much of the bytes makes a piece. */
static size_t cut(const char *text, size_t n) {
    for (size_t k = n; k > 0; k--)
        if (text[k - 1] == '\n') return k;
    size_t k = n; /* no line ends: before the last character, which may not be whole */
    while (k > 1 && ((unsigned char)text[k - 1] & 0xc0) == 0x80) k--;
    return k > 1 ? k - 1 : n;
}

static pare_status from_file(reader *r, FILE *f, char *buffer, pare_diag *d) {
    size_t held = 0;
    for (;;) {
        size_t got = fread(buffer + held, 1, r->piece + 1 - held, f);
        held += got;
        if (ferror(f)) return pare_fail_errno(d, r->o->path, "the text cannot be read");
        if (pare_is_interrupted()) return pare_interrupted(d);
        if (held <= r->piece) break; /* all of it */
        size_t n = cut(buffer, r->piece);
        PARE_TRY(piece(r, buffer, n, d));
        memmove(buffer, buffer + n, held -= n);
    }
    if (!held && !r->begun)
        return pare_fail(d, PARE_ERR_INPUT, r->o->path, NULL, "the file is empty; a text was expected");
    return held ? piece(r, buffer, held, d) : PARE_OK;
}

static pare_status map(reader *r, pare_diag *d) {
    size_t bytes = r->out->n * sizeof(uint32_t);
    if (fflush(r->spill) != 0) return no_space(r, d);
    void *p = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fileno(r->spill), 0);
    if (p == MAP_FAILED) return pare_fail_errno(d, r->spill_path, "the tokens cannot be mapped");
    r->out->v = p, r->out->mapped = bytes;
    return PARE_OK;
}

pare_status pare_text_tokens_open(const pare_tokenizer *t, const pare_text_opts *o, pare_text_tokens *out,
                                  pare_diag *d) {
    reader r = {.t = t, .o = o, .out = out, .piece = o->piece ? o->piece : PIECE, .most = o->most ? o->most : MOST};
    pare_status s;
    *out = (pare_text_tokens){0};
    if (!o->path) {
        size_t n;
        const char *text = pare_calib_text(&n);
        s = piece(&r, text, n, d);
    } else {
        FILE *f = fopen(o->path, "rb");
        if (!f) return pare_fail_errno(d, o->path, "the text cannot be read");
        char *buffer = pare_malloc(r.piece + 1);
        s = buffer ? from_file(&r, f, buffer, d) : no_memory(&r, d);
        pare_free(buffer);
        fclose(f);
    }
    if (s == PARE_OK && r.spill) s = map(&r, d);
    if (s == PARE_OK && !r.spill) out->v = out->own;
    if (r.spill) fclose(r.spill);
    pare_free(r.spill_path);
    pare_ids_free(&r.ids);
    return s;
}

void pare_text_tokens_close(pare_text_tokens *t) {
    if (t->mapped) munmap((void *)(uintptr_t)t->v, t->mapped);
    pare_free(t->own);
    *t = (pare_text_tokens){0};
}
