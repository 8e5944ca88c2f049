/* SPDX-License-Identifier: Apache-2.0
 *
 * Calibrated quantization inside a job: the data, the two models, the walk, the encoded weights. */
#ifndef PARE_API_CALIBRATE_H
#define PARE_API_CALIBRATE_H

#include "api/job.h"
#include "calib/walk.h"
#include "models/lm.h"
#include "models/lm_run.h"

/* Token windows: ids [batches][batch][ctx]. */
typedef struct pare_calib_data {
    int64_t *ids;
    int64_t ctx, batch;
    size_t batches;
    char note[160]; /* for people: "64 windows of 512 tokens from text.txt" */
} pare_calib_data;
/* path NULL: the text built in. windows 0: 128, fewer when the text is shorter. fails: PARE_ERR_INPUT when the text has
 * less than one window. owns: pare_calib_data_free */
pare_status pare_calib_data_open(const pare_source *src, const pare_arch *a, const char *path, int64_t ctx,
                                 int64_t windows, pare_calib_data *out, pare_diag *d);
void pare_calib_data_free(pare_calib_data *c);

/* What the records of the job's journal depend on: the model's files and tensors, what each tensor becomes and how, the
 * data. fails: PARE_ERR_IO */
pare_status pare_calib_key(const pare_job *job, const pare_calib_data *data, pare_journal_key *key, pare_diag *d);

/* What the stored rows of a layer (out, type) cost under its statistics, against the weights aimed at. */
pare_status pare_calib_measure(const pare_method_layer *l, pare_job_quality *out, pare_diag *d);

/* ---- api/calib_fold.c: scales of a group's columns, folded into the normalization before it ---- */
typedef struct pare_fold {
    size_t n;                   /* columns */
    int parts;                  /* 1: weight; 2: weight and bias */
    pare_value value[2];        /* in the graph */
    pare_job_tensor *tensor[2]; /* in the output */
} pare_fold;
/* True when the group's input is a normalization that nobody else reads, and its weights are vectors of the output in a
 * type that can hold a scaled one. */
bool pare_fold_find(const pare_job *job, const pare_graph *g, const pare_linear *l, size_t n, pare_fold *out);
/* The normalization's new numbers [parts][n], rounded as the output stores them; s becomes the inverse of what that
 * makes of it, so that the two cancel. */
void pare_fold_values(const pare_fold *f, const pare_graph *g, float *s, float *values);
/* In the job and in the reduced model from now on; values live as long as the job. */
pare_status pare_fold_settle(pare_job *job, const pare_fold *f, pare_exec *e, pare_graph *g, float *values,
                             pare_diag *d);

/* api/job_imatrix.c: a name as GGUF files have it. */
const char *pare_job_gguf_name(const pare_job *job, const pare_job_tensor *t, char buf[256]);
/* api/job_imatrix.c: a group's original inputs into what is saved; the file, when the walk is over. */
pare_status pare_job_imatrix_note(pare_job *job, const pare_linear *l, size_t n, const pare_stats *s, pare_diag *d);
pare_status pare_job_imatrix_save(pare_job *job, const pare_calib_data *data, pare_diag *d);

/* A matrix that the model never multiplies by (BERT's pooler) is not pruned: there is nothing to judge its weights by.
 */
void pare_job_unreached(pare_job_tensor *t);

/* Fills the encoded rows of the job's quantized tensors by job->method; t->map and t->from then point at them. */
pare_status pare_job_calibrate(pare_job *job, pare_diag *d);

#endif
