/* SPDX-License-Identifier: Apache-2.0
 *
 * How much each layer does to the residual stream, for dropping whole layers.
 *
 * op:     influence[l] = 1 - mean over tokens of cos(x_l, x_(l+1)), x_l the stream before layer l (block influence,
 *         ShortGPT, arXiv 2403.03853); distance[l] = mean of arccos(cos(x_l, x_(l+run))) / pi, over the last token of
 *         each window or over all tokens (Gromov et al., arXiv 2403.17887): small = layers l .. l+run-1 do little
 * shape:  streams [tokens, width] f32, layers + 1 of them, given in order by the executor's hook
 * Also, for healing: with a gap set (layers first .. end-1 are dropped), sums for the refit of the linear before it,
 * whose input is x [tokens, n]: h = sum x x^T (lower triangle), r = sum (x_end - x_first) x^T; once over the first
 * three quarters of every run's tokens, once over the last, which judge the fit. */
#ifndef PARE_PRUNE_DEPTH_H
#define PARE_PRUNE_DEPTH_H

#include "graph/graph_impl.h"

typedef struct pare_depth {
    const pare_graph *g;
    int layers, run;
    size_t width, window; /* window: tokens of a sequence, for its last token */
    bool last_token;
    pare_value *stream;  /* [layers + 1] */
    double *influence;   /* [layers]: sums until pare_depth_finish */
    double *distance;    /* [layers - run + 1] */
    double tokens, last; /* counted in each */
    float **kept;        /* ring of run + 1 streams */
    size_t *kept_tokens;
    const char *bad;
    bool nomem;
} pare_depth;

/* stream: the values before each layer and after the last. owns: pare_depth_close, also after a failure */
pare_status pare_depth_open(const pare_graph *g, const pare_value *stream, int layers, int run, size_t width,
                            size_t window, pare_depth *out, pare_diag *d);
void pare_depth_close(pare_depth *p);
bool pare_depth_hook(void *depth, int node, const char *name, pare_op op, const pare_tensor *out);
void pare_depth_finish(pare_depth *p); /* sums to means */

/* drop[l] for the `run` layers of least influence; or the consecutive ones of least distance. */
void pare_depth_choose(const pare_depth *p, bool consecutive, bool *drop);

/* ---- healing across a gap ---- */
typedef struct pare_gap {
    const pare_graph *g;
    pare_value before, after, input; /* streams at its two ends; input of the linear before it */
    size_t width, n;
    float *h[2], *r[2]; /* to fit, to judge */
    float *x, *x0, *diff;
    size_t cap;
    const char *bad;
    bool nomem;
} pare_gap;
pare_status pare_gap_open(const pare_graph *g, pare_value before, pare_value after, pare_value input, size_t width,
                          size_t n, pare_gap *out, pare_diag *d);
void pare_gap_close(pare_gap *p);
bool pare_gap_hook(void *gap, int node, const char *name, pare_op op, const pare_tensor *out);

#endif
