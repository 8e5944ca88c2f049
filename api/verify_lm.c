/* SPDX-License-Identifier: Apache-2.0
 *
 * Two language models over the windows of a text, by llama-perplexity's protocol: the whole text without one trailing
 * newline is tokenized once; windows of n tokens do not overlap; the first token of each is replaced by BOS where the
 * model wants one; positions n/2 .. n-2 are scored against the token that follows. Both models get the original's ids,
 * batch by batch, and the logits are looked at while they are in the cache of the executor. */
#include "api/verify_impl.h"

#include "core/alloc.h"
#include "core/log.h"
#include "core/status.h"
#include "verify/lm_metrics.h"

#include <stdio.h>
#include <string.h>

#define BATCH_TOKENS      1024         /* enough rows for full-speed matrix products */
#define BATCH_LOGIT_BYTES (256u << 20) /* per model */
#define LAYER_TOKENS      64           /* of the first window, for the layer view */

typedef struct plan {
    int64_t ctx, windows, batch, first, scored, bos;
    bool add_bos;
    pare_ids ids;
} plan;

static pare_status make_plan(const pare_verify_run *v, const pare_verify_data *data, plan *p, pare_diag *d) {
    const pare_lm_info *a = pare_lm_describe(v->lm[0]), *b = pare_lm_describe(v->lm[1]);
    int64_t longest = a->context < b->context ? a->context : b->context;
    p->ctx = v->o->ctx ? v->o->ctx : longest < 512 ? longest : 512;
    if (p->ctx < 4 || p->ctx > longest)
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--ctx",
                         "a window of %lld tokens was asked for; from 4 to %lld (the model's context) are possible",
                         (long long)p->ctx, (long long)longest);
    size_t n = data->n_bytes;
    if (n && data->bytes[n - 1] == '\n') n--;
    PARE_TRY(pare_tokenize(v->side[0].tok, data->bytes, n, PARE_TOK_SPECIAL, &p->ids, d));
    p->windows = (int64_t)p->ids.n / p->ctx;
    if (p->windows < 1)
        return pare_fail(d, PARE_ERR_INPUT, v->o->data, NULL,
                         "the text has %zu tokens, less than one window of %lld; give a longer text or a smaller --ctx",
                         p->ids.n, (long long)p->ctx);
    if (v->o->windows && v->o->windows < p->windows) p->windows = v->o->windows;
    for (size_t i = 0; i < p->ids.n; i++)
        if (p->ids.v[i] < 0 || p->ids.v[i] >= a->vocab)
            return pare_fail(d, PARE_ERR_MISMATCH, v->side[0].path, "tokenizer",
                             "token id %lld is beyond the %lld rows of the embedding", (long long)p->ids.v[i],
                             (long long)a->vocab);
    const pare_tokenizer_info *t = pare_tokenizer_describe(v->side[0].tok);
    p->bos = t->bos;
    p->add_bos = t->add_bos && t->bos >= 0;
    p->first = p->ctx / 2;
    p->scored = p->ctx - 1 - p->first;
    int64_t by_bytes = (int64_t)(BATCH_LOGIT_BYTES / ((size_t)p->ctx * (size_t)a->vocab * sizeof(float)));
    p->batch = BATCH_TOKENS / p->ctx < by_bytes ? BATCH_TOKENS / p->ctx : by_bytes;
    if (p->batch < 1) p->batch = 1;
    return PARE_OK;
}

static void note_plan(const pare_verify_run *v, const plan *p) {
    char bos[64];
    if (p->add_bos) snprintf(bos, sizeof bos, "token %lld replaces the first of each window", (long long)p->bos);
    else snprintf(bos, sizeof bos, "none");
    pare_report_number(v->r, "tokens", (double)p->ids.n);
    pare_report_number(v->r, "context", (double)p->ctx);
    pare_report_number(v->r, "windows", (double)p->windows);
    pare_report_number(v->r, "scored", (double)(p->windows * p->scored));
    pare_report_note(v->r, "bos", bos);
    pare_report_note(v->r, "rule", "llama-perplexity: windows do not overlap, second half of each is scored");
    pare_report_note(v->r, "intervals",
                     p->windows > 1 ? "95 %, bootstrap over windows, 1000 resamples" : "none: one window only");
}

/* ids of windows w .. w+n-1, as they are fed. */
static void fill(const plan *p, int64_t w, int64_t n, int64_t *ids) {
    memcpy(ids, p->ids.v + w * p->ctx, (size_t)(n * p->ctx) * sizeof *ids);
    for (int64_t i = 0; p->add_bos && i < n; i++) ids[i * p->ctx] = p->bos;
}

/* A batch in hand, and what has been measured so far. */
typedef struct pass {
    const plan *p;
    int64_t *ids, w, n; /* windows w .. w+n-1 */
    const float *logits[PARE_VERIFY_COLUMNS];
    pare_lm_metrics *m[PARE_VERIFY_COLUMNS]; /* of each column against column 0 */
    pare_diff parity[2], *rows;              /* rows: one per scored position of a window */
} pass;

