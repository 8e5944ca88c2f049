/* SPDX-License-Identifier: Apache-2.0
 *
 * pare_verify: opens both models, decides what can be compared, checks the gates before any work, runs, judges. */
#include "api/verify_impl.h"

#include "core/alloc.h"
#include "core/log.h"
#include "core/status.h"
#include "models/arch.h"
#include "verify/gates.h"
#include "verify/metrics.h"
#include "verify/stats.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static pare_status parse_act(const char *name, const char *option, pare_act_round *out, pare_diag *d) {
    *out = PARE_ACT_NONE;
    if (!name || pare_act_find(name, out)) return PARE_OK;
    return pare_fail(d, PARE_ERR_USAGE, NULL, option,
                     "`%s` is not a rounding of activations; there are none, f16, int8-token and int8-block", name);
}

static pare_status check_opts(const pare_verify_opts *o, pare_diag *d) {
    if (o->ctx < 0 || o->windows < 0 || o->top_k < 0 || o->top_k > 1000)
        return pare_fail(d, PARE_ERR_USAGE, NULL,
                         o->top_k     ? "--top-k"
                         : o->ctx < 0 ? "--ctx"
                                      : "--windows",
                         "a positive number was expected%s", o->top_k ? " (at most 1000)" : "");
    if (!(o->tolerance >= 0 && o->tolerance <= 10))
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--tolerance", "a number from 0 to 10 was expected (0.02 = 2 %%)");
    if (o->weights && o->device && strcmp(o->device, "cpu") != 0)
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--device", "--weights compares what is stored and runs on the CPU");
    return PARE_OK;
}

static pare_status open_tokenizers(pare_verify_run *v, pare_diag *d) {
    pare_diag why = {0};
    PARE_TRY(pare_tokenizer_open(v->side[0].src, &v->side[0].tok, d));
    pare_status s = pare_tokenizer_open(v->side[1].src, &v->side[1].tok, &why);
    if (s == PARE_ERR_NOMEM || s == PARE_ERR_INTERRUPTED) return pare_fail(d, s, v->side[1].path, NULL, "%s", why.text);
    if (s != PARE_OK) { /* the original's ids are used anyway */
        pare_log(PARE_LOG_WARN, "%s has no usable tokenizer (%s): only the size of the vocabulary is compared",
                 v->side[1].path, why.text);
        pare_report_note(v->r, "tokenizer", "the original's; the reduced model has none");
        return PARE_OK;
    }
    int64_t diff = -1;
    if (pare_tokenizer_differ(v->side[0].tok, v->side[1].tok, &diff))
        return pare_fail(d, PARE_ERR_MISMATCH, v->side[1].path, "vocabulary",
                         "token id %lld is not the same text in the two models: they cannot be compared token by token",
                         (long long)diff);
    pare_report_note(v->r, "tokenizer", "the original's; the vocabularies are equal");
    return PARE_OK;
}

static pare_status with_text(pare_verify_run *v, pare_verify_kind kind, pare_diag *d) {
    const pare_verify_opts *o = v->o;
    pare_verify_data data = {0};
    pare_sentences sentences = {0};
    PARE_TRY(pare_verify_data_open(o->data, kind == PARE_VERIFY_ENCODER, &data, d));
    pare_status s = PARE_OK;
    if (kind == PARE_VERIFY_ENCODER) s = pare_sentences_parse(&data, o->data, o->windows, &sentences, d);
    if (s == PARE_OK)
        s = pare_gates_check(o->gates, o->n_gates, kind,
                             (sentences.n_pairs ? PARE_HAVE_PAIRS : 0) |
                                 (v->n_devices == 2 ? PARE_HAVE_TWO_DEVICES : 0),
                             d);
    if (s == PARE_OK) s = open_tokenizers(v, d);
    if (s == PARE_OK) {
        pare_verify_data_note(&data, o->data, v->r);
        s = kind == PARE_VERIFY_LM ? pare_verify_lm(v, &data, d) : pare_verify_encoder(v, &sentences, d);
    }
    pare_sentences_free(&sentences);
    pare_verify_data_close(&data);
    return s;
}

static pare_status work(pare_verify_run *v, pare_diag *d) {
    const pare_verify_opts *o = v->o;
    for (int i = 0; i < 2; i++) PARE_TRY(pare_source_open(v->side[i].path, &v->side[i].src, d));
    if (!o->weights) PARE_TRY(pare_verify_open_models(v, d));
    const pare_lm *a = v->lm[0], *b = v->lm[1];
    bool run = a && b;
    if (run && pare_lm_describe(a)->decoder != pare_lm_describe(b)->decoder)
        return pare_fail(d, PARE_ERR_MISMATCH, v->side[1].path, NULL,
                         "one of the two is a language model and the other a sentence encoder");
    pare_verify_kind kind = !run                           ? PARE_VERIFY_WEIGHTS
                            : pare_lm_describe(a)->decoder ? PARE_VERIFY_LM
                                                           : PARE_VERIFY_ENCODER;
    v->r = pare_report_new(kind);
    if (!v->r) return pare_fail(d, PARE_ERR_NOMEM, NULL, "verify", "no memory");
    pare_verify_add_columns(v, run);
    if (run) {
        PARE_TRY(with_text(v, kind, d));
        pare_verify_note_use(v);
        return pare_report_status(v->r, d);
    }
    if (o->layers) return pare_fail(d, PARE_ERR_USAGE, NULL, "--layers", "the layer view needs models that can be run");
    PARE_TRY(pare_gates_check(o->gates, o->n_gates, kind, 0, d));
    return pare_verify_weights(v, d);
}

