/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside pare_verify: two opened models on one or two devices, and the passes over them. Column = 2 * device + model.
 */
#ifndef PARE_API_VERIFY_IMPL_H
#define PARE_API_VERIFY_IMPL_H

#include "formats/tokenizer.h"
#include "models/lm.h"
#include "verify/diff.h"
#include "verify/encoder_metrics.h"
#include "verify/report.h"

typedef struct pare_side { /* 0 original, 1 reduced */
    const char *path;
    pare_source *src;
    pare_tokenizer *tok;
    pare_act_round act;
} pare_side;

typedef struct pare_verify_device {
    char name[16];
    const pare_backend *backend;
} pare_verify_device;

typedef struct pare_verify_run {
    pare_side side[2];
    pare_verify_device device[2];
    int n_devices, n_columns;         /* n_columns: models that run */
    pare_lm *lm[PARE_VERIFY_COLUMNS]; /* NULL: cannot be run, or not wanted */
    double seconds[PARE_VERIFY_COLUMNS];
    const pare_verify_opts *o;
    uint64_t seed;
    pare_verify_report *r;
    double model_seconds;
} pare_verify_run;

/* What can be known before any work on a reduced version of src: words, numbers, files, gates that its kind has. */
pare_status pare_verify_check(const pare_source *src, const pare_verify_opts *o, pare_diag *d);

/* The devices of opts.device, found. fails: PARE_ERR_USAGE for words that name none or one twice, PARE_ERR_DEVICE with
 * one sentence for one that cannot be had. */
pare_status pare_verify_devices(pare_verify_run *v, pare_diag *d);
/* Opens the model of every column, or leaves all NULL when one's architecture cannot be run. */
pare_status pare_verify_open_models(pare_verify_run *v, pare_diag *d);
/* "original", "reduced on cuda": the device only where there are two. */
const char *pare_verify_column_name(const pare_verify_run *v, int column, char buf[64]);
void pare_verify_add_columns(const pare_verify_run *v, bool run);
void pare_verify_note_use(const pare_verify_run *v); /* what is known of columns after the pass */

/* fn for every column; the second device's columns in a thread of their own, so that both work at the same time. A
 * failure of the first device is reported before one of the second. */
typedef pare_status pare_verify_column_fn(pare_verify_run *v, int column, void *ctx, pare_diag *d);
pare_status pare_verify_each(pare_verify_run *v, pare_verify_column_fn *fn, void *ctx, pare_diag *d);
/* The same for two devices whose columns wait for one another: fails where no thread can be had. */
pare_status pare_verify_together(pare_verify_run *v, pare_verify_column_fn *fn, void *ctx, pare_diag *d);
/* Parity of what the pass put out: x[model] is the second device's against the first one's. */
void pare_verify_put_parity(pare_verify_run *v, const char *what, const pare_diff x[2]);

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
/* api/sentence_pairs.c: `sentence TAB sentence` a line; pair i is v[2 i] and v[2 i + 1], also where a sentence returns.
 * fails: PARE_ERR_INPUT with the line that is none */
pare_status pare_sentences_parse_pairs(const pare_verify_data *data, const char *path, pare_sentences *out,
                                       pare_diag *d);
void pare_sentences_free(pare_sentences *s);

/* api/sentences.c */
typedef struct pare_sentence_reader {
    const pare_tokenizer *tok;
    const char *data, *path; /* of the sentences and of the model, for errors */
    int64_t vocab, context;
} pare_sentence_reader;
/* Appends the ids of a sentence, cut to the context; a cut sentence keeps its last special token. fails:
 * PARE_ERR_INPUT for one without tokens, PARE_ERR_MISMATCH for ids that the embedding does not have. */
pare_status pare_sentence_ids(const pare_sentence_reader *r, const pare_str *s, size_t number, pare_ids *ids,
                              int64_t *length, bool *cut, pare_diag *d);

pare_status pare_verify_lm(pare_verify_run *v, const pare_verify_data *data, pare_diag *d);
pare_status pare_verify_encoder(pare_verify_run *v, const pare_sentences *s, pare_diag *d);
pare_status pare_verify_weights(pare_verify_run *v, pare_diag *d);

/* Layer view over one input: ids [batch, seq], lengths [batch] for encoders (else NULL). */
pare_status pare_verify_layers(pare_verify_run *v, const int64_t *ids, const int64_t *lengths, int64_t batch,
                               int64_t seq, pare_diag *d);

#endif
