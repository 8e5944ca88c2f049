/* SPDX-License-Identifier: Apache-2.0
 *
 * Structured pruning inside a job: the output is the same architecture with fewer heads, neurons, channels or layers.
 * What goes is decided on calibration data, what reads it is refitted, and the job's tensors, names and configuration
 * become those of the smaller model; the plan and the writing that follow are any job's.
 *
 *   narrow.c         options and amounts, the order of things
 *   narrow_pass.c    models on calibration data
 *   narrow_heal.c    refitting after units went
 *   narrow_norms.c   layer norms over fewer channels
 *   narrow_layers.c  whole layers
 *   narrow_apply.c   the job's tensors
 *   narrow_config.c  its metadata and config.json */
#ifndef PARE_API_NARROW_H
#define PARE_API_NARROW_H

#include "api/calibrate.h"
#include "prune/importance.h"

bool pare_narrow_pattern(size_t i, const char **name, const char **text); /* false past the last */
bool pare_narrow_method(size_t i, const char **name, const char **text);
bool pare_narrow_claims(const char *pattern); /* one of ours */
/* Between pare_job_begin and the choice of formats. After the run: pare_job_narrow_check. */
pare_status pare_job_narrow(pare_job *job, const pare_prune_opts *o, pare_diag *d);
/* Opens what was written, checks its shapes against its configuration, and runs it. */
pare_status pare_job_narrow_check(pare_job *job, pare_diag *d);

/* ---- between the files ---- */
typedef enum pare_narrow_kind {
    PARE_NARROW_HEADS,
    PARE_NARROW_QUERY,
    PARE_NARROW_FFN,
    PARE_NARROW_HIDDEN,
    PARE_NARROW_WIDTH, /* heads and channels: dims[0] is the residual stream, then each layer's heads */
    PARE_NARROW_LAYERS
} pare_narrow_kind;

typedef struct pare_refit { /* a tensor with new values, in its source's storage format */
    pare_tensor_name name;
    const pare_qtype *type;
    int64_t rows, cols;
    void *data;
} pare_refit;

typedef struct pare_narrow {
    pare_job *job;
    const pare_prune_opts *o;
    pare_narrow_kind kind;
    int64_t keep;       /* units that stay; of WIDTH: groups of heads */
    pare_arch arch, to; /* of the source; of the output */
    pare_calib_data data;
    pare_weights *w;
    pare_lm_run run; /* the original */
    size_t n_dims;   /* one per layer, or one, or one and one per layer */
    pare_dimension *dims;
    bool **stays;       /* [dims][units] */
    bool *drop;         /* [layers] */
    pare_refit *refits; /* data belongs to the job */
    size_t n_refits, cap_refits;
} pare_narrow;

/* Channels of the residual stream go: they are dims[0]. */
static inline bool pare_narrow_channels(const pare_narrow *n) {
    return n->kind == PARE_NARROW_HIDDEN || n->kind == PARE_NARROW_WIDTH;
}
bool pare_narrow_needs_data(const pare_narrow *n);
pare_status pare_narrow_open_model(pare_narrow *n, pare_diag *d); /* w, run, and data if needed */
/* The original over all windows, its hook called; ctx is the hook's. */
pare_status pare_narrow_pass(pare_narrow *n, pare_node_hook *hook, void *ctx, const char *what, pare_diag *d);
/* The stored type of a role's tensor and, for a refit, its new values [rows, cols] encoded; *copy: where they lie. */
pare_status pare_narrow_refit(pare_narrow *n, pare_tensor_name name, const float *v, int64_t rows, int64_t cols,
                              const void **copy, pare_diag *d);
/* Refits what reads narrowed values. means: of the original's values there. */
pare_status pare_narrow_heal(pare_narrow *n, const pare_unit_watch *means, pare_diag *d);
/* Layer norms over the channels that stay of dims[0]. Their scale and bias are fitted, channel by channel, on the
 * original's own activations: y ~ scale z + bias, least squares, y what the norm gives there, z the norm of the
 * channels that stay alone. In a model that has all channels, and 1 and 0 in place of scale and bias (use), amend
 * (calib/walk.h) makes of a norm's output what it is in the smaller one. owns: pare_layer_norms_free */
typedef struct pare_layer_norms pare_layer_norms;
pare_status pare_layer_norms_fit(pare_narrow *n, pare_layer_norms **out, pare_diag *d);
void pare_layer_norms_use(const pare_layer_norms *l, pare_exec *e);
bool pare_layer_norms_amend(void *norms, int node, const char *name, pare_op op, const pare_tensor *out);
pare_status pare_layer_norms_refit(pare_narrow *n, const pare_layer_norms *l, pare_diag *d);
void pare_layer_norms_free(pare_layer_norms **l);
pare_status pare_narrow_layers(pare_narrow *n, pare_diag *d); /* fills drop */
pare_status pare_narrow_apply(pare_narrow *n, pare_diag *d);
pare_status pare_narrow_config(pare_narrow *n, pare_diag *d);

#endif
