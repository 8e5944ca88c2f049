/* SPDX-License-Identifier: Apache-2.0
 *
 * Calibration data: a text cut into windows of tokens, as the model will see them. */
#include "api/calibrate.h"

#include "api/verify_impl.h"
#include "calib/calib_text.h"
#include "core/status.h"
#include "formats/source_impl.h"

#include <stdio.h>
#include <string.h>

/* Sentences are what encoders see: their activations in long windows are others (docs/results/calibration.md). */
#define WINDOWS         128
#define WINDOW          512
#define ENCODER_WINDOWS 512
#define ENCODER_WINDOW  64
#define BATCH_TOKENS    2048 /* of one run: enough rows for full-speed products */

/* Decoders: windows follow one another, the first token of each replaced by BOS where the model wants one. Encoders:
 * each window begins and ends with what the tokenizer puts around a text. */
static void fill(pare_calib_data *c, const pare_ids *ids, const pare_tokenizer_info *t, bool decoder) {
    int64_t n = c->batch * (int64_t)c->batches, inner = decoder ? c->ctx : c->ctx - 2;
    for (int64_t w = 0; w < n; w++) {
        int64_t *to = c->ids + w * c->ctx;
        memcpy(to + !decoder, ids->v + w * inner, (size_t)inner * sizeof *to);
        if (decoder && t->add_bos && t->bos >= 0) to[0] = t->bos;
        if (!decoder) to[0] = t->cls >= 0 ? t->cls : t->bos, to[c->ctx - 1] = t->sep >= 0 ? t->sep : t->eos;
    }
}

static pare_status cut(const pare_source *src, const pare_arch *a, const char *path, const pare_ids *ids,
                       const pare_tokenizer_info *t, int64_t windows, pare_calib_data *c, pare_diag *d) {
    bool decoder = a->family == PARE_FAMILY_LLAMA;
    int64_t inner = decoder ? c->ctx : c->ctx - 2, most = inner > 0 ? (int64_t)ids->n / inner : 0;
    if (!windows) windows = decoder ? WINDOWS : ENCODER_WINDOWS;
    if (most < 1)
        return pare_fail(d, PARE_ERR_INPUT, path, NULL,
                         "the calibration text has %zu tokens, less than one window of %lld; give a longer text",
                         ids->n, (long long)c->ctx);
    if (windows > most) windows = most;
    c->batch = BATCH_TOKENS / c->ctx < windows ? BATCH_TOKENS / c->ctx : windows;
    if (c->batch < 1) c->batch = 1;
    while (windows % c->batch) c->batch--; /* every window counts */
    c->batches = (size_t)(windows / c->batch);
    size_t unknown = 0;
    for (size_t i = 0; i < ids->n; i++) unknown += t->unk >= 0 && ids->v[i] == t->unk;
    if (unknown > ids->n / 2)
        return pare_fail(d, PARE_ERR_INPUT, path, NULL,
                         "%zu of the %zu tokens of the calibration text are unknown to the model; give a text in a "
                         "language that it was trained on",
                         unknown, ids->n);
    for (size_t i = 0; i < ids->n; i++)
        if (ids->v[i] < 0 || ids->v[i] >= a->vocab)
            return pare_fail(d, PARE_ERR_MISMATCH, src->path, "tokenizer",
                             "token id %lld is beyond the %lld rows of the embedding", (long long)ids->v[i],
                             (long long)a->vocab);
    c->ids = pare_malloc((size_t)(c->batch * c->ctx) * c->batches * sizeof *c->ids);
    if (!c->ids) return pare_fail(d, PARE_ERR_NOMEM, NULL, "calibration", "no memory for the calibration data");
    fill(c, ids, t, decoder);
    snprintf(c->note, sizeof c->note, "%lld windows of %lld tokens from %.80s",
             (long long)c->batch * (long long)c->batches, (long long)c->ctx, path ? path : "the text built in");
    return PARE_OK;
}

pare_status pare_calib_data_open(const pare_source *src, const pare_arch *a, const char *path, int64_t ctx,
                                 int64_t windows, pare_calib_data *out, pare_diag *d) {
    pare_verify_data data = {0};
    pare_tokenizer *tok = NULL;
    pare_ids ids = {0};
    int64_t longest = pare_arch_context(a), usual = a->family == PARE_FAMILY_LLAMA ? WINDOW : ENCODER_WINDOW;
    *out = (pare_calib_data){.ctx = ctx ? ctx : longest < usual ? longest : usual};
    if (out->ctx < 4 || out->ctx > longest)
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--calib-ctx",
                         "windows of %lld tokens were asked for; from 4 to %lld (the model's context) are possible",
                         (long long)out->ctx, (long long)longest);
    pare_status s = PARE_OK;
    if (path) s = pare_verify_data_open(path, false, &data, d);
    else data.bytes = pare_calib_text(&data.n_bytes);
    if (s == PARE_OK && !pare_utf8_valid(data.bytes, data.n_bytes))
        s = pare_fail(d, PARE_ERR_INPUT, path, NULL, "the calibration text is not UTF-8 (or holds a zero byte)");
    if (s == PARE_OK) s = pare_tokenizer_open(src, &tok, d);
    size_t n = data.n_bytes; /* as llama.cpp's tools read a text: without a newline at its end, BOS first */
    if (n && data.bytes[n - 1] == '\n') n--;
    unsigned flags = a->family == PARE_FAMILY_LLAMA ? PARE_TOK_SPECIAL : 0;
    if (s == PARE_OK) s = pare_tokenize(tok, data.bytes, n, flags, &ids, d);
    if (s == PARE_OK) s = cut(src, a, path, &ids, pare_tokenizer_describe(tok), windows, out, d);
    pare_ids_free(&ids);
    pare_tokenizer_close(&tok);
    pare_verify_data_close(&data);
    if (s != PARE_OK) pare_calib_data_free(out);
    return s;
}

void pare_calib_data_free(pare_calib_data *c) {
    pare_free(c->ids);
    c->ids = NULL;
}
