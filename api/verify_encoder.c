/* SPDX-License-Identifier: Apache-2.0
 *
 * Two sentence encoders over sentences: both get the original's ids; batches hold sentences of similar length. */
#include "api/verify_impl.h"

#include "core/alloc.h"
#include "core/log.h"
#include "core/status.h"

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
    int64_t *batch_ids, lengths[BATCH];
    float *embedding[2], *out;
} work;

static int by_length(const void *a, const void *b) {
    const item *x = a, *y = b;
    if (x->length != y->length) return x->length < y->length ? -1 : 1;
    return x->sentence < y->sentence ? -1 : x->sentence > y->sentence;
}

/* Ids of every sentence, cut to the context; a cut sentence keeps its last special token. */
static pare_status tokenize(const pare_verify_run *v, const pare_sentences *s, int64_t context, work *w, size_t *cut,
                            pare_diag *d) {
    const pare_tokenizer_info *t = pare_tokenizer_describe(v->side[0].tok);
    int64_t vocab = pare_lm_describe(v->side[0].lm)->vocab;
    for (size_t i = 0; i < s->n; i++) {
        size_t start = w->ids.n;
        PARE_TRY(pare_tokenize(v->side[0].tok, s->v[i].p, s->v[i].n, PARE_TOK_SPECIAL, &w->ids, d));
        int64_t n = (int64_t)(w->ids.n - start);
        if (n == 0) return pare_fail(d, PARE_ERR_INPUT, v->o->data, "sentence", "sentence %zu has no tokens", i + 1);
        for (size_t k = start; k < w->ids.n; k++)
            if (w->ids.v[k] < 0 || w->ids.v[k] >= vocab)
                return pare_fail(d, PARE_ERR_MISMATCH, v->side[0].path, "tokenizer",
                                 "token id %lld is beyond the %lld rows of the embedding", (long long)w->ids.v[k],
                                 (long long)vocab);
        if (n > context) {
            int64_t last = w->ids.v[w->ids.n - 1];
            n = context;
            w->ids.n = start + (size_t)n;
            if (last == t->sep) w->ids.v[w->ids.n - 1] = last;
            ++*cut;
        }
        w->item[i] = (item){i, start, n};
    }
    qsort(w->item, s->n, sizeof *w->item, by_length);
    return PARE_OK;
}

static size_t fill(const pare_verify_run *v, work *w, size_t first, size_t n, int64_t *seq) {
    const pare_tokenizer_info *t = pare_tokenizer_describe(v->side[0].tok);
    size_t k = 1; /* sorted: the last of a batch is its longest */
    while (first + k < n && k < BATCH && (int64_t)(k + 1) * w->item[first + k].length <= BATCH_TOKENS) k++;
    *seq = w->item[first + k - 1].length;
    for (size_t i = 0; i < k; i++) {
        const item *x = &w->item[first + i];
        int64_t *to = w->batch_ids + (int64_t)i * *seq;
        memcpy(to, w->ids.v + x->start, (size_t)x->length * sizeof *to);
        for (int64_t j = x->length; j < *seq; j++) to[j] = t->pad >= 0 ? t->pad : 0;
        w->lengths[i] = x->length;
    }
    return k;
}

static pare_status embed(pare_verify_run *v, work *w, size_t n, size_t dim, pare_diag *d) {
    pare_meter meter;
    pare_meter_start(&meter, "verify", "sentences", n);
    for (size_t first = 0; first < n;) {
        int64_t seq;
        if (pare_is_interrupted()) return pare_interrupted(d);
        size_t k = fill(v, w, first, n, &seq);
        for (int side = 0; side < 2; side++) {
            double t0 = pare_now_s();
            PARE_TRY(pare_lm_embed(v->side[side].lm, w->batch_ids, w->lengths, (int64_t)k, seq, w->out, d));
            v->model_seconds += pare_now_s() - t0;
            for (size_t i = 0; i < k; i++)
                memcpy(w->embedding[side] + w->item[first + i].sentence * dim, w->out + i * dim, dim * sizeof(float));
        }
        if (first == 0 && v->o->layers) PARE_TRY(pare_verify_layers(v, w->batch_ids, w->lengths, (int64_t)k, seq, d));
        first += k;
        pare_meter_step(&meter, NULL, first);
    }
    return PARE_OK;
}

static pare_status measure(pare_verify_run *v, const pare_sentences *s, work *w, size_t dim, pare_diag *d) {
    pare_encoder_bad bad;
    pare_diag no = {0};
    pare_encoder_data e =
        {w->embedding[0], w->embedding[1], s->n, dim, s->n_pairs, s->pairs, v->o->top_k ? (size_t)v->o->top_k : 10};
    pare_status st = pare_encoder_metrics(&e, v->seed, 1, v->r, &bad, &no);
    if (st == PARE_OK) return st;
    bool nan = st == PARE_ERR_INPUT && strcmp(no.where, "pairs") != 0;
    return pare_fail(d, st, nan ? v->side[bad.model].path : v->o->data, no.where, "%s%s", no.text,
                     nan ? ": the model is broken" : "");
}

static void note(const pare_verify_run *v, const pare_sentences *s, size_t cut) {
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
    const pare_lm_info *a = pare_lm_describe(v->side[0].lm), *b = pare_lm_describe(v->side[1].lm);
    if (a->dim != b->dim)
        return pare_fail(d, PARE_ERR_MISMATCH, v->side[1].path, "embedding",
                         "the original's embeddings have %lld numbers and the reduced model's %lld", (long long)a->dim,
                         (long long)b->dim);
    int64_t context = a->context < b->context ? a->context : b->context;
    size_t dim = (size_t)a->dim, cut = 0, widest = context > BATCH_TOKENS ? (size_t)context : BATCH_TOKENS;
    work w = {0};
    w.item = pare_malloc(s->n * sizeof *w.item);
    w.batch_ids = pare_malloc(widest * sizeof *w.batch_ids);
    w.embedding[0] = pare_calloc(s->n * dim, sizeof(float));
    w.embedding[1] = pare_calloc(s->n * dim, sizeof(float));
    w.out = pare_malloc(BATCH * dim * sizeof(float));
    pare_status st = PARE_OK;
    if (!w.item || !w.batch_ids || !w.embedding[0] || !w.embedding[1] || !w.out)
        st = pare_fail(d, PARE_ERR_NOMEM, NULL, "verify", "no memory for %zu sentences", s->n);
    if (st == PARE_OK) st = tokenize(v, s, context, &w, &cut, d);
    if (st == PARE_OK) note(v, s, cut);
    if (st == PARE_OK) st = embed(v, &w, s->n, dim, d);
    if (st == PARE_OK) st = measure(v, s, &w, dim, d);
    pare_ids_free(&w.ids);
    pare_free(w.item);
    pare_free(w.batch_ids);
    pare_free(w.embedding[0]);
    pare_free(w.embedding[1]);
    pare_free(w.out);
    return st;
}