static pare_status judge(pare_verify_run *v, const pare_verify_data *baseline, pare_diag *d) {
    const pare_verify_opts *o = v->o;
    PARE_TRY(pare_gates_judge(v->r, o->gates, o->n_gates, o->strict, d));
    if (o->baseline)
        PARE_TRY(
            pare_gates_baseline(v->r, baseline->bytes, baseline->n_bytes, o->baseline, o->tolerance, o->strict, d));
    return pare_report_status(v->r, d);
}

pare_status pare_verify(const char *original, const char *reduced, const pare_verify_opts *opts,
                        pare_verify_report **out, pare_diag *d) {
    static const pare_verify_opts defaults;
    pare_diag own = {0};
    if (!d) d = &own;
    pare_verify_run v = {.o = opts ? opts : &defaults};
    pare_verify_data baseline = {0};
    double t0 = pare_now_s();
    *out = NULL;
    v.side[0].path = original, v.side[1].path = reduced;
    v.seed = v.o->seed ? v.o->seed : PARE_BOOTSTRAP_SEED;
    pare_status s = check_opts(v.o, d);
    if (s == PARE_OK) s = parse_act(v.o->act_original, "--act-original", &v.side[0].act, d);
    if (s == PARE_OK) s = parse_act(v.o->act, "--act", &v.side[1].act, d);
    if (s == PARE_OK) s = pare_verify_devices(&v, d);
    if (s == PARE_OK && v.o->baseline) s = pare_verify_data_open(v.o->baseline, false, &baseline, d);
    if (s == PARE_OK) s = work(&v, d);
    if (s == PARE_OK) s = judge(&v, &baseline, d);
    for (int c = 0; c < PARE_VERIFY_COLUMNS; c++) pare_lm_close(&v.lm[c]);
    for (int i = 0; i < 2; i++) {
        pare_tokenizer_close(&v.side[i].tok);
        pare_source_close(&v.side[i].src);
    }
    pare_verify_data_close(&baseline);
    if (s == PARE_OK) {
        v.r->seconds = pare_now_s() - t0;
        v.r->model_seconds = v.model_seconds;
        *out = v.r;
    } else pare_report_free(&v.r);
    return s;
}

/* Of a text that can be read: gates that the kind has. */
static pare_status check_gates(const pare_verify_opts *o, pare_verify_kind kind, bool two_devices, pare_diag *d) {
    pare_verify_data data = {0};
    pare_sentences sentences = {0};
    if (kind == PARE_VERIFY_WEIGHTS) return pare_gates_check(o->gates, o->n_gates, kind, 0, d);
    PARE_TRY(pare_verify_data_open(o->data, kind == PARE_VERIFY_ENCODER, &data, d));
    pare_status s = PARE_OK;
    if (kind == PARE_VERIFY_ENCODER) s = pare_sentences_parse(&data, o->data, o->windows, &sentences, d);
    unsigned have = (sentences.n_pairs ? PARE_HAVE_PAIRS : 0) | (two_devices ? PARE_HAVE_TWO_DEVICES : 0);
    if (s == PARE_OK) s = pare_gates_check(o->gates, o->n_gates, kind, have, d);
    pare_sentences_free(&sentences);
    pare_verify_data_close(&data);
    return s;
}

pare_status pare_verify_check(const pare_source *src, const pare_verify_opts *o, pare_diag *d) {
    pare_verify_run v = {.o = o};
    pare_verify_data baseline = {0};
    pare_act_round act;
    pare_arch a;
    PARE_TRY(check_opts(o, d));
    PARE_TRY(parse_act(o->act_original, "--act-original", &act, d));
    PARE_TRY(parse_act(o->act, "--act", &act, d));
    PARE_TRY(pare_verify_devices(&v, d));
    if (o->baseline) PARE_TRY(pare_verify_data_open(o->baseline, false, &baseline, d));
    pare_verify_data_close(&baseline);
    bool runs = !o->weights && pare_arch_read(src, &a, NULL) == PARE_OK;
    return check_gates(o,
                       !runs                          ? PARE_VERIFY_WEIGHTS
                       : a.family == PARE_FAMILY_BERT ? PARE_VERIFY_ENCODER
                                                      : PARE_VERIFY_LM,
                       v.n_devices == 2, d);
}

void pare_verify_close(pare_verify_report **r) { pare_report_free(r); }

pare_status pare_verify_render(pare_verify_report *r, pare_verify_format f, const char **text, size_t *n_bytes,
                               pare_diag *d) {
    return pare_report_render(r, f, text, n_bytes, d);
}

pare_status pare_verify_save(pare_verify_report *r, pare_verify_format f, const char *path, pare_diag *d) {
    return pare_report_save(r, f, path, d);
}
