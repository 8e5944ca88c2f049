/* SPDX-License-Identifier: Apache-2.0
 *
 * Sentences to learn from: lines of a file, or those of scored pairs, each different one once, or pairs that mean the
 * same; the last of them are held out. A pass has as many as --micro, padded to its longest (rounded up, since each
 * length is a plan of its own).
 */
#include "api/distill.h"

#include "api/verify_impl.h"
#include "core/status.h"
#include "formats/checksum.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define HELD   64
#define SEQ    16      /* sequences have a multiple of this many tokens, unless the context is shorter */
#define UNSEEN (-1e9F) /* added to relations of padding, and of a sentence to itself */

static pare_status no_memory(pare_diag *d) {
    return pare_fail(d, PARE_ERR_NOMEM, NULL, "sentences", "no memory for the sentences");
}

static pare_status read_all(pare_distill_run *x, const pare_tokenizer *tok, pare_windows *w, size_t *cut,
                            pare_diag *d) {
    pare_verify_data data;
    pare_sentences s = {0};
    pare_ids ids = {0};
    const pare_sentence_reader r = {tok, x->o.data, x->student.job->src->path, x->student.arch.vocab, w->ctx};
    PARE_TRY(pare_verify_data_open(x->o.data, true, &data, d));
    pare_status st = PARE_OK;
    if (!pare_utf8_valid(data.bytes, data.n_bytes))
        st = pare_fail(d, PARE_ERR_INPUT, x->o.data, NULL, "the text is not UTF-8 (or holds a zero byte)");
    if (st == PARE_OK)
        st = w->together == 2 ? pare_sentences_parse_pairs(&data, x->o.data, &s, d)
                              : pare_sentences_parse(&data, x->o.data, 0, &s, d);
    if (st == PARE_OK && !(w->start = pare_calloc(s.n + 1, sizeof *w->start))) st = no_memory(d);
    for (size_t i = 0; st == PARE_OK && i < s.n; i++) {
        int64_t n;
        bool was_cut;
        st = pare_sentence_ids(&r, &s.v[i], i, &ids, &n, &was_cut, d);
        if (st == PARE_OK) w->start[i + 1] = w->start[i] + n, *cut += was_cut;
    }
    w->ids = ids.v, w->n = (int64_t)s.n;
    w->pad = pare_tokenizer_describe(tok)->pad >= 0 ? pare_tokenizer_describe(tok)->pad : 0;
    pare_sentences_free(&s);
    pare_verify_data_close(&data);
    return st;
}

static pare_status same_words(pare_distill_run *x, const pare_tokenizer *tok, pare_diag *d) {
    pare_tokenizer *other = NULL;
    int64_t diff;
    if (!x->o.student) return PARE_OK;
    pare_status s = pare_tokenizer_open(x->teacher_src, &other, d);
    if (s == PARE_OK && pare_tokenizer_differ(tok, other, &diff))
        s = pare_fail(d, PARE_ERR_MISMATCH, x->student.job->src->path, "tokenizer",
                      "teacher and student have different vocabularies (first at id %lld); a student learns from a "
                      "teacher with its own",
                      (long long)diff);
    pare_tokenizer_close(&other);
    return s;
}

static pare_status hold_out(pare_distill_run *x, pare_windows *w, pare_diag *d) {
    int64_t held = x->o.eval ? x->o.eval : HELD;
    if (!x->o.eval && held > w->n / 4) held = w->n / 4 / w->together * w->together;
    if (!x->o.eval && held < 1) held = w->together;
    if (held % w->together)
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--eval-windows",
                         "%lld sentences cannot be held out: pairs stay together", (long long)held);
    if (held < 1 || held >= w->n)
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--eval-windows",
                         "from 1 to %lld of the %lld sentences can be held out", (long long)w->n - 1, (long long)w->n);
    w->train = w->n - held;
    return PARE_OK;
}

/* Of a pass: who is whose partner, and that nobody is his own. */
static pare_status partners(pare_distill_run *x, pare_diag *d) {
    size_t n = (size_t)x->o.micro;
    if (x->data.together != 2) return PARE_OK;
    x->pair_self_at = pare_calloc(n * n, sizeof *x->pair_self_at);
    x->pair_partner_at = pare_calloc(n, sizeof *x->pair_partner_at);
    if (!x->pair_self_at || !x->pair_partner_at) return no_memory(d);
    for (size_t i = 0; i < n; i++)
        x->pair_self_at[i * n + i] = UNSEEN, x->pair_partner_at[i] = (int64_t)(i * n + (i ^ 1));
    return PARE_OK;
}

