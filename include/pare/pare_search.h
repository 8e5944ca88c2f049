/* SPDX-License-Identifier: Apache-2.0
 *
 * The part of pare.h that is about how much to prune; pare.h includes it. */
#ifndef PARE_PARE_SEARCH_H
#define PARE_PARE_SEARCH_H

#include "pare/pare.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What it costs when one layer alone is pruned, on a few windows of the calibration text, in memory. */
typedef struct pare_sensitivity {
    const char *pattern, *method;
    const char *measure; /* "kl_mean" (nats), or of encoders "1 - cosine" */
    const char *data;    /* the windows, in words */
    size_t n_layers, n_amounts;
    const double *amounts;   /* share that goes; of N:M what it fixes */
    const uint64_t *weights; /* [n_layers]: of the layer's matrices that would be pruned; 0 = none, not measured */
    const double *loss;      /* [n_layers][n_amounts] */
    void *impl;
} pare_sensitivity;

typedef struct pare_sensitivity_opts {
    const double *amounts; /* rising, each between 0 and 1; NULL = 0.25, 0.5, 0.75 */
    size_t n_amounts;
    int64_t ctx, windows; /* to measure on; 0 = 256 tokens and 4 */
} pare_sensitivity_opts;

/* o as for pare_prune_open, without sparsity: every layer in turn, with these amounts. */
PARE_API PARE_MUST_USE pare_status pare_prune_sensitivity(const char *model, const pare_prune_opts *o,
                                                          const pare_sensitivity_opts *so, pare_sensitivity **out,
                                                          pare_diag *d);
PARE_API void pare_sensitivity_close(pare_sensitivity **s);
/* Curves over the layers of n scans, one for each pattern and amount, as an SVG file. */
PARE_API PARE_MUST_USE pare_status pare_sensitivity_draw(const pare_sensitivity *const *s, size_t n, const char *path,
                                                         pare_diag *d);

/* Whether the pattern makes the model smaller ("ffn"), instead of making zeros. */
PARE_API bool pare_prune_smaller(const char *pattern);

/* How much to prune, from what is wanted of the result. */
typedef struct pare_prune_goal {
    uint64_t fit_bytes; /* the written file or folder has at most so many; 0 = any */
    double fit_share;   /* the same as a share of the model's; 0 = any */
    double max_kl;      /* mean KL divergence on the text below is at most so much; 0 = any */
    const char *data;   /* to measure on, not what is calibrated on; NULL = the text built in for verify */
    int64_t ctx, windows;
    int evaluations; /* models that may be written and measured on the way; 0 = 7 */
} pare_prune_goal;

typedef struct pare_prune_choice {
    pare_prune_opts opts;       /* for pare_prune_open: the amounts are in them */
    const char *text;           /* what was chosen, in words */
    uint64_t bytes, most_bytes; /* expected of the output (0 = not computed); what fit asks for (0 = nothing) */
    double kl;                  /* measured for this choice on the way; < 0 = not */
    int evaluations;
    size_t n_layers; /* zeros: how much of each layer goes; else 0 */
    const double *share;
    void *impl;
} pare_prune_choice;

/* The least pruning that fits, or the most that stays within max_kl; with both, the first, and whether the second
 * holds is the caller's to verify. fails: PARE_ERR_USAGE when no amount does. o: without amounts. */
PARE_API PARE_MUST_USE pare_status pare_prune_choose(const char *model, const char *out, const pare_prune_opts *o,
                                                     const pare_prune_goal *g, pare_prune_choice **c, pare_diag *d);
PARE_API void pare_prune_choice_close(pare_prune_choice **c);
/* Bytes of a written file, or of all files of a folder. */
PARE_API PARE_MUST_USE pare_status pare_output_bytes(const char *path, uint64_t *out, pare_diag *d);

#ifdef __cplusplus
}
#endif
#endif
