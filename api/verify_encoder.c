/* SPDX-License-Identifier: Apache-2.0
 *
 * Two sentence encoders over sentences: both get the original's ids; batches hold sentences of similar length. */
#include "api/verify_impl.h"

#include "core/alloc.h"
#include "core/log.h"
#include "core/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH        32
#define BATCH_TOKENS 2048

typedef struct item {
    size_t sentence, start;
    int64_t length;
} item; /* ids from start */
typedef struct work {
    pare_ids ids;
    item *item;
    int64_t *batch_ids, lengths[BATCH], seq; /* the batch in hand: n items from first */
    size_t first, n, dim[2];                 /* of the original's embeddings, of the reduced model's */
    float *embedding[PARE_VERIFY_COLUMNS], *out[PARE_VERIFY_COLUMNS]; /* of all sentences; of the batch */
} work;

static int by_length(const void *a, const void *b) {
    const item *x = a, *y = b;
    if (x->length != y->length) return x->length < y->length ? -1 : 1;
    return x->sentence < y->sentence ? -1 : x->sentence > y->sentence;
}

static pare_status tokenize(const pare_verify_run *v, const pare_sentences *s, int64_t context, work *w, size_t *cut,
                            pare_diag *d) {
    const pare_sentence_reader r = {v->side[0].tok, v->o->data, v->side[0].path, pare_lm_describe(v->lm[0])->vocab,
                                    context};
    for (size_t i = 0; i < s->n; i++) {
        bool was_cut;
        w->item[i] = (item){.sentence = i, .start = w->ids.n};
        PARE_TRY(pare_sentence_ids(&r, &s->v[i], i, &w->ids, &w->item[i].length, &was_cut, d));
        *cut += was_cut;
    }
    qsort(w->item, s->n, sizeof *w->item, by_length);
    return PARE_OK;
}

static void fill(const pare_verify_run *v, work *w, size_t first, size_t n) {
    const pare_tokenizer_info *t = pare_tokenizer_describe(v->side[0].tok);
    size_t k = 1; /* sorted: the last of a batch is its longest */
    while (first + k < n && k < BATCH && (int64_t)(k + 1) * w->item[first + k].length <= BATCH_TOKENS) k++;
    int64_t seq = w->item[first + k - 1].length;
    for (size_t i = 0; i < k; i++) {
        const item *x = &w->item[first + i];
        int64_t *to = w->batch_ids + (int64_t)i * seq;
        memcpy(to, w->ids.v + x->start, (size_t)x->length * sizeof *to);
        for (int64_t j = x->length; j < seq; j++) to[j] = t->pad >= 0 ? t->pad : 0;
        w->lengths[i] = x->length;
    }
    w->first = first, w->n = k, w->seq = seq;
}

static pare_status embed_column(pare_verify_run *v, int column, void *ctx, pare_diag *d) {
    work *w = ctx;
    float *out = w->out[column];
    size_t dim = w->dim[column % 2];
    PARE_TRY(pare_lm_embed(v->lm[column], w->batch_ids, w->lengths, (int64_t)w->n, w->seq, out, d));
    for (size_t i = 0; i < w->n; i++)
        memcpy(w->embedding[column] + w->item[w->first + i].sentence * dim, out + i * dim, dim * sizeof(float));
    return PARE_OK;
}

static pare_status embed(pare_verify_run *v, work *w, size_t n, pare_diag *d) {
    pare_meter meter;
    pare_meter_start(&meter, "verify", "sentences", n);
    for (size_t first = 0; first < n;) {
        if (pare_is_interrupted()) return pare_interrupted(d);
        fill(v, w, first, n);
        PARE_TRY(pare_verify_each(v, embed_column, w, d));
        if (first == 0 && v->o->layers)
            PARE_TRY(pare_verify_layers(v, w->batch_ids, w->lengths, (int64_t)w->n, w->seq, d));
        first += w->n;
        pare_meter_step(&meter, NULL, first);
    }
    return PARE_OK;
}

