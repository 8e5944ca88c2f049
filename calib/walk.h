/* SPDX-License-Identifier: Apache-2.0
 *
 * The calibration walk: the original and the reduced model go through the stages together on the same data. In each
 * stage, group by group in the order of the forward pass, the statistics of the group's input are taken with everything
 * before it already reduced; then the caller decides about the group's weights, and the walk goes on with them.
 * The original runs each stage once and what groups need of it is kept; the reduced model runs up to each group's
 * input. Memory: the weights of one stage, the cut activations of all batches and what is kept of the original in one
 * stage (calib/cuts.h), one group's statistics.
 * Several processes (core/team.h) share the batches: batch i is process i mod n's; sums are added up in the order of
 * processes, so that group sees the same ones in all. A walk that is alone has all batches in its process. */
#ifndef PARE_CALIB_WALK_H
#define PARE_CALIB_WALK_H

#include "calib/linears.h"
#include "graph/exec.h"

/* Statistics of one group: sums over all tokens, f = original stream, q = reduced stream. */
typedef struct pare_stats {
    size_t n, tokens;
    float *h; /* [n, n], lower triangle: sum x_q x_q^T */
    float *c; /* [n, n]: sum (x_f - x_q) x_q^T; NULL when not wanted */
    float *r; /* [residual width, n]: sum (r_f - r_q) x_q^T, r the stream that the outputs are added to; NULL without
                 one */
    size_t r_rows;
    double *f2; /* [n]: sum of squares of x_f; NULL when not wanted */
    struct pare_stats
        *held; /* HELD: the same sums over the last quarter of every batch's tokens, which those above then
                  leave out; SPLIT: of every other batch, which c and r above leave
                                out, h does not. NULL when not wanted */
} pare_stats;

enum {
    PARE_STATS_CROSS = 1,
    PARE_STATS_RESIDUAL = 2,
    PARE_STATS_ORIGINAL = 4 /* f2 */,
    PARE_STATS_HELD = 8,
    PARE_STATS_SPLIT = 16
};

typedef struct pare_walk_side {
    pare_graph *g;
    pare_exec *e; /* shaped for one batch */
    /* Inputs and states of a batch into b; returns how many (at most `most`). */
    int (*bind)(void *ctx, size_t batch, pare_binding *b);
    int most;
    void *ctx;
} pare_walk_side;

typedef struct pare_walk pare_walk; /* one that is under way */

typedef struct pare_walk_opts {
    pare_walk_side side[2]; /* 0 original, 1 reduced; the same structure, node by node */
    int64_t sym[2][PARE_SYM_COUNT];
    size_t batches, tokens_per_batch;
    size_t aside;        /* of the batches, the last ones that no statistics are taken of */
    unsigned want;       /* PARE_STATS_... */
    size_t budget_bytes; /* of activations in memory, both models together; the rest goes to files */
    bool alone;          /* nothing is shared: other processes do not walk, or make the same by themselves */
    /* Called for each group of linears (n of them, of the reduced graph). It may replace weights
     * (pare_exec_replace_weight on side[1]). */
    pare_status (*group)(void *ctx, const pare_linear *l, size_t n, const pare_stats *s, pare_diag *d);
    /* Called for each group before its stage runs: false = no statistics are needed, group is not called (the weights
     * are what they will be, or become so in this call). */
    bool (*wants)(void *ctx, const pare_linear *l, size_t n);
    /* Called for each stage once its groups are decided, before the reduced model runs on with them; it may replace
     * weights. NULL: nothing. pre, when there is one: CROSS or RESIDUAL is wanted */
    pare_status (*stage)(void *ctx, const pare_walk *w, int stage, pare_diag *d);
    /* The reduced model's nodes, before their outputs are seen or used: may change them (graph/exec.h); may be NULL. */
    pare_node_hook *amend;
    void *amend_ctx;
    void (*progress)(void *ctx, const char *what, double share); /* may be NULL */
    void *ctx;
} pare_walk_opts;

/* fails: PARE_ERR_INPUT naming the node when an activation is NaN or infinite; what group gives; PARE_ERR_INTERRUPTED
 */
pare_status pare_walk_run(const pare_walk_opts *o, pare_diag *d);

/* For stage(): what of the original (side 0) crosses into or out of that stage, and of the reduced model (1) into it.
 * NULL: not there. */
const float *pare_walk_cut(const pare_walk *w, int side, pare_value v, size_t batch);

#endif