pare_status pare_distill_sentences_open(pare_distill_run *x, pare_diag *d) {
    pare_windows *w = &x->data;
    int64_t longest = pare_arch_context(&x->student.arch), teachers = pare_arch_context(&x->teacher_arch);
    if (teachers < longest) longest = teachers;
    pare_tokenizer *tok = NULL;
    size_t cut = 0, tokens = (size_t)(x->o.micro * x->o.ctx);
    w->ctx = x->o.ctx, w->together = x->weight[PARE_TERM_CONTRASTIVE] > 0 ? 2 : 1;
    if (w->together == 2 && !x->o.data)
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--data",
                         "contrastive learns from pairs of yours, `sentence TAB sentence` a line; there are none built "
                         "in");
    if (w->ctx < 3 || w->ctx > longest)
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--ctx", "sentences of %lld tokens; from 3 to %lld are possible",
                         (long long)w->ctx, (long long)longest);
    PARE_TRY(pare_tokenizer_open(x->student.job->src, &tok, d));
    pare_status s = same_words(x, tok, d);
    if (s == PARE_OK) s = read_all(x, tok, w, &cut, d);
    pare_tokenizer_close(&tok);
    PARE_TRY(s);
    PARE_TRY(hold_out(x, w, d));
    w->sum = pare_checksum(pare_checksum(0, w->ids, (size_t)w->start[w->n] * sizeof *w->ids), w->start,
                           (size_t)(w->n + 1) * sizeof *w->start);
    snprintf(w->note, sizeof w->note,
             "%lld sentences%s from %.60s, %zu of them cut to %lld tokens, the last %lld held out", (long long)w->n,
             w->together == 2 ? " in pairs" : "", x->o.data ? x->o.data : "those built in", cut, (long long)w->ctx,
             (long long)(w->n - w->train));
    x->lengths = pare_calloc((size_t)x->o.micro, sizeof *x->lengths);
    x->token_weight_at = pare_calloc(tokens, sizeof(float));
    x->pool_weight_at = pare_calloc(tokens, sizeof(float));
    x->relation_mask_at = pare_calloc(tokens, sizeof(float));
    bool ok = x->lengths && x->token_weight_at && x->pool_weight_at && x->relation_mask_at;
    return ok ? partners(x, d) : no_memory(d);
}

/* Which of n tokens make the embedding, as `pare run` and `pare verify` have it. */
static float pooled(int pooling, int64_t at, int64_t n) {
    if (pooling == 2) return at == 0;
    if (pooling == 3) return at == n - 1;
    return at < n ? 1 / (float)n : 0;
}

pare_status pare_distill_sentences_fill(pare_distill_run *x, const int64_t *sentence, pare_diag *d) {
    const pare_windows *w = &x->data;
    int64_t most = 0;
    for (int64_t i = 0; i < x->o.micro; i++) {
        x->lengths[i] = w->start[sentence[i] + 1] - w->start[sentence[i]];
        if (x->lengths[i] > most) most = x->lengths[i];
    }
    int64_t seq = (most + SEQ - 1) / SEQ * SEQ;
    if (seq > w->ctx) seq = w->ctx;
    for (int64_t i = 0; i < x->o.micro; i++) {
        int64_t n = x->lengths[i], row = i * seq;
        memcpy(x->ids + row, w->ids + w->start[sentence[i]], (size_t)n * sizeof *x->ids);
        for (int64_t t = 0; t < seq; t++) {
            if (t >= n) x->ids[row + t] = w->pad;
            x->token_weight_at[row + t] = t < n ? 1 / (float)n : 0;
            x->pool_weight_at[row + t] = pooled(x->student.arch.pooling, t, n);
            x->relation_mask_at[row + t] = t < n ? 0 : UNSEEN;
        }
    }
    x->seq = seq;
    PARE_TRY(pare_lm_run_shape(&x->teacher, x->teacher_w, x->o.micro, seq, x->lengths, 0, d));
    return pare_lm_run_shape(&x->student.run, x->student.w, x->o.micro, seq, x->lengths, 0, d);
}

/* ---- what was held out ---- */

/* Embeddings of the pass, of length 1, in double. */
static void embed(const pare_distill_run *x, const float *h, int64_t dim, double *out) {
    for (int64_t i = 0; i < x->o.micro; i++) {
        double *e = out + i * dim, square = 0;
        for (int64_t k = 0; k < dim; k++) e[k] = 0;
        for (int64_t t = 0; t < x->lengths[i]; t++) {
            double weight = (double)x->pool_weight_at[i * x->seq + t];
            for (int64_t k = 0; weight > 0 && k < dim; k++) e[k] += weight * (double)h[(i * x->seq + t) * dim + k];
        }
        for (int64_t k = 0; k < dim; k++) square += e[k] * e[k];
        for (int64_t k = 0; k < dim; k++) e[k] /= sqrt(square > 0 ? square : 1);
    }
}

static double dot(const double *a, const double *b, int64_t n) {
    double sum = 0;
    for (int64_t k = 0; k < n; k++) sum += a[k] * b[k];
    return sum;
}

/* The cosine of a sentence's two embeddings: widths that differ are those of the matrix that was trained along. */
static double cosine(const double *mine, int64_t ds, const double *of, int64_t dt, const float *projection) {
    double sum = 0, square = 0;
    if (ds == dt) return dot(mine, of, ds);
    for (int64_t c = 0; projection && c < dt; c++) {
        double wide = 0;
        for (int64_t r = 0; r < ds; r++) wide += mine[r] * (double)projection[r * dt + c];
        sum += wide * of[c], square += wide * wide;
    }
    return square > 0 ? sum / sqrt(square) : 0;
}

pare_status pare_distill_sentences_held(pare_distill_run *x, int64_t count, pare_distill_held *sum, pare_diag *d) {
    int64_t ds = x->student.arch.dim, dt = x->teacher_arch.dim;
    const float *projection = pare_student_projection(&x->student, "projection.embedding");
    double *mine = pare_malloc((size_t)(x->o.micro * (ds + dt)) * sizeof *mine), *of = mine + x->o.micro * ds;
    if (!mine) return no_memory(d);
    embed(x, pare_exec_value(x->student.run.e, x->student.run.m.out)->data, ds, mine);
    embed(x, pare_exec_value(x->teacher.e, x->teacher.m.out)->data, dt, of);
    for (int64_t i = 0; i < count; i++) {
        sum->cosine += cosine(mine + i * ds, ds, of + i * dt, dt, projection);
        for (int64_t j = 0; j < i; j++) {
            double off = dot(mine + i * ds, mine + j * ds, ds) - dot(of + i * dt, of + j * dt, dt);
            sum->similarity += off * off;
        }
    }
    pare_free(mine);
    return PARE_OK;
}