static pare_status measure(pare_verify_run *v, const pare_sentences *s, work *w, int column, pare_diag *d) {
    pare_encoder_bad bad;
    pare_diag no = {0};
    char who[64] = "";
    pare_encoder_data e = {w->embedding[0],
                           w->embedding[column],
                           s->n,
                           w->dim[0],
                           s->n_pairs,
                           s->pairs,
                           v->o->top_k ? (size_t)v->o->top_k : 10,
                           w->dim[column % 2]};
    pare_status st = pare_encoder_metrics(&e, v->seed, column, v->r, &bad, &no);
    if (st == PARE_OK) return st;
    bool nan = st == PARE_ERR_INPUT && strcmp(no.where, "pairs") != 0;
    if (nan) pare_verify_column_name(v, bad.model ? column : 0, who);
    return pare_fail(d, st, nan ? v->side[bad.model ? column % 2 : 0].path : v->o->data, no.where, "%s%s%s%s", no.text,
                     nan ? ": the " : "", who, nan ? " is broken" : "");
}

static pare_status measure_all(pare_verify_run *v, const pare_sentences *s, work *w, pare_diag *d) {
    for (int c = 1; c < v->n_columns; c++) PARE_TRY(measure(v, s, w, c, d));
    if (v->n_devices < 2) return PARE_OK;
    pare_diff parity[2];
    for (int k = 0; k < 2; k++) {
        pare_diff_init(&parity[k]);
        pare_diff_add(&parity[k], w->embedding[k], w->embedding[2 + k], s->n * w->dim[k]);
    }
    pare_verify_put_parity(v, "embeddings", parity);
    return PARE_OK;
}

static void note(const pare_verify_run *v, const pare_sentences *s, const work *w, size_t cut) {
    char widths[96];
    snprintf(widths, sizeof widths, "%zu numbers in the original's, %zu in the reduced model's: no cosine between them",
             w->dim[0], w->dim[1]);
    if (w->dim[0] != w->dim[1]) pare_report_note(v->r, "embeddings", widths);
    pare_report_number(v->r, "sentences", (double)s->n);
    if (s->n_pairs) pare_report_number(v->r, "pairs", (double)s->n_pairs);
    if (s->skipped) pare_report_number(v->r, "lines_without_score", (double)s->skipped);
    if (cut) pare_report_number(v->r, "sentences_cut_to_context", (double)cut);
    pare_report_number(v->r, "top_k", (double)(v->o->top_k ? v->o->top_k : 10));
    pare_report_note(v->r, "intervals",
                     s->n_pairs ? "95 %, bootstrap over sentences and over pairs, 1000 resamples"
                                : "95 %, bootstrap over sentences, 1000 resamples");
}

pare_status pare_verify_encoder(pare_verify_run *v, const pare_sentences *s, pare_diag *d) {
    const pare_lm_info *a = pare_lm_describe(v->lm[0]), *b = pare_lm_describe(v->lm[1]);
    int64_t context = a->context < b->context ? a->context : b->context;
    size_t cut = 0, widest = context > BATCH_TOKENS ? (size_t)context : BATCH_TOKENS;
    work w = {.dim = {(size_t)a->dim, (size_t)b->dim}};
    w.item = pare_malloc(s->n * sizeof *w.item);
    w.batch_ids = pare_malloc(widest * sizeof *w.batch_ids);
    bool ok = w.item && w.batch_ids;
    for (int c = 0; c < v->n_columns; c++)
        ok = ok && (w.embedding[c] = pare_calloc(s->n * w.dim[c % 2], sizeof(float))) &&
             (w.out[c] = pare_malloc(BATCH * w.dim[c % 2] * sizeof(float)));
    pare_status st = ok ? PARE_OK : pare_fail(d, PARE_ERR_NOMEM, NULL, "verify", "no memory for %zu sentences", s->n);
    if (st == PARE_OK) st = tokenize(v, s, context, &w, &cut, d);
    if (st == PARE_OK) note(v, s, &w, cut);
    if (st == PARE_OK) st = embed(v, &w, s->n, d);
    if (st == PARE_OK) st = measure_all(v, s, &w, d);
    pare_ids_free(&w.ids);
    pare_free(w.item);
    pare_free(w.batch_ids);
    for (int c = 0; c < v->n_columns; c++) {
        pare_free(w.embedding[c]);
        pare_free(w.out[c]);
    }
    return st;
}
