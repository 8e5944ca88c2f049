/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside pare_verify: two opened models and the passes over them. */
#ifndef PARE_API_VERIFY_IMPL_H
#define PARE_API_VERIFY_IMPL_H

#include "formats/tokenizer.h"
#include "models/lm.h"
#include "verify/encoder_metrics.h"
#include "verify/report.h"

typedef struct pare_side { /* 0 original, 1 reduced */
    const char *path;
    pare_source *src;
    pare_lm *lm; /* NULL: cannot be run, or not wanted */
    pare_tokenizer *tok;
    pare_act_round act;
} pare_side;

typedef struct pare_verify_run {
    pare_side side[2];
    const pare_verify_opts *o;
    uint64_t seed;
    pare_verify_report *r;
    double model_seconds;
} pare_verify_run;

/* The bytes to measure on, whole. */
typedef struct pare_verify_data {
    const char *bytes;
    size_t n_bytes;
    char *own; /* NULL for what is built in */
} pare_verify_data;
pare_status pare_verify_data_open(const char *path, bool pairs, pare_verify_data *out, pare_diag *d);
void pare_verify_data_close(pare_verify_data *data);
/* Protocol lines: name, size, hash. */
void pare_verify_data_note(const pare_verify_data *data, const char *path, pare_verify_report *r);

/* Sentences of a text: STS-B rows (7 columns, tab separated), `score TAB sentence TAB sentence`, or a sentence a line.
 * Views into the data; each different sentence once. limit: first rows only (0 = all). */
typedef struct pare_sentences {
    pare_str *v;
    size_t n;
    pare_scored_pair *pairs;
    size_t n_pairs;
    size_t skipped; /* rows of a scored file without a score */
} pare_sentences;
pare_status pare_sentences_parse(const pare_verify_data *data, const char *path, int64_t limit, pare_sentences *out,
                                 pare_diag *d);
void pare_sentences_free(pare_sentences *s);

pare_status pare_verify_lm(pare_verify_run *v, const pare_verify_data *data, pare_diag *d);
pare_status pare_verify_encoder(pare_verify_run *v, const pare_sentences *s, pare_diag *d);
pare_status pare_verify_weights(pare_verify_run *v, pare_diag *d);

/* Layer view over one input: ids [batch, seq], lengths [batch] for encoders (else NULL). */
pare_status pare_verify_layers(pare_verify_run *v, const int64_t *ids, const int64_t *lengths, int64_t batch,
                               int64_t seq, pare_diag *d);

#endif