static pare_status forward(pare_verify_run *v, int column, void *ctx, pare_diag *d) {
    pass *x = ctx;
    const pare_tensor *t;
    PARE_TRY(pare_lm_forward(v->lm[column], x->ids, NULL, x->n, x->p->ctx, &t, d));
    x->logits[column] = t->data;
    return PARE_OK;
}

/* One window of one column against column 0. */
static pare_status measure(const pare_verify_run *v, pass *x, int64_t i, int column, pare_diag *d) {
    const plan *p = x->p;
    size_t at = (size_t)(i * p->ctx + p->first) * (size_t)pare_lm_describe(v->lm[0])->vocab;
    const int64_t *next = p->ids.v + (x->w + i) * p->ctx + p->first + 1;
    pare_lm_bad bad;
    pare_diag no = {0};
    char who[64];
    pare_status s = pare_lm_metrics_window(x->m[column], x->logits[0] + at, x->logits[column] + at, next,
                                           (size_t)p->scored, &bad, &no);
    if (s != PARE_ERR_INPUT) return s == PARE_OK ? s : pare_fail(d, s, no.file, no.where, "%s", no.text);
    if (!bad.model) column = 0;
    return pare_fail(d, s, v->side[column % 2].path, "logits",
                     "NaN or infinite numbers in window %lld at position %lld: the %s is broken",
                     (long long)x->w + (long long)i, (long long)p->first + (long long)bad.position,
                     pare_verify_column_name(v, column, who));
}

static pare_status one_batch(pare_verify_run *v, pass *x, pare_diag *d) {
    const plan *p = x->p;
    size_t vocab = (size_t)pare_lm_describe(v->lm[0])->vocab;
    PARE_TRY(pare_verify_each(v, forward, x, d));
    for (int64_t i = 0; i < x->n; i++) {
        size_t at = (size_t)(i * p->ctx + p->first) * vocab;
        for (int c = 1; c < v->n_columns; c++) PARE_TRY(measure(v, x, i, c, d));
        for (int k = 0; k < 2 && v->n_devices == 2; k++)
            pare_diff_add_rows(&x->parity[k], x->logits[k] + at, x->logits[2 + k] + at, (size_t)p->scored, vocab,
                               x->rows);
    }
    return PARE_OK;
}

static pare_status run(pare_verify_run *v, pass *x, pare_diag *d) {
    const plan *p = x->p;
    pare_meter meter;
    pare_meter_start(&meter, "verify", "windows", (uint64_t)p->windows);
    for (x->w = 0; x->w < p->windows; x->w += p->batch) {
        x->n = p->windows - x->w < p->batch ? p->windows - x->w : p->batch;
        if (pare_is_interrupted()) return pare_interrupted(d);
        fill(p, x->w, x->n, x->ids);
        PARE_TRY(one_batch(v, x, d));
        pare_meter_step(&meter, NULL, (uint64_t)(x->w + x->n));
    }
    for (int c = 1; c < v->n_columns; c++) PARE_TRY(pare_lm_metrics_finish(x->m[c], v->seed, c, v->r, d));
    if (v->n_devices == 2) pare_verify_put_parity(v, "logits", x->parity);
    if (!v->o->layers) return PARE_OK;
    fill(p, 0, 1, x->ids);
    return pare_verify_layers(v, x->ids, NULL, 1, p->ctx < LAYER_TOKENS ? p->ctx : LAYER_TOKENS, d);
}

static pare_status with_plan(pare_verify_run *v, const plan *p, pare_diag *d) {
    pass x = {.p = p};
    size_t vocab = (size_t)pare_lm_describe(v->lm[0])->vocab;
    x.ids = pare_malloc((size_t)(p->batch * p->ctx) * sizeof *x.ids);
    x.rows = pare_malloc((size_t)p->scored * sizeof *x.rows);
    bool ok = x.ids && x.rows;
    for (int c = 1; c < v->n_columns; c++) ok = ok && (x.m[c] = pare_lm_metrics_new(vocab));
    for (int k = 0; k < 2; k++) pare_diff_init(&x.parity[k]);
    pare_status s = ok ? run(v, &x, d) : pare_fail(d, PARE_ERR_NOMEM, NULL, "verify", "no memory");
    for (int c = 1; c < v->n_columns; c++) pare_lm_metrics_free(&x.m[c]);
    pare_free(x.rows);
    pare_free(x.ids);
    return s;
}

pare_status pare_verify_lm(pare_verify_run *v, const pare_verify_data *data, pare_diag *d) {
    plan p = {0};
    const pare_lm_info *a = pare_lm_describe(v->lm[0]), *b = pare_lm_describe(v->lm[1]);
    pare_status s = PARE_OK;
    if (a->vocab != b->vocab)
        s = pare_fail(d, PARE_ERR_MISMATCH, v->side[1].path, "vocabulary",
                      "the original gives %lld logits and the reduced model %lld: they cannot be compared",
                      (long long)a->vocab, (long long)b->vocab);
    if (s == PARE_OK) s = make_plan(v, data, &p, d);
    if (s == PARE_OK) {
        note_plan(v, &p);
        s = with_plan(v, &p, d);
    }
    pare_ids_free(&p.ids);
    return s;
}
