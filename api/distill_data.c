/* SPDX-License-Identifier: Apache-2.0
 *
 * The text in windows of tokens, one after another; the last of them are held out. */
#include "api/distill.h"

#include "core/status.h"

#include <stdio.h>

#define HELD 8

static pare_status tokens(pare_distill_run *x, pare_windows *w, pare_diag *d) {
    const pare_source *src = x->student.job->src;
    const pare_text_opts o = {.path = x->o.data,
                              .beside = x->o.out,
                              .model = src->path,
                              .vocab = x->student.arch.vocab};
    pare_tokenizer *tok = NULL, *other = NULL;
    int64_t diff;
    pare_status s = pare_tokenizer_open(src, &tok, d);
    if (s == PARE_OK && x->o.student) s = pare_tokenizer_open(x->teacher_src, &other, d);
    if (s == PARE_OK && other && pare_tokenizer_differ(tok, other, &diff))
        s = pare_fail(d, PARE_ERR_MISMATCH, src->path, "tokenizer",
                      "teacher and student have different vocabularies (first at id %lld); a student learns from a "
                      "teacher with its own",
                      (long long)diff);
    if (s == PARE_OK) s = pare_text_tokens_open(tok, &o, &w->tokens, d);
    if (s == PARE_OK) {
        const pare_tokenizer_info *t = pare_tokenizer_describe(tok);
        w->bos = t->add_bos ? t->bos : -1;
    }
    pare_tokenizer_close(&tok);
    pare_tokenizer_close(&other);
    return s;
}

pare_status pare_windows_open(pare_distill_run *x, pare_diag *d) {
    pare_windows *w = &x->data;
    int64_t longest = pare_arch_context(&x->student.arch);
    w->ctx = x->o.ctx, w->together = 1;
    if (w->ctx < 2 || w->ctx > longest)
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--ctx", "windows of %lld tokens; from 2 to %lld are possible",
                         (long long)w->ctx, (long long)longest);
    PARE_TRY(tokens(x, w, d));
    w->n = w->tokens.n ? ((int64_t)w->tokens.n - 1) / w->ctx : 0;
    if (w->n < 2)
        return pare_fail(d, PARE_ERR_INPUT, x->o.data, NULL,
                         "the text has %zu tokens, which is less than two windows of %lld; one is held out",
                         w->tokens.n, (long long)w->ctx);
    int64_t held = x->o.eval ? x->o.eval : HELD;
    if (!x->o.eval && held > w->n / 4) held = w->n / 4 > 0 ? w->n / 4 : 1;
    if (held < 1 || held >= w->n)
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--eval-windows",
                         "from 1 to %lld of the text's %lld windows can be "
                         "held out",
                         (long long)w->n - 1, (long long)w->n);
    w->train = w->n - held;
    w->sum = w->tokens.sum;
    snprintf(w->note, sizeof w->note, "%lld windows of %lld tokens from %.80s, the last %lld held out", (long long)w->n,
             (long long)w->ctx, x->o.data ? x->o.data : "the text built in", (long long)held);
    return PARE_OK;
}

void pare_windows_close(pare_windows *w) {
    pare_text_tokens_close(&w->tokens);
    pare_free(w->ids);
    pare_free(w->start);
    w->ids = w->start = NULL;
}

/* row: of the first token among all rows of logits of the pass. */
void pare_windows_fill(const pare_windows *w, int64_t window, int64_t vocab, int64_t row, int64_t *ids,
                       int64_t *labels) {
    const uint32_t *from = w->tokens.v + window * w->ctx;
    for (int64_t t = 0; t < w->ctx; t++) ids[t] = from[t];
    if (w->bos >= 0) ids[0] = w->bos;
    for (int64_t t = 0; t < w->ctx; t++) labels[t] = (row + t) * vocab + from[t + 1];
}
