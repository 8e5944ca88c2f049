/* SPDX-License-Identifier: Apache-2.0
 *
 * What one change to a model costs, on a few windows: the original's outputs are kept, matrices are put in the place of
 * others in memory, the model runs again. No file is written.
 *
 * op: language models: mean KL(original || changed) in nats over the second half of every window; encoders: 1 - mean
 *     cosine of the tokens' last hidden states */
#ifndef PARE_API_PROBE_H
#define PARE_API_PROBE_H

#include "api/calibrate.h"

typedef struct pare_probe {
    pare_weights *w;
    const pare_calib_data *data; /* one batch */
    pare_lm_run run;
    int64_t sym[PARE_SYM_COUNT];
    bool decoder;
    size_t width, scored; /* of an output; rows of each window that are looked at */
    float *was;           /* [batch][scored][width] */
    pare_tensor *views;   /* of the original's values */
    bool changed;         /* since the executor was shaped */
} pare_probe;

/* w and data stay the caller's and outlive the probe. pre: data has one batch. owns: pare_probe_close, also after a
 * failure */
pare_status pare_probe_open(pare_weights *w, const pare_calib_data *data, pare_probe *p, pare_diag *d);
void pare_probe_close(pare_probe *p);
/* Rows [the same shape] of that type in the place of weight v's, or what was there before (rows NULL). */
void pare_probe_put(pare_probe *p, pare_value v, const pare_qtype *type, const void *rows);
pare_status pare_probe_loss(pare_probe *p, double *out, pare_diag *d);
const char *pare_probe_measure(const pare_probe *p); /* "kl_mean" or "1 - cosine" */

#endif
